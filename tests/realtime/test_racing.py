"""The race against a deadline, with programs whose times are drawn."""

from collections.abc import Sequence

import numpy as np
import pytest

from fusionkd.errors import UserError
from fusionkd.realtime.racing import RacePlan, judged, race


class Runner:
    """Takes ``base_ms``, and ``late_ms`` in a share of the frames."""

    def __init__(self, base_ms: float, *, late_ms: float = 0, share: float = 0, seed: int = 0) -> None:
        self.base_ms, self.late_ms, self.share = base_ms, late_ms, share
        self.rng = np.random.default_rng(seed)
        self.ran = 0

    def times_ns(self, frames: Sequence[int]) -> list[int]:
        self.ran += len(frames)
        late = self.rng.random(len(frames)) < self.share
        return [round(1e6 * (self.late_ms if one else self.base_ms)) for one in late]


PLAN = RacePlan(50, frames=600)


def test_who_clearly_misses_drops_out_early_and_the_others_run_on() -> None:
    runners = {"fast": Runner(30), "slow": Runner(70), "spiky": Runner(30, late_ms=80, share=0.05)}
    told: list[str] = []
    finished = race(runners, PLAN, frames=7, progress=lambda name, finish: told.append(name))
    assert {name: finish.outcome for name, finish in finished.items()} == {
        "fast": "meets",
        "slow": "misses",
        "spiky": "misses",
    }
    assert runners["slow"].ran <= 3 * PLAN.frames_per_turn + PLAN.warm_up
    assert len(finished["fast"].latency_ns) == PLAN.frames
    assert told[0] == "slow"
    assert list(finished) == list(runners)


def test_too_few_frames_decide_nothing() -> None:
    finish = race({"a": Runner(30)}, RacePlan(50, frames=50), frames=1)["a"]
    assert (finish.outcome, finish.high_ms) == ("undecided", float("inf"))


def test_whoever_keeps_the_deadline_is_seldom_dropped_however_often_looked_at() -> None:
    """Misses in 0.99 % of the frames keep a p99: at most 5 % of such runners may drop out."""
    runners = {str(seed): Runner(30, late_ms=80, share=0.0099, seed=seed) for seed in range(100)}
    finished = race(runners, RacePlan(50, frames=200), frames=1)
    assert sum(finish.outcome == "misses" for finish in finished.values()) <= 5


def test_infinite_time_is_no_time() -> None:
    assert judged([10**12] * 40, PLAN).outcome == "misses"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"deadline_ms": 0}, "above 0 ms"),
        ({"percent": 101}, "percentile between"),
        ({"confidence": 95}, "confidence between"),
        ({"frames": 5}, "as many frames as are in a turn"),
    ],
)
def test_plan_refuses(changes: dict[str, float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        RacePlan(**{"deadline_ms": 50, **changes})  # type: ignore[arg-type]
