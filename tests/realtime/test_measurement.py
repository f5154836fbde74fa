"""A run for a contract: what the device told is that of the warm frames, and nobody is left listening."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest
from small_pipeline import dataset_of, raw_frames, small_model

from fusionkd.deploy import Pipeline
from fusionkd.errors import UserError
from fusionkd.realtime import DeadlineContract, frames_needed, write_trace
from fusionkd.realtime.frames import FrameSource
from fusionkd.realtime.measurement import figures_of, measure, name_of, plan_for
from fusionkd.realtime.networks import EagerNetwork
from fusionkd.realtime.recorded import judge_recorded
from fusionkd.realtime.steady import FEWEST_FRAMES
from fusionkd.realtime.telemetry import Reading
from tests.data.tiny_world import TinyWorld


@dataclass
class Listener:
    """Telemetry that remembers when it was asked."""

    pipeline: Any
    calls: list[tuple[str, int]] = field(default_factory=list)

    def start(self) -> None:
        self.calls.append(("start", self.pipeline.ran))

    def stop(self) -> Reading:
        self.calls.append(("stop", self.pipeline.ran))
        return Reading("a test", 1.0, energy_mj=600.0, power_w=0.6, clocks_mhz={"gpu": 1000.0})


class Counting:
    """A pipeline that counts its frames and may break down."""

    def __init__(self, pipeline: Pipeline, breaks_at: int = -1) -> None:
        self.pipeline, self.breaks_at, self.ran = pipeline, breaks_at, 0
        self.network = pipeline.network

    def __call__(self, raw: Any, clock: Any) -> Any:
        if self.ran == self.breaks_at:
            raise UserError("the engine stopped")
        self.ran += 1
        return self.pipeline(raw, clock)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> FrameSource:
    frames = raw_frames(dataset_of(TinyWorld(tmp_path_factory.mktemp("measure")).root))
    return FrameSource(tuple(frames), simulated=True, about="six frames")


def run(source: FrameSource, contract: DeadlineContract, *, breaks_at: int = -1) -> tuple[Any, Listener]:
    model, spec = small_model("raster")
    pipeline = Counting(Pipeline(spec, EagerNetwork(model, spec)), breaks_at)
    listener = Listener(pipeline)
    plan = plan_for(contract, frames=12, warm_up=3)
    about = {"checkpoint": "small", "accuracy": {"nds": 0.3}}
    try:
        return measure(cast(Pipeline, pipeline), source, contract, plan=plan, telemetry=listener, about=about), listener
    except UserError as error:
        return error, listener


def test_telemetry_is_that_of_the_warm_frames_and_travels_with_the_trace(source: FrameSource, tmp_path: Path) -> None:
    contract = DeadlineContract(1e6, energy_mj_per_frame=50.1, memory_mib=1e6, accuracy={"nds": 0.3})
    trace, listener = run(source, contract)
    assert listener.calls == [("start", 3), ("stop", 15)]
    assert trace.about["energy_mj_per_frame"] == pytest.approx(600 / 12)
    write_trace(trace, tmp_path / "plain.npz")
    found = {finding.name: finding for finding in judge_recorded(trace, contract, {}).findings}
    assert (found["energy"].value, found["energy"].status) == (pytest.approx(50), "met")
    assert found["memory"].value == pytest.approx(trace.about["memory"]["host_mib"])
    assert found["accuracy nds"].status == "met"
    assert {f.name: f for f in judge_recorded(trace, contract, {"nds": 0.2}).findings}[
        "accuracy nds"
    ].status == "missed"


def test_nobody_is_left_listening_when_a_run_breaks_down(source: FrameSource) -> None:
    error, listener = run(source, DeadlineContract(1e6), breaks_at=8)
    assert "the engine stopped" in str(error)
    assert [what for what, _ in listener.calls] == ["start", "stop"]
    error, listener = run(source, DeadlineContract(1e6, stages_ms={"voxels": 1}))
    assert "no stage 'voxels'" in str(error)
    assert listener.calls == []


def test_as_many_frames_as_the_contract_asks_for() -> None:
    assert plan_for(DeadlineContract(50), frames=None, warm_up=None).frames == frames_needed(99.9, 0.95) == 2995
    assert plan_for(DeadlineContract(50, percentile=90), frames=None, warm_up=None).frames == FEWEST_FRAMES
    stream = DeadlineContract(50, scenario="constant_stream", rate_hz=20, overrun="run_on")
    plan = plan_for(stream, frames=5, warm_up=2)
    assert (plan.frames, plan.warm_up, plan.period_ns, plan.overrun) == (5, 2, 50_000_000, "run_on")


def test_names_and_figures_for_reports(tmp_path: Path) -> None:
    assert name_of("zoo:student") == "zoo:student"
    assert name_of(str(tmp_path / "student.onnx")) == "student.onnx"
    assert figures_of({"NDS": 0.3, "mAP": 0.2, "AP/car": 0.9}) == {"nds": 0.3, "map": 0.2}
