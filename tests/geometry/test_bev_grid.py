from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusionkd.geometry import BevGrid


@st.composite
def grids(draw: st.DrawFn) -> BevGrid:
    cell_m = draw(st.sampled_from([0.1, 0.2, 0.32, 0.4, 0.8, 1.0]))
    x, y = draw(st.floats(-60, 60)), draw(st.floats(-60, 60))
    columns, rows = draw(st.integers(1, 300)), draw(st.integers(1, 300))
    return BevGrid(x, x + columns * cell_m, y, y + rows * cell_m, cell_m)


def test_the_default_is_the_heads_grid() -> None:
    assert BevGrid().shape == (128, 128)
    assert BevGrid().with_cell(0.4).shape == (256, 256)
    assert BevGrid(cell_m=0.2).shape == (512, 512)


def test_rows_are_along_y_and_columns_along_x() -> None:
    grid = BevGrid(x_min_m=-10, x_max_m=30, y_min_m=-5, y_max_m=5, cell_m=0.5)
    assert (grid.rows, grid.columns) == grid.shape == (20, 80)
    np.testing.assert_allclose(grid.cell_from_metre([-10, 5]), [0, 20])
    np.testing.assert_allclose(grid.metre_from_cell([0.5, 0.5]), [-9.75, -4.75])


@given(grid=grids(), seed=st.integers(0, 1000))
def test_cells_and_metres_round_trip(grid: BevGrid, seed: int) -> None:
    cells = np.random.default_rng(seed).uniform(-5, 305, (4, 7, 2))
    metres = grid.metre_from_cell(cells)
    np.testing.assert_allclose(grid.cell_from_metre(metres), cells, atol=1e-9)
    np.testing.assert_allclose((metres[..., 0] - grid.x_min_m) / grid.cell_m, cells[..., 0], atol=1e-9)


@given(grid=grids(), seed=st.integers(0, 1000))
def test_a_position_is_on_the_grid_where_its_cell_is(grid: BevGrid, seed: int) -> None:
    cells = np.random.default_rng(seed).uniform(-5, 305, (50, 2))
    expected = np.all((cells >= 0) & (cells < [grid.columns, grid.rows]), axis=1)
    np.testing.assert_array_equal(grid.contains(grid.metre_from_cell(cells)), expected)


def test_lower_borders_are_on_the_grid_and_upper_ones_are_not() -> None:
    grid = BevGrid()
    assert grid.contains([-51.2, -51.2])
    assert not grid.contains([[51.2, 0], [0, 51.2], [np.nan, 0], [np.inf, 0]]).any()


@given(grid=grids())
def test_another_cell_size_keeps_the_range(grid: BevGrid) -> None:
    finer = grid.with_cell(grid.cell_m / 2)
    assert finer.shape == (2 * grid.rows, 2 * grid.columns)
    assert (finer.x_min_m, finer.y_max_m, finer.z_min_m) == (grid.x_min_m, grid.y_max_m, grid.z_min_m)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cell_m": 0.0}, "BevGrid.cell_m must be positive, found 0.0"),
        ({"cell_m": -0.8}, "BevGrid.cell_m must be positive, found -0.8"),
        ({"cell_m": float("nan")}, "BevGrid.cell_m must be a finite number, found nan"),
        ({"x_max_m": float("inf")}, "BevGrid.x_max_m must be a finite number, found inf"),
        ({"x_min_m": 51.2}, "BevGrid.x_min_m must be below x_max_m, found 51.2 and 51.2"),
        ({"y_max_m": -60.0}, "BevGrid.y_min_m must be below y_max_m, found -51.2 and -60.0"),
        ({"z_min_m": 3.0}, "BevGrid.z_min_m must be below z_max_m, found 3.0 and 3.0"),
        ({"cell_m": 0.7}, "x range must be a whole number of cells, found 146.2857 cells of 0.7 m"),
        ({"y_max_m": 51.5}, "y range must be a whole number of cells, found 128.3750 cells"),
    ],
)
def test_a_grid_that_cannot_be_is_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BevGrid(**change)
