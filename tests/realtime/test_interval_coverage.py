"""How often intervals contain the truth: 1,000 repetitions on samples whose truth is known.

An order statistic is a step, so that a distribution-free interval can't have just any level. Where the sample is large
its level is nearly 95 %, and 93 to 97 % of the repetitions must cover; where it is small the exact level is above that,
and the repetitions must agree with the exact one.
"""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats
from synthetic import autoregressive

from fusionkd.realtime.independence import inflation
from fusionkd.realtime.statistics import miss_rate_bounds, percentile_bounds, percentile_interval

REPETITIONS = 1000
Draw = Callable[[np.random.Generator, int], NDArray[np.float64]]
LAWS: dict[str, tuple[Draw, Callable[[float], float]]] = {
    "gamma": (lambda random, n: random.gamma(4, size=n), stats.gamma(4).ppf),
    "heavy": (lambda random, n: random.pareto(2.5, size=n), stats.lomax(2.5).ppf),
    "normal": (lambda random, n: random.normal(30, size=n), stats.norm(30).ppf),
}


def _exact_coverage(frames: int, percent: float) -> float:
    """Probability that the number of frames below the percentile lies between the ranks of the two bounds."""
    ranks = percentile_interval(np.arange(1, frames + 1), percent, 0.95)
    upper = min(ranks.upper, frames + 1)
    below = stats.binom(frames, percent / 100)
    return float(below.cdf(upper - 1) - below.cdf(max(ranks.lower, 0) - 1))


def _covered(law: str, frames: int, percent: float) -> int:
    draw, quantile = LAWS[law]
    random, truth = np.random.default_rng(int(frames * percent)), quantile(percent / 100)
    intervals = (percentile_interval(draw(random, frames), percent, 0.95) for _ in range(REPETITIONS))
    return sum(interval.lower <= truth <= interval.upper for interval in intervals)


def _agrees(hits: int, share: float) -> bool:
    return bool(stats.binomtest(hits, REPETITIONS, min(share, 1.0)).pvalue > 1e-3)


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize(("frames", "percent"), [(1000, 50), (2000, 90), (5000, 99), (20000, 99.9)])
def test_large_samples_cover_at_95_percent(law: str, frames: int, percent: float) -> None:
    assert 0.95 <= _exact_coverage(frames, percent) < 0.965
    assert 0.93 <= _covered(law, frames, percent) / REPETITIONS <= 0.97


@pytest.mark.parametrize(("frames", "percent"), [(20, 50), (100, 90), (400, 99), (2000, 99.9)])
def test_small_samples_cover_more_as_computed(frames: int, percent: float) -> None:
    exact = _exact_coverage(frames, percent)
    assert exact >= 0.95
    assert _agrees(_covered("gamma", frames, percent), exact)


@pytest.mark.parametrize(("frames", "rate"), [(10000, 0.01), (100000, 0.001), (3000, 0.3)])
def test_miss_rate_covers_at_95_percent(frames: int, rate: float) -> None:
    misses = np.random.default_rng(frames).binomial(frames, rate, size=REPETITIONS)
    bounds = {k: miss_rate_bounds(int(k), frames, 0.975) for k in np.unique(misses)}
    assert 0.93 <= np.mean([bounds[k].lower <= rate <= bounds[k].upper for k in misses]) <= 0.97


@pytest.mark.parametrize(("frames", "rate"), [(30, 0.1), (200, 0.01), (3000, 0.001)])
def test_miss_rate_never_covers_less(frames: int, rate: float) -> None:
    weight = stats.binom(frames, rate).pmf(np.arange(frames + 1))
    bounds = [miss_rate_bounds(k, frames, 0.975) for k in range(frames + 1)]
    exact = sum(w for w, b in zip(weight, bounds) if b.lower <= rate <= b.upper)
    assert exact >= 0.95


def test_dependent_frames_count_for_fewer() -> None:
    """AR(1) of 0.9: bounds that take frames as independent are wrong three times too often, those inflated aren't."""
    samples, truth = autoregressive(0.9, 3000, repetitions=400, seed=3), stats.norm.ppf(0.99)
    naive = sum(percentile_bounds(sample, 99, 0.95).upper < truth for sample in samples)
    mended = sum(percentile_bounds(s, 99, 0.95, inflation=inflation(s, 99)).upper < truth for s in samples)
    assert naive > 0.15 * len(samples)
    assert mended <= 0.05 * len(samples)


def test_independent_frames_count_in_full() -> None:
    samples = np.random.default_rng(0).gamma(3, size=(1000, 1000))
    assert sum(inflation(sample, 99) > 1 for sample in samples) <= stats.binom.ppf(0.999, 1000, 0.01)
