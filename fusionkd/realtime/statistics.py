"""What a sample of latencies proves about a percentile, about misses and about jitter: pure functions.

Every bound here is one-sided at its confidence and free of the distribution. Frames are taken as independent unless an
``inflation`` is given (see ``fusionkd.realtime.independence.inflation``): n frames then count as n / inflation, the
effective sample size that Korn & Graubard, "Confidence intervals for proportions with small expected number of positive
counts estimated from survey data", Survey Methodology 24 (1998), put into the Clopper-Pearson limits.
"""

import math
from bisect import bisect_left
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betainc, betaincinv

from fusionkd.errors import UserError

MOST_FRAMES = 10**9
"""More frames than this are as good as never."""


@dataclass(frozen=True)
class Bounds:
    """A one-sided lower and a one-sided upper bound, each of its own confidence; infinite where nothing is proven."""

    lower: float
    upper: float


@dataclass(frozen=True)
class Jitter:
    """How a latency varies, in the unit of the values (RFC 5481, sections 1 and 4).

    Attributes:
        p99_over_p50: 99th percentile minus median: what a planner that counts on the usual frame must add.
        p99_over_least: 99th percentile of the packet delay variation, PDV = value - smallest value.
        largest_step: Largest inter-packet delay variation, IPDV = value - the value before, in absolute terms.
        mean_step: Mean of the same.
    """

    p99_over_p50: float
    p99_over_least: float
    largest_step: float
    mean_step: float


def percentile(values: ArrayLike, percent: float) -> float:
    """The smallest value that at least ``percent`` % of the values don't exceed: one of them, never a mixture.

    Args:
        values: (N,) N > 0; infinite ones are frames that never came.
        percent: In (0, 100).
    """
    sample = np.asarray(values, np.float64)
    return _order_statistic(sample, _rank(len(sample), percent) - 1)


def percentile_bounds(
    values: ArrayLike, percent: float, confidence: float, *, lower_confidence: float | None = None, inflation: float = 1
) -> Bounds:
    """Order statistics that bound the true percentile, whatever the distribution.

    With n independent values the number below the percentile is binomial, so that a count decides which order
    statistics bound it (Hahn & Meeker, Statistical Intervals, 1991, section 5.2). "The upper bound is at most d" says
    the same as "the Clopper-Pearson upper bound of the rate of values above d is at most 1 - percent / 100".

    Args:
        values: (N,) in any order; infinite ones are frames that never came.
        percent: In (0, 100).
        confidence: Of each bound by itself, such as 0.95.
        lower_confidence: Of the lower bound, where it is to be another.
        inflation: So many frames count as one, >= 1.

    Returns:
        Bounds; -inf or inf where the sample is too small for one.
    """
    sample = np.asarray(values, np.float64)
    frames, rate = len(sample), 1 - percent / 100
    allowed = _most_misses(frames, rate, 1 - confidence, inflation)
    broken = _fewest_misses(frames, rate, 1 - (lower_confidence or confidence), inflation)
    return Bounds(
        lower=_order_statistic(sample, frames - broken) if broken <= frames else -math.inf,
        upper=_order_statistic(sample, frames - 1 - allowed) if allowed >= 0 else math.inf,
    )


def percentile_interval(values: ArrayLike, percent: float, confidence: float, *, inflation: float = 1) -> Bounds:
    """The two-sided interval of a percentile: both bounds hold at once with at least this confidence."""
    return percentile_bounds(values, percent, (1 + confidence) / 2, inflation=inflation)


def miss_rate_bounds(
    misses: float, frames: float, confidence: float, *, lower_confidence: float | None = None, inflation: float = 1
) -> Bounds:
    """Bounds of the probability that a frame misses (Clopper & Pearson, Biometrika 26, 1934).

    Args:
        misses: Frames that missed.
        frames: All frames.
        confidence: Of each bound by itself.
        lower_confidence: Of the lower bound, where it is to be another.
        inflation: So many frames count as one, >= 1.

    Returns:
        Bounds within [0, 1]; 0 and 1 where there are no frames.
    """
    k, n = misses / inflation, frames / inflation
    lower = betaincinv(k, n - k + 1, 1 - (lower_confidence or confidence)) if misses > 0 else 0.0
    upper = betaincinv(k + 1, n - k, confidence) if misses < frames else 1.0
    return Bounds(float(lower), float(upper))


def frames_needed(percent: float, confidence: float, misses: int = 0) -> int:
    """How many frames prove that a percentile keeps the deadline, if ``misses`` of them miss it.

    Without a miss it is the smallest n with (percent / 100)^n <= 1 - confidence (Wilks, 1941): 2,995 for p99.9 at 95 %.

    Raises:
        UserError: If it would take more than ``MOST_FRAMES``.
    """
    rate, alpha = 1 - percent / 100, 1 - confidence
    found = bisect_left(
        range(MOST_FRAMES), True, lo=misses + 1, key=lambda n: _at_most(float(misses), float(n), rate) <= alpha
    )
    if found == MOST_FRAMES:
        raise UserError(f"Percentile {percent:g} at confidence {confidence:g} takes more than {MOST_FRAMES:,} frames.")
    return found


def frames_to_decide(
    misses: int,
    frames: int,
    percent: float,
    confidence: float,
    *,
    lower_confidence: float | None = None,
    inflation: float = 1,
) -> int | None:
    """How many frames a decision takes if misses go on at the rate seen.

    Args:
        misses: Seen so far.
        frames: Seen so far.
        percent: Of the contract.
        confidence: Of the upper bound, which decides that the percentile keeps its limit.
        lower_confidence: Of the lower bound, which decides that it doesn't, where it is to be another.
        inflation: So many frames count as one.

    Returns:
        Frames in all; None where the rate seen is so near to the contract's that no number up to ``MOST_FRAMES``
        decides.
    """
    allowed = 1 - percent / 100
    rate = misses / frames if frames else 0.0

    def decided(n: int) -> bool:
        bounds = miss_rate_bounds(rate * n, n, confidence, lower_confidence=lower_confidence, inflation=inflation)
        return bounds.upper <= allowed if rate <= allowed else bounds.lower > allowed

    found = bisect_left(range(MOST_FRAMES), True, lo=1, key=decided)
    return found if found < MOST_FRAMES else None


def most_misses(missed: ArrayLike, window: int) -> int:
    """The most misses in any ``window`` consecutive frames: at most m of them is the weakly-hard constraint (m, k).

    Bernat, Burns & Llamosi, "Weakly hard real-time systems", IEEE Transactions on Computers 50 (2001).

    Args:
        missed: (N,) bool, in the order of arrival, frames that were dropped included as missed.
        window: k >= 1; a longer one than the sample looks at all of it.
    """
    total = np.concatenate([[0], np.cumsum(np.asarray(missed, np.int64))])
    reach = min(window, len(total) - 1)
    return int((total[reach:] - total[: len(total) - reach]).max())


def longest_run(missed: ArrayLike) -> int:
    """The most consecutive misses."""
    padded = np.concatenate([[False], np.asarray(missed, np.bool_), [False]])
    edges = np.flatnonzero(padded[1:] != padded[:-1])
    return int((edges[1::2] - edges[::2]).max(initial=0))


def jitter(values: ArrayLike) -> Jitter:
    """How the values (N,), N >= 2, vary; in the order of the frames."""
    sample = np.asarray(values, np.float64)
    steps: NDArray[np.float64] = np.abs(np.diff(sample))
    p99 = percentile(sample, 99)
    return Jitter(
        p99_over_p50=p99 - percentile(sample, 50),
        p99_over_least=p99 - float(sample.min()),
        largest_step=float(steps.max()),
        mean_step=float(steps.mean()),
    )


def _rank(frames: int, percent: float) -> int:
    # A hair less: 99.9 / 100 * 1000 is 999.0000000000001 in floating point.
    return max(1, math.ceil(frames * percent / 100 - 1e-9 * frames))


def _order_statistic(sample: NDArray[np.float64], place: int) -> float:
    return float(np.partition(sample, place)[place])


def _at_most(misses: float, frames: float, rate: float) -> float:
    """P(X <= misses) of a binomial X, continued to fractions of frames."""
    return float(betainc(frames - misses, misses + 1, 1 - rate)) if misses < frames else 1.0


def _at_least(misses: float, frames: float, rate: float) -> float:
    """P(X >= misses) of a binomial X, continued to fractions of frames."""
    return float(betainc(misses, frames - misses + 1, rate)) if misses > 0 else 1.0


def _most_misses(frames: int, rate: float, alpha: float, inflation: float) -> int:
    """The most misses with which the miss rate is still proven to be at most ``rate``; -1 if none is few enough."""
    n = frames / inflation
    return bisect_left(range(frames), True, key=lambda k: _at_most(k / inflation, n, rate) > alpha) - 1


def _fewest_misses(frames: int, rate: float, alpha: float, inflation: float) -> int:
    """The fewest misses with which the miss rate is proven to be above ``rate``; frames + 1 if not even all."""
    n = frames / inflation
    return bisect_left(range(frames + 1), True, lo=1, key=lambda k: _at_least(k / inflation, n, rate) <= alpha)
