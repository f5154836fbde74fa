"""From raw sweeps to what a network reads, without the fused cloud in between.

Each block of points is moved to the key frame, found its cells and laid down while it is in the nearest cache. The
result equals ``fuse_sweeps`` followed by ``hard_pillars`` or ``bev_raster``, bit for bit.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from fusionkd.geometry.grid import BevGrid
from fusionkd.preprocess.cells import BLOCK, Lattice, lattice
from fusionkd.preprocess.checks import checked_count
from fusionkd.preprocess.pillar_memory import PillarBuffer, PillarMemory, Pillars, add_to_pillars, clear_rows
from fusionkd.preprocess.raster import RasterSums, add_to_raster, finished_raster, raster_sums
from fusionkd.preprocess.sweeps import checked_sweeps, move_sweep


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
    block = np.empty((BLOCK, 5), np.float32)
    for first in range(0, len(sweep), BLOCK):
        kept = move_sweep(sweep[first : first + BLOCK], axes, age_s, min_distance_m, block, 0, BLOCK)
        pillars = add_to_pillars(block[:kept], where, memory, pillars)
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
