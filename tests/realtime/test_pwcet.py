"""The probabilistic worst case: where it is given it covers, and it is refused where it must be."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats
from synthetic import autoregressive, bursty

from fusionkd.errors import UserError
from fusionkd.realtime.pwcet import Pwcet, PwcetRefused, anderson_darling, fit_pwcet, fit_tail

TRACES = 40
FRAMES = 2000
RANDOM = np.random.default_rng(1)


def _fits(law: stats.rv_continuous, frames: int = FRAMES) -> list[Pwcet | PwcetRefused]:
    random = np.random.default_rng(11)
    return [fit_pwcet(law.rvs(frames, random_state=random)) for _ in range(TRACES)]


@pytest.mark.parametrize(
    ("law", "coverage"),
    [
        (stats.gamma(4), 0.95),
        (stats.norm(30, 1), 0.95),
        (stats.expon(20), 0.9),
        (stats.uniform(20, 5), 0.95),
        (stats.lognorm(0.3), 0.9),
        # The bootstrap knows nothing of a tail that is heavier than the sample shows.
        (stats.genpareto(0.2), 0.8),
    ],
    ids=["gamma", "normal", "exponential", "uniform", "lognormal", "heavy"],
)
def test_independent_traces_are_accepted_and_covered(law: stats.rv_continuous, coverage: float) -> None:
    fits = [fit for fit in _fits(law) if isinstance(fit, Pwcet)]
    assert len(fits) >= 0.9 * TRACES
    for probability in (1 / FRAMES, 1 / (10 * FRAMES), 1 / (100 * FRAMES)):
        covered = np.mean([fit.upper(probability) >= law.isf(probability) for fit in fits])
        assert covered >= coverage, probability
        assert np.median([fit.upper(probability) for fit in fits]) < 3 * law.isf(probability)


def _level_shift(random: np.random.Generator) -> NDArray[np.float64]:
    return random.normal(20, 1, FRAMES) + 0.8 * (np.arange(FRAMES) > 1200)


DEPENDENT: dict[str, Callable[[np.random.Generator], NDArray[np.float64]]] = {
    "AR(1) of 0.3": lambda random: autoregressive(0.3, FRAMES, repetitions=1, seed=int(random.integers(10**6)))[0],
    "AR(1) of 0.9": lambda random: autoregressive(0.9, FRAMES, repetitions=1, seed=int(random.integers(10**6)))[0],
    "bursts": lambda random: (
        random.normal(20, 1, FRAMES) + 5 * bursty(FRAMES, share=0.05, length=5, seed=int(random.integers(10**6)))
    ),
    "level shift": _level_shift,
    "two frames in turn": lambda random: random.normal(20, 1, FRAMES) + np.arange(FRAMES) % 2,
}


@pytest.mark.parametrize("kind", DEPENDENT)
def test_dependent_traces_are_refused(kind: str) -> None:
    random = np.random.default_rng(3)
    fits = [fit_pwcet(DEPENDENT[kind](random)) for _ in range(TRACES)]
    refused = [fit for fit in fits if isinstance(fit, PwcetRefused)]
    assert len(refused) >= 0.95 * TRACES
    assert all("not independent and identically distributed" in fit.reason for fit in refused)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (np.random.default_rng(0).gamma(4, size=499), "measure at least 500 frames"),
        (np.random.default_rng(0).poisson(20, size=2000), "clock is too coarse"),
        (np.abs(np.random.default_rng(0).standard_cauchy(size=2000)), "too heavy"),
        (np.full(2000, 7.0), "clock is too coarse"),
        # A comb: a multiple of 5 ms, give or take 10 us.
        (5 * RANDOM.binomial(6, 0.3, size=2000) + 0.01 * RANDOM.random(2000), "generalised Pareto"),
    ],
    ids=["few", "coarse", "heavy", "constant", "no tail"],
)
def test_what_else_is_refused(values: NDArray[np.float64], reason: str) -> None:
    fit = fit_pwcet(values)
    assert isinstance(fit, PwcetRefused)
    assert reason in fit.reason


def test_reach_is_bounded() -> None:
    fit = fit_pwcet(np.random.default_rng(0).gamma(4, size=2000))
    assert isinstance(fit, Pwcet)
    assert fit.upper(5e-6) > fit.estimate(5e-6) > fit.estimate(1e-3) > fit.threshold
    for probability in (1e-9, 0.3):
        with pytest.raises(UserError, match="measure more frames"):
            fit.estimate(probability)


def test_the_same_trace_gives_the_same_bound() -> None:
    values = np.random.default_rng(0).gamma(4, size=2000)
    first, second = fit_pwcet(values), fit_pwcet(values)
    assert isinstance(first, Pwcet)
    assert isinstance(second, Pwcet)
    assert first.upper(1e-4) == second.upper(1e-4)


@pytest.mark.parametrize("shape", [-0.4, 0.0, 0.3])
def test_tail_is_found_again(shape: float) -> None:
    exact = stats.genpareto(shape, scale=2).ppf((np.arange(1, 20001) - 0.35) / 20000)
    found = fit_tail(exact)
    assert found[0] == pytest.approx(shape, abs=0.01)
    assert found[1] == pytest.approx(2, rel=0.01)
    drawn = np.sort(stats.genpareto(shape, scale=2).rvs(3000, random_state=1))
    likeliest = stats.genpareto.fit(drawn, floc=0)
    assert fit_tail(drawn)[0] == pytest.approx(likeliest[0], abs=0.08)
    assert fit_tail(drawn)[1] == pytest.approx(likeliest[2], rel=0.08)


@pytest.mark.parametrize("shape", [-0.3, 0.0, 0.4])
def test_anderson_darling_is_scipys(shape: float) -> None:
    drawn = np.sort(np.random.default_rng(0).exponential(3, size=60))
    scale = 20.0
    known = {"c": shape, "loc": 0, "scale": scale}
    oracle = stats.goodness_of_fit(stats.genpareto, drawn, known_params=known, statistic="ad", n_mc_samples=1)
    assert anderson_darling(drawn, np.array(shape), np.array(scale)) == pytest.approx(oracle.statistic)
