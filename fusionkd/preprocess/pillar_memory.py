"""Where hard pillars are laid down: kernels that work block by block, and memory that may be used again.

Three steps per block of points, each a loop of its own, because a loop that looked up a pillar and wrote its point
would wait for memory at every wrong guess of the processor: the cells; the row of each point (``open_pillars``);
the points into their rows (``write_rows``).
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from fusionkd.preprocess.cells import BLOCK, Lattice, cells_of_block
from fusionkd.preprocess.checks import checked_count
from fusionkd.preprocess.lanes import copy_point
from fusionkd.preprocess.recycling import recycled


@dataclass(frozen=True)
class Pillars:
    """Pillars of at most K points each, in order of their first point.

    Attributes:
        points: (P, K, 5) float32: x, y, z, intensity, age; rows beyond ``count`` are zero.
        count: (P,) int64, points held, 1 to K.
        row_column: (P, 2) int64, the pillar's cell on the grid.
    """

    points: NDArray[np.float32]
    count: NDArray[np.int64]
    row_column: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.count)


class PillarMemory(NamedTuple):
    """What the kernels fill, for up to M pillars of K points.

    Attributes:
        rows: The pillars' points, pillar after pillar, (M * K, 5) float32.
        held: Rows of each pillar that may not be zero, (M,) int32.
        counts: Points of each pillar, (M,) int32.
        cell: Cell of each pillar, (M,) int32.
        pillar_of_cell: 1 + the pillar of each cell, 0 for none; zeros between calls.
    """

    rows: NDArray[np.float32]
    held: NDArray[np.int32]
    counts: NDArray[np.int32]
    cell: NDArray[np.int32]
    pillar_of_cell: NDArray[np.int32]


class PillarBuffer:
    """Memory that ``hard_pillars`` fills again and again.

    It allocates no padded points, and clears only the rows that held a point of the frame before and hold none now.

    Args:
        max_points: Points per pillar, K.
        max_pillars: Pillars that fit.

    Raises:
        ValueError: If a limit is below 1.
    """

    def __init__(self, *, max_points: int, max_pillars: int) -> None:
        most = max(max_pillars, 1)
        self.max_points = checked_count(max_points, name="max_points")
        self.max_pillars = checked_count(most, name="max_pillars")
        # Not np.zeros: of memory this large only np.empty asks for huge pages, and touching small ones costs more
        # than clearing. `held` says that every row may hold anything, so it may be that of pillars nobody holds.
        rows = recycled((most * max_points, 5), np.float32)
        held = np.full(most, max_points, np.int32)
        counts, cell = np.empty((2, most), np.int32)
        self._memory = PillarMemory(rows, held, counts, cell, np.zeros(0, np.int32))

    def memory(self, cells: int, *, max_points: int, max_pillars: int) -> PillarMemory:
        """The memory, ready for a grid of so many cells.

        Raises:
            ValueError: If the pillars don't fit.
        """
        if max_points != self.max_points or max_pillars > self.max_pillars:
            raise ValueError(
                f"out holds {self.max_pillars} pillars of {self.max_points} points; {max_pillars} of {max_points} are "
                f"wanted. Make it with the same max_points and at least as many max_pillars."
            )
        if len(self._memory.pillar_of_cell) < cells:
            self._memory = self._memory._replace(pillar_of_cell=np.zeros(cells, np.int32))
        return self._memory

    def finished(self, pillars: int, columns: int) -> Pillars:
        """The first pillars of the memory, whose cells are forgotten for the next call."""
        memory, most = self._memory, self.max_pillars
        cell = memory.cell[:pillars]
        memory.pillar_of_cell[cell] = 0
        row_column, count = np.empty((pillars, 2), np.int64), np.empty(pillars, np.int64)
        _describe(cell, memory.counts, columns, row_column, count)
        points = memory.rows.reshape(most, self.max_points, 5)[:pillars]  # (P, K, 5)
        return Pillars(points, count, row_column)


@njit(cache=True, nogil=True, error_model="numpy")
def _describe(cells: Any, counts: Any, columns: int, row_column: Any, count: Any) -> None:
    across = np.uint32(columns)  # divisions of 32 bits take a third of those of 64
    for pillar in range(len(cells)):
        cell = np.uint32(cells[pillar])
        row = cell // across
        row_column[pillar, 0], row_column[pillar, 1] = row, cell - row * across
        count[pillar] = counts[pillar]


@njit(cache=True, nogil=True)
def open_pillars(
    cells: Any, first: int, max_pillars: int, memory: PillarMemory, pillars: int, source: Any, target: Any
) -> Any:
    """Finds the row of each point, opening pillars where none is.

    Args:
        cells: Cell of each point, -1 off the grid, (n,).
        first: Number of the first of these points.
        max_pillars: Pillars that may be open.
        memory: Filled but for the rows.
        pillars: Pillars open so far.
        source: Numbers of the points that have a row, (>= n,).
        target: Their rows, (>= n,).

    Returns:
        Pillars open now, and how many points have a row.
    """
    most = len(memory.rows) // max(len(memory.counts), 1)
    taken = 0
    for i in range(len(cells)):
        cell = cells[i]
        if cell < 0:
            continue
        pillar = memory.pillar_of_cell[cell] - 1
        if pillar < 0:
            if pillars >= max_pillars:
                continue
            pillar = pillars
            pillars += 1
            memory.pillar_of_cell[cell] = pillars
            memory.cell[pillar] = cell
            memory.counts[pillar] = 0
        count = memory.counts[pillar]
        # Written in any case and kept if there is room: no guess for the processor to get wrong.
        source[taken] = first + i
        target[taken] = pillar * most + count
        taken += count < most
        memory.counts[pillar] = count + (count < most)
    return pillars, taken


@njit(cache=True, nogil=True)
def write_rows(points: Any, source: Any, target: Any, memory: PillarMemory) -> None:
    """Copies points into their rows."""
    for j in range(len(source)):
        copy_point(memory.rows, np.int64(target[j]), points, np.int64(source[j]))


@njit(cache=True, nogil=True)
def clear_rows(memory: PillarMemory, start: int, stop: int) -> None:
    """Zeros in what some pillars held before and don't hold now."""
    most = len(memory.rows) // max(len(memory.counts), 1)
    for pillar in range(start, stop):
        if memory.counts[pillar] < memory.held[pillar]:
            memory.rows[pillar * most + memory.counts[pillar] : pillar * most + memory.held[pillar]] = 0
        memory.held[pillar] = memory.counts[pillar]


@njit(cache=True, nogil=True)
def add_to_pillars(points: Any, where: Lattice, max_pillars: int, memory: PillarMemory, pillars: int) -> int:
    """Adds points to the pillars open so far; returns how many are open now. ``clear_rows`` must follow."""
    xyz = np.empty((3, BLOCK), np.float32)
    cells, source, target = np.empty(BLOCK, np.int32), np.empty(BLOCK, np.int32), np.empty(BLOCK, np.int32)
    for first in range(0, len(points), BLOCK):
        last = min(first + BLOCK, len(points))
        cells_of_block(points, first, last, where, xyz, cells)
        pillars, taken = open_pillars(cells[: last - first], first, max_pillars, memory, pillars, source, target)
        write_rows(points, source[:taken], target[:taken], memory)
    return pillars


@njit(cache=True, nogil=True)
def fill_pillars(points: Any, where: Lattice, max_pillars: int, memory: PillarMemory, pillars: int) -> int:
    """All points into pillars, none open before; returns how many are open."""
    pillars = add_to_pillars(points, where, max_pillars, memory, pillars)
    clear_rows(memory, 0, pillars)
    return pillars
