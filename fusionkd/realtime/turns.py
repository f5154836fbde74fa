"""Two programs run frames in turns on one machine, until it is clear which is slower."""

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from fusionkd.errors import UserError
from fusionkd.realtime.gate import FEWEST_STARTS, Blocks, Comparison, compare


class Side(Protocol):
    """One of the two programs."""

    def times_ns(self, frames: Sequence[int]) -> Sequence[int]:
        """Run frames, named by number, one after the other, and tell how long each took, in nanoseconds."""


Times = Sequence[int]
Pair = tuple[Side, Side, int]
"""Candidate, baseline, and the number of different frames that they have."""


@dataclass(frozen=True)
class CallSide:
    """A program in this process.

    Attributes:
        call: Runs the frame of a number, sensor bytes to boxes, and returns when it is done.
        now_ns: The time source.
    """

    call: Callable[[int], object]
    now_ns: Callable[[], int] = time.perf_counter_ns

    def times_ns(self, frames: Sequence[int]) -> list[int]:
        """Run frames and time each of them."""
        times = []
        for frame in frames:
            begin_ns = self.now_ns()
            self.call(frame)
            times.append(self.now_ns() - begin_ns)
        return times


@dataclass(frozen=True)
class GatePlan:
    """How long to measure, and what counts as slower.

    Attributes:
        tolerance: Slow-down of the median that is accepted.
        tail_tolerance: Slow-down of the p99 that is accepted.
        confidence: Of the intervals.
        frames_per_turn: Frames that a side runs before it is the other's turn. One is best where a frame takes
            milliseconds: bursts of noise then hit both sides alike.
        rounds_per_start: Rounds until both are started anew.
        first_starts: Starts before the first look.
        most_starts: Starts after which to stop, decided or not.
        growth: Each look comes after this many times more starts than the last.
        warm_up: Frames of either side after each start before anything counts.
        seed: Of the order within the rounds and of the resampling.
    """

    tolerance: float = 0.03
    tail_tolerance: float = 0.10
    confidence: float = 0.95
    frames_per_turn: int = 1
    rounds_per_start: int = 20
    first_starts: int = 12
    most_starts: int = 48
    growth: float = 1.5
    warm_up: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("tolerance", "tail_tolerance"):
            if not 0 < getattr(self, name) < 1:
                raise UserError(f"The gate's {name} must be between 0 and 1, found {getattr(self, name):g}.")
        if not 0.5 < self.confidence < 1:
            raise UserError(f"The gate's confidence must be above 0.5 and below 1, found {self.confidence:g}.")
        if min(self.frames_per_turn, self.rounds_per_start, self.warm_up) < 1 or self.growth <= 1:
            raise UserError(
                "The gate needs a frame per turn, a round per start, a frame of warm-up and a growth above 1 at least."
            )
        if not FEWEST_STARTS <= self.first_starts <= self.most_starts:
            raise UserError(
                f"The gate's first look must be after {FEWEST_STARTS} starts or more and not after its most, "
                f"{self.most_starts}; found {self.first_starts}."
            )

    @property
    def looks(self) -> tuple[int, ...]:
        """Starts after which the verdict is asked for."""
        looks = [self.first_starts]
        while looks[-1] < self.most_starts:
            looks.append(min(round(looks[-1] * self.growth), self.most_starts))
        return tuple(looks)


@dataclass(frozen=True)
class GateResult:
    """What the rounds say, and the rounds themselves.

    Attributes:
        comparison: The verdict and its figures.
        candidate_ns: (R, n).
        baseline_ns: (R, n).
    """

    comparison: Comparison
    candidate_ns: Blocks
    baseline_ns: Blocks


def run_gate(
    start: Callable[[bool], AbstractContextManager[Pair]],
    plan: GatePlan | None = None,
    *,
    progress: Callable[[Comparison], object] = lambda comparison: None,
) -> GateResult:
    """Measure two programs in turns and stop as soon as the verdict is clear.

    In a round both run the same frames. Who goes first is a coin toss, anew in each round, and so is who is started
    first; the swap test in ``compare`` stands on it.

    Args:
        start: Starts both, the candidate first if it is given True, and ends them when its context ends.
        plan: How long to measure, and what counts as slower.
        progress: Called with what each look says.

    Raises:
        UserError: If there are no frames.
    """
    plan = plan or GatePlan()
    coin = np.random.default_rng(plan.seed)
    rows: tuple[list[Times], list[Times]] = ([], [])
    starts = 0
    while True:
        with start(bool(coin.integers(2))) as pair:
            _one_start(pair, plan, rows, coin=coin)
        starts += 1
        if starts in plan.looks:
            candidate_ns, baseline_ns = (np.asarray(side, np.int64) for side in rows)  # (R, n)
            said = _look(candidate_ns, baseline_ns, plan, starts=starts)
            progress(said)
            if said.verdict != "inconclusive" or starts == plan.most_starts:
                return GateResult(said, candidate_ns, baseline_ns)


def _one_start(pair: Pair, plan: GatePlan, rows: tuple[list[Times], list[Times]], *, coin: np.random.Generator) -> None:
    """Warm both up and add their rounds."""
    *sides, frames = pair
    if frames < 1:
        raise UserError("The gate has no frames to run.")
    for side in sides:
        side.times_ns([number % frames for number in range(plan.warm_up)])
    for turn in range(plan.rounds_per_start):
        numbers = [(turn * plan.frames_per_turn + k) % frames for k in range(plan.frames_per_turn)]
        for which in coin.permutation(2):
            rows[which].append(sides[which].times_ns(numbers))


def _look(candidate_ns: Blocks, baseline_ns: Blocks, plan: GatePlan, *, starts: int) -> Comparison:
    return compare(
        candidate_ns,
        baseline_ns,
        starts=starts,
        tolerance=plan.tolerance,
        tail_tolerance=plan.tail_tolerance,
        confidence=plan.confidence,
        looks=len(plan.looks),
        seed=plan.seed,
    )


@contextmanager
def quiet() -> Iterator[None]:
    """No garbage collection while frames are timed: one side's garbage would be paid by the other."""
    was_enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
