"""Measuring in turns: order, warm-up, looks, and when it stops; with programs whose time is made up."""

import gc
from collections.abc import Sequence

import numpy as np
import pytest

from fusionkd.errors import UserError
from fusionkd.realtime.gate import Comparison
from fusionkd.realtime.turns import CallSide, GatePlan, run_gate


class Program:
    """Takes ``base_ns`` with some noise; keeps a diary shared with the other side."""

    def __init__(self, name: str, base_ns: float, *, noise: float, diary: list[tuple[str, tuple[int, ...]]]) -> None:
        self.name, self.base_ns, self.noise, self.diary = name, base_ns, noise, diary
        self.rng = np.random.default_rng(sum(map(ord, name)))
        self.collected = False

    def times_ns(self, frames: Sequence[int]) -> list[int]:
        self.diary.append((self.name, tuple(frames)))
        self.collected |= gc.isenabled()
        return [round(self.base_ns * np.exp(self.rng.normal(0, self.noise))) for _ in frames]


def sides(slow_down: float, noise: float = 0.03) -> tuple[Program, Program, list[tuple[str, tuple[int, ...]]]]:
    diary: list[tuple[str, tuple[int, ...]]] = []
    a = Program("candidate", 1e7 * slow_down, noise=noise, diary=diary)
    return a, Program("baseline", 1e7, noise=noise, diary=diary), diary


@pytest.mark.parametrize(("slow_down", "verdict"), [(1.0, "not slower"), (1.05, "slower"), (0.9, "not slower")])
def test_stops_at_the_first_look_that_decides(slow_down: float, verdict: str) -> None:
    candidate, baseline, _ = sides(slow_down)
    result = run_gate(candidate, baseline, frames=7)
    assert result.comparison.verdict == verdict
    assert result.comparison.rounds == len(result.candidate_ns) == GatePlan().first_rounds


def test_undecided_it_goes_on_to_the_last_look_and_says_so() -> None:
    candidate, baseline, _ = sides(1.03, noise=0.5)
    plan, said = GatePlan(first_rounds=20, most_rounds=70), list[Comparison]()
    result = run_gate(candidate, baseline, plan, frames=5, progress=said.append)
    assert plan.looks == (20, 30, 45, 68, 70)
    assert [one.rounds for one in said] == list(plan.looks)
    assert result.comparison.verdict == "inconclusive"
    assert {one.looks for one in said} == {5}


def test_both_run_the_same_frames_and_chance_decides_who_is_first() -> None:
    candidate, baseline, diary = sides(1.0)
    run_gate(candidate, baseline, GatePlan(frames_per_turn=2, warm_up=3), frames=5)
    assert diary[:2] == [("candidate", (0, 1, 2)), ("baseline", (0, 1, 2))]
    rounds = [diary[k : k + 2] for k in range(2, len(diary), 2)]
    assert all({name for name, _ in pair} == {"candidate", "baseline"} for pair in rounds)
    assert all(first[1] == second[1] for first, second in rounds)
    assert [pair[0][1] for pair in rounds[:3]] == [(0, 1), (2, 3), (4, 0)]
    candidate_first = sum(pair[0][0] == "candidate" for pair in rounds)
    assert 0.35 < candidate_first / len(rounds) < 0.65


def test_garbage_is_not_collected_while_frames_are_timed() -> None:
    assert gc.isenabled()
    candidate, baseline, _ = sides(1.0)
    run_gate(candidate, baseline, frames=1)
    assert [candidate.collected, baseline.collected] == [False, False]
    assert gc.isenabled()


def test_a_failing_frame_is_not_swallowed_and_collection_goes_on() -> None:
    def fails(frame: int) -> None:
        raise RuntimeError("no such device")

    with pytest.raises(RuntimeError, match="no such device"):
        run_gate(CallSide(fails), CallSide(fails), frames=1)
    assert gc.isenabled()


def test_a_call_is_timed_frame_by_frame() -> None:
    now = iter([0, 5, 7, 19]).__next__
    seen: list[int] = []
    assert CallSide(seen.append, now).times_ns([3, 1]) == [5, 12]
    assert seen == [3, 1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tolerance": 0}, "tolerance must be between"),
        ({"tail_tolerance": 3.0}, "tail_tolerance must be between"),
        ({"confidence": 95}, "confidence must be"),
        ({"first_rounds": 5}, "first look must be after 20"),
        ({"most_rounds": 100}, "not after its most, 100"),
        ({"frames_per_turn": 0}, "a frame per turn"),
    ],
)
def test_plan_refuses(changes: dict[str, float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        GatePlan(**changes)  # type: ignore[arg-type]


def test_gate_without_frames_is_refused() -> None:
    candidate, baseline, _ = sides(1.0)
    with pytest.raises(UserError, match="no frames"):
        run_gate(candidate, baseline, frames=0)
