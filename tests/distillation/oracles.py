"""What losses are held against: other implementations, and plain restatements."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

Loss = Callable[[Tensor], Tensor]
"""A loss of the student's side; the teacher's is fixed."""


def draw(*shape: int, seed: int = 0, scale: float = 1.0) -> Tensor:
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def value_and_gradient(loss: Loss, student: Tensor) -> tuple[Tensor, Tensor]:
    leaf = student.clone().requires_grad_(True)
    value = loss(leaf)
    (gradient,) = torch.autograd.grad(value, leaf)
    return value.detach(), gradient


def assert_agree(found: Loss, wanted: Loss, student: Tensor) -> None:
    """Value and gradient to 1e-6, and the gradient isn't zero."""
    value, gradient = value_and_gradient(found, student)
    wanted_value, wanted_gradient = value_and_gradient(wanted, student)
    torch.testing.assert_close(value, wanted_value, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(gradient, wanted_gradient, atol=1e-6, rtol=1e-6)
    assert float(gradient.abs().max()) > 1e-4


def assert_finite(loss: Loss, student: Tensor) -> float:
    """Value and gradient are numbers; the value."""
    value, gradient = value_and_gradient(loss, student)
    assert bool(torch.isfinite(value))
    assert bool(torch.isfinite(gradient).all())
    return float(value)


def torchdistill(name: str, **options: object) -> nn.Module:
    """A loss of torchdistill."""
    pytest.importorskip("torchdistill", reason="it is the outside implementation that this loss is held against")
    from torchdistill.losses import mid_level

    loss: nn.Module = getattr(mid_level, name)(**options)
    return loss


def torchdistill_on_logits(name: str, teacher: Tensor, **options: object) -> Loss:
    """A loss of torchdistill on logits, which it looks up by module and by input or output."""
    where = dict.fromkeys(("student_module_path", "teacher_module_path"), "logits")
    which = dict.fromkeys(("student_module_io", "teacher_module_io"), "output")
    loss = torchdistill(name, **where, **which, **options)
    return lambda student: loss({"logits": {"output": student}}, {"logits": {"output": teacher}})


def agree(ours: Callable[..., Tensor], theirs: Callable[..., Tensor], *inputs: Tensor) -> None:
    """The same value and the same gradient of a random projection, for each input."""
    results = []
    for function in (ours, theirs):
        leaves = [value.clone().requires_grad_() for value in inputs]
        value = function(*leaves)
        weight = draw(*value.shape, seed=9)
        results.append((value.detach(), *torch.autograd.grad((value * weight).sum(), leaves)))
    for found, wanted in zip(*results):
        torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-9)
