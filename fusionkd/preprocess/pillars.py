"""Points grouped into vertical pillars (Lang et al., PointPillars, CVPR 2019, section 2.1)."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from fusionkd.geometry.grid import BevGrid
from fusionkd.preprocess.cells import cell_of_points, take_kept
from fusionkd.preprocess.checks import checked_count, checked_points


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


@njit(cache=True, nogil=True)
def _open_pillars(cells: Any, num_cells: int, max_pillars: int) -> Any:
    """Pillar of each point (-1: none) and the cell of each pillar; changes nothing outside."""
    pillar_of_cell = np.full(num_cells, -1, np.int32)
    pillar_of_point = np.empty(len(cells), np.int32)
    cell_of_pillar = np.empty(min(num_cells, max_pillars, len(cells)), np.int32)
    pillars = 0
    for i in range(len(cells)):
        cell = cells[i]
        pillar = np.int32(-1)
        if cell >= 0:
            pillar = pillar_of_cell[cell]
            if pillar < 0 and pillars < max_pillars:
                pillar = np.int32(pillars)
                pillar_of_cell[cell] = pillar
                cell_of_pillar[pillars] = cell
                pillars += 1
        pillar_of_point[i] = pillar
    return pillar_of_point, cell_of_pillar[:pillars]


@njit(cache=True, nogil=True)
def _fill_pillars(points: Any, pillar_of_point: Any, num_pillars: int, max_points: int) -> Any:
    filled = np.zeros((num_pillars, max_points, points.shape[1]), np.float32)
    count = np.zeros(num_pillars, np.int64)
    for i in range(len(points)):
        pillar = pillar_of_point[i]
        if pillar >= 0 and count[pillar] < max_points:
            for c in range(points.shape[1]):
                filled[pillar, count[pillar], c] = points[i, c]
            count[pillar] += 1
    return filled, count


def hard_pillars(points: NDArray[np.float32], grid: BevGrid, *, max_points: int, max_pillars: int) -> Pillars:
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

    Returns:
        The pillars.

    Raises:
        ValueError: If ``points`` is not (P, 5) of floats or a limit is below 1.
    """
    points = checked_points(points, name="points")
    max_points = checked_count(max_points, name="max_points")
    max_pillars = checked_count(max_pillars, name="max_pillars")
    cells = cell_of_points(points, grid)
    pillar_of_point, cell_of_pillar = _open_pillars(cells, grid.rows * grid.columns, max_pillars)
    filled, count = _fill_pillars(points, pillar_of_point, len(cell_of_pillar), max_points)
    return Pillars(filled, count, _row_column(cell_of_pillar, grid))


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
    num_cells = grid.rows * grid.columns
    pillar_of_point, cell_of_pillar = _open_pillars(cell_of_points(points, grid), num_cells, num_cells)
    pillar_of_kept = pillar_of_point[pillar_of_point >= 0].astype(np.int64)
    return DynamicPillars(take_kept(points, pillar_of_point), pillar_of_kept, _row_column(cell_of_pillar, grid))


def _row_column(cells: NDArray[np.int32], grid: BevGrid) -> NDArray[np.int64]:
    return np.stack(np.divmod(cells.astype(np.int64), grid.columns), axis=1)  # (P, 2)
