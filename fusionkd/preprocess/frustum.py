"""Where the pixels of a camera's feature map lie on the BEV grid, at every depth (Lift-Splat-Shoot, ECCV 2020)."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from fusionkd.geometry.grid import BevGrid
from fusionkd.geometry.transforms import invert_affine
from fusionkd.preprocess.checks import checked_transforms
from fusionkd.preprocess.depth import lidar_depth_maps

BORDER_CELLS = 1e-6
"""Points this close below a border count as beyond it, so that rounding decides nothing: cameras that look along an
axis put whole planes of points onto borders."""


@njit(cache=True, nogil=True)
def _cell(t: Any, v: Any, u: Any, depth_m: Any, limits: Any, shape: Any) -> Any:
    """The cell of the point at a depth behind row ``v`` and column ``u`` of an image; rows * columns off the grid."""
    x = (t[0, 0] * u + t[0, 1] * v + t[0, 2]) * depth_m + t[0, 3]
    y = (t[1, 0] * u + t[1, 1] * v + t[1, 2]) * depth_m + t[1, 3]
    z = (t[2, 0] * u + t[2, 1] * v + t[2, 2]) * depth_m + t[2, 3]
    column = np.floor((x - limits[0]) / limits[2] + limits[5])
    row = np.floor((y - limits[1]) / limits[2] + limits[5])
    inside = 0 <= column < shape[1] and 0 <= row < shape[0] and limits[3] <= z < limits[4]
    return np.int64(row) * shape[1] + np.int64(column) if inside else shape[0] * shape[1]


@njit(cache=True, nogil=True)
def _frustum_cells(ego_from_image: Any, depth_m: Any, step_px: Any, limits: Any, shape: Any, out: Any) -> None:
    cameras, bins, height, width = out.shape
    for n in range(cameras):
        for d in range(bins):
            for i in range(height):
                v = (i + 0.5) * step_px[0]
                for j in range(width):
                    u = (j + 0.5) * step_px[1]
                    out[n, d, i, j] = _cell(ego_from_image[n], v, u, depth_m[d], limits, shape)


@njit(cache=True, nogil=True)
def _measured_cells(ego_from_image: Any, depth_m: Any, step_px: Any, limits: Any, shape: Any, out: Any) -> None:
    cameras, height, width = out.shape
    nowhere = shape[0] * shape[1]
    for n in range(cameras):
        for i in range(height):
            v = (i + 0.5) * step_px[0]
            for j in range(width):
                depth, u = np.float64(depth_m[n, i, j]), (j + 0.5) * step_px[1]
                out[n, i, j] = _cell(ego_from_image[n], v, u, depth, limits, shape) if depth > 0 else nowhere


def frustum_cells(
    image_from_ego: NDArray[Any],
    depth_m: Sequence[float],
    *,
    grid: BevGrid,
    size_px: tuple[int, int],
    size: tuple[int, int],
) -> NDArray[np.int64]:
    """The BEV cell in which every pixel of a feature map lies at every depth.

    The same as ``fusionkd.models.view_transform.frustum_cells``, which does it on the model's device.

    Args:
        image_from_ego: (N, 4, 4) affine maps to the images, see ``CameraRig.image_from_ego``.
        depth_m: D depths.
        grid: The cells.
        size_px: (height, width) of the images that ``image_from_ego`` maps to.
        size: (h, w) of the feature maps; a feature stands at the middle of the pixels that it covers.

    Returns:
        (N, D, h, w) int64: row * columns + column, or rows * columns where the point is off the grid.

    Raises:
        ValueError: If the transforms aren't (N, 4, 4) finite numbers.
    """
    ego_from_image = invert_affine(checked_transforms(image_from_ego, name="image_from_ego"))
    out = np.empty((len(ego_from_image), len(depth_m), *size), np.int64)
    step_px = np.array([size_px[0] / size[0], size_px[1] / size[1]])
    _frustum_cells(ego_from_image, np.asarray(depth_m, np.float64), step_px, _limits(grid), np.array(grid.shape), out)
    return out


def measured_cells(
    points: NDArray[Any],
    *,
    image_from_ego: NDArray[Any],
    grid: BevGrid,
    size_px: tuple[int, int],
    size: tuple[int, int],
) -> NDArray[np.int64]:
    """The BEV cell in which every pixel of a feature map lies at the depth of the nearest LiDAR point in it.

    The same as ``measured_cells`` of ``fusionkd.models.view_transform`` for the depth maps of these points.

    Args:
        points: (P, >=3) float32: x, y, z in ego, metres.
        image_from_ego: (N, 4, 4) affine maps to the images, see ``CameraRig.image_from_ego``.
        grid: The cells.
        size_px: (height, width) of the images that ``image_from_ego`` maps to.
        size: (h, w) of the feature maps, which must divide the images into squares.

    Returns:
        (N, h, w) int64: row * columns + column, or rows * columns where no point fell or it is off the grid.

    Raises:
        ValueError: If a shape is another, or a feature doesn't cover a square of pixels.
    """
    stride = size_px[0] // size[0]
    if (size[0] * stride, size[1] * stride) != tuple(size_px):
        raise ValueError(f"A feature must cover a square of pixels, found feature maps of {size} for images {size_px}.")
    transforms = checked_transforms(image_from_ego, name="image_from_ego")
    depth_m = lidar_depth_maps(points, image_from_ego=transforms, size_px=size_px, stride=stride)
    out = np.empty(depth_m.shape, np.int64)
    step_px = np.array([float(stride), float(stride)])
    _measured_cells(invert_affine(transforms), depth_m, step_px, _limits(grid), np.array(grid.shape), out)
    return out


def _limits(grid: BevGrid) -> NDArray[np.float64]:
    # Heights have borders too.
    z_rounding_m = BORDER_CELLS * grid.cell_m
    z_low, z_high = grid.z_min_m - z_rounding_m, grid.z_max_m - z_rounding_m
    return np.array([grid.x_min_m, grid.y_min_m, grid.cell_m, z_low, z_high, BORDER_CELLS])
