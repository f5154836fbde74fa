"""Many programs against one deadline: those that clearly miss it drop out early, and time goes to the others."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fusionkd.errors import UserError
from fusionkd.realtime.statistics import percentile, percentile_bounds
from fusionkd.realtime.turns import Side, quiet


@dataclass(frozen=True)
class RacePlan:
    """How the race goes.

    Attributes:
        deadline_ms: Of a frame.
        percent: Percentile of the latency that must keep it.
        confidence: Of both bounds of the percentile.
        frames: Frames of each that stays in the race.
        frames_per_turn: Frames that one runs before it is the next one's turn.
        warm_up: Frames of each before anything counts.
        seed: Of the order.
    """

    deadline_ms: float
    percent: float = 99.0
    confidence: float = 0.95
    frames: int = 600
    frames_per_turn: int = 10
    warm_up: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.deadline_ms > 0:
            raise UserError(f"The deadline must be above 0 ms, found {self.deadline_ms:g}.")
        if not (0 < self.percent < 100 and 0.5 < self.confidence < 1):
            raise UserError(
                f"A race needs a percentile between 0 and 100 and a confidence between 0.5 and 1, found "
                f"{self.percent:g} and {self.confidence:g}."
            )
        if not 0 < self.frames_per_turn <= self.frames or self.warm_up < 1:
            raise UserError("A race needs a frame of warm-up and at least as many frames as are in a turn.")

    @property
    def turns(self) -> int:
        """Turns of each."""
        return math.ceil(self.frames / self.frames_per_turn)


@dataclass(frozen=True)
class Finish:
    """How one came off.

    Attributes:
        latency_ns: (F,) its frames.
        value_ms: The percentile of them.
        low_ms: Lower bound.
        high_ms: Upper bound; infinite where so few frames bound nothing.
        outcome: ``meets`` where the upper bound keeps the deadline, ``misses`` where the lower one breaks it, else
            ``undecided``.
    """

    latency_ns: NDArray[np.int64]
    value_ms: float
    low_ms: float
    high_ms: float
    outcome: str


def race(
    runners: Mapping[str, Side],
    plan: RacePlan,
    *,
    frames: int,
    progress: Callable[[str, Finish], object] = lambda name, finish: None,
) -> dict[str, Finish]:
    """Run all in turns, each round in another order, and drop whoever is proved to miss the deadline.

    The error of dropping is split among the rounds (Bonferroni), so that a program that keeps the deadline is dropped
    with a chance of at most 1 - confidence, however often it is looked at.

    Args:
        runners: By name.
        plan: How the race goes.
        frames: Number of different frames that there are.
        progress: Called when one drops out, and for the others at the end.

    Returns:
        How each came off, in the order of ``runners``.
    """
    order = np.random.default_rng(plan.seed)
    times: dict[str, list[int]] = {name: [] for name in runners}
    done: dict[str, Finish] = {}
    with quiet():
        for turn in range(plan.turns):
            running = [name for name in runners if name not in done]
            numbers = [(turn * plan.frames_per_turn + k) % frames for k in range(plan.frames_per_turn)]
            for name in (running[k] for k in order.permutation(len(running))):
                if turn == 0:
                    runners[name].times_ns([k % frames for k in range(plan.warm_up)])
                times[name] += runners[name].times_ns(numbers)
                finish = judged(times[name], plan)
                if finish.outcome == "misses" or turn + 1 == plan.turns:
                    done[name] = finish
                    progress(name, finish)
    return {name: done[name] for name in runners}


def judged(times_ns: list[int], plan: RacePlan) -> Finish:
    """What the frames so far prove."""
    latency_ns = np.asarray(times_ns, np.int64)
    early = 1 - (1 - plan.confidence) / plan.turns
    bounds = percentile_bounds(latency_ns, plan.percent, plan.confidence, lower_confidence=early)
    limit_ns = plan.deadline_ms * 1e6
    outcome = "meets" if bounds.upper <= limit_ns else "misses" if bounds.lower > limit_ns else "undecided"
    low_ms, high_ms = max(bounds.lower, 0) / 1e6, bounds.upper / 1e6
    return Finish(latency_ns, percentile(latency_ns, plan.percent) / 1e6, low_ms, high_ms, outcome)
