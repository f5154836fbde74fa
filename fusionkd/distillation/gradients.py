"""What the teacher's answer hangs on: gradients with respect to what it reads.

These are for terms of one's own: they need a forward pass of both models with gradient to the input, which a cached
teacher doesn't have.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def gradient_attention(
    student_loss: Tensor, teacher_loss: Tensor, *, student_input: Tensor, teacher_input: Tensor
) -> Tensor:
    """Half the squared distance of two losses' gradients (Zagoruyko & Komodakis, ICLR 2017, section 3.2).

    ``1/2 * || dL_s/dx - dL_t/dx ||^2``, with the mean over frames. The losses should be sums over frames, so that a
    frame's gradient doesn't depend on how many there are.

    Args:
        student_loss: A scalar that depends on ``student_input``.
        teacher_loss: A scalar that depends on ``teacher_input``.
        student_input: (B, ...), the input or a map on the way; it requires gradient.
        teacher_input: The same shape; often the same tensor.

    Returns:
        A scalar that can be differentiated once more, towards the student alone.
    """
    (here,) = torch.autograd.grad(student_loss, student_input, create_graph=True)
    (there,) = torch.autograd.grad(teacher_loss, teacher_input, retain_graph=True)
    return 0.5 * (here - there.detach()).flatten(1).square().sum(dim=1).mean()


def jacobian_match(
    student_output: Tensor, teacher_output: Tensor, *, student_input: Tensor, teacher_input: Tensor
) -> Tensor:
    """Squared distance of normalised Jacobians at the top response (Srinivas & Fleuret, ICML 2018).

    ``|| ds_k/dx / ||ds_k/dx|| - dt_k/dx / ||dt_k/dx|| ||^2`` where k is the teacher's highest output in each frame;
    the mean over frames is taken. Frames mustn't influence each other, as they do through a batch norm that learns.

    Args:
        student_output: (B, ...) responses of the student.
        teacher_output: The same shape.
        student_input: (B, ...), the input or a map on the way; it requires gradient.
        teacher_input: The same shape; often the same tensor.

    Returns:
        A scalar in [0, 4] that can be differentiated once more, towards the student alone.
    """
    top = teacher_output.flatten(1).argmax(dim=1, keepdim=True)  # (B, 1)
    (here,) = torch.autograd.grad(student_output.flatten(1).gather(1, top).sum(), student_input, create_graph=True)
    (there,) = torch.autograd.grad(teacher_output.flatten(1).gather(1, top).sum(), teacher_input, retain_graph=True)
    difference = F.normalize(here.flatten(1), dim=1) - F.normalize(there.detach().flatten(1), dim=1)  # (B, values)
    return difference.square().sum(dim=1).mean()
