from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.transforms.functional import normalize

from fusionkd.data import Batch, Collator, Frame, NuScenesDataset, NuScenesIndex, PillarView, RasterView
from fusionkd.data.collate import normalised_images
from fusionkd.errors import UserError
from fusionkd.geometry import BevGrid
from fusionkd.preprocess import bev_raster, hard_pillars, lidar_depth_maps

GRID = BevGrid(cell_m=3.2)
VIEWS = {
    "pillars": PillarView(GRID, max_points=3, max_pillars=50),
    "raster": RasterView(GRID, z_slices=4, max_age_s=0.15),
}


@pytest.fixture(scope="module")
def frames(tiny_root: Path) -> list[Frame]:
    index = NuScenesIndex.load(tiny_root)
    records = index.records(["scene-0061"]) + index.sweep_records(["scene-0103"])[5:6]
    dataset = NuScenesDataset(index, records, image_size_px=(64, 128), num_sweeps=5)
    return [dataset[1], dataset[3], dataset[2]]


@pytest.fixture(scope="module")
def batch(frames: list[Frame]) -> Batch:
    return Collator(VIEWS, depth_stride=8).batch(frames)


def test_a_batch_holds_its_frames(batch: Batch, frames: list[Frame]) -> None:
    assert batch.token == tuple(frame.token for frame in frames)
    assert batch.labelled.tolist() == [True, False, True]
    assert batch.camera_present.shape == (3, 6)
    assert batch.camera_present.all()
    assert batch.lidar_present.tolist() == [True] * 3
    for i, frame in enumerate(frames):
        np.testing.assert_allclose(batch.image_from_ego[i], frame.rig.image_from_ego, rtol=1e-6)
        np.testing.assert_array_equal(batch.global_from_ego[i], frame.global_from_ego)
        np.testing.assert_array_equal(batch.ego_from_augmented[i], np.eye(4))
    assert batch.global_from_ego.dtype == torch.float64
    assert not batch.pasted.any()


def test_boxes_are_padded(batch: Batch, frames: list[Frame]) -> None:
    assert batch.gt_boxes.shape[:2] == batch.gt_label.shape == batch.pasted.shape
    for i, frame in enumerate(frames):
        here = batch.gt_label[i] >= 0
        wanted = np.zeros((0, 9)) if frame.boxes is None else frame.boxes.to_array()
        np.testing.assert_array_equal(batch.gt_boxes[i][here], wanted)
        assert (batch.gt_boxes[i][~here] == 0).all()


def test_a_batch_without_any_box_keeps_a_padded_place(frames: list[Frame]) -> None:
    batch = Collator(VIEWS).batch([frames[1]])
    assert batch.gt_boxes.shape == (1, 1, 9)
    assert batch.gt_label.tolist() == [[-1]]


def test_images_are_normalised_as_torchvision_does(frames: list[Frame]) -> None:
    found = normalised_images([frame.images for frame in frames])
    assert found.is_contiguous()
    for i, frame in enumerate(frames):
        tensor = torch.from_numpy(frame.images).permute(0, 3, 1, 2) / 255
        wanted = normalize(tensor, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
        torch.testing.assert_close(found[i], wanted, atol=1e-5, rtol=1e-5)


def test_views_are_those_of_the_kernels(batch: Batch, frames: list[Frame]) -> None:
    pillars, raster = batch.lidar["pillars"], batch.lidar["raster"]["raster"]
    for i, frame in enumerate(frames):
        here = pillars["coords"][:, 0] == i
        wanted = hard_pillars(frame.points, GRID, max_points=3, max_pillars=50)
        np.testing.assert_array_equal(pillars["points"][here], wanted.points)
        np.testing.assert_array_equal(pillars["count"][here], wanted.count)
        np.testing.assert_array_equal(pillars["coords"][here, 1:], wanted.row_column)
        young = frame.points[frame.points[:, 4] <= 0.15]
        assert 0 < len(young) < len(frame.points)
        np.testing.assert_array_equal(raster[i], bev_raster(young, GRID, z_slices=4))
    assert pillars["coords"].dtype == pillars["count"].dtype == torch.int64


def test_depth_comes_from_the_frames_own_sweep(batch: Batch, frames: list[Frame]) -> None:
    assert batch.lidar_depth.shape == (3, 6, 8, 16)
    for i, frame in enumerate(frames):
        own = frame.points[frame.points[:, 4] == 0]
        wanted = lidar_depth_maps(own, image_from_ego=frame.rig.image_from_ego, size_px=(64, 128), stride=8)
        np.testing.assert_array_equal(batch.lidar_depth[i], wanted)
    assert (batch.lidar_depth > 0).sum() > 20


def test_moving_a_batch_moves_every_tensor(batch: Batch) -> None:
    moved = batch.to("meta")
    tensors = [value for value in vars(moved).values() if isinstance(value, torch.Tensor)]
    tensors += [tensor for view in moved.lidar.values() for tensor in view.values()]
    assert len(tensors) >= 14
    assert {tensor.device.type for tensor in tensors} == {"meta"}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RasterView(z_slices=0), r"RasterView\.z_slices must be at least 1"),
        (lambda: RasterView(max_age_s=-1), r"RasterView\.max_age_s must be 0 or more"),
        (lambda: PillarView(max_points=0), r"PillarView\.max_points must be at least 1"),
        (lambda: PillarView(max_pillars=-3), r"PillarView\.max_pillars must be at least 1"),
    ],
)
def test_impossible_views_are_named(make, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make()
