"""Tests of dependence against naive oracles, and how often they are wrong."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from synthetic import autoregressive, bursty

from fusionkd.realtime.independence import autocorrelation, inflation, ljung_box, normal_scores, slow_frames

VALUES = st.lists(st.floats(-100, 100, width=32), min_size=25, max_size=60).filter(lambda v: np.ptp(v) > 1e-3)


def _naive_autocorrelation(values: list[float]) -> list[float]:
    mean = sum(values) / len(values)
    around = [value - mean for value in values]
    power = sum(a * a for a in around)
    return [sum(around[i] * around[i + k] for i in range(len(values) - k)) / power for k in range(len(values))]


@given(VALUES)
def test_autocorrelation(values: list[float]) -> None:
    np.testing.assert_allclose(autocorrelation(values), _naive_autocorrelation(values), atol=1e-9)


@given(VALUES)
def test_ljung_box(values: list[float]) -> None:
    n, r = len(values), _naive_autocorrelation(values)
    statistic = n * (n + 2) * sum(r[k] ** 2 / (n - k) for k in range(1, 21))
    assert ljung_box(values) == pytest.approx(1 - stats.chi2(20).cdf(statistic), abs=1e-9)


def test_constant_values_do_not_depend_on_each_other() -> None:
    assert ljung_box(np.full(100, 3.0)) == 1
    assert inflation(np.full(1000, 3.0), 99) == 1
    assert autocorrelation(np.full(5, 3.0)).tolist() == [1, 0, 0, 0, 0]


def test_ljung_box_is_wrong_as_often_as_it_says() -> None:
    samples = np.random.default_rng(0).gamma(2, size=(1000, 500))
    p = np.array([ljung_box(normal_scores(sample)) for sample in samples])
    for level in (0.01, 0.05, 0.25):
        assert stats.binomtest(int((p < level).sum()), 1000, level).pvalue > 1e-3


def test_slow_frames_are_at_most_a_tenth() -> None:
    values = np.random.default_rng(0).random(10000)
    assert slow_frames(values, 50).sum() == 1000
    assert slow_frames(values, 99.9).sum() == 300
    assert slow_frames(np.append(values, [np.inf] * 4000), 99).sum() == 4000


@pytest.mark.parametrize("phi", [0.5, 0.9])
def test_inflation_is_that_of_the_indicators(phi: float) -> None:
    """Against the variance of the share of slow frames over many traces, which is what it should be."""
    samples = autoregressive(phi, 4000, repetitions=300, seed=1)
    slow = samples > np.quantile(samples, 1 - 3 / np.sqrt(4000))
    true = slow.mean(axis=1).var() * 4000 / (slow.mean() * (1 - slow.mean()))
    assert np.median([inflation(sample, 99) for sample in samples[:60]]) == pytest.approx(true, rel=0.25)


def test_bursts_inflate_by_their_length() -> None:
    slow = bursty(50000, share=0.02, length=10, seed=2)
    values = np.random.default_rng(0).normal(size=50000) + 20 * slow
    # Geometric runs of mean 10 correlate by 0.9 per frame: (1 + 0.9) / (1 - 0.9).
    assert inflation(values, 98) == pytest.approx(19, rel=0.35)


def test_short_traces_show_nothing() -> None:
    assert inflation(np.arange(20), 99) == 1
