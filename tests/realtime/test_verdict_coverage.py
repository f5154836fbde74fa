"""How often verdicts are wrong, and how often they are right: repetitions at and beyond the edge of a contract."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats
from synthetic import STAGES, autoregressive, single_stream

from fusionkd.realtime import DeadlineContract, LatencyTrace, PwcetRefused, judge

REPETITIONS = 300
FRAMES = 1500
PERCENT = 98.0
ALLOWED = 1 - PERCENT / 100
LAW = stats.gamma(9, loc=20)
STAGE_LAW = stats.gamma(4)

MOST_ERRORS = stats.binom.ppf(0.999, REPETITIONS, 0.05)
"""Five of a hundred, and what chance adds."""


@pytest.fixture(autouse=True)
def _no_worst_case(monkeypatch: pytest.MonkeyPatch) -> None:
    """The worst case takes no part in a verdict, and most of its time."""
    monkeypatch.setattr("fusionkd.realtime.verdict.fit_pwcet", lambda *_, **__: PwcetRefused("Not asked for."))


def _verdicts(contract: DeadlineContract, draw: Callable[[int], LatencyTrace]) -> dict[str, int]:
    found = [judge(draw(k), contract).status for k in range(REPETITIONS)]
    return {status: found.count(status) for status in ("met", "missed", "inconclusive")}


def _independent(seed: int) -> LatencyTrace:
    return single_stream(LAW.rvs(FRAMES, random_state=seed))


def _deadline(miss_rate: float) -> DeadlineContract:
    return DeadlineContract(float(LAW.isf(miss_rate)), percentile=PERCENT)


def test_seldom_met_though_the_miss_rate_is_just_above_the_contract() -> None:
    found = _verdicts(_deadline(1.001 * ALLOWED), _independent)
    assert found["met"] <= MOST_ERRORS


def test_seldom_missed_though_the_miss_rate_keeps_the_contract() -> None:
    found = _verdicts(_deadline(ALLOWED), _independent)
    assert found["missed"] <= MOST_ERRORS
    # At the edge nothing can be proven.
    assert found["inconclusive"] >= 0.85 * REPETITIONS


@pytest.mark.parametrize(("factor", "status"), [(0.4, "met"), (2.0, "missed")])
def test_a_clear_case_is_decided(factor: float, status: str) -> None:
    assert _verdicts(_deadline(factor * ALLOWED), _independent)[status] >= 0.95 * REPETITIONS


def _staged(seed: int) -> LatencyTrace:
    """Six independent stages and nothing else."""
    stages = STAGE_LAW.rvs((FRAMES, len(STAGES)), random_state=seed)
    stage_ns = np.round(stages * 1e6).astype(np.int64)
    return single_stream(stage_ns.sum(axis=1) / 1e6, stage_ns=stage_ns)


def _staged_contract(*miss_rates: float) -> DeadlineContract:
    budgets = {stage: float(STAGE_LAW.isf(rate)) for stage, rate in zip(STAGES, miss_rates)}
    return DeadlineContract(200.0, percentile=PERCENT, stages_ms=budgets)


def test_many_budgets_kept_at_their_edge_are_seldom_missed() -> None:
    """Seven limits: without the correction a quarter of these verdicts would say missed."""
    assert _verdicts(_staged_contract(*[ALLOWED] * 6), _staged)["missed"] <= MOST_ERRORS


def test_many_budgets_of_which_one_is_broken_are_seldom_met() -> None:
    found = _verdicts(_staged_contract(1.001 * ALLOWED, *[0.1 * ALLOWED] * 5), _staged)
    assert found["met"] <= MOST_ERRORS


@pytest.mark.parametrize(("miss_rate", "wrong"), [(1.001 * ALLOWED, "met"), (ALLOWED, "missed")])
def test_dependent_frames_make_no_verdict_bolder(miss_rate: float, wrong: str) -> None:
    samples = 30 + autoregressive(0.8, FRAMES, repetitions=REPETITIONS, seed=9)
    contract = DeadlineContract(30 + float(stats.norm.isf(miss_rate)), percentile=PERCENT)
    assert _verdicts(contract, lambda k: single_stream(samples[k]))[wrong] <= MOST_ERRORS


def test_dropped_frames_are_misses_of_the_same_weight() -> None:
    """The share of frames that are dropped is just above the contract; those that are processed are all in time."""

    def draw(seed: int) -> LatencyTrace:
        random = np.random.default_rng(seed)
        kept: NDArray[np.int64] = np.flatnonzero(random.random(FRAMES) >= 1.001 * ALLOWED)
        values = 20 + random.gamma(9, 0.1, size=len(kept))
        return single_stream(values, arrival_index=kept, arrived=FRAMES)

    assert _verdicts(DeadlineContract(40.0, percentile=PERCENT), draw)["met"] <= MOST_ERRORS
