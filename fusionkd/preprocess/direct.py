"""From raw sweeps to what a network reads, without the fused cloud in between.

Each block of points is moved to the key frame, found its cells and laid down while it is in the nearest cache; only
points that a pillar has room for are written. The result equals ``fuse_sweeps`` followed by ``hard_pillars`` or
``bev_raster``, bit for bit.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from fusionkd.geometry.grid import BevGrid
from fusionkd.preprocess.ahead import AHEAD, fetch
from fusionkd.preprocess.cells import BLOCK, Lattice, cells_of_columns, columns_of_block, lattice
from fusionkd.preprocess.checks import checked_count
from fusionkd.preprocess.pillar_memory import PillarBuffer, PillarMemory, Pillars, clear_rows, find_rows
from fusionkd.preprocess.raster import RasterSums, add_to_raster, finished_raster, raster_sums
from fusionkd.preprocess.sweeps import checked_sweeps, move_sweep


@njit(cache=True, nogil=True)
def _move_columns(columns: Any, count: int, axes: Any, min_distance_m: Any, moved: Any) -> None:
    """What ``move_sweep`` makes of x, y and z, with NaN, which is off every grid, for points that it leaves out.

    One axis at a time: loops that write more rows than one at once need too many proofs that these don't overlap.
    """
    x, y, z, intensity = columns[0], columns[1], columns[2], columns[3]
    infinity, nothing = np.float32(np.inf), np.float32(np.nan)
    for i in range(count):
        finite = (abs(x[i]) < infinity) & (abs(y[i]) < infinity) & (abs(z[i]) < infinity)
        far = (abs(x[i]) >= min_distance_m) | (abs(y[i]) >= min_distance_m)
        x[i] = x[i] if finite & (abs(intensity[i]) < infinity) & far else nothing
    for axis in range(3):
        along_x, along_y, along_z, origin = axes[0, axis], axes[1, axis], axes[2, axis], axes[3, axis]
        out = moved[axis]
        for i in range(count):
            out[i] = np.float32(x[i] * along_x + y[i] * along_y + z[i] * along_z + origin)


@njit(cache=True, nogil=True)
def _write_moved(
    moved: Any, intensity: Any, age_s: Any, source: Any, row: Any, taken: int, memory: PillarMemory
) -> None:
    """Writes the points that have a row; ``row`` has ``AHEAD`` more entries than are written."""
    x, y, z, rows = moved[0], moved[1], moved[2], memory.rows
    for j in range(taken):
        fetch(rows, np.int64(row[j + AHEAD]))
        of, to = source[j], row[j]
        rows[to, 0], rows[to, 1], rows[to, 2] = x[of], y[of], z[of]
        rows[to, 3], rows[to, 4] = intensity[of], age_s


@njit(cache=True, nogil=True)
def _sweep_to_pillars(
    sweep: Any,
    axes: Any,
    age_s: Any,
    min_distance_m: Any,
    where: Lattice,
    memory: PillarMemory,
    pillars: int,
) -> int:
    columns, moved, cells = (
        np.empty((4, BLOCK), np.float32),
        np.empty((3, BLOCK), np.float32),
        np.empty(BLOCK, np.int32),
    )
    source, row = np.empty(BLOCK, np.uint32), np.zeros(BLOCK + AHEAD, np.uint32)
    for first in range(0, len(sweep), BLOCK):
        count = min(BLOCK, len(sweep) - first)
        columns_of_block(sweep, first, first + count, columns)
        _move_columns(columns, count, axes, min_distance_m, moved)
        cells_of_columns(moved, count, where, cells)
        pillars, taken = find_rows(cells, count, 0, memory, pillars, source, row)
        _write_moved(moved, columns[3], age_s, source, row, taken, memory)
    return pillars


@njit(cache=True, nogil=True)
def _sweep_to_raster(sweep: Any, axes: Any, age_s: Any, min_distance_m: Any, where: Lattice, sums: RasterSums) -> None:
    block = np.empty((BLOCK, 5), np.float32)
    for first in range(0, len(sweep), BLOCK):
        kept = move_sweep(sweep[first : first + BLOCK], axes, age_s, min_distance_m, block, 0, BLOCK)
        add_to_raster(block[:kept], where, sums)


def pillars_of_sweeps(
    sweeps: Sequence[NDArray[Any]],
    grid: BevGrid,
    *,
    key_from_sweep: NDArray[Any],
    age_s: ArrayLike,
    max_points: int,
    max_pillars: int,
    min_distance_m: float = 1.0,
    out: PillarBuffer | None = None,
) -> Pillars:
    """``hard_pillars`` of ``fuse_sweeps``, in one pass over the sweeps.

    Args:
        sweeps: See ``fuse_sweeps``, as for ``key_from_sweep``, ``age_s`` and ``min_distance_m``.
        grid: See ``hard_pillars``, as for ``max_points``, ``max_pillars`` and ``out``.
        key_from_sweep: (S, 4, 4).
        age_s: (S,).
        max_points: Points kept per pillar.
        max_pillars: Pillars kept.
        min_distance_m: Nearer points are dropped.
        out: Memory to fill instead of new.

    Raises:
        ValueError: If an argument doesn't fit; the message says which and how.
    """
    given = checked_sweeps(sweeps, key_from_sweep=key_from_sweep, age_s=age_s, min_distance_m=min_distance_m)
    max_points = checked_count(max_points, name="max_points")
    where = lattice(grid)
    most = min(checked_count(max_pillars, name="max_pillars"), where.cells)
    buffer = PillarBuffer(max_points=max_points, max_pillars=most) if out is None else out
    memory = buffer.memory(where.cells, max_points=max_points, max_pillars=most)
    pillars = 0
    for cloud, axes, age, nearest in given.each():
        pillars = _sweep_to_pillars(cloud, axes, age, nearest, where, memory, pillars)
    clear_rows(memory, 0, pillars)
    return buffer.finished(pillars, grid.columns)


def raster_of_sweeps(
    sweeps: Sequence[NDArray[Any]],
    grid: BevGrid,
    *,
    key_from_sweep: NDArray[Any],
    age_s: ArrayLike,
    z_slices: int,
    age_slices: int = 0,
    min_distance_m: float = 1.0,
) -> NDArray[np.float32]:
    """``bev_raster`` of ``fuse_sweeps``, in one pass over the sweeps.

    Args:
        sweeps: See ``fuse_sweeps``, as for ``key_from_sweep``, ``age_s`` and ``min_distance_m``.
        grid: See ``bev_raster``, as for ``z_slices`` and ``age_slices``.
        key_from_sweep: (S, 4, 4).
        age_s: (S,).
        z_slices: Slices of equal height.
        age_slices: Slices of equal age.
        min_distance_m: Nearer points are dropped.

    Raises:
        ValueError: If an argument doesn't fit; the message says which and how.
    """
    given = checked_sweeps(sweeps, key_from_sweep=key_from_sweep, age_s=age_s, min_distance_m=min_distance_m)
    sums, where = raster_sums(grid, z_slices=z_slices, age_slices=age_slices), lattice(grid)
    for cloud, axes, age, nearest in given.each():
        _sweep_to_raster(cloud, axes, age, nearest, where, sums)
    return finished_raster(sums, grid)
