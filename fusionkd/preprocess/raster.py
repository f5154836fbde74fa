"""Points as a stack of bird's-eye-view images, which a plain 2D network reads."""

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from fusionkd.geometry.grid import BevGrid
from fusionkd.preprocess.cells import cell_of_points
from fusionkd.preprocess.checks import checked_count, checked_points

AGE_SCALE_S = 0.5
"""Age that the age channel shows as 1: ten sweeps at nuScenes' 20 Hz."""

_EXTRA_CHANNELS = 4


def raster_channels(z_slices: int) -> int:
    """Channels of ``bev_raster``: the height slices, highest point, intensity, density and age."""
    return checked_count(z_slices, name="z_slices") + _EXTRA_CHANNELS


@njit(cache=True, nogil=True)
def _sum_up(points: Any, cells: Any, z_low: Any, z_size: Any, raster: Any) -> None:
    slices = len(raster) - 4
    for i in range(len(points)):
        cell = cells[i]
        intensity, age = points[i, 3], points[i, 4]
        if cell < 0 or not (np.isfinite(intensity) and np.isfinite(age)):
            continue
        height = (points[i, 2] - z_low) / z_size
        raster[min(int(height * slices), slices - 1), cell] += 1
        raster[slices, cell] = max(raster[slices, cell], height)
        raster[slices + 1, cell] += intensity
        raster[slices + 2, cell] += 1
        raster[slices + 3, cell] += age


@njit(cache=True, nogil=True)
def _scale(raster: Any, age_scale_s: Any) -> None:
    slices = len(raster) - 4
    for cell in range(raster.shape[1]):
        count = raster[slices + 2, cell]
        if count > 0:
            for layer in range(slices):
                if raster[layer, cell] > 0:
                    raster[layer, cell] = np.log1p(raster[layer, cell])
            raster[slices + 1, cell] /= count * np.float32(255)
            raster[slices + 2, cell] = np.log1p(count)
            raster[slices + 3, cell] /= count * age_scale_s


def bev_raster(points: NDArray[np.float32], grid: BevGrid, *, z_slices: int) -> NDArray[np.float32]:
    """Images of the points from above; every channel is 0 where no point fell.

    Channels, in order:

    - ``z_slices`` times ln(1 + points in the slice), from the lowest slice to the highest;
    - height of the highest point, 0 at ``z_min_m`` and 1 at ``z_max_m``;
    - mean intensity / 255;
    - ln(1 + points in the cell);
    - mean age / ``AGE_SCALE_S``: what tells a moving object's trail from a standing one.

    Args:
        points: (P, 5) float32: x, y, z in the grid's frame, intensity 0..255, age in seconds. Points off
            the grid or with a number that isn't finite are left out.
        grid: The cells and the range of heights.
        z_slices: Slices of equal height between ``z_min_m`` and ``z_max_m``.

    Returns:
        (z_slices + 4, rows, columns) float32.

    Raises:
        ValueError: If ``points`` is not (P, 5) of floats or ``z_slices`` is below 1.
    """
    points = checked_points(points, name="points")
    raster = np.zeros((raster_channels(z_slices), grid.rows * grid.columns), np.float32)
    z_low, z_size = np.float32(grid.z_min_m), np.float32(grid.z_max_m - grid.z_min_m)
    _sum_up(points, cell_of_points(points, grid), z_low, z_size, raster)
    _scale(raster, np.float32(AGE_SCALE_S))
    return raster.reshape(-1, grid.rows, grid.columns)  # (C, rows, columns)
