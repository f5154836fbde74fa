"""Points averaged within voxels: what sparse networks read (Yan et al., SECOND, Sensors 2018; its "mean VFE")."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from fusionkd.geometry.grid import BevGrid
from fusionkd.preprocess.ahead import AHEAD, fetch
from fusionkd.preprocess.cells import BLOCK, Lattice, cells_of_block, lattice, points_on_grid
from fusionkd.preprocess.checks import checked_count, checked_points
from fusionkd.preprocess.lanes import add_point_below, divide_point
from fusionkd.preprocess.opening import open_cells
from fusionkd.preprocess.recycling import recycled

_SPREAD = np.uint32(2654435769)
"""2^32 over the golden ratio: neighbouring cells fall far apart (Knuth, TAOCP 3, section 6.4)."""


@dataclass(frozen=True)
class MeanVoxels:
    """Voxels with the mean of their points, in order of their first point.

    Attributes:
        mean: (V, 5) float32: mean x, y, z, intensity, age.
        count: (V,) int64, points averaged.
        layer_row_column: (V, 3) int64, the voxel's cell.
    """

    mean: NDArray[np.float32]
    count: NDArray[np.int64]
    layer_row_column: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.count)


class _Table(NamedTuple):
    """From cells to 1 + voxels, 0 for none: an entry per cell or, where that would be larger, a hash table.

    In the hash table eight cells that follow each other do so there, too: a line of the cache serves neighbours.

    Attributes:
        voxel_of_cell: (cells,) uint32; empty where there is a hash table.
        slots: Rows of (cell, 1 + voxel), with linear probing, (2**k, 2) uint32; empty where there isn't one.
        shift: Bits of a product modulo 2^32 to leave out.
    """

    voxel_of_cell: NDArray[np.uint32]
    slots: NDArray[np.uint32]
    shift: np.uint32


def _table(cells: int, entries: int) -> _Table:
    """An empty table, of which so many entries fill two thirds at most."""
    bits = max((3 * entries // 2).bit_length(), 4)
    hashed = cells > 2 * 2**bits
    voxel_of_cell, slots = recycled((0 if hashed else cells,), np.uint32), recycled((2**bits * hashed, 2), np.uint32)
    voxel_of_cell[:], slots[:] = 0, 0
    return _Table(voxel_of_cell, slots, np.uint32(32 + 3 - bits))


@njit(cache=True, nogil=True)
def _open_hashed(place: Any, count: int, table: _Table, cell_of: Any, opened: int, slot: Any) -> Any:
    """``open_cells`` with a hash table; ``slot`` is (>= count + AHEAD,) uint32 to work in."""
    slots, shift, last = table.slots, table.shift, np.uint32(len(table.slots) - 1)
    for j in range(count):
        group = np.uint32((place[j] >> np.uint32(3)) * _SPREAD) >> shift
        slot[j] = group << np.uint32(3) | place[j] & np.uint32(7)
    number, most = np.uint32(opened), np.uint32(len(cell_of))
    for j in range(count):
        fetch(slots, np.int64(slot[j + AHEAD]))
        cell, at = place[j], slot[j]
        while (slots[at, 1] != 0) & (slots[at, 0] != cell):
            at = (at + np.uint32(1)) & last
        entry = slots[at, 1]
        if number == most:
            place[j] = entry - np.uint32(1) if entry > 0 else most
            continue
        # Written in any case: half of the points open a voxel, and a processor can't guess which ones do.
        new = entry == 0
        cell_of[number] = cell
        number += np.uint32(new)
        entry = number if new else entry
        slots[at, 0], slots[at, 1] = cell, entry
        place[j] = entry - np.uint32(1)
    return np.int64(number)


@njit(cache=True, nogil=True)
def _add_block(points: Any, source: Any, place: Any, found: int, max_points: int, total: Any) -> None:
    for j in range(found):
        fetch(total, np.int64(place[j + AHEAD]))
        add_point_below(total, np.int64(place[j]), points, np.int64(source[j]), np.int32(max_points))


@njit(cache=True, nogil=True)
def _sum_voxels(points: Any, where: Lattice, max_points: int, table: _Table, cell_of: Any, total: Any) -> int:
    """Sums (columns 0 to 4 of ``total``) and counts (column 5, as int32 bits) of voxels; returns how many there are.

    ``total`` has a row more than there may be voxels, for points that have none.
    """
    columns, cells = np.empty((4, BLOCK), np.float32), np.empty(BLOCK, np.int32)
    source, place = np.empty(BLOCK, np.uint32), np.zeros(BLOCK + AHEAD, np.uint32)
    slot = np.zeros(BLOCK + AHEAD, np.uint32)
    voxels, counts = 0, total.view(np.int32)
    total[len(cell_of)], counts[len(cell_of), 5] = 0, max_points
    for first in range(0, len(points), BLOCK):
        last, before = min(first + BLOCK, len(points)), voxels
        cells_of_block(points, first, last, where, columns, cells)
        found = points_on_grid(cells, last - first, first, source, place)
        if len(table.slots) > 0:
            voxels = _open_hashed(place, found, table, cell_of, voxels, slot)
        else:
            voxels = open_cells(place, found, table.voxel_of_cell, cell_of, voxels)
        total[before:voxels] = 0
        _add_block(points, source, place, found, max_points, total)
    return voxels


@njit(cache=True, nogil=True, error_model="numpy")
def _finish(total: Any, cells: Any, rows: int, columns: int, mean: Any, count: Any, layer_row_column: Any) -> None:
    counts = total.view(np.int32)
    # Divisions of 32 bits take a third of those of 64.
    across, down = np.uint32(columns), np.uint32(rows)
    for voxel in range(len(mean)):
        count[voxel] = counts[voxel, 5]
        divide_point(mean, voxel, total, voxel, np.float32(counts[voxel, 5]))
        cell = cells[voxel]
        line = cell // across
        layer = line // down
        layer_row_column[voxel, 0] = layer
        layer_row_column[voxel, 1] = line - layer * down
        layer_row_column[voxel, 2] = cell - line * across


def mean_voxels(
    points: NDArray[np.float32], grid: BevGrid, *, layers: int = 1, max_points: int, max_voxels: int
) -> MeanVoxels:
    """At most ``max_voxels`` voxels with the mean of their first ``max_points`` points each.

    The same voxels, counts and order as hard voxelisation (``hard_pillars``, in three dimensions) followed by a mean,
    without the padded points in between.

    Args:
        points: (P, 5) float32: x, y, z in the grid's frame, intensity, age. Points off the grid or not finite in x,
            y, z are dropped; an intensity or age that isn't finite makes its voxel's mean not finite.
        grid: The voxels' footprints and the range of heights.
        layers: Voxels of equal height over that range; 1 makes pillars.
        max_points: Points averaged per voxel, later ones are left out. Sums are float32: a relative error of
            6e-8 for each point.
        max_voxels: Voxels kept.

    Returns:
        The voxels.

    Raises:
        ValueError: If ``points`` is not (P, 5) of floats, a limit is below 1 or the grid has 2^31 voxels or more.
    """
    points = checked_points(points, name="points")
    layers = checked_count(layers, name="layers")
    max_points = checked_count(max_points, name="max_points")
    max_voxels = checked_count(max_voxels, name="max_voxels")
    where = lattice(grid, layers)
    most = min(max_voxels, len(points), where.cells)
    # Rows of eight numbers: a sum and its count lie in one line of the cache.
    total, cell = recycled((most + 1, 8), np.float32), recycled((most,), np.uint32)
    voxels = _sum_voxels(points, where, min(max_points, len(points)), _table(where.cells, most), cell, total)
    mean, count = recycled((voxels, 5), np.float32), recycled((voxels,), np.int64)
    layer_row_column = recycled((voxels, 3), np.int64)
    _finish(total, cell, grid.rows, grid.columns, mean, count, layer_row_column)
    return MeanVoxels(mean, count, layer_row_column)
