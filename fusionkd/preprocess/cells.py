"""Which cell of a BEV grid each point falls in: one rule for crop, pillars and raster.

The rule is that of the hard voxelisation which public PointPillars weights were trained with:
per axis ``floor((p - low) / size)`` in float32. Nearly everything on a border follows from the
rounding of these two float32 operations, so they are never re-ordered or moved to float64.
"""

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from fusionkd.geometry.grid import BevGrid
from fusionkd.preprocess.checks import checked_points


@njit(cache=True, nogil=True)
def _cells(points: Any, low: Any, size: Any, rows: int, columns: int) -> Any:
    out = np.empty(len(points), np.int32)
    for i in range(len(points)):
        column = np.floor((points[i, 0] - low[0]) / size[0])
        row = np.floor((points[i, 1] - low[1]) / size[1])
        layer = np.floor((points[i, 2] - low[2]) / size[2])
        # NaN fails every comparison, so the test is written for what is kept.
        if 0 <= column < columns and 0 <= row < rows and layer == 0:
            out[i] = np.int32(row) * np.int32(columns) + np.int32(column)
        else:
            out[i] = -1
    return out


@njit(cache=True, nogil=True)
def take_kept(points: Any, cells: Any) -> Any:
    """The points whose number isn't negative, in a new array."""
    kept = 0
    for cell in cells:
        kept += cell >= 0
    out = np.empty((kept, points.shape[1]), points.dtype)
    at = 0
    for i in range(len(cells)):
        if cells[i] >= 0:
            for c in range(points.shape[1]):
                out[at, c] = points[i, c]
            at += 1
    return out


def cell_of_points(points: NDArray[np.float32], grid: BevGrid) -> NDArray[np.int32]:
    """Flat cell ``row * grid.columns + column`` of each point, (P,) int32; -1 off the grid.

    Args:
        points: (P, >=3) float32 C-contiguous: x, y, z in the grid's frame, metres. A point with NaN or
            infinity among them is off the grid.
        grid: The cells; heights outside [z_min_m, z_max_m) are off the grid.
    """
    low = np.array([grid.x_min_m, grid.y_min_m, grid.z_min_m], np.float32)
    size = np.array([grid.cell_m, grid.cell_m, grid.z_max_m - grid.z_min_m], np.float32)
    cells: NDArray[np.int32] = _cells(points, low, size, grid.rows, grid.columns)
    return cells


def crop_to_grid(points: NDArray[np.float32], grid: BevGrid) -> NDArray[np.float32]:
    """The points that fall in a cell of the grid, in their order.

    Lower borders count, upper ones don't; points with NaN or infinity in x, y or z are dropped. A point
    is kept exactly when pillars and raster would give it a cell.

    Args:
        points: (P, >=3) float32: x, y, z in the grid's frame, metres, and whatever follows.
        grid: Range in x, y and z.

    Returns:
        (P', same columns) float32, a new array.

    Raises:
        ValueError: If ``points`` has fewer than three columns or holds no floats.
    """
    points = checked_points(points, name="points", columns=3, exact=False)
    kept: NDArray[np.float32] = take_kept(points, cell_of_points(points, grid))
    return kept
