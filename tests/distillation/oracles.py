"""How a function is held against an oracle."""

from collections.abc import Callable

import torch
from torch import Tensor


def draw(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


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
