"""Where hard pillars are laid down: kernels that work block by block, and memory that may be used again.

Steps per block of points, each a loop of its own, because a loop that looked up a pillar and wrote its point would
wait for memory at every wrong guess of the processor: the cells, and the points that have one; their pillars; their
rows (together ``find_rows``); the points into their rows (``write_rows``).
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from fusionkd.preprocess.ahead import AHEAD, fetch
from fusionkd.preprocess.cells import BLOCK, Lattice, cells_of_block, points_on_grid
from fusionkd.preprocess.checks import checked_count
from fusionkd.preprocess.lanes import copy_point
from fusionkd.preprocess.opening import open_cells
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
        most: K.
        held: Rows of each pillar that may not be zero, (M,) uint32.
        counts: Points of each pillar that may be open, and K: the pillar of points without one is full, uint32.
        cell: Cell of each pillar that may be open, uint32.
        pillar_of_cell: 1 + the pillar of each cell, 0 for none, uint32; zeros between calls.
    """

    rows: NDArray[np.float32]
    most: int
    held: NDArray[np.uint32]
    counts: NDArray[np.uint32]
    cell: NDArray[np.uint32]
    pillar_of_cell: NDArray[np.uint32]


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
        held, counts, cell = (recycled((size,), np.uint32) for size in (most, most + 1, most))
        held[:] = max_points
        self._memory = PillarMemory(rows, max_points, held, counts, cell, np.zeros(0, np.uint32))

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
            pillar_of_cell = recycled((cells,), np.uint32)
            pillar_of_cell[:] = 0
            self._memory = self._memory._replace(pillar_of_cell=pillar_of_cell)
        counts, cell = self._memory.counts[: max_pillars + 1], self._memory.cell[:max_pillars]
        counts[max_pillars] = max_points
        return self._memory._replace(counts=counts, cell=cell)

    def finished(self, pillars: int, columns: int) -> Pillars:
        """The first pillars of the memory, whose cells are forgotten for the next call."""
        row_column, count = recycled((pillars, 2), np.int64), recycled((pillars,), np.int64)
        _describe(self._memory, columns, row_column, count)
        points = self._memory.rows.reshape(self.max_pillars, self.max_points, 5)[:pillars]  # (P, K, 5)
        return Pillars(points, count, row_column)


@njit(cache=True, nogil=True, error_model="numpy")
def _describe(memory: PillarMemory, columns: int, row_column: Any, count: Any) -> None:
    across = np.uint32(columns)  # divisions of 32 bits take a third of those of 64
    for pillar in range(len(count)):
        cell = memory.cell[pillar]
        memory.pillar_of_cell[cell] = 0
        row = cell // across
        row_column[pillar, 0], row_column[pillar, 1] = row, cell - row * across
        count[pillar] = memory.counts[pillar]


@njit(cache=True, nogil=True)
def find_rows(cells: Any, count: int, first: int, memory: PillarMemory, pillars: int, source: Any, row: Any) -> Any:
    """Finds the row of each point, opening pillars where none is.

    Args:
        cells: Cell of each point, -1 off the grid.
        count: How many points there are.
        first: Number of the first of these points.
        memory: Filled but for the rows.
        pillars: Pillars open so far.
        source: Numbers of the points that have a row, (>= count,) uint32.
        row: Their rows, (>= count + AHEAD,) uint32.

    Returns:
        Pillars open now, and how many points have a row.
    """
    found = points_on_grid(cells, count, first, source, row)
    opened = open_cells(row, found, memory.pillar_of_cell, memory.cell, pillars)
    memory.counts[pillars:opened] = 0
    return opened, _rows_of_pillars(memory, found, source, row)


@njit(cache=True, nogil=True)
def _rows_of_pillars(memory: PillarMemory, found: int, source: Any, row: Any) -> Any:
    """Puts a point's row in its pillar's place, leaving out those of full pillars; returns how many are left."""
    taken, most = np.uint32(0), np.uint32(memory.most)
    for j in range(found):
        pillar = row[j]
        held = memory.counts[pillar]
        # Written in any case and kept if there is room, as in ``points_on_grid``.
        source[taken], row[taken] = source[j], pillar * most + held
        room = np.uint32(held < most)
        memory.counts[pillar] = held + room
        taken += room
    return np.int64(taken)


@njit(cache=True, nogil=True)
def write_rows(points: Any, source: Any, row: Any, start: int, stop: int, memory: PillarMemory) -> None:
    """Copies points into their rows; ``row`` has ``AHEAD`` more entries than are written."""
    for j in range(start, stop):
        fetch(memory.rows, np.int64(row[j + AHEAD]))
        copy_point(memory.rows, np.int64(row[j]), points, np.int64(source[j]))


@njit(cache=True, nogil=True)
def clear_rows(memory: PillarMemory, start: int, stop: int) -> None:
    """Zeros in what some pillars held before and don't hold now."""
    for pillar in range(start, stop):
        if memory.counts[pillar] < memory.held[pillar]:
            row = pillar * memory.most
            memory.rows[row + memory.counts[pillar] : row + memory.held[pillar]] = 0
        memory.held[pillar] = memory.counts[pillar]


@njit(cache=True, nogil=True)
def add_to_pillars(points: Any, where: Lattice, memory: PillarMemory, pillars: int) -> int:
    """Adds points to the pillars open so far; returns how many are open now. ``clear_rows`` must follow."""
    columns, cells = np.empty((4, BLOCK), np.float32), np.empty(BLOCK, np.int32)
    source, row = np.empty(BLOCK, np.uint32), np.zeros(BLOCK + AHEAD, np.uint32)
    for first in range(0, len(points), BLOCK):
        last = min(first + BLOCK, len(points))
        cells_of_block(points, first, last, where, columns, cells)
        pillars, taken = find_rows(cells, last - first, first, memory, pillars, source, row)
        write_rows(points, source, row, 0, taken, memory)
    return pillars


@njit(cache=True, nogil=True)
def fill_pillars(points: Any, where: Lattice, memory: PillarMemory) -> int:
    """All points into pillars, none open before; returns how many are open."""
    pillars = add_to_pillars(points, where, memory, 0)
    clear_rows(memory, 0, pillars)
    return pillars
