"""Is a candidate slower than its baseline? A verdict from frames that both ran in turns.

Machines drift, throttle and have neighbours, so the times of two runs say little about two programs. Here both run in
one go, a frame each, again and again, and only what differs *within* a round counts. Even then two processes of one
program differ for as long as they live, by where their memory happens to lie (Mytkowicz et al., Producing wrong data
without doing anything obviously wrong, ASPLOS 2009). So both are started anew several times, and a start, not a round,
is what is drawn and swapped as a whole. Two locks keep noise from raising an alarm:

- the bootstrap interval of the ratio must lie above what is tolerated;
- the swap test must reject that both are alike. Who starts and who runs first is a coin toss, so if both are alike,
  swapping their times in any start changes nothing (R. A. Fisher, The Design of Experiments, 1935). That test is exact
  for every noise: layout, drift, bursts, heavy tails, dependence from frame to frame.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fusionkd.errors import UserError

Verdict = Literal["slower", "not slower", "inconclusive"]
Blocks = NDArray[np.int64]
"""(R, n) nanoseconds of n frames in each of R rounds."""

FALSE_ALARM = 0.005
"""Of all comparisons of a program with itself, at most this share may say slower: 1 in 200."""

TRIM = 0.2
"""Share of the rounds that is left out at either end: those that a burst of noise hit on one side alone."""

FEWEST_STARTS = 6
"""Fewer can't tell a program's difference from a process's."""

_DRAWS = 2000
_SWAPS = 4999


@dataclass(frozen=True)
class Ratio:
    """One figure of the candidate, divided by the baseline's.

    Attributes:
        candidate_ms: The candidate's figure, for orientation; it moves with the machine.
        baseline_ms: The baseline's.
        value: Estimated ratio; above 1 the candidate is slower.
        low: Lower end of its interval.
        high: Upper end.
        tolerance: Up to 1 + ``tolerance`` counts as not slower.
        swap_p: Chance of such a difference, or a larger one, if both were alike.
        swap_level: ``swap_p`` must not be above this for ``slower``.
    """

    candidate_ms: float
    baseline_ms: float
    value: float
    low: float
    high: float
    tolerance: float
    swap_p: float
    swap_level: float

    @property
    def verdict(self) -> Verdict:
        """What is proved: slower than tolerated, not slower than tolerated, or neither."""
        if self.low > 1 + self.tolerance and self.swap_p <= self.swap_level:
            return "slower"
        return "not slower" if self.high < 1 + self.tolerance else "inconclusive"

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {**vars(self), "verdict": self.verdict}


@dataclass(frozen=True)
class Comparison:
    """What rounds of a candidate and a baseline, in turns, say.

    Attributes:
        starts: How often both were started.
        rounds: Rounds that were compared, of all starts.
        frames: Frames of each side.
        confidence: Of the intervals, all looks together.
        looks: How often the verdict may have been asked for; the intervals are wider for it.
        median: Of a frame's latency.
        p99: Its 99th percentile.
    """

    starts: int
    rounds: int
    frames: int
    confidence: float
    looks: int
    median: Ratio
    p99: Ratio

    @property
    def verdict(self) -> Verdict:
        """Slower if the median or the tail is proved slower; else what the median says.

        A tail that is inconclusive alone doesn't make the comparison so: a p99 needs many more frames than a median,
        and its own verdict stands beside it.
        """
        return "slower" if self.p99.verdict == "slower" else self.median.verdict

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for reports."""
        figures = {"median": self.median.to_dict(), "p99": self.p99.to_dict()}
        return {**vars(self), **figures, "verdict": self.verdict}


def compare(
    candidate_ns: Blocks,
    baseline_ns: Blocks,
    *,
    starts: int,
    tolerance: float = 0.03,
    tail_tolerance: float = 0.10,
    confidence: float = 0.95,
    looks: int = 1,
    seed: int = 0,
) -> Comparison:
    """Compare frames that two programs ran in turns.

    The ratio of medians is taken within each round and averaged over the rounds on a log scale, a fifth of them
    trimmed at either end, so that drift cancels and bursts fall out. The ratio of p99 is that of all frames.
    Both intervals are percentile bootstraps over whole starts (Davison and Hinkley, Bootstrap Methods, 1997, section
    3.8). Where the verdict is asked for several times while frames come in, the error is split among the looks
    (Bonferroni).

    Args:
        candidate_ns: (R, n) of the candidate; row r ran next to row r of the baseline, first or second by chance.
        baseline_ns: (R, n) of the baseline.
        starts: How often both were started; the rounds are in order, equally many of each start.
        tolerance: Slow-down of the median that is accepted.
        tail_tolerance: Slow-down of the p99 that is accepted.
        confidence: Of the intervals.
        looks: How often these rounds are looked at while they grow, this time included.
        seed: Of the resampling.

    Raises:
        UserError: If the arrays don't go together, are too few or hold times that aren't positive.
    """
    _check(candidate_ns, baseline_ns, starts)
    rng = np.random.default_rng(seed)
    level = (1 - confidence) / 2 / looks
    swap_level = FALSE_ALARM / 2 / looks  # two figures share it
    rounds = len(candidate_ns)
    times, once = _times_drawn(starts, rounds, rng), np.ones((1, rounds), np.int32)

    differences = np.log(np.median(candidate_ns, axis=1) / np.median(baseline_ns, axis=1))  # (R,)
    median = _ratio(
        (float(np.median(candidate_ns)), float(np.median(baseline_ns))),
        log_ratio=float(trimmed_mean(differences, once)[0]),
        resampled=trimmed_mean(differences, times),
        level=level,
        tolerance=tolerance,
        swap_p=swap_p_value(_signed_ranks(np.median(differences.reshape(starts, -1), axis=1)), rng),
        swap_level=swap_level,
    )
    tails = (float(percentile_99(candidate_ns, once)[0]), float(percentile_99(baseline_ns, once)[0]))
    p99 = _ratio(
        tails,
        log_ratio=float(np.log(tails[0] / tails[1])),
        resampled=np.log(percentile_99(candidate_ns, times) / percentile_99(baseline_ns, times)),
        level=level,
        tolerance=tail_tolerance,
        swap_p=swap_p_value(_excess(candidate_ns, baseline_ns).reshape(starts, -1).sum(axis=1), rng),
        swap_level=swap_level,
    )
    return Comparison(starts, rounds, candidate_ns.size, confidence, looks, median, p99)


def trimmed_mean(values: NDArray[np.float64], times: NDArray[np.int32]) -> NDArray[np.float64]:
    """Mean without the ``TRIM`` smallest and largest share, of several resamples at once.

    Args:
        values: (R,).
        times: (D, R) how often each value is in each resample; rows add up to R.

    Returns:
        (D,).
    """
    order, cut = np.argsort(values), int(TRIM * len(values))
    reached = np.clip(np.cumsum(times[:, order], axis=1, dtype=np.int32), cut, len(values) - cut)  # (D, R)
    kept = np.diff(reached, axis=1, prepend=cut)
    return np.asarray(kept @ values[order] / (len(values) - 2 * cut))


def percentile_99(blocks: Blocks, times: NDArray[np.int32]) -> NDArray[np.int64]:
    """The smallest of all frames' times that 99 % of them don't exceed, of several resamples of the rounds at once.

    Args:
        blocks: (R, n).
        times: (D, R) how often each round is in each resample; rows add up to R.

    Returns:
        (D,).
    """
    flat = blocks.ravel()
    order = np.argsort(flat)
    reached = np.cumsum(times[:, order // blocks.shape[1]], axis=1, dtype=np.int32)  # (D, R * n)
    return np.asarray(flat[order[np.argmax(reached >= 0.99 * len(flat) - 1e-9, axis=1)]])


def swap_p_value(differences: NDArray[np.float64], rng: np.random.Generator) -> float:
    """Chance of a sum as large as this one, if every difference's sign were a coin toss.

    Exact for any distribution of the differences (Phipson and Smyth 2010, equation 2).

    Args:
        differences: Candidate minus baseline of each start, in any score.
        rng: Draws the coin tosses.
    """
    used = differences[differences != 0]
    signs = rng.integers(0, 2, (_SWAPS, len(used)), dtype=np.int8) * 2.0 - 1.0  # (swaps, R)
    as_large = int(np.count_nonzero(signs @ used >= used.sum() - 1e-9 * np.abs(used).sum()))
    return (1 + as_large) / (1 + _SWAPS)


def _ratio(
    figures_ns: tuple[float, float],
    *,
    log_ratio: float,
    resampled: NDArray[np.float64],
    level: float,
    tolerance: float,
    swap_p: float,
    swap_level: float,
) -> Ratio:
    low, high = np.exp(np.quantile(resampled, [level, 1 - level]))
    return Ratio(
        candidate_ms=figures_ns[0] / 1e6,
        baseline_ms=figures_ns[1] / 1e6,
        value=float(np.exp(log_ratio)),
        low=float(low),
        high=float(high),
        tolerance=tolerance,
        swap_p=swap_p,
        swap_level=swap_level,
    )


def _times_drawn(starts: int, rounds: int, rng: np.random.Generator) -> NDArray[np.int32]:
    """(draws, rounds) how often each round is in each bootstrap resample of whole starts."""
    drawn = rng.integers(0, starts, (_DRAWS, starts)) + starts * np.arange(_DRAWS)[:, None]
    times = np.bincount(drawn.ravel(), minlength=_DRAWS * starts).astype(np.int32)
    return np.repeat(times.reshape(_DRAWS, starts), rounds // starts, axis=1)  # (draws, rounds)


def _signed_ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """(R,) the rank of each value's magnitude, with the value's sign (Wilcoxon 1945)."""
    return np.asarray(np.sign(values) * (np.argsort(np.argsort(np.abs(values))) + 1.0))


def _excess(candidate_ns: Blocks, baseline_ns: Blocks) -> NDArray[np.float64]:
    """(R,) how many frames of the candidate, less those of the baseline, lie above the p99 of all."""
    both = np.concatenate([candidate_ns, baseline_ns], axis=1)
    limit = percentile_99(both, np.ones((1, len(both)), np.int32))[0]
    return np.asarray((candidate_ns > limit).sum(axis=1) - (baseline_ns > limit).sum(axis=1), np.float64)


def _check(candidate_ns: Blocks, baseline_ns: Blocks, starts: int) -> None:
    if candidate_ns.ndim != 2 or candidate_ns.shape != baseline_ns.shape or candidate_ns.shape[1] < 1:
        raise UserError(
            f"A comparison needs as many rounds and frames of the candidate as of the baseline, found shapes "
            f"{candidate_ns.shape} and {baseline_ns.shape}."
        )
    if starts < FEWEST_STARTS or len(candidate_ns) % starts or not len(candidate_ns):
        raise UserError(
            f"A comparison needs at least {FEWEST_STARTS} starts and equally many rounds of each, found {starts} "
            f"starts and {len(candidate_ns)} rounds."
        )
    if candidate_ns.min() <= 0 or baseline_ns.min() <= 0:
        raise UserError("A frame that took no time or less can't be compared: the clock doesn't run forwards.")
