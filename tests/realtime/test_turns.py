"""Measuring in turns: order, starts, warm-up, looks, and when it stops; with programs whose time is made up."""

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import pytest

from fusionkd.errors import UserError
from fusionkd.realtime.gate import Comparison
from fusionkd.realtime.turns import CallSide, GatePlan, Pair, quiet, run_gate

Diary = list[tuple[str, tuple[int, ...]]]


class Program:
    """Takes ``base_ns`` with some noise; keeps a diary shared with the other side."""

    def __init__(self, name: str, base_ns: float, noise: float, diary: Diary) -> None:
        self.name, self.base_ns, self.noise, self.diary = name, base_ns, noise, diary
        self.rng = np.random.default_rng(sum(map(ord, name)))

    def times_ns(self, frames: Sequence[int]) -> list[int]:
        self.diary.append((self.name, tuple(frames)))
        return [round(self.base_ns * np.exp(self.rng.normal(0, self.noise))) for _ in frames]


class Starter:
    """Starts both programs, and remembers how often and in which order."""

    def __init__(self, slow_down: float, *, noise: float = 0.03, frames: int = 7) -> None:
        self.diary: Diary = []
        self.candidate = Program("candidate", 1e7 * slow_down, noise, self.diary)
        self.baseline = Program("baseline", 1e7, noise, self.diary)
        self.frames = frames
        self.first: list[bool] = []
        self.running = False

    @contextmanager
    def __call__(self, first: bool) -> Iterator[Pair]:
        assert not self.running
        self.first.append(first)
        self.running = True
        yield self.candidate, self.baseline, self.frames
        self.running = False


@pytest.mark.parametrize(("slow_down", "verdict"), [(1.0, "not slower"), (1.05, "slower"), (0.9, "not slower")])
def test_stops_at_the_first_look_that_decides(slow_down: float, verdict: str) -> None:
    start, plan = Starter(slow_down), GatePlan()
    result = run_gate(start, plan)
    assert result.comparison.verdict == verdict
    assert result.comparison.starts == len(start.first) == plan.first_starts
    assert result.comparison.rounds == len(result.candidate_ns) == plan.first_starts * plan.rounds_per_start


def test_undecided_it_goes_on_to_the_last_look_and_says_so() -> None:
    plan, said = GatePlan(first_starts=6, most_starts=15, rounds_per_start=2), list[Comparison]()
    result = run_gate(Starter(1.03, noise=0.5), plan, progress=said.append)
    assert plan.looks == (6, 9, 14, 15)
    assert [one.starts for one in said] == list(plan.looks)
    assert result.comparison.verdict == "inconclusive"
    assert {one.looks for one in said} == {4}


def test_both_run_the_same_frames_and_chance_decides_who_is_first() -> None:
    start, plan = Starter(1.0, frames=5), GatePlan(frames_per_turn=2, warm_up=3)
    run_gate(start, plan)
    per_start = 2 + 2 * plan.rounds_per_start
    assert len(start.diary) == per_start * plan.first_starts
    rounds = []
    for begin in range(0, len(start.diary), per_start):
        assert start.diary[begin : begin + 2] == [("candidate", (0, 1, 2)), ("baseline", (0, 1, 2))]
        rounds += [start.diary[k : k + 2] for k in range(begin + 2, begin + per_start, 2)]
    assert all({name for name, _ in pair} == {"candidate", "baseline"} for pair in rounds)
    assert all(first[1] == second[1] for first, second in rounds)
    assert [pair[0][1] for pair in rounds[:3]] == [(0, 1), (2, 3), (4, 0)]
    candidate_first = sum(pair[0][0] == "candidate" for pair in rounds)
    assert 0.35 < candidate_first / len(rounds) < 0.65
    assert 0 < sum(start.first) < len(start.first)


def test_garbage_is_not_collected_while_frames_are_timed_and_is_afterwards() -> None:
    def fails() -> None:
        assert not gc.isenabled()
        raise RuntimeError("no such device")

    with pytest.raises(RuntimeError, match="no such device"), quiet():
        fails()
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
        ({"first_starts": 5}, "first look must be after 6"),
        ({"most_starts": 10}, "not after its most, 10"),
        ({"frames_per_turn": 0}, "a frame per turn"),
    ],
)
def test_plan_refuses(changes: dict[str, float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        GatePlan(**changes)  # type: ignore[arg-type]


def test_gate_without_frames_is_refused() -> None:
    with pytest.raises(UserError, match="no frames"):
        run_gate(Starter(1.0, frames=0))
