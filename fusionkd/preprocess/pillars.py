"""Points grouped into vertical pillars (Lang et al., PointPillars, CVPR 2019, section 2.1)."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from fusionkd.geometry.grid import BevGrid
from fusionkd.preprocess.ahead import AHEAD
from fusionkd.preprocess.cells import cell_of_points, lattice, take_kept
from fusionkd.preprocess.checks import checked_count, checked_points
from fusionkd.preprocess.pillar_memory import PillarBuffer, Pillars, clear_rows, fill_pillars, find_rows, write_rows
from fusionkd.preprocess.threads import in_threads


@dataclass(frozen=True)
class DynamicPillars:
    """Pillars that keep every point (Zhou et al., MVF, CoRL 2019).

    Attributes:
        points: (N, 5) float32, the points on the grid in their order.
        pillar_of_point: (N,) int64, index into ``row_column``.
        row_column: (P, 2) int64, cells of the pillars in order of their first point.
    """

    points: NDArray[np.float32]
    pillar_of_point: NDArray[np.int64]
    row_column: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.row_column)


def hard_pillars(
    points: NDArray[np.float32],
    grid: BevGrid,
    *,
    max_points: int,
    max_pillars: int,
    out: PillarBuffer | None = None,
    threads: int = 1,
) -> Pillars:
    """At most ``max_pillars`` pillars of at most ``max_points`` points, zero padded.

    Equal, bit for bit, to the hard voxelisation that mmdetection3d's detectors were trained with:
    pillars open in the order in which their first point appears, points fill them in order, later
    points of an open pillar are still taken when no further pillar may open.

    Args:
        points: (P, 5) float32: x, y, z in the grid's frame, intensity, age. Points off the grid or not
            finite in x, y, z are dropped.
        grid: The pillars' footprints and the range of heights.
        max_points: Points kept per pillar.
        max_pillars: Pillars kept.
        out: Memory to fill instead of new; the pillars returned lie in it and last until it is filled again.
        threads: Threads that share the work; the result is the same.

    Returns:
        The pillars.

    Raises:
        ValueError: If ``points`` is not (P, 5) of floats, a limit is below 1 or ``out`` is too small.
    """
    points = checked_points(points, name="points")
    max_points = checked_count(max_points, name="max_points")
    max_pillars = checked_count(max_pillars, name="max_pillars")
    where = lattice(grid)
    most = min(max_pillars, where.cells, len(points))
    buffer = PillarBuffer(max_points=max_points, max_pillars=most) if out is None else out
    memory = buffer.memory(where.cells, max_points=max_points, max_pillars=most)
    if checked_count(threads, name="threads") == 1:
        return buffer.finished(fill_pillars(points, where, memory), grid.columns)
    cells = cell_of_points(points, grid, threads=threads)
    source, row = np.empty(len(points), np.uint32), np.zeros(len(points) + AHEAD, np.uint32)
    opened, taken = find_rows(cells, len(points), 0, memory, 0, source, row)
    in_threads(lambda a, b: write_rows(points, source, row, a, b, memory), taken, threads=threads)
    in_threads(lambda a, b: clear_rows(memory, a, b), opened, threads=threads)
    return buffer.finished(opened, grid.columns)


@njit(cache=True, nogil=True)
def _number_pillars(cells: Any, num_cells: int) -> Any:
    """Pillar of each point (-1: none) and the cell of each pillar."""
    pillar_of_cell = np.full(num_cells, -1, np.int32)
    pillar_of_point = np.empty(len(cells), np.int32)
    cell_of_pillar = np.empty(min(num_cells, len(cells)), np.int32)
    pillars = 0
    for i in range(len(cells)):
        cell = cells[i]
        pillar = np.int32(-1)
        if cell >= 0:
            pillar = pillar_of_cell[cell]
            if pillar < 0:
                pillar = np.int32(pillars)
                pillar_of_cell[cell] = pillar
                cell_of_pillar[pillars] = cell
                pillars += 1
        pillar_of_point[i] = pillar
    return pillar_of_point, cell_of_pillar[:pillars]


def dynamic_pillars(points: NDArray[np.float32], grid: BevGrid) -> DynamicPillars:
    """Pillars without limits: every point on the grid is kept and told its pillar.

    Args:
        points: (P, 5) float32, see ``hard_pillars``.
        grid: The pillars' footprints and the range of heights.

    Returns:
        The points on the grid, their pillars and the pillars' cells.

    Raises:
        ValueError: If ``points`` is not (P, 5) of floats.
    """
    points = checked_points(points, name="points")
    cells = cell_of_points(points, grid)
    pillar_of_point, cell_of_pillar = _number_pillars(cells, grid.rows * grid.columns)
    pillar_of_kept = pillar_of_point[pillar_of_point >= 0].astype(np.int64)
    row_column = np.stack(np.divmod(cell_of_pillar.astype(np.int64), grid.columns), axis=1)  # (P, 2)
    return DynamicPillars(take_kept(points, pillar_of_point), pillar_of_kept, row_column)
