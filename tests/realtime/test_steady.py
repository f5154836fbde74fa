"""Warm-up that is known is found; steady traces stay whole; drift is said."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats
from synthetic import autoregressive

from fusionkd.realtime.steady import FEWEST_FRAMES, drift, is_steady, kpss, steady_state

TRACES = 60
Noise = Callable[[np.random.Generator, int], NDArray[np.float64]]
NOISES: dict[str, Noise] = {
    "gamma": lambda random, n: 20 + random.gamma(4, 0.5, size=n),
    "spikes": lambda random, n: 20 + random.gamma(4, 0.5, size=n) + 40 * (random.random(n) < 0.01),
    "AR(1) of 0.5": lambda random, n: 20 + autoregressive(0.5, n, repetitions=1, seed=int(random.integers(10**6)))[0],
}


def _traces(noise: str, frames: int, shape: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    random = np.random.default_rng(frames)
    return [NOISES[noise](random, frames) + shape for _ in range(TRACES)]


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("frames", [500, 3000])
def test_steady_traces_stay_nearly_whole(noise: str, frames: int) -> None:
    found = [steady_state(trace) for trace in _traces(noise, frames, np.zeros(frames))]
    assert sum(cut is None for cut in found) <= stats.binom.ppf(0.999, TRACES, 0.02)
    assert sum(cut is not None and cut <= 50 for cut in found) >= 0.9 * TRACES


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("warm_up", [25, 60, 300])
def test_a_step_is_found(noise: str, warm_up: int) -> None:
    shape = 8.0 * (np.arange(1500) < warm_up)
    found = [steady_state(trace) for trace in _traces(noise, 1500, shape)]
    near = [cut is not None and warm_up - 5 <= cut <= warm_up + 60 for cut in found]
    assert sum(near) >= 0.95 * TRACES


def test_a_slow_beginning_is_cut_where_noise_hides_it() -> None:
    """Heat that fades as exp(-t / 20): what is left behind the cut is less than the spread of the noise."""
    shape = 10 * np.exp(-np.arange(1500) / 20)
    found = [steady_state(trace) for trace in _traces("gamma", 1500, shape)]
    left = [shape[cut] if cut is not None else np.inf for cut in found]
    assert np.quantile(left, 0.95) < 1
    assert max(cut or 0 for cut in found) < 300


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("kind", ["drift", "throttled late", "still warming"])
def test_no_steady_state_is_said(noise: str, kind: str) -> None:
    t = np.arange(1500) / 1500
    shape = {"drift": 4 * t, "throttled late": 4.0 * (t > 0.7), "still warming": 8 * np.exp(-1.5 * t)}[kind]
    found = [steady_state(trace) for trace in _traces(noise, 1500, shape)]
    assert sum(cut is None for cut in found) >= 0.95 * TRACES


def test_a_short_trace_tells_nothing() -> None:
    assert steady_state(np.ones(FEWEST_FRAMES - 1)) is None
    assert not is_steady(np.ones(FEWEST_FRAMES - 1))
    assert steady_state(np.ones(FEWEST_FRAMES)) == 0


def test_one_spike_moves_no_cut() -> None:
    trace = NOISES["gamma"](np.random.default_rng(0), 1000)
    trace[400] = 1e4
    assert steady_state(trace) == 0


def test_is_steady_is_wrong_once_in_a_hundred() -> None:
    random = np.random.default_rng(5)
    wrong = sum(not is_steady(random.gamma(2, size=500)) for _ in range(1000))
    assert wrong <= stats.binom.ppf(0.999, 1000, 0.01)


def test_kpss_against_its_definition() -> None:
    values = np.random.default_rng(0).normal(size=50)
    residual = values - values.mean()
    lags = 4  # ceil(4 (50 / 100)^(1/4))
    variance = sum(residual**2) / 50
    for s in range(1, lags + 1):
        variance += 2 / 50 * (1 - s / (lags + 1)) * sum(residual[t] * residual[t - s] for t in range(s, 50))
    partial = [sum(residual[: t + 1]) for t in range(50)]
    assert kpss(values) == pytest.approx(sum(p**2 for p in partial) / 50**2 / variance)


def test_kpss_has_the_published_quantiles() -> None:
    """Table 1 of Kwiatkowski et al.: 10 % above 0.347, 5 % above 0.463, 1 % above 0.739."""
    random = np.random.default_rng(1)
    found = np.array([kpss(random.normal(size=1000)) for _ in range(2000)])
    for level, critical in ((0.1, 0.347), (0.05, 0.463), (0.01, 0.739)):
        assert np.mean(found > critical) == pytest.approx(level, abs=0.02)


def test_drift_is_that_of_the_slowest_tenth() -> None:
    assert drift(np.concatenate([np.zeros(900), np.full(100, 3.0)])) == 3
    assert drift(np.full(50, 7.0)) == 0
