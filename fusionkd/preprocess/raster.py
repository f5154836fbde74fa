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

HALF_SWEEP_S = 0.025
"""Half of nuScenes' time between sweeps: with it the borders of the age slices lie between sweeps, not on them."""

_EXTRA_CHANNELS = 4


def raster_channels(z_slices: int, age_slices: int = 0) -> int:
    """Channels of ``bev_raster``: the height slices, highest point, intensity, density, age, and the age slices."""
    extra = checked_count(age_slices, name="age_slices") if age_slices else 0
    return checked_count(z_slices, name="z_slices") + _EXTRA_CHANNELS + extra


@njit(cache=True, nogil=True)
def _sum_up(points: Any, cells: Any, slices: int, z_low: Any, z_size: Any, age_size: Any, raster: Any) -> None:
    ages = len(raster) - slices - 4
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
        if ages > 0:
            k = (age + np.float32(HALF_SWEEP_S)) / age_size
            slot = ages - 1 if k >= ages else max(int(k), 0)  # no integer holds the quotient of a huge age
            raster[slices + 4 + slot, cell] += 1


@njit(cache=True, nogil=True)
def _scale(raster: Any, slices: int, age_scale_s: Any) -> None:
    for cell in range(raster.shape[1]):
        count = raster[slices + 2, cell]
        if count > 0:
            for layer in range(slices):
                if raster[layer, cell] > 0:
                    raster[layer, cell] = np.log1p(raster[layer, cell])
            raster[slices + 1, cell] /= count * np.float32(255)
            raster[slices + 2, cell] = np.log1p(count)
            raster[slices + 3, cell] /= count * age_scale_s
            for layer in range(slices + 4, len(raster)):
                if raster[layer, cell] > 0:
                    raster[layer, cell] = np.log1p(raster[layer, cell])


def bev_raster(
    points: NDArray[np.float32], grid: BevGrid, *, z_slices: int, age_slices: int = 0
) -> NDArray[np.float32]:
    """Images of the points from above; every channel is 0 where no point fell.

    Channels, in order:

    - ``z_slices`` times ln(1 + points in the slice), from the lowest slice to the highest;
    - height of the highest point, 0 at ``z_min_m`` and 1 at ``z_max_m``;
    - mean intensity / 255;
    - ln(1 + points in the cell);
    - mean age / ``AGE_SCALE_S``: what tells a moving object's trail from a standing one;
    - ``age_slices`` times ln(1 + points in the slice), from the newest to the oldest: where an object was when, as
      MotionNet's stack of past occupancies shows it (Wu et al., CVPR 2020), with all older points in the last.

    Args:
        points: (P, 5) float32: x, y, z in the grid's frame, intensity 0..255, age in seconds. Points off
            the grid or with a number that isn't finite are left out.
        grid: The cells and the range of heights.
        z_slices: Slices of equal height between ``z_min_m`` and ``z_max_m``.
        age_slices: Slices of ``AGE_SCALE_S / age_slices``, the first from half a sweep before age 0 on; 0 for none.

    Returns:
        (z_slices + 4 + age_slices, rows, columns) float32.

    Raises:
        ValueError: If ``points`` is not (P, 5) of floats, ``z_slices`` is below 1 or ``age_slices`` below 0.
    """
    points = checked_points(points, name="points")
    raster = np.zeros((raster_channels(z_slices, age_slices), grid.rows * grid.columns), np.float32)
    z_low, z_size = np.float32(grid.z_min_m), np.float32(grid.z_max_m - grid.z_min_m)
    age_size = np.float32(AGE_SCALE_S / max(age_slices, 1))
    _sum_up(points, cell_of_points(points, grid), z_slices, z_low, z_size, age_size, raster)
    _scale(raster, z_slices, np.float32(AGE_SCALE_S))
    return raster.reshape(-1, grid.rows, grid.columns)  # (C, rows, columns)
