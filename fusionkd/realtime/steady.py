"""Where warm-up ends, and whether what follows is steady: found by tests on ranks, never guessed."""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri
from scipy.stats import rankdata

BATCH = 5
"""Frames that MSER-5 averages before it looks."""

FEWEST_FRAMES = 100
"""Of shorter traces no one can tell whether they are steady."""

_PARTS = 50
_KPSS_1_PERCENT = 0.739
_WARM_UP_1_PERCENT = float(-ndtri(0.01 / 2))


def steady_state(values: ArrayLike) -> int | None:
    """How many leading frames are warm-up.

    The cut is that of MSER-5 (White, "An effective truncation heuristic for bias reduction in simulation output",
    Simulation 69, 1997; White, Cobb & Spratt, 2000): the one that makes the squared standard error of the mean of what
    remains smallest. It is taken on ranks, because a single spike of a latency trace would draw the cut behind itself.
    A cut of MSER-5 is seldom 0; if the frames before it rank like those behind it, it is 0 here.

    Args:
        values: (N,) latencies of all frames in their order, the cold first one included.

    Returns:
        Leading frames to leave out; None if the cut falls into the second half or ``is_steady`` denies what remains:
        then no steady state was reached, or the trace is too short to tell.
    """
    sample = np.asarray(values, np.float64)
    if len(sample) < FEWEST_FRAMES:
        return None
    batches = _batch_means(rankdata(sample), len(sample) // BATCH)
    cut = _mser(batches)
    if cut > len(batches) // 2:
        return None
    warm_up = BATCH * cut if cut and _differs(batches[:cut], batches[cut:]) else 0
    return warm_up if is_steady(sample[warm_up:]) else None


def is_steady(values: ArrayLike) -> bool:
    """Whether the level stays: no drift and no jump that would be seen in one of a hundred steady traces.

    The KPSS test of level stationarity (Kwiatkowski, Phillips, Schmidt & Shin, Journal of Econometrics 54, 1992,
    equations 10 to 12, 1 % level) on ranks (Pelagatti & Sen, Journal of Econometrics 172, 2013), averaged in fifty
    parts, so that dependence between neighbours doesn't look like drift.

    Args:
        values: (N,) in the order of the frames. Fewer than ``FEWEST_FRAMES`` are not known to be steady.
    """
    sample = np.asarray(values, np.float64)
    if len(sample) < FEWEST_FRAMES:
        return False
    return kpss(_batch_means(rankdata(sample), _PARTS)) < _KPSS_1_PERCENT


def kpss(values: ArrayLike) -> float:
    """The KPSS statistic of level stationarity, with a Bartlett window of 4 (N / 100)^(1/4) lags.

    Args:
        values: (N,).

    Returns:
        0 where the values are constant; above 0.463 one says at 5 % that the level changes, above 0.739 at 1 %.
    """
    sample = np.asarray(values, np.float64)
    n, residual = len(sample), sample - np.mean(sample)
    lags = math.ceil(4 * (n / 100) ** 0.25)
    variance = float(residual @ residual)
    for lag in range(1, lags + 1):
        variance += 2 * (1 - lag / (lags + 1)) * float(residual[lag:] @ residual[:-lag])
    # Rounding leaves a hair of a constant's variance; a negative one is no variance.
    if variance <= 1e-12 * max(1.0, float(sample @ sample)):
        return 0.0
    return float(np.sum(np.cumsum(residual) ** 2) / (n * variance))


def drift(values: ArrayLike) -> float:
    """How far the level strays: the largest median of ten equal parts minus the median of all (N,), N >= 10."""
    sample = np.asarray(values, np.float64)
    middle = float(np.median(sample))
    return max(float(np.median(part)) for part in np.array_split(sample, 10)) - middle


def _mser(batches: NDArray[np.float64]) -> int:
    """The number of leading batches (M,) whose removal makes the squared standard error of the rest's mean smallest."""
    # The last few batches are left alone: the spread of three values may be small by chance.
    left = np.arange(len(batches), 0, -1)
    total = np.cumsum(batches[::-1])[::-1]
    squares = np.cumsum((batches**2)[::-1])[::-1]
    error = (squares - total**2 / left) / left.astype(np.float64) ** 2
    return int(np.argmin(error[: max(1, len(batches) - 5)]))


def _differs(before: NDArray[np.float64], after: NDArray[np.float64]) -> bool:
    """Whether the mean of the batches before the cut lies outside what those behind it would give, at 1 %.

    Geweke's comparison of an early and a late part (1992); the variance is that of means of as many batches behind the
    cut, so that it contains their dependence.
    """
    parts = len(after) // len(before)
    if parts >= 10:
        means = after[: parts * len(before)].reshape(parts, len(before)).mean(axis=1)  # (P * B,) -> (P, B) -> (P,)
        spread = float(means.std(ddof=1))
    else:
        spread = float(after.std(ddof=1)) / math.sqrt(len(before))
    return abs(float(before.mean() - after.mean())) > _WARM_UP_1_PERCENT * spread


def _batch_means(values: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """Means of ``count`` equal batches of the values (N,); what doesn't fill a batch at the end is left out."""
    size = len(values) // count
    return np.asarray(values[: count * size].reshape(count, size).mean(axis=1))  # (C * S,) -> (C, S) -> (C,)
