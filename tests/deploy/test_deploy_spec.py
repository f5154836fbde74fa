"""A description survives being text, and refuses what can't be."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusionkd.deploy import CameraSpec, DeploySpec
from fusionkd.errors import UserError
from fusionkd.geometry import BevGrid
from fusionkd.geometry.nms import CircleNms, NoNms, RotatedNms
from fusionkd.geometry.selection import BoxSelection
from fusionkd.preprocess.views import PillarView, RasterView

GRID = BevGrid(cell_m=1.6)
PLAIN = DeploySpec(GRID, ("car", "bus"), (0, 1), lidar=RasterView(GRID))

sizes = st.tuples(st.integers(1, 2000), st.integers(1, 2000))
ages = st.none() | st.floats(0, 1)
views = st.none() | st.builds(RasterView, st.just(GRID), st.integers(1, 20), ages)
views |= st.builds(PillarView, st.just(GRID.with_cell(0.4)), st.integers(1, 40), st.integers(1, 10**5), ages)
cameras = st.builds(CameraSpec, sizes, sizes, st.lists(st.floats(0.1, 200), min_size=1, max_size=5).map(tuple))
nms = st.just(NoNms()) | st.builds(RotatedNms, st.floats(0, 1))
nms |= st.builds(CircleNms, st.lists(st.floats(0, 9), min_size=1, max_size=10).map(tuple), st.booleans())
ranges = st.none() | st.tuples(*[st.floats(-99, 99)] * 6)
limits = st.none() | st.integers(1, 9)
selections = st.builds(BoxSelection, st.floats(0, 0.99), st.integers(1, 999), nms, limits, ranges)


@given(camera=cameras, lidar=views, selection=selections, sweeps=st.integers(1, 20), peaks=st.booleans())
def test_text_and_back(camera: Any, lidar: Any, selection: Any, sweeps: int, peaks: bool) -> None:
    spec = DeploySpec(
        GRID, ("car", "bus"), (0, 1), camera=camera, lidar=lidar, num_sweeps=sweeps, selection=selection, peaks=peaks
    )
    assert DeploySpec.from_json(spec.to_json()) == spec
    assert hash(spec.camera) is not None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "fusionkd-deploy-0"}, "a.onnx doesn't hold a description of format fusionkd-deploy-1"),
        ({"colour": 1}, "a.onnx can't be read.*colour"),
        ({"grid": {"cell_m": 1.6, "tilt": 2}}, "a.onnx can't be read.*tilt"),
        ({"lidar": {"kind": "voxels"}}, "kind 'voxels'; there are raster, pillars"),
        ({"num_sweeps": 0}, "num_sweeps"),
        ({"task_of_class": [0]}, "2 classes and 1 tasks"),
        ({"lidar": None}, "camera input, a LiDAR view or both"),
    ],
)
def test_what_cant_be_is_refused(change: dict[str, Any], message: str) -> None:
    content = json.loads(PLAIN.to_json()) | change
    with pytest.raises(UserError, match=message):
        DeploySpec.from_json(json.dumps(content), source="a.onnx")


@pytest.mark.parametrize("text", ["", "[]", "{", "null", '{"format": "fusionkd-deploy-1"}'])
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="the description"):
        DeploySpec.from_json(text)


def test_a_view_of_another_range_is_refused() -> None:
    with pytest.raises(UserError, match=r"x_max_m is 25\.6 instead of 51\.2"):
        DeploySpec(GRID, ("car",), (0,), lidar=RasterView(BevGrid(x_max_m=25.6, cell_m=1.6)))


@pytest.mark.parametrize(
    "change",
    [{"size_px": (0, 5)}, {"depth_m": ()}, {"depth_m": (-1.0,)}, {"crop": "middle"}, {"std": (1.0, 0.0, 1.0)}],
)
def test_impossible_cameras_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="CameraSpec"):
        CameraSpec(**{"size_px": (32, 64), "feature_size": (4, 8), "depth_m": (1.0, 2.0), **change})
