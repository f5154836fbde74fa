"""Which cell of a BEV grid each point falls in: one rule for crop, pillars, voxels and raster.

The rule is that of the hard voxelisation which public PointPillars weights were trained with:
per axis ``floor((p - low) / size)`` in float32. Nearly everything on a border follows from the
rounding of these two float32 operations, so they are never re-ordered or moved to float64.
"""

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from fusionkd.geometry.grid import BevGrid
from fusionkd.preprocess.checks import checked_points
from fusionkd.preprocess.lanes import take_four_points
from fusionkd.preprocess.threads import in_threads

BLOCK = 1024
"""Points that are worked on at once: their coordinates, cells and places fit into the nearest cache."""

_MOST_CELLS = 2**31 - 1


class Lattice(NamedTuple):
    """A grid as the kernels take it, axes in the order x, y, z.

    Attributes:
        low: Lower borders, (3,) float32.
        size: Sides of a cell, (3,) float32.
        shape: Cells along each axis, (3,) int32.
    """

    low: NDArray[np.float32]
    size: NDArray[np.float32]
    shape: NDArray[np.int32]

    @property
    def cells(self) -> int:
        """Number of cells."""
        return int(np.prod(self.shape, dtype=np.int64))


def lattice(grid: BevGrid, layers: int = 1) -> Lattice:
    """The cells of a grid, cut into ``layers`` of equal height.

    Raises:
        ValueError: If there are more cells than an int32 counts.
    """
    low = np.array([grid.x_min_m, grid.y_min_m, grid.z_min_m], np.float32)
    size = np.array([grid.cell_m, grid.cell_m, (grid.z_max_m - grid.z_min_m) / layers], np.float32)
    if grid.rows * grid.columns * layers > _MOST_CELLS:
        raise ValueError(
            f"A grid may have at most {_MOST_CELLS} cells, found {grid.rows} rows x {grid.columns} columns x {layers} "
            f"layers. Take larger cells or a shorter range."
        )
    return Lattice(low, size, np.array([grid.columns, grid.rows, layers], np.int32))


@njit(cache=True, nogil=True)
def columns_of_block(points: Any, start: int, stop: int, columns: Any) -> None:
    """First four columns of some points as rows, ``columns[:4, :stop - start]``; of three the fourth holds anything.

    Loops become vector instructions only over contiguous numbers.
    """
    # Four numbers of each point are read, so the last one of a cloud of three columns is left for the loop after.
    by_four = max(min(stop, len(points) - 1) - start, 0) // 4 * 4
    for i in range(0, by_four, 4):
        take_four_points(columns, i, points, start + i)
    for i in range(by_four, stop - start):
        for axis in range(min(points.shape[1], 4)):
            columns[axis, i] = points[start + i, axis]


@njit(cache=True, nogil=True)
def cells_of_columns(columns: Any, count: int, where: Lattice, cells: Any) -> None:
    """Flat cell of ``count`` points whose coordinates lie side by side, see ``cells_of_block``."""
    low_x, low_y, low_z = where.low
    size_x, size_y, size_z = where.size
    across, rows, layers = where.shape[0], where.shape[1], where.shape[2]
    end_x, end_y, end_z = np.float32(across), np.float32(rows), np.float32(layers)
    x, y, z = columns[0], columns[1], columns[2]
    for i in range(count):
        column = np.floor((x[i] - low_x) / size_x)
        row = np.floor((y[i] - low_y) / size_y)
        layer = np.floor((z[i] - low_z) / size_z)
        # NaN fails every comparison, so the test is written for what is kept.
        kept = (column >= 0) & (column < end_x) & (row >= 0) & (row < end_y) & (layer >= 0) & (layer < end_z)
        column = column if kept else np.float32(0)
        row = row if kept else np.float32(0)
        layer = layer if kept else np.float32(0)
        cell = (np.int32(layer) * rows + np.int32(row)) * across + np.int32(column)
        cells[i] = cell if kept else -1


@njit(cache=True, nogil=True)
def cells_of_block(points: Any, start: int, stop: int, where: Lattice, columns: Any, cells: Any) -> None:
    """Flat cell ``(layer * rows + row) * columns + column`` of some points into ``cells[:stop - start]``; -1 off.

    Args:
        points: (P, >=3) float32.
        start: First point.
        stop: The point after the last, at most ``BLOCK`` further.
        where: The cells.
        columns: (4, BLOCK) float32 to work in.
        cells: (>= stop - start,) int32.
    """
    columns_of_block(points, start, stop, columns)
    cells_of_columns(columns, stop - start, where, cells)


@njit(cache=True, nogil=True)
def points_on_grid(cells: Any, count: int, first: int, source: Any, place: Any) -> Any:
    """Lists the points that have a cell, ``first`` being the number of the first; returns how many.

    Args:
        cells: Cell of each, -1 off the grid.
        count: How many there are.
        first: Number of the first.
        source: Numbers of those that have one, (>= count,) uint32.
        place: Their cells, (>= count,) uint32.
    """
    found = np.uint32(0)  # unsigned, as Numba asks of every other index whether it counts from the end
    for i in range(count):
        # Written in any case and kept if it is on the grid: no guess for the processor to get wrong.
        source[found], place[found] = np.uint32(first + i), np.uint32(cells[i])
        found += np.uint32(cells[i] >= 0)
    return np.int64(found)


@njit(cache=True, nogil=True)
def _cells(points: Any, start: int, stop: int, where: Lattice, out: Any) -> None:
    columns = np.empty((4, BLOCK), np.float32)
    for first in range(start, stop, BLOCK):
        last = min(first + BLOCK, stop)
        cells_of_block(points, first, last, where, columns, out[first:last])


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


def cell_of_points(
    points: NDArray[np.float32], grid: BevGrid, *, layers: int = 1, threads: int = 1
) -> NDArray[np.int32]:
    """Flat cell ``(layer * rows + row) * columns + column`` of each point, (P,) int32; -1 off the grid.

    Args:
        points: (P, >=3) float32 C-contiguous: x, y, z in the grid's frame, metres. A point with NaN or
            infinity among them is off the grid.
        grid: The cells; heights outside [z_min_m, z_max_m) are off the grid.
        layers: Layers of equal height.
        threads: Threads that share the work.
    """
    where, out = lattice(grid, layers), np.empty(len(points), np.int32)
    in_threads(lambda start, stop: _cells(points, start, stop, where, out), len(points), threads=threads)
    return out


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
