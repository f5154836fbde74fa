"""The vehicle's look-up of the view transform equals that of the model, borders included."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fusionkd.geometry import BevGrid
from fusionkd.models import DepthBins, example_batch
from fusionkd.models.view_transform import frustum_cells as on_device
from fusionkd.models.view_transform import measured_cells as measured_on_device
from fusionkd.preprocess import lidar_depth_maps
from fusionkd.preprocess.frustum import frustum_cells, measured_cells

GRID = BevGrid(-25.6, 25.6, -12.8, 25.6, 1.6)


def _looking(yaw_rad: float, pitch_rad: float, xyz_m: tuple[float, float, float]) -> np.ndarray:
    """image_from_ego of a camera of 64 x 32 pixels."""
    cos, sin = np.cos(yaw_rad), np.sin(yaw_rad)
    forward = np.array([cos * np.cos(pitch_rad), sin * np.cos(pitch_rad), np.sin(pitch_rad)])
    right = np.array([sin, -cos, 0.0])
    camera_from_ego = np.eye(4)
    camera_from_ego[:3, :3] = np.stack([right, np.cross(forward, right), forward])
    camera_from_ego[:3, 3] = -camera_from_ego[:3, :3] @ np.array(xyz_m)
    pixel = np.diag([50.0, 50.0, 1.0, 1.0])
    pixel[:2, 2] = 32, 16
    return pixel @ camera_from_ego


@given(
    yaw=st.floats(-3.2, 3.2) | st.sampled_from([0.0, np.pi / 2, np.pi, -np.pi / 2]),
    pitch=st.floats(-0.4, 0.4) | st.just(0.0),
    x=st.floats(-3, 3) | st.sampled_from([1.7, 0.0, 0.8]),
    z=st.floats(0.5, 3) | st.just(1.5),
)
def test_equal_to_the_models(yaw: float, pitch: float, x: float, z: float) -> None:
    image_from_ego = np.stack([_looking(yaw, pitch, (x, 0.3, z)), _looking(-yaw, pitch, (0.0, x, z))])
    image_from_ego = image_from_ego.astype(np.float32)
    depth_m = DepthBins(1.0, 31.0, 24).centres_m
    found = frustum_cells(image_from_ego, depth_m, grid=GRID, size_px=(32, 64), size=(4, 8))
    centres = torch.tensor(depth_m, dtype=torch.float64)
    wanted = on_device(torch.from_numpy(image_from_ego)[None], centres, grid=GRID, size_px=(32, 64), size=(4, 8))
    np.testing.assert_array_equal(found, wanted[0])


@given(yaw=st.floats(-3.2, 3.2), seed=st.integers(0, 2**16), points=st.sampled_from([0, 1, 300]))
def test_measured_cells_equal_the_models(yaw: float, seed: int, points: int) -> None:
    image_from_ego = np.stack([_looking(yaw, 0.1, (0.5, 0.3, 1.5)), _looking(-yaw, 0.0, (0.0, 0.5, 1.6))])
    image_from_ego = image_from_ego.astype(np.float32)
    cloud = np.random.default_rng(seed).uniform(-40, 40, (points, 5)).astype(np.float32)
    cloud[:, 2] /= 10
    cloud[::7] = np.nan
    found = measured_cells(cloud, image_from_ego=image_from_ego, grid=GRID, size_px=(32, 64), size=(4, 8))
    depth_m = lidar_depth_maps(cloud, image_from_ego=image_from_ego, size_px=(32, 64), stride=8)
    wanted = measured_on_device(
        torch.from_numpy(image_from_ego)[None], torch.from_numpy(depth_m)[None], grid=GRID, size_px=(32, 64)
    )
    np.testing.assert_array_equal(found, wanted[0])
    if points == 300:
        assert (found < GRID.rows * GRID.columns).any()


def test_features_that_cover_no_squares_are_refused() -> None:
    with pytest.raises(ValueError, match="square of pixels"):
        measured_cells(
            np.zeros((1, 5), np.float32), image_from_ego=np.eye(4)[None], grid=GRID, size_px=(32, 64), size=(4, 4)
        )


def test_a_plane_on_a_border_lies_beyond_it() -> None:
    """A camera at x = 0 that looks along x, and depths that are multiples of the cell."""
    depth_m = (1.6, 3.2, 8.0)
    image_from_ego = _looking(0.0, 0.0, (0.0, 0.0, 1.5))[None]
    cells = frustum_cells(image_from_ego, depth_m, grid=GRID, size_px=(32, 64), size=(1, 8))
    wanted = GRID.cell_from_metre([(d, 0.0) for d in depth_m])[:, 0].round()
    for bin_index, column in enumerate(wanted):
        assert set((cells[0, bin_index] % GRID.columns).flatten()) == {int(column)}


def test_made_up_rigs_of_the_models() -> None:
    from fusionkd.teachers import load_trained

    model, _ = load_trained("zoo:student")
    image_from_ego = example_batch(model).image_from_ego
    wanted = model.cells(image_from_ego, size_px=(96, 256))
    assert wanted is not None
    found = frustum_cells(
        image_from_ego[0].numpy(),
        DepthBins(1.0, 61.0, 24).centres_m,
        grid=model.grid,
        size_px=(96, 256),
        size=wanted.shape[-2:],
    )
    np.testing.assert_array_equal(found, wanted[0])


def test_transforms_that_arent_are_refused() -> None:
    with pytest.raises(ValueError, match="image_from_ego must be finite"):
        frustum_cells(np.full((1, 4, 4), np.nan), (1.0,), grid=GRID, size_px=(8, 8), size=(1, 1))
