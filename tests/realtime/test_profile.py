"""Profiles on simulated time: warm-up, count, scenario; and one of a real pipeline."""

import gc
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from simulated_time import SimulatedTime
from small_pipeline import dataset_of, raw_frames, small_model

from fusionkd.deploy import Clock, Pipeline, RawFrame
from fusionkd.errors import UserError
from fusionkd.realtime import profile as room
from fusionkd.realtime import write_trace
from fusionkd.realtime.clock import SpanClock
from fusionkd.realtime.frames import open_frames
from fusionkd.realtime.networks import EagerNetwork
from fusionkd.realtime.profile import Plan, frame_cost_ns, profile
from tests.data.tiny_world import TinyWorld

MS = 1_000_000


@dataclass
class Named:
    name: str = "simulated"
    device: str = "cpu"


class SimulatedPipeline:
    """Frame k of the run takes ``service_ns(k)``; a hundredth of it lies in no stage."""

    def __init__(self, time: SimulatedTime, service_ns: Any) -> None:
        self.time, self.service_ns = time, service_ns
        self.network = Named()
        self.frozen: list[int] = []
        self.ran = 0

    def __call__(self, raw: RawFrame, clock: Clock) -> None:
        if self.ran in (1, 6):  # counting takes long
            self.frozen.append(gc.get_freeze_count())
        took = int(self.service_ns(self.ran))
        self.ran += 1
        with clock.span("network"):
            self.time.ns += took * 99 // 100
        self.time.ns += took - took * 99 // 100


def run(service_ns: Any, plan: Plan) -> tuple[Any, SimulatedPipeline, list[str]]:
    time, said = SimulatedTime(), list[str]()
    pipeline = SimulatedPipeline(time, service_ns)
    frame = cast(RawFrame, None)
    trace = profile(cast(Pipeline, pipeline), [frame, frame], plan, progress=said.append, time=time)
    return trace, pipeline, said


def falling(k: int) -> int:
    """A cold start, then a warm-up of 40 frames, then noise."""
    warm = 900 if k == 0 else 60 - k if k < 40 else 20
    return warm * MS + int(np.random.default_rng(k).integers(0, MS))


def test_the_warm_up_is_found_and_stands_apart() -> None:
    trace, pipeline, said = run(falling, Plan(300))
    assert 25 <= trace.cold <= 60
    assert trace.frames - trace.cold == 300
    assert pipeline.ran == trace.frames
    assert trace.busy_ns[0] > 900 * MS
    assert trace.busy_ns[trace.cold :].max() < 40 * MS
    assert trace.about["steady"] is True
    assert any(text.startswith("Measuring 300 frames; the ") and "about" in text for text in said)


def test_a_machine_that_never_settles_is_measured_and_said() -> None:
    trace, _, said = run(lambda k: (20 + k) * MS, Plan(50))
    assert (trace.cold, trace.about["steady"]) == (room.MOST_WARM_UP, False)
    assert trace.frames == room.MOST_WARM_UP + 50
    assert any("No steady state" in text for text in said)


def test_a_stream_begins_after_the_warm_up() -> None:
    plan = Plan(200, scenario="constant_stream", rate_hz=20, overrun="run_on")
    trace, _, _ = run(falling, plan)
    assert trace.frames - trace.cold == 200
    assert trace.cold >= 100
    assert np.unique(np.diff(trace.arrival_ns[trace.cold :])).tolist() == [50 * MS]
    assert (trace.scenario, trace.period_ns, trace.overrun, trace.dropped) == ("constant_stream", 50 * MS, "run_on", 0)


def test_a_given_warm_up_is_taken() -> None:
    trace, _, _ = run(falling, Plan(7, warm_up=3))
    assert (trace.cold, trace.frames, trace.about["steady"]) == (3, 10, None)


def test_what_was_there_before_is_kept_from_the_garbage_collector_while_measuring() -> None:
    before = gc.get_freeze_count()
    _, pipeline, _ = run(falling, Plan(5, warm_up=2))
    assert pipeline.frozen[0] == before
    assert pipeline.frozen[1] > before + 1000
    assert gc.get_freeze_count() == 0


def test_the_trace_tells_where_it_comes_from(tmp_path: Path) -> None:
    trace, _, _ = run(falling, Plan(5, warm_up=2))
    assert trace.about["backend"] == "simulated"
    assert trace.about["coverage"] == pytest.approx(0.99, abs=1e-6)
    assert 0 < trace.about["profiler_share"] < 0.01
    assert "cpu" in trace.about["machine"]
    write_trace(trace, tmp_path / "plain.npz")


def test_a_frames_cost_grows_with_its_stages() -> None:
    few, many = (frame_cost_ns([f"s{k}" for k in range(n)], SpanClock(50)) for n in (2, 30))
    assert many > 3 * few


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"frames": 0}, "At least 1 frame"),
        ({"frames": 1, "warm_up": 0}, "always cold"),
        ({"frames": 1, "scenario": "server"}, "single_stream or constant_stream"),
        ({"frames": 1, "scenario": "constant_stream"}, "rate above 0"),
    ],
)
def test_refuses_plans_that_make_no_sense(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Plan(**settings)
    with pytest.raises(UserError, match="no frames"):
        profile(cast(Pipeline, None), [], Plan(1))


def test_a_real_pipeline_is_covered_by_its_stages(tmp_path: Path) -> None:
    model, spec = small_model()
    frames = raw_frames(dataset_of(TinyWorld(tmp_path).root))
    trace = profile(Pipeline(spec, EagerNetwork(model, spec)), frames, Plan(20, warm_up=5))
    assert {stage.partition("/")[0] for stage in trace.stages} == {"preprocess", "network", "decode", "nms"}
    # Python between the stages takes more of a small model's few milliseconds than of a real one's.
    assert trace.about["coverage"] > 0.9
    assert (trace.uncovered_ns >= 0).all()


def test_frames_of_a_root_spread_over_it_and_say_what_they_are(tmp_path: Path) -> None:
    root = TinyWorld(tmp_path).root
    source = open_frames(root, num_sweeps=2, count=3)
    assert len({frame.token for frame in source.frames}) == 3
    assert all(len(frame.sweeps) == 2 for frame in source.frames)
    assert not source.simulated
    assert "recorded data" in source.about
    held = sum(len(part) for frame in source.frames for part in (*frame.sweeps, *frame.images) if part is not None)
    assert source.held_mib == pytest.approx(held / 2**20)
    lost = replace(source.frames[0], images=(None,) * 6)
    assert replace(source, frames=(lost,)).held_mib < source.held_mib
    with pytest.raises(UserError, match=r"no nuScenes v1\.0-test"):
        open_frames(root, num_sweeps=2, version="v1.0-test")


@pytest.mark.slow
def test_without_data_a_small_world_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    source = open_frames(None, num_sweeps=3, count=1)
    assert source.simulated
    assert "SIMULATED" in capsys.readouterr().err
    assert [len(frame.sweeps) for frame in source.frames] == [3]
    assert list(tmp_path.iterdir()) == []
