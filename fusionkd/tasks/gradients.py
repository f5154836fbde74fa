"""Who pulls how hard: the gradient of each loss."""

from collections.abc import Mapping, Sequence
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor

from fusionkd.errors import UserError
from fusionkd.tasks.supervised import SupervisedTask


def gradient_norms(losses: Mapping[str, Tensor], parameters: Sequence[Tensor]) -> dict[str, Tensor]:
    """Length of each loss's gradient with respect to all parameters together.

    The graph is kept, so that the sum of the losses can still be sent backward. Each loss costs a backward pass.

    Args:
        losses: Scalars by name; one without a graph has the norm 0.
        parameters: Leaves that the losses may depend on.

    Returns:
        Scalars by name.
    """
    norms = {}
    for name, loss in losses.items():
        if not loss.requires_grad:
            norms[name] = torch.zeros_like(loss)
            continue
        gradients = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
        lengths = [torch.linalg.vector_norm(gradient.float()) for gradient in gradients if gradient is not None]
        norms[name] = torch.linalg.vector_norm(torch.stack(lengths)) if lengths else torch.zeros_like(loss)
    return norms


class GradientShares(pl.Callback):
    """Logs the norm of every loss's gradient in the student, and each loss's share of the total.

    A weight says little about a term's influence: losses differ in scale, and gradients differ more. Logged are
    ``gradient/NAME``, the norm, and ``share/NAME``, the loss divided by the sum of all.

    Args:
        every_n_steps: How often; every time costs one backward pass per loss.
    """

    def __init__(self, every_n_steps: int = 50) -> None:
        if every_n_steps < 1:
            raise UserError(f"GradientShares.every_n_steps must be at least 1, found {every_n_steps}.")
        self.every_n_steps = every_n_steps

    def on_before_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: Tensor) -> None:
        """Measure, while the graph of this step is alive."""
        if not isinstance(pl_module, SupervisedTask) or trainer.global_step % self.every_n_steps:
            return
        student = [parameter for parameter in pl_module.student.parameters() if parameter.requires_grad]
        norms = gradient_norms(pl_module.step_losses, student)
        total = torch.stack(list(pl_module.step_losses.values())).sum().detach()
        shares: dict[str, Any] = {
            f"share/{name}": value.detach() / total for name, value in pl_module.step_losses.items()
        }
        pl_module.log_dict({f"gradient/{name}": norm for name, norm in norms.items()} | shares, batch_size=1)
