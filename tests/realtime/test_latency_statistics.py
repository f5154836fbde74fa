"""Bounds, counts and jitter against scipy's and naive oracles."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from fusionkd.realtime.statistics import (
    frames_needed,
    frames_to_decide,
    jitter,
    longest_run,
    miss_rate_bounds,
    most_misses,
    percentile,
    percentile_bounds,
    percentile_interval,
)

MISSED = st.lists(st.booleans(), min_size=1, max_size=60)


@pytest.mark.parametrize(
    ("percent", "confidence", "misses", "expected"),
    [(99.9, 0.95, 0, 2995), (99, 0.95, 0, 299), (95, 0.95, 0, 59), (50, 0.95, 0, 5), (99, 0.99, 0, 459)],
)
def test_frames_needed_are_those_of_the_tables(percent: float, confidence: float, misses: int, expected: int) -> None:
    assert frames_needed(percent, confidence, misses) == expected


@given(st.integers(0, 30), st.sampled_from([90.0, 99.0, 99.9]), st.sampled_from([0.9, 0.95, 0.99]))
def test_one_frame_less_than_needed_proves_nothing(misses: int, percent: float, confidence: float) -> None:
    frames = frames_needed(percent, confidence, misses)
    rate = 1 - percent / 100
    assert stats.binomtest(misses, frames, rate, alternative="less").pvalue <= 1 - confidence
    assert stats.binomtest(misses, frames - 1, rate, alternative="less").pvalue > 1 - confidence


@given(st.integers(1, 5000), st.data(), st.sampled_from([0.8, 0.95, 0.999]))
def test_miss_rate_is_clopper_and_pearsons(frames: int, data: st.DataObject, confidence: float) -> None:
    misses = data.draw(st.integers(0, frames))
    ours = miss_rate_bounds(misses, frames, (1 + confidence) / 2)
    oracle = stats.binomtest(misses, frames).proportion_ci(confidence, method="exact")
    assert ours.lower == pytest.approx(oracle.low, rel=1e-7, abs=1e-12)
    assert ours.upper == pytest.approx(oracle.high, rel=1e-7, abs=1e-12)


@pytest.mark.parametrize("frames", [10, 59, 300, 2994, 2995, 5000])
@pytest.mark.parametrize("percent", [50, 90, 99, 99.9])
def test_percentile_bounds_are_scipys(frames: int, percent: float) -> None:
    values = np.random.default_rng(frames).gamma(3, size=frames)
    ours = percentile_bounds(values, percent, 0.95)
    test = {side: stats.quantile_test(values, p=percent / 100, alternative=side) for side in ("less", "greater")}
    for bound, oracle in (
        (ours.upper, test["less"].confidence_interval(0.95).high),
        (ours.lower, test["greater"].confidence_interval(0.95).low),
    ):
        # scipy says NaN where the sample is too small.
        assert bound == oracle or (math.isinf(bound) and np.isnan(oracle))


def test_too_small_a_sample_bounds_nothing() -> None:
    assert percentile_bounds(np.arange(2994), 99.9, 0.95).upper == math.inf
    assert percentile_bounds(np.arange(2995), 99.9, 0.95).upper == 2994
    assert percentile_bounds([], 99, 0.95).lower == -math.inf
    assert percentile_bounds([1.0, 2.0], 50, 0.95).lower == -math.inf


def test_two_sided_is_both_halves() -> None:
    values = np.random.default_rng(0).normal(size=500)
    assert percentile_interval(values, 90, 0.95) == percentile_bounds(values, 90, 0.975)


@given(st.integers(1, 4000), st.data(), st.floats(1, 20), st.sampled_from([50.0, 90.0, 99.0, 99.9]))
def test_percentile_and_miss_rate_decide_alike(frames: int, data: st.DataObject, inflation: float, p: float) -> None:
    """With k of n values above d, the percentile's bounds against d and the rate's bounds are one test."""
    misses = data.draw(st.one_of(st.integers(0, min(frames, 40)), st.integers(0, frames)))
    values = np.concatenate([np.zeros(frames - misses), np.full(misses, 2.0)])
    bounds = percentile_bounds(values, p, 0.95, inflation=inflation)
    rate = miss_rate_bounds(misses, frames, 0.95, inflation=inflation)
    allowed = 1 - p / 100
    if abs(rate.upper - allowed) > 1e-9:
        assert (bounds.upper <= 1) == (rate.upper <= allowed)
    if abs(rate.lower - allowed) > 1e-9:
        assert (bounds.lower > 1) == (rate.lower > allowed)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=200), st.floats(0.1, 99.9))
def test_percentile_is_numpys_inverted_cdf(values: list[float], percent: float) -> None:
    assert percentile(values, percent) == np.percentile(values, percent, method="inverted_cdf")


def test_rank_is_not_pushed_up_by_rounding() -> None:
    assert percentile(np.arange(1, 1001), 99.9) == 999


def test_frames_to_decide() -> None:
    assert frames_to_decide(0, 100, 99.9, 0.95) == 2995
    # Twice 2,994.2, of which 2,995 is the next whole number.
    assert frames_to_decide(0, 100, 99.9, 0.95, inflation=2) == 5989
    needed = frames_to_decide(2, 4000, 99.9, 0.95)
    assert needed is not None
    assert miss_rate_bounds(2 / 4000 * needed, needed, 0.95).upper <= 0.001
    assert miss_rate_bounds(2 / 4000 * (needed - 1), needed - 1, 0.95).upper > 0.001
    above = frames_to_decide(6, 4000, 99.9, 0.95)
    assert above is not None
    assert miss_rate_bounds(6 / 4000 * above, above, 0.95).lower > 0.001
    assert frames_to_decide(4, 4000, 99.9, 0.95) is None


@given(MISSED, st.integers(1, 70))
def test_most_misses_in_any_window(missed: list[bool], window: int) -> None:
    windows = [missed[k : k + window] for k in range(max(1, len(missed) - window + 1))]
    assert most_misses(missed, window) == max(sum(one) for one in windows)


@given(MISSED)
def test_longest_run_of_misses(missed: list[bool]) -> None:
    runs = "".join("x" if one else " " for one in missed).split()
    assert longest_run(missed) == max((len(run) for run in runs), default=0)


def test_counts_of_no_frames() -> None:
    assert most_misses([], 5) == 0
    assert longest_run([]) == 0


@given(st.lists(st.integers(0, 10**6), min_size=2, max_size=80))
def test_jitter(values: list[int]) -> None:
    found, ordered = jitter(values), sorted(values)
    steps = [abs(b - a) for a, b in pairwise(values)]
    p99, p50 = (ordered[math.ceil(p * len(values) / 100) - 1] for p in (99, 50))
    assert found.p99_over_p50 == p99 - p50
    assert found.p99_over_least == p99 - ordered[0]
    assert found.largest_step == max(steps)
    assert found.mean_step == pytest.approx(sum(steps) / len(steps))


def test_a_million_frames() -> None:
    values = np.random.default_rng(0).gamma(4, size=10**6)
    bounds, truth = percentile_interval(values, 99.9, 0.9999), stats.gamma(4).ppf(0.999)
    assert bounds.lower < truth < bounds.upper
    assert bounds.upper - bounds.lower < 0.05 * truth
    late = values > truth
    assert most_misses(late, 10**6) == late.sum()
    assert 1 <= longest_run(late) <= 4
