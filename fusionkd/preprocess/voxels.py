"""Points averaged within voxels: what sparse networks read (Yan et al., SECOND, Sensors 2018; its "mean VFE")."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from fusionkd.geometry.grid import BevGrid
from fusionkd.preprocess.cells import BLOCK, Lattice, cells_of_block, lattice
from fusionkd.preprocess.checks import checked_count, checked_points
from fusionkd.preprocess.lanes import add_point
from fusionkd.preprocess.recycling import recycled

_SPREAD = 2654435769
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
    """A hash table from cells to 1 + voxels, with linear probing.

    Attributes:
        slots: Rows of (cell, 1 + voxel), zeros where empty, (2**k, 2) int32.
        spread: Factor, modulo 2^32, that scatters cells; 1 where the table has a slot for every cell.
        shift: Bits of the product to leave out.
    """

    slots: NDArray[np.int32]
    spread: int
    shift: int


def _table(cells: int, entries: int) -> _Table:
    """A table for so many entries, at most two thirds full, or one slot for each cell if that is no larger."""
    bits = max((3 * entries // 2).bit_length(), 1)
    every = max(int(cells - 1).bit_length(), 1)
    slots = recycled((2 ** min(bits, every), 2), np.int32)
    slots[:] = 0
    return _Table(slots, 1, 0) if every <= bits else _Table(slots, _SPREAD, 32 - bits)


@njit(cache=True, nogil=True)
def _open_voxels(
    cells: Any, first: int, max_voxels: int, table: _Table, cell_of_voxel: Any, voxels: int, source: Any, target: Any
) -> Any:
    """Finds the voxel of each point, opening voxels where none is; see ``open_pillars``."""
    taken, mask = 0, len(table.slots) - 1
    for i in range(len(cells)):
        cell = cells[i]
        if cell < 0:
            continue
        slot = (np.int64(cell) * table.spread & 0xFFFFFFFF) >> table.shift
        while table.slots[slot, 1] != 0 and table.slots[slot, 0] != cell:
            slot = (slot + 1) & mask
        voxel = table.slots[slot, 1]
        if voxel == 0:
            if voxels >= max_voxels:
                continue
            cell_of_voxel[voxels] = cell
            voxels += 1
            voxel = voxels
            table.slots[slot, 0], table.slots[slot, 1] = cell, voxel
        source[taken], target[taken] = first + i, voxel - 1
        taken += 1
    return voxels, taken


@njit(cache=True, nogil=True)
def _sum_voxels(points: Any, where: Lattice, max_points: int, table: _Table, cell_of_voxel: Any, total: Any) -> int:
    """Sums (columns 0 to 4 of ``total``) and counts (column 5, as int32 bits) of at most ``len(total)`` voxels."""
    xyz = np.empty((3, BLOCK), np.float32)
    cells, source, target = np.empty(BLOCK, np.int32), np.empty(BLOCK, np.int32), np.empty(BLOCK, np.int32)
    count, voxels = total.view(np.int32), 0
    for first in range(0, len(points), BLOCK):
        last, before = min(first + BLOCK, len(points)), voxels
        cells_of_block(points, first, last, where, xyz, cells)
        voxels, taken = _open_voxels(
            cells[: last - first], first, len(total), table, cell_of_voxel, voxels, source, target
        )
        total[before:voxels] = 0
        for j in range(taken):
            voxel = np.int64(target[j])
            if count[voxel, 5] < max_points:
                add_point(total, voxel, points, np.int64(source[j]))
                count[voxel, 5] += 1
    return voxels


@njit(cache=True, nogil=True, error_model="numpy")
def _finish(total: Any, cells: Any, rows: int, columns: int, mean: Any, count: Any, layer_row_column: Any) -> None:
    counts = total.view(np.int32)
    # Divisions of 32 bits take a third of those of 64.
    across, down = np.uint32(columns), np.uint32(rows)
    for voxel in range(len(mean)):
        count[voxel] = counts[voxel, 5]
        for c in range(5):
            mean[voxel, c] = total[voxel, c] / np.float32(count[voxel])
        cell = np.uint32(cells[voxel])
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
    total, cell = recycled((most, 8), np.float32), recycled((most,), np.int32)
    voxels = _sum_voxels(points, where, max_points, _table(where.cells, most), cell, total)
    mean, count = recycled((voxels, 5), np.float32), np.empty(voxels, np.int64)
    layer_row_column = recycled((voxels, 3), np.int64)
    _finish(total, cell, grid.rows, grid.columns, mean, count, layer_row_column)
    return MeanVoxels(mean, count, layer_row_column)
