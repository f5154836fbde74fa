import numpy as np
import pytest
from clouds import GRID, cell_by_numpy, clouds
from hypothesis import given
from numpy.typing import NDArray

from fusionkd.geometry import BevGrid
from fusionkd.preprocess import bev_raster, crop_to_grid, dynamic_pillars, hard_pillars


@given(points=clouds())
def test_crop_keeps_the_points_of_the_float32_rule_in_order(points: NDArray[np.float32]) -> None:
    inside, _ = cell_by_numpy(points, GRID)
    np.testing.assert_array_equal(crop_to_grid(points, GRID), points[inside])


@given(points=clouds())
def test_crop_pillars_and_raster_agree_on_who_is_on_the_grid(points: NDArray[np.float32]) -> None:
    cropped = crop_to_grid(points, GRID)
    np.testing.assert_array_equal(dynamic_pillars(points, GRID).points, cropped)
    whole = hard_pillars(points, GRID, max_points=100, max_pillars=100)
    assert whole.count.sum() == len(cropped)
    density = np.expm1(bev_raster(points, GRID, z_slices=1)[3])
    assert density.sum() == pytest.approx(len(cropped), rel=1e-5)


def test_lower_borders_count_and_upper_ones_do_not() -> None:
    corners = np.array([[-4, -2.4, -1, 0, 0], [4, 0, 0, 0, 0], [0, 2.4, 0, 0, 0], [0, 0, 3, 0, 0]], np.float32)
    np.testing.assert_array_equal(crop_to_grid(corners, GRID), corners[:1])


def test_rows_run_along_y() -> None:
    pillars = dynamic_pillars(np.array([[3.9, -2.3, 0, 1, 0], [-3.9, 2.3, 0, 1, 0]], np.float32), GRID)
    np.testing.assert_array_equal(pillars.row_column, [[0, 9], [5, 0]])


def test_grid_and_kernel_name_the_same_cell_in_the_middle_of_cells() -> None:
    grid = BevGrid(cell_m=0.4)
    cells = np.array([(c + 0.5, r + 0.5) for r in range(0, 256, 5) for c in range(0, 256, 7)])
    points = np.zeros((len(cells), 5), np.float32)
    points[:, :2] = grid.metre_from_cell(cells)
    np.testing.assert_array_equal(dynamic_pillars(points, grid).row_column, np.floor(cells[:, ::-1]))


def test_crop_keeps_further_columns_and_leaves_its_input_alone() -> None:
    points = np.array([[9, 0, 0, 7], [1, 1, 1, 5]], np.float32)
    before = points.copy()
    cropped = crop_to_grid(points, GRID)
    cropped[:] = -1
    np.testing.assert_array_equal(points, before)
    assert cropped.shape == (1, 4)
