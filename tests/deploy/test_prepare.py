"""The vehicle's inputs are those of training, number by number."""

from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from fusionkd.data import Collator, NuScenesDataset
from fusionkd.deploy import CameraSpec, DeploySpec, prepare
from fusionkd.errors import UserError
from fusionkd.export import raw_frame
from fusionkd.geometry import DETECTION_CLASSES, BevGrid
from fusionkd.models.view_transform import frustum_cells, measured_cells
from fusionkd.preprocess.views import PillarView, RasterView
from tests.deploy.conftest import SIZE_PX

GRID = BevGrid(cell_m=1.6)
VIEWS = {
    "raster": RasterView(GRID, z_slices=4, max_age_s=0.12),
    "all sweeps": RasterView(GRID, z_slices=3),
    "pillars": PillarView(GRID.with_cell(0.8), max_points=7),
}
CAMERA = CameraSpec(SIZE_PX, (8, 16), tuple(np.linspace(1.05, 50.0, 12).tolist()))


def spec(view: str = "raster", **changes: Any) -> DeploySpec:
    plain = DeploySpec(GRID, DETECTION_CLASSES, (0,) * 10, camera=CAMERA, lidar=VIEWS[view], num_sweeps=5)
    return replace(plain, **changes)


class Stages:
    """Remembers which stages were entered."""

    def __init__(self) -> None:
        self.entered: list[str] = []

    @contextmanager
    def span(self, stage: str):
        self.entered.append(stage)
        yield


@pytest.mark.parametrize("view", list(VIEWS))
@pytest.mark.parametrize("world", ["tiny", "simulated", "real"])
def test_inputs_are_those_of_training(request: pytest.FixtureRequest, world: str, view: str) -> None:
    dataset: NuScenesDataset = request.getfixturevalue(world)
    collator = Collator(VIEWS, depth_stride=8)
    for record in dataset.records[:2]:
        batch = collator.batch([dataset.load(record)])
        found = prepare(raw_frame(dataset, record), spec(view))
        depth_m = torch.tensor(CAMERA.depth_m, dtype=torch.float64)
        kind: Any = {"grid": GRID, "size_px": SIZE_PX, "size": CAMERA.feature_size}
        wanted = {
            **batch.lidar[view],
            "lidar_present": batch.lidar_present,
            "images": batch.images,
            "camera_present": batch.camera_present,
            "cells": frustum_cells(batch.image_from_ego, depth_m, **kind),
        }
        assert found.keys() == wanted.keys()
        for name, tensor in wanted.items():
            np.testing.assert_array_equal(found[name], tensor.numpy(), err_msg=name, strict=True)
        assert (found["cells"] < GRID.rows * GRID.columns).mean() > 0.1


@pytest.mark.parametrize("world", ["tiny", "simulated", "real"])
def test_measured_cells_are_those_of_training(request: pytest.FixtureRequest, world: str) -> None:
    dataset: NuScenesDataset = request.getfixturevalue(world)
    painted = spec(camera=replace(CAMERA, measured_depth=True))
    assert painted.inputs[:4] == ("images", "camera_present", "cells", "measured")
    assert DeploySpec.from_json(painted.to_json()) == painted
    for record in dataset.records[:2]:
        batch = Collator(VIEWS, depth_stride=8).batch([dataset.load(record)])
        raw = raw_frame(dataset, record)
        found = prepare(raw, painted)["measured"]
        wanted = measured_cells(batch.image_from_ego, batch.lidar_depth, grid=GRID, size_px=SIZE_PX)
        np.testing.assert_array_equal(found, wanted.numpy(), strict=True)
        assert (found < GRID.rows * GRID.columns).mean() > 0.05
        silent = replace(raw, sweeps=(), key_from_sweep=raw.key_from_sweep[:0], age_s=raw.age_s[:0])
        assert (prepare(silent, painted)["measured"] == GRID.rows * GRID.columns).all()
    with pytest.raises(UserError, match="measured_depth needs a LiDAR view"):
        replace(painted, lidar=None)


def test_decoded_images_are_scaled_instead(tiny: NuScenesDataset) -> None:
    raw = raw_frame(tiny, tiny.records[0])
    decoded = [cv2.imdecode(np.frombuffer(image, np.uint8), cv2.IMREAD_COLOR)[..., ::-1] for image in raw.images]
    found = prepare(replace(raw, images=tuple(np.ascontiguousarray(image) for image in decoded)), spec())
    np.testing.assert_array_equal(found["images"], prepare(raw, spec())["images"])  # 160 px to 128: no reduction


def test_lost_sensors_leave_zeros_and_say_so(tiny: NuScenesDataset) -> None:
    raw = raw_frame(tiny, tiny.records[0])
    whole = prepare(raw, spec())
    lost = replace(
        raw,
        images=(*raw.images[:2], None, *raw.images[3:]),
        sweeps=(),
        key_from_sweep=np.zeros((0, 4, 4)),
        age_s=np.zeros(0),
    )
    found = prepare(lost, spec())
    assert found["camera_present"].tolist() == [[True, True, False, True, True, True]]
    assert not found["images"][0, 2].any()
    np.testing.assert_array_equal(np.delete(found["images"], 2, axis=1), np.delete(whole["images"], 2, axis=1))
    assert found["lidar_present"].tolist() == [False]
    assert not found["raster"].any()
    assert prepare(lost, spec("pillars"))["points"].shape == (0, 7, 5)


@pytest.mark.parametrize("threads", [2, 4, 9])
def test_threads_change_nothing(tiny: NuScenesDataset, threads: int) -> None:
    raw = raw_frame(tiny, tiny.records[0])
    for images in (raw.images, (*raw.images[:2], None, *raw.images[3:]), (None,) * 6):
        given = replace(raw, images=images)
        alone, shared = prepare(given, spec()), prepare(given, spec(), threads=threads)
        assert alone.keys() == shared.keys()
        for name, array in alone.items():
            np.testing.assert_array_equal(shared[name], array, err_msg=name, strict=True)
    cut = replace(raw, images=(*raw.images[:5], raw.images[5][:200]))  # type: ignore[index]
    with pytest.raises(UserError, match=r"\(200 bytes\) is cut off"):
        prepare(cut, spec(), threads=threads)


def test_stages_are_told_once_and_a_modality_that_isnt_read_takes_no_time(tiny: NuScenesDataset) -> None:
    raw = raw_frame(tiny, tiny.records[0])
    lidar = ["preprocess/sweeps", "preprocess/raster"]
    camera = ["preprocess/images", "preprocess/normalise", "preprocess/view"]
    for changes, wanted in (({}, lidar + camera), ({"camera": None}, lidar), ({"lidar": None}, camera)):
        stages = Stages()
        prepare(raw, spec(**changes), stages)
        assert stages.entered == wanted


def test_a_fixed_rigs_cells_are_computed_once(tiny: NuScenesDataset) -> None:
    raw = raw_frame(tiny, tiny.records[0])
    first = prepare(raw, spec())["cells"]
    assert prepare(replace(raw, token="next"), spec())["cells"] is first
    moved = raw.ego_from_camera.copy()
    moved[:, 0, 3] += 0.5
    other = prepare(replace(raw, ego_from_camera=moved), spec())["cells"]
    assert (other != first).any()


def test_mistakes_are_named(tiny: NuScenesDataset) -> None:
    raw = raw_frame(tiny, tiny.records[0])
    cut = replace(raw, images=(raw.images[0], raw.images[1][:200], *raw.images[2:]))  # type: ignore[index]
    with pytest.raises(UserError, match=r"CAM_FRONT in frame \w+ \(200 bytes\) is cut off"):
        prepare(cut, spec())
    first = {name: getattr(raw, name)[:1] for name in ("images", "intrinsics", "ego_from_camera")}
    one = replace(raw, **first)
    with pytest.raises(UserError, match="has 1 images; the network reads 6"):
        prepare(one, spec())
    with pytest.raises(UserError, match=r"CAM_FRONT_LEFT in frame .* uint8 of shape"):
        prepare(replace(raw, images=(np.zeros((5, 5, 3), np.uint8), *raw.images[1:])), spec())
    with pytest.raises(UserError, match="160x90 pixels, not 160x80"):
        prepare(replace(raw, stored_px=(80, 160)), spec())
