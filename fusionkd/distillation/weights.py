"""How much each of several teachers counts: pure functions of what they say and what it costs the student.

All give T weights that add up to one, the same for teachers that are alike.
"""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fusionkd.distillation.numerics import at_least_float32

_STEPS = 200
"""Exchanges of weight in ``min_norm_weights``; a handful is enough for a handful of teachers."""


def bernoulli_entropy(probability: Tensor) -> Tensor:
    """-p ln p - (1 - p) ln(1 - p) of each probability, in [0, ln 2]."""
    p = at_least_float32(probability)
    return -(torch.xlogy(p, p) + torch.xlogy(1 - p, 1 - p))


def entropy_weights(entropy: Tensor, *, temperature: float = 1.0) -> Tensor:
    """softmax(-H / T) over the teachers: who is surer counts more (after Kwon et al., ICASSP 2020).

    Their inverse entropies would give one teacher everything where it is certain; the exponential doesn't.

    Args:
        entropy: (T, ...) of each teacher.
        temperature: The higher, the more alike are the weights.

    Returns:
        (T, ...).
    """
    return (-at_least_float32(entropy) / temperature).softmax(dim=0)


def confidence_weights(error: Tensor) -> Tensor:
    """(1 - softmax(L)) / (T - 1): who is right counts more (CA-MKD; Zhang et al., ICASSP 2022, eq. 3).

    Args:
        error: (T, ...) cross entropy of each teacher's answer with the label.

    Returns:
        (T, ...); 1 for a single teacher.
    """
    teachers = len(error)
    if teachers == 1:
        return torch.ones_like(error)
    return (1 - at_least_float32(error).softmax(dim=0)) / (teachers - 1)


def dynamic_average_weights(last: Tensor, before: Tensor, *, temperature: float = 2.0) -> Tensor:
    """softmax(r / T) of r = L(t-1) / L(t-2): whose loss falls slowest counts most (DWA; Liu et al., CVPR 2019, eq. 7).

    The paper's weights add up to the number of tasks, these to one.

    Args:
        last: (T,) mean losses of the last epoch.
        before: (T,) those of the epoch before.
        temperature: T; the higher, the more alike are the weights.
    """
    ratio = last / before.clamp(min=1e-12)
    # A loss that was zero says nothing about its pace.
    ratio = torch.where(before > 1e-12, ratio, torch.ones_like(ratio))
    return (at_least_float32(ratio) / temperature).softmax(dim=0)


def min_norm_weights(gradients: Tensor, *, cap: float = 1.0) -> Tensor:
    """Weights of the shortest mean gradient, min ||sum_t w_t g_t||^2, 0 <= w_t <= cap (AE-KD; Du et al., NeurIPS 2020).

    Along it no teacher's loss rises, where there is such a direction. The cap is their C (equation 6): the lower, the
    less a single teacher that disagrees can pull.

    Args:
        gradients: (T, D).
        cap: Highest weight, at least 1 / T.

    Returns:
        (T,), to about 1e-6. All gradients are taken at the length of the longest, whose scale doesn't matter.

    Raises:
        ValueError: If the cap lets no weights add up to one.
    """
    teachers = len(gradients)
    if not 1.0 / teachers <= cap <= 1.0:
        raise ValueError(f"cap must lie in [1 / {teachers}, 1], found {cap}.")
    values = at_least_float32(gradients)
    gram = (values @ values.T).double().cpu().numpy()
    largest = float(np.diag(gram).max())
    if not math.isfinite(largest) or largest <= 0:
        return torch.full((teachers,), 1.0 / teachers, dtype=values.dtype, device=values.device)
    return torch.from_numpy(_shortest(gram / largest, cap)).to(values)


def disagreement(probability: Tensor, known: Tensor) -> Tensor:
    """How far teachers contradict each other: H(mean p) - mean H(p), the Jensen-Shannon divergence (Lin, 1991).

    Args:
        probability: (T, ...) of a class at a cell, each for itself (sigmoid).
        known: (T, ...) weight of a teacher's word, 0 where it has none.

    Returns:
        (...) in [0, ln 2]; 0 where fewer than two teachers have a word.
    """
    share = known / known.sum(dim=0, keepdim=True).clamp(min=1e-6)
    mean = (share * probability).sum(dim=0)
    return (bernoulli_entropy(mean) - (share * bernoulli_entropy(probability)).sum(dim=0)).clamp(min=0.0)


def _shortest(gram: NDArray[np.float64], cap: float) -> NDArray[np.float64]:
    """Weight goes from the teacher with the steepest slope to the one with the flattest, as far as it helps."""
    weight = np.full(len(gram), 1.0 / len(gram))
    for _ in range(_STEPS):
        slope = gram @ weight
        giver = int(np.where(weight > 0, slope, -np.inf).argmax())
        taker = int(np.where(weight < cap, slope, np.inf).argmin())
        gain = slope[giver] - slope[taker]
        if gain <= 1e-9:
            break
        curvature = gram[giver, giver] + gram[taker, taker] - 2 * gram[giver, taker]
        step = min(weight[giver], cap - weight[taker], gain / max(curvature, 1e-12))
        weight[giver] -= step
        weight[taker] += step
    return weight
