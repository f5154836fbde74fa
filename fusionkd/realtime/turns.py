"""Two programs run frames in turns on one machine, until it is clear which is slower."""

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from fusionkd.errors import UserError
from fusionkd.realtime.gate import MIN_ROUNDS, Blocks, Comparison, compare


class Side(Protocol):
    """One of the two programs."""

    def times_ns(self, frames: Sequence[int]) -> Sequence[int]:
        """Run frames, named by number, one after the other, and tell how long each took, in nanoseconds."""


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
        first_rounds: Rounds before the first look; a p99 wants some hundred frames.
        most_rounds: Rounds after which to stop, decided or not.
        growth: Each look comes after this many times more rounds than the last.
        warm_up: Frames of either side before anything counts.
        seed: Of the order within the rounds and of the resampling.
    """

    tolerance: float = 0.03
    tail_tolerance: float = 0.10
    confidence: float = 0.95
    frames_per_turn: int = 1
    first_rounds: int = 200
    most_rounds: int = 1000
    growth: float = 1.5
    warm_up: int = 30
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("tolerance", "tail_tolerance"):
            if not 0 < getattr(self, name) < 1:
                raise UserError(f"The gate's {name} must be between 0 and 1, found {getattr(self, name):g}.")
        if not 0.5 < self.confidence < 1:
            raise UserError(f"The gate's confidence must be above 0.5 and below 1, found {self.confidence:g}.")
        if self.frames_per_turn < 1 or self.warm_up < 1 or self.growth <= 1:
            raise UserError("The gate needs a frame per turn, a frame of warm-up and a growth above 1 at least.")
        if not MIN_ROUNDS <= self.first_rounds <= self.most_rounds:
            raise UserError(
                f"The gate's first look must be after {MIN_ROUNDS} rounds or more and not after its most, "
                f"{self.most_rounds}; found {self.first_rounds}."
            )

    @property
    def looks(self) -> tuple[int, ...]:
        """Rounds after which the verdict is asked for."""
        looks = [self.first_rounds]
        while looks[-1] < self.most_rounds:
            looks.append(min(round(looks[-1] * self.growth), self.most_rounds))
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
    candidate: Side,
    baseline: Side,
    plan: GatePlan | None = None,
    *,
    frames: int,
    progress: Callable[[Comparison], object] = lambda comparison: None,
) -> GateResult:
    """Measure two programs in turns and stop as soon as the verdict is clear.

    In a round both run the same frames. Who goes first is a coin toss, anew in each round; the swap test in
    ``compare`` stands on it.

    Args:
        candidate: Who must not be slower.
        baseline: Than whom.
        plan: How long to measure, and what counts as slower.
        frames: Number of different frames that there are; rounds take them in turn.
        progress: Called with what each look says.

    Raises:
        UserError: If there are no frames.
    """
    plan = plan or GatePlan()
    if frames < 1:
        raise UserError("The gate has no frames to run.")
    rows: dict[int, list[Sequence[int]]] = {0: [], 1: []}
    sides, looks = (candidate, baseline), plan.looks
    coin = np.random.default_rng(plan.seed)
    with quiet():
        for side in sides:
            side.times_ns([number % frames for number in range(plan.warm_up)])
        while True:
            numbers = [(len(rows[0]) * plan.frames_per_turn + k) % frames for k in range(plan.frames_per_turn)]
            for which in coin.permutation(2):
                rows[which].append(sides[which].times_ns(numbers))
            if len(rows[0]) not in looks:
                continue
            gc.collect()
            blocks = [np.asarray(rows[which], np.int64) for which in (0, 1)]  # (R, n)
            said = _look(blocks, plan)
            progress(said)
            if said.verdict != "inconclusive" or said.rounds == plan.most_rounds:
                return GateResult(said, *blocks)


def _look(blocks: Sequence[Blocks], plan: GatePlan) -> Comparison:
    return compare(
        *blocks,
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
