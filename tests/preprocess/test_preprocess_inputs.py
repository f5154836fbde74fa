"""What every kernel does with clouds that were not made for it."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from clouds import GRID
from numpy.typing import NDArray

from fusionkd.preprocess import (
    bev_raster,
    crop_to_grid,
    dynamic_pillars,
    fuse_sweeps,
    hard_pillars,
    lidar_depth_maps,
    points_in_boxes,
)

EYE = np.eye(4)[None]
CAMERA = np.array([[[0, -8.0, 0, 0], [0, 0, -8.0, 0], [1, 0, 0, 0], [0, 0, 0, 1]]])
CAMERA[:, :2] += 8 * CAMERA[:, 2:3]
BOXES = np.array([[1.0, 0, 0, 3, 3, 3, 0.3, 0, 0]])

KERNELS: dict[str, Callable[[Any], NDArray[Any]]] = {
    "fuse_sweeps": lambda p: fuse_sweeps([p], key_from_sweep=EYE, age_s=[0.0]),
    "crop_to_grid": lambda p: crop_to_grid(p, GRID),
    "hard_pillars": lambda p: hard_pillars(p, GRID, max_points=3, max_pillars=9).points,
    "dynamic_pillars": lambda p: dynamic_pillars(p, GRID).pillar_of_point,
    "bev_raster": lambda p: bev_raster(p, GRID, z_slices=3),
    "points_in_boxes": lambda p: points_in_boxes(p, BOXES),
    "lidar_depth_maps": lambda p: lidar_depth_maps(p, image_from_ego=CAMERA, size_px=(16, 16), stride=2),
}
NEEDS_FIVE = ("hard_pillars", "dynamic_pillars", "bev_raster")

pytestmark = pytest.mark.parametrize("name", KERNELS)


@pytest.fixture
def cloud() -> NDArray[np.float32]:
    rng = np.random.default_rng(5)
    return np.column_stack([rng.uniform(-3, 3, (50, 3)), rng.uniform(0, 255, 50), rng.uniform(0, 0.5, 50)]).astype("f4")


def test_memory_layout_does_not_matter(name: str, cloud: NDArray[np.float32]) -> None:
    kernel = KERNELS[name]
    wide = np.zeros((100, 8), np.float32)
    wide[::2, 1:6] = cloud
    for view in (np.asfortranarray(cloud), wide[::2, 1:6], np.ascontiguousarray(cloud[::-1])[::-1]):
        assert not view.flags.c_contiguous
        np.testing.assert_array_equal(kernel(view), kernel(cloud))


def test_a_read_only_cloud_is_read(name: str, cloud: NDArray[np.float32]) -> None:
    frozen = cloud.copy()
    frozen.flags.writeable = False
    np.testing.assert_array_equal(KERNELS[name](frozen), KERNELS[name](cloud))


def test_float64_and_big_endian_clouds_give_the_same(name: str, cloud: NDArray[np.float32]) -> None:
    np.testing.assert_array_equal(KERNELS[name](cloud.astype(np.float64)), KERNELS[name](cloud))
    np.testing.assert_array_equal(KERNELS[name](cloud.astype(">f4")), KERNELS[name](cloud))


def test_the_cloud_is_left_alone(name: str, cloud: NDArray[np.float32]) -> None:
    before = cloud.copy()
    KERNELS[name](cloud)
    np.testing.assert_array_equal(cloud, before)


def test_a_second_call_gives_the_same(name: str, cloud: NDArray[np.float32]) -> None:
    first = KERNELS[name](cloud).copy()
    np.testing.assert_array_equal(KERNELS[name](cloud), first)


@pytest.mark.parametrize("shape", [(10,), (10, 2), (2, 10, 5), ()])
def test_another_shape_is_named(name: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"must have shape \(points, .*columns\), found \("):
        KERNELS[name](np.zeros(shape, np.float32))


def test_a_missing_column_is_named(name: str) -> None:
    if name in NEEDS_FIVE:
        with pytest.raises(ValueError, match=r"points must have shape \(points, 5 columns\), found \(10, 4\)"):
            KERNELS[name](np.zeros((10, 4), np.float32))
    else:
        KERNELS[name](np.ones((10, 4), np.float32))


@pytest.mark.parametrize("dtype", [np.int64, np.uint8, bool, complex, object])
def test_another_kind_of_number_is_named(name: str, dtype: Any) -> None:
    with pytest.raises(ValueError, match=r"must hold float32 numbers, found .*astype"):
        KERNELS[name](np.zeros((10, 5), dtype))


def test_a_list_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="must be a numpy array of points, found list"):
        KERNELS[name]([[1.0, 2.0, 3.0, 4.0, 0.0]])
