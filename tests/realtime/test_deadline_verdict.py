"""Verdicts: what is met, missed or open, and what is said about it."""

import dataclasses
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from synthetic import constant_stream, single_stream

from fusionkd.errors import UserError
from fusionkd.realtime import DeadlineContract, Finding, PwcetRefused, Verdict, WeaklyHard, judge
from fusionkd.realtime.figures import latency_figures, stream_ms

CONTRACT = DeadlineContract(50.0, percentile=99)


def calm(frames: int = 600, seed: int = 0) -> NDArray[np.float64]:
    return 30 + np.random.default_rng(seed).gamma(4, 0.5, size=frames)


def late(frames: int = 600, *, at: Any) -> NDArray[np.float64]:
    values = calm(frames)
    values[at] = 60
    return values


def finding(verdict: Verdict, name: str) -> Finding:
    return next(found for found in verdict.findings if found.name == name)


def test_met() -> None:
    verdict = judge(single_stream(calm()), CONTRACT)
    assert (verdict.status, verdict.exit_status, verdict.frames_needed) == ("met", 0, None)
    found = finding(verdict, "latency p99")
    assert found.value is not None
    assert found.bounds.lower < found.value <= found.bounds.upper <= 50
    assert "95 % confidence" in found.sentence


def test_missed() -> None:
    verdict = judge(single_stream(late(at=slice(0, None, 20))), CONTRACT)
    assert (verdict.status, verdict.exit_status) == ("missed", 1)
    assert finding(verdict, "latency p99").bounds.lower > 50
    assert finding(verdict, "miss rate").value == pytest.approx(5)


def test_inconclusive_says_how_many_frames() -> None:
    verdict = judge(single_stream(calm(200)), CONTRACT)
    assert (verdict.status, verdict.exit_status, verdict.frames_needed) == ("inconclusive", 2, 299)
    found = finding(verdict, "latency p99")
    assert found.bounds.upper == np.inf
    assert "takes 299 frames" in found.sentence
    assert judge(single_stream(calm(299)), CONTRACT).status == "met"


def test_the_deadline_itself_is_in_time() -> None:
    assert judge(single_stream(np.full(600, 50.0)), CONTRACT).figures.misses == 0
    assert judge(single_stream(np.full(600, 50.000001)), CONTRACT).figures.misses == 600


def test_cold_frames_are_apart() -> None:
    slow_start = calm()
    slow_start[:8] = 900
    verdict = judge(single_stream(slow_start, cold=8), CONTRACT)
    assert verdict.status == "met"
    assert verdict.figures.cold_ms == (900.0,) * 8
    assert verdict.figures.frames == 592
    assert judge(single_stream(slow_start, cold=0), CONTRACT).status != "met"


def test_dropped_frames_count_as_missed() -> None:
    busy = calm()
    busy[[100, 101, 300]] = 170.0
    trace = constant_stream(busy, period_ms=50)
    contract = DeadlineContract(50.0, percentile=90, scenario="constant_stream", rate_hz=20)
    figures = judge(trace, contract).figures
    # 170 ms keep three arrivals from the next frame: it waits for the newest.
    dropped = [k for k in range(600) if k not in trace.arrival_index]
    assert dropped
    assert figures.dropped == trace.dropped == len(dropped)
    in_time = int(np.count_nonzero(trace.latency_ns <= 50e6))
    assert figures.misses == 600 - in_time
    assert np.isinf(stream_ms(trace)[dropped]).all()
    assert figures.longest_run >= 4


def test_weakly_hard_counts_dropped_frames() -> None:
    busy = calm()
    busy[100] = 170.0
    contract = dataclasses.replace(
        CONTRACT, percentile=90, scenario="constant_stream", rate_hz=20, weakly_hard=WeaklyHard(2, 10)
    )
    verdict = judge(constant_stream(busy, period_ms=50), contract)
    found = finding(verdict, "weakly hard")
    assert found.status == "missed"
    assert found.value == verdict.figures.misses > 2
    assert verdict.status == "missed"


def test_frames_dropped_during_the_cold_one_belong_to_the_cold_start() -> None:
    busy = calm()
    busy[0] = 1000.0
    figures = judge(
        constant_stream(busy, period_ms=50, cold=1), DeadlineContract(50.0, scenario="constant_stream", rate_hz=20)
    ).figures
    # Done at 1,000 ms, when the 20th arrives.
    assert figures.dropped_while_cold == 19
    assert figures.dropped == 0


def test_nothing_but_a_cold_frame() -> None:
    verdict = judge(single_stream(np.array([40.0]), cold=1), CONTRACT)
    assert verdict.status == "inconclusive"
    assert verdict.figures.frames == 0
    stuck = single_stream(np.array([40.0]), cold=1, arrived=500)
    assert judge(stuck, CONTRACT).status == "missed"


def test_weakly_hard() -> None:
    contract = dataclasses.replace(CONTRACT, percentile=90, weakly_hard=WeaklyHard(1, 20))
    apart = judge(single_stream(late(at=[100, 120, 140])), contract)
    assert (finding(apart, "weakly hard").status, finding(apart, "weakly hard").value) == ("met", 1)
    near = judge(single_stream(late(at=[100, 119])), contract)
    assert (finding(near, "weakly hard").status, near.status) == ("missed", "missed")
    short = judge(single_stream(calm(19)), contract)
    assert (finding(short, "weakly hard").status, finding(short, "weakly hard").frames_needed) == ("inconclusive", 20)


def test_stage_budgets() -> None:
    contract = dataclasses.replace(CONTRACT, stages_ms={"network": 30.0, "camera": 5.0, "decode": 3.0})
    verdict = judge(single_stream(calm()), contract)
    assert finding(verdict, "stage network p99").status == "met"
    assert finding(verdict, "stage camera p99").status == "missed"
    # The stage itself, not also images/decode.
    assert finding(verdict, "stage decode p99").status == "met"
    assert verdict.status == "missed"


def test_unknown_stage_lists_those_there_are() -> None:
    with pytest.raises(UserError, match=r"stages_ms.*no stage 'camra'.*network/camera"):
        judge(single_stream(calm()), dataclasses.replace(CONTRACT, stages_ms={"camra": 5.0}))


BUDGETS = dataclasses.replace(CONTRACT, memory_mib=1000, energy_mj_per_frame=900, accuracy={"nds": 0.3})


@pytest.mark.parametrize(
    ("given_figures", "statuses"),
    [
        ({"memory_mib": 1000, "energy_mj": 900, "accuracy": {"NDS": 0.3}}, ("met", "met", "met")),
        ({"memory_mib": 1001, "energy_mj": 901, "accuracy": {"nds": 0.29}}, ("missed", "missed", "missed")),
        ({"accuracy": {"mAP": 0.4}}, ("inconclusive", "inconclusive", "inconclusive")),
        ({"memory_mib": 900, "energy_mj": float("nan")}, ("met", "inconclusive", "inconclusive")),
    ],
)
def test_figures(given_figures: dict[str, Any], statuses: tuple[str, ...]) -> None:
    verdict = judge(single_stream(calm()), BUDGETS, **given_figures)
    found = [finding(verdict, name) for name in ("memory", "energy", "accuracy nds")]
    assert tuple(one.status for one in found) == statuses
    for one in found:
        assert ("absent" in one.sentence) == (one.status == "inconclusive")
    expected = "missed" if "missed" in statuses else "met" if set(statuses) == {"met"} else "inconclusive"
    assert verdict.status == expected
    # More frames tell no energy.
    assert verdict.frames_needed is None


def test_a_miss_outweighs_what_is_open() -> None:
    assert judge(single_stream(calm(200)), BUDGETS, memory_mib=5000).status == "missed"


def test_drift_beyond_the_room_is_inconclusive_and_within_it_is_met() -> None:
    drifting = calm() + 4 * np.arange(600) / 600
    tight, wide = (judge(single_stream(drifting), dataclasses.replace(CONTRACT, deadline_ms=d)) for d in (38.5, 60))
    assert finding(tight, "steady state").status == "inconclusive"
    assert "never became steady" in finding(tight, "steady state").sentence
    assert finding(wide, "steady state").status == "met"
    assert "fits into" in finding(wide, "steady state").sentence


def test_modelled_is_said_everywhere() -> None:
    contract = dataclasses.replace(CONTRACT, stages_ms={"network": 30.0})
    verdict = judge(single_stream(calm(), modelled=True), contract)
    for name in ("latency p99", "miss rate", "steady state", "stage network p99"):
        assert "modelled" in finding(verdict, name).sentence.lower()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scenario": "single_stream", "rate_hz": None, "overrun": None}, "contract is for a single_stream"),
        ({"rate_hz": 10.0}, r"rate_hz is 10, a frame each 100 ms.*each 50 ms"),
        ({"overrun": "run_on"}, "overrun is run_on, the trace's is skip"),
    ],
)
def test_trace_of_another_scenario(changes: dict[str, Any], message: str) -> None:
    contract = DeadlineContract(50.0, scenario="constant_stream", rate_hz=20)
    with pytest.raises(UserError, match=message):
        judge(constant_stream(calm(), period_ms=50), dataclasses.replace(contract, **changes))


def test_pwcet_is_told_and_takes_no_part() -> None:
    assert not isinstance(judge(single_stream(calm()), CONTRACT).pwcet, PwcetRefused)
    turns = calm() + 2 * (np.arange(600) % 2)
    refused = judge(single_stream(turns), CONTRACT)
    assert isinstance(refused.pwcet, PwcetRefused)
    assert refused.status == "met"


def test_stream_figures() -> None:
    """Four frames each 50 ms; the second takes 80 ms, so that the third waits 30 ms."""
    trace = constant_stream(np.array([30.0, 80.0, 30.0, 30.0]), period_ms=50)
    figures = latency_figures(trace, deadline_ms=50, percent=99, confidence=0.95)
    assert figures.stream is not None
    assert figures.stream.longest_wait_ms == 30
    assert figures.stream.deepest_queue == 1
    # At 130 ms the newest output is that of the frame of 0 ms; at 160 ms that of 50 ms.
    assert figures.stream.oldest_output_ms == 130
    assert figures.misses == 2
    assert sum(stage.share for stage in figures.stages) == pytest.approx(figures.covered)
