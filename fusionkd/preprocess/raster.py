"""Points as a stack of bird's-eye-view images, which a plain 2D network reads."""

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from fusionkd.geometry.grid import BevGrid
from fusionkd.preprocess.cells import BLOCK, Lattice, cells_of_block, lattice
from fusionkd.preprocess.checks import checked_count, checked_points

AGE_SCALE_S = 0.5
"""Age that the age channel shows as 1: ten sweeps at nuScenes' 20 Hz."""

HALF_SWEEP_S = 0.025
"""Half of nuScenes' time between sweeps: with it the borders of the age slices lie between sweeps, not on them."""

_EXTRA_CHANNELS = 4
_COUNTS = 1024
"""Points in a cell whose logarithm is looked up; of more it is computed."""
_STRIP = 64
_ONE = np.float32(1)


def raster_channels(z_slices: int, age_slices: int = 0) -> int:
    """Channels of ``bev_raster``: the height slices, highest point, intensity, density, age, and the age slices."""
    extra = checked_count(age_slices, name="age_slices") if age_slices else 0
    return checked_count(z_slices, name="z_slices") + _EXTRA_CHANNELS + extra


class RasterSums(NamedTuple):
    """What is summed up before the channels are made.

    Attributes:
        cells: Per cell its channels side by side, (rows * columns, C) float32: one point touches one or two lines of
            the cache instead of one per channel.
        slices: Height slices.
        z_low: Lowest height.
        z_size: Height range.
        age_size: Seconds per age slice.
    """

    cells: NDArray[np.float32]
    slices: int
    z_low: np.float32
    z_size: np.float32
    age_size: np.float32


def raster_sums(grid: BevGrid, *, z_slices: int, age_slices: int) -> RasterSums:
    """Sums of no points.

    Raises:
        ValueError: If ``z_slices`` is below 1 or ``age_slices`` below 0.
    """
    cells = np.zeros((grid.rows * grid.columns, raster_channels(z_slices, age_slices)), np.float32)
    age_size = np.float32(AGE_SCALE_S / max(age_slices, 1))
    return RasterSums(cells, z_slices, np.float32(grid.z_min_m), np.float32(grid.z_max_m - grid.z_min_m), age_size)


@njit(cache=True, nogil=True)
def add_to_raster(points: Any, where: Lattice, sums: RasterSums) -> None:
    """Adds points to the sums."""
    columns, cells = np.empty((4, BLOCK), np.float32), np.empty(BLOCK, np.int32)
    for first in range(0, len(points), BLOCK):
        last = min(first + BLOCK, len(points))
        cells_of_block(points, first, last, where, columns, cells)
        _add_block(points, first, last, cells, sums.cells, sums)


@njit(cache=True, nogil=True)
def _add_block(points: Any, first: int, last: int, cells: Any, total: Any, sums: RasterSums) -> None:
    slices, ages = sums.slices, total.shape[1] - sums.slices - _EXTRA_CHANNELS
    z_low, z_size, age_size = sums.z_low, sums.z_size, sums.age_size
    for i in range(first, last):
        cell, intensity, age = cells[i - first], points[i, 3], points[i, 4]
        if cell < 0 or not (np.isfinite(intensity) and np.isfinite(age)):
            continue
        height = (points[i, 2] - z_low) / z_size
        total[cell, min(int(height * slices), slices - 1)] += _ONE
        total[cell, slices] = max(total[cell, slices], height)
        total[cell, slices + 1] += intensity
        total[cell, slices + 2] += _ONE
        total[cell, slices + 3] += age
        if ages > 0:
            k = (age + np.float32(HALF_SWEEP_S)) / age_size
            slot = ages - 1 if k >= ages else max(int(k), 0)  # no integer holds the quotient of a huge age
            total[cell, slices + 4 + slot] += _ONE


@njit(cache=True, nogil=True)
def _finish(sums: RasterSums, out: Any) -> None:
    """Channels (C, rows * columns) of sums; ``out`` is zero before."""
    slices = sums.slices
    logarithm = np.log1p(np.arange(_COUNTS).astype(np.float32))
    # A strip of cells at a time, channel by channel: whole lines of the cache are read and written.
    for first in range(0, len(sums.cells), _STRIP):
        last = min(first + _STRIP, len(sums.cells))
        for k in range(len(out)):
            for cell in range(first, last):
                value = sums.cells[cell, k]
                if value == 0:
                    continue
                if k == slices + 1:
                    value /= sums.cells[cell, slices + 2] * np.float32(255)
                elif k == slices + 3:
                    value /= sums.cells[cell, slices + 2] * np.float32(AGE_SCALE_S)
                elif k != slices:
                    value = logarithm[int(value)] if value < _COUNTS else np.log1p(value)
                out[k, cell] = value


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
    sums = raster_sums(grid, z_slices=z_slices, age_slices=age_slices)
    add_to_raster(points, lattice(grid), sums)
    return finished_raster(sums, grid)


def finished_raster(sums: RasterSums, grid: BevGrid) -> NDArray[np.float32]:
    """The images (C, rows, columns) of sums."""
    raster = np.zeros((sums.cells.shape[1], len(sums.cells)), np.float32)
    _finish(sums, raster)
    return raster.reshape(-1, grid.rows, grid.columns)  # (C, rows, columns)
