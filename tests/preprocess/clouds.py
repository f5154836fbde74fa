"""Point clouds that hypothesis draws: anywhere, on cell borders, all in one cell, not finite, none."""

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from fusionkd.geometry import BevGrid

GRID = BevGrid(x_min_m=-4.0, x_max_m=4.0, y_min_m=-2.4, y_max_m=2.4, cell_m=0.8, z_min_m=-1.0, z_max_m=3.0)
"""Oblong, so that rows and columns can't be confused: 6 rows, 10 columns."""


def _coordinate(low: float, high: float, cell: float) -> st.SearchStrategy[float]:
    borders = [float(np.float32(low + k * cell)) for k in range(round((high - low) / cell) + 1)]
    nearly = [float(np.nextafter(np.float32(b), np.float32(side))) for b in borders for side in (-1e9, 1e9)]
    return st.one_of(
        st.floats(float(np.float32(low - 1)), float(np.float32(high + 1)), width=32),
        st.floats(0.125, 0.375, width=32),
        st.sampled_from(borders + nearly),
        st.sampled_from([float("nan"), float("inf"), float("-inf"), 3e38]),
    )


@st.composite
def clouds(draw: st.DrawFn, *, max_points: int = 60) -> NDArray[np.float32]:
    """(P, 5) float32 points on, off and on the borders of ``GRID``, some of them not finite."""
    row = st.tuples(
        _coordinate(GRID.x_min_m, GRID.x_max_m, GRID.cell_m),
        _coordinate(GRID.y_min_m, GRID.y_max_m, GRID.cell_m),
        _coordinate(GRID.z_min_m, GRID.z_max_m, 1.0),
        st.floats(0, 255, width=32),
        st.floats(0, 0.5, width=32),
    )
    rows = draw(st.lists(row, max_size=max_points))
    return np.array(rows, np.float32).reshape(-1, 5)


def cell_by_numpy(points: NDArray[np.float32], grid: BevGrid) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """The float32 rule in plain NumPy: which points are on the grid, and their (row, column)."""
    low = np.array([grid.x_min_m, grid.y_min_m, grid.z_min_m], np.float32)
    size = np.array([grid.cell_m, grid.cell_m, grid.z_max_m - grid.z_min_m], np.float32)
    with np.errstate(all="ignore"):
        cell = np.floor((points[:, :3] - low) / size)
        inside = np.all((cell >= 0) & (cell < np.array([grid.columns, grid.rows, 1])), axis=1)
    return inside, cell[inside][:, [1, 0]].astype(np.int64)
