"""LiDAR points as sparse depth maps, which a camera's depth net is supervised with."""

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from fusionkd.preprocess.cells import BLOCK
from fusionkd.preprocess.checks import checked_count, checked_points, checked_transforms
from fusionkd.preprocess.threads import in_threads


@njit(cache=True, nogil=True)
def _draw_depth(
    points: Any, image_from_ego: Any, first: int, last: int, stride: int, min_depth_m: Any, depth: Any
) -> None:
    """Draws all points into the maps (N, height, width) of the cameras from ``first`` to ``last``."""
    xyz, cell, away_m = np.empty((3, BLOCK)), np.empty(BLOCK, np.int32), np.empty(BLOCK)
    for start in range(0, len(points), BLOCK):
        count = min(BLOCK, len(points) - start)
        for i in range(count):
            for axis in range(3):
                xyz[axis, i] = points[start + i, axis]
        for n in range(first, last):
            _project(xyz, count, image_from_ego[n], stride, min_depth_m, depth.shape, cell, away_m)
            for i in range(_seen(cell, away_m, count)):
                row, column = divmod(cell[i], depth.shape[2])
                nearest = depth[n, row, column]
                if nearest == 0 or away_m[i] < nearest:
                    depth[n, row, column] = away_m[i]


@njit(cache=True, nogil=True, error_model="numpy")
def _project(xyz: Any, count: int, t: Any, stride: int, min_depth_m: Any, shape: Any, cell: Any, away_m: Any) -> None:
    """Cell ``row * width + column`` of each point of a block, -1 outside the image, and its depth."""
    x, y, z = xyz[0], xyz[1], xyz[2]
    t00, t01, t02, t03 = t[0, 0], t[0, 1], t[0, 2], t[0, 3]
    t10, t11, t12, t13 = t[1, 0], t[1, 1], t[1, 2], t[1, 3]
    t20, t21, t22, t23 = t[2, 0], t[2, 1], t[2, 2], t[2, 3]
    height, width, per_block = float(shape[1]), float(shape[2]), float(stride)
    for i in range(count):
        d = t20 * x[i] + t21 * y[i] + t22 * z[i] + t23
        column = (t00 * x[i] + t01 * y[i] + t02 * z[i] + t03) / (d * per_block)
        row = (t10 * x[i] + t11 * y[i] + t12 * z[i] + t13) / (d * per_block)
        # Written so that NaN and infinity fail.
        seen = (d >= min_depth_m) & (d < np.inf) & (column >= 0) & (column < width) & (row >= 0) & (row < height)
        place = np.floor(row) * width + np.floor(column)
        cell[i] = np.int32(place if seen else -1.0)
        away_m[i] = d


@njit(cache=True, nogil=True)
def _seen(cell: Any, away_m: Any, count: int) -> int:
    """Moves what is in the image to the front; returns how much it is."""
    seen = 0
    for i in range(count):
        here = cell[i]
        cell[seen], away_m[seen] = here, away_m[i]
        seen += here >= 0
    return seen


def lidar_depth_maps(
    points: NDArray[Any],
    *,
    image_from_ego: NDArray[Any],
    size_px: tuple[int, int],
    stride: int,
    min_depth_m: float = 1.0,
    threads: int = 1,
) -> NDArray[np.float32]:
    """Depth of the nearest LiDAR point in each ``stride`` x ``stride`` block of each image.

    Args:
        points: (P, >=3) float32: x, y, z in ego, metres; NaN or infinity is drawn nowhere.
        image_from_ego: (N, 4, 4), see ``CameraRig.image_from_ego``.
        size_px: (height, width) of the images.
        stride: Side of a block, pixels; must divide both sides.
        min_depth_m: Nearer points, as on the car itself, are left out; must be positive.
        threads: Threads that share the cameras; the result is the same.

    Returns:
        (N, height / stride, width / stride) float32, metres along the optical axis; 0 where no point fell.

    Raises:
        ValueError: If a shape is another or the stride doesn't divide the size.
    """
    points = checked_points(points, name="points", columns=3, exact=False)
    transforms = checked_transforms(image_from_ego, name="image_from_ego")
    stride = checked_count(stride, name="stride")
    height, width = (checked_count(side, name="size_px") for side in size_px)
    if height % stride or width % stride:
        raise ValueError(f"stride must divide the image's size, found stride {stride} for {height} x {width} pixels.")
    if not min_depth_m > 0:
        raise ValueError(f"min_depth_m must be positive, found {min_depth_m}.")
    depth = np.zeros((len(transforms), height // stride, width // stride), np.float32)

    def draw(first: int, last: int) -> None:
        _draw_depth(points, transforms, first, last, stride, float(min_depth_m), depth)

    in_threads(draw, len(transforms), threads=threads)
    return depth
