"""Points visited in an order whose every stretch holds points from all over the cloud.

Steps of the golden section spread evenly (Weyl's theorem), and a step that shares no factor with the number of points
visits each of them once: always the same order, no chance.
"""

import math
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from fusionkd.geometry.grid import BevGrid
from fusionkd.preprocess.cells import BLOCK, Lattice, lattice
from fusionkd.preprocess.checks import checked_count, checked_points
from fusionkd.preprocess.lanes import copy_point
from fusionkd.preprocess.pillar_memory import PillarBuffer, PillarMemory, Pillars, add_to_pillars, clear_rows

_GOLDEN = 0.6180339887498949


def mixing_step(count: int) -> int:
    """How far to go from one point to the next, round and round: point ``k`` of the order is ``k * step % count``."""
    step = max(round(count * _GOLDEN), 1)
    while math.gcd(step, count) > 1:
        step += 1
    return step


@njit(cache=True, nogil=True)
def _fill_mixed(points: Any, step: int, where: Lattice, memory: PillarMemory) -> int:
    block = np.empty((BLOCK, 5), np.float32)
    row, pillars = 0, 0
    for first in range(0, len(points), BLOCK):
        count = min(BLOCK, len(points) - first)
        for j in range(count):
            copy_point(block, j, points, row)
            row += step
            row -= len(points) if row >= len(points) else 0
        pillars = add_to_pillars(block[:count], where, memory, pillars)
    clear_rows(memory, 0, pillars)
    return pillars


def mixed_pillars(points: NDArray[np.float32], grid: BevGrid, *, max_points: int, max_pillars: int) -> Pillars:
    """``hard_pillars`` of the points in mixed order, block by block instead of by a mixed copy of them all.

    A frame's points come newest first; mixed, a pillar that is full holds points of all ages alike.

    Args:
        points: (P, 5) float32, see ``hard_pillars``, as for the others.
        grid: The pillars' footprints and the range of heights.
        max_points: Points kept per pillar.
        max_pillars: Pillars kept.

    Raises:
        ValueError: If ``points`` is not (P, 5) of floats or a limit is below 1.
    """
    points = checked_points(points, name="points")
    max_points = checked_count(max_points, name="max_points")
    where = lattice(grid)
    most = min(checked_count(max_pillars, name="max_pillars"), where.cells, len(points))
    buffer = PillarBuffer(max_points=max_points, max_pillars=most)
    memory = buffer.memory(where.cells, max_points=max_points, max_pillars=most)
    return buffer.finished(_fill_mixed(points, mixing_step(len(points)), where, memory), grid.columns)
