"""The monitor around a real pipeline: a sensor is lost, the boxes still come, the sensor comes back."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fusionkd.data import NuScenesDataset, NuScenesIndex
from fusionkd.deploy import Pipeline, RawFrame
from fusionkd.export import raw_frame
from fusionkd.export.spec import open_trained
from fusionkd.geometry import Boxes3D
from fusionkd.realtime.degradation import Hysteresis
from fusionkd.realtime.monitor import DeadlineMonitor, MonitorSettings
from fusionkd.realtime.networks import EagerNetwork
from tests.data.tiny_world import TinyWorld

PAGE = Path(__file__).resolve().parents[2] / "docs" / "monitor.md"
FRESH = [0] * 6


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> RawFrame:
    index = NuScenesIndex.load(TinyWorld(tmp_path_factory.mktemp("monitored")).root, "v1.0-mini")
    records = index.records(index.scene_names)
    return raw_frame(NuScenesDataset(index, records, num_sweeps=5), records[1])


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    student = open_trained("zoo:student")
    return Pipeline(student.spec, EagerNetwork(student.model, student.spec))


def test_a_lost_camera_degrades_and_recovers_and_boxes_come_all_the_time(pipeline: Pipeline, raw: RawFrame) -> None:
    patient = Hysteresis(lost_after=2, back_after=2)
    monitor = DeadlineMonitor(MonitorSettings(deadline_ms=60_000, hysteresis=patient))
    dark: list[int | None] = [0, None, 0, 0, 0, 0]
    modes, answers = [], []
    for ages in (FRESH, dark, dark, FRESH, FRESH):
        sensors = monitor.begin(0, ages)
        answers.append(pipeline(sensors.of(raw)))
        assert monitor.end()
        modes.append(sensors.mode)
    assert modes == ["full", "cameras_reduced", "cameras_reduced", "cameras_reduced", "full"]
    assert all(len(boxes.xyz_m) for boxes in answers)
    assert same(answers[0], answers[4])
    assert same(answers[1], answers[2])
    assert not same(answers[0], answers[1])


@pytest.mark.parametrize(("lidar", "cameras", "mode"), [(None, FRESH, "cameras_only"), (0, [None] * 6, "lidar_only")])
def test_one_kind_of_sensor_still_gives_boxes(
    pipeline: Pipeline, raw: RawFrame, lidar: int | None, cameras: list[int | None], mode: str
) -> None:
    sensors = DeadlineMonitor(MonitorSettings(deadline_ms=1)).begin(lidar, cameras)
    assert sensors.mode == mode
    boxes = pipeline(sensors.of(raw))
    assert len(boxes.xyz_m)
    assert np.isfinite(boxes.xyz_m).all()


def test_the_pages_example_runs(pipeline: Pipeline, raw: RawFrame) -> None:
    code = re.search(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert code is not None
    published: list[tuple[Boxes3D, dict[str, Any]]] = []
    names = {
        "pipeline": pipeline,
        "sensor_frames": [(raw, 0, FRESH), (raw, 0, [None, *FRESH[1:]])],
        "publish": lambda boxes, said: published.append((boxes, said)),
        "print": lambda fault: None,
    }
    exec(compile(code[1], str(PAGE), "exec"), names)
    assert [said["frames"] for _, said in published] == [1, 2]
    assert published[1][1]["frames_by_mode"]["cameras_reduced"] == 1


def test_the_page_names_every_counter() -> None:
    said = DeadlineMonitor(MonitorSettings(deadline_ms=1)).snapshot()
    named = set(re.findall(r"`(\w+)`", PAGE.read_text()))
    assert set(said) <= named
    assert set(said["frames_by_mode"]) <= named
    assert set(said["lidar"]) <= named


def same(one: Boxes3D, other: Boxes3D) -> bool:
    return one.xyz_m.shape == other.xyz_m.shape and np.allclose(one.xyz_m, other.xyz_m, atol=1e-4)
