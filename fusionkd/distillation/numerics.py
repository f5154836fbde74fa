"""Small things that many losses need."""

import torch
from torch import Tensor


def at_least_float32(values: Tensor) -> Tensor:
    """16-bit values as float32; others as they are."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def weighted_mean(values: Tensor, weight: Tensor | None) -> Tensor:
    """Mean of losses, each counting with its weight.

    Args:
        values: Any shape.
        weight: The same shape, in [0, 1]; None counts all alike.

    Returns:
        A scalar. Less weight in total than one full sample is not blown up to one, so that a single doubtful sample
        stays a small loss; 0 where nothing counts.
    """
    if weight is None:
        return values.sum() / max(values.numel(), 1)
    return (values * weight).sum() / weight.sum().clamp(min=1.0)
