from collections.abc import Sequence

import numpy as np
import pytest
from clouds import GRID, clouds
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from fusionkd.geometry import BevGrid
from fusionkd.preprocess import PillarBuffer, Pillars, hard_pillars


def _equal(found: Pillars, expected: Pillars) -> None:
    np.testing.assert_array_equal(found.points, expected.points)
    np.testing.assert_array_equal(found.count, expected.count)
    np.testing.assert_array_equal(found.row_column, expected.row_column)


@given(frames=st.lists(clouds(), min_size=2, max_size=5))
def test_a_buffer_forgets_the_frame_before(frames: Sequence[NDArray[np.float32]]) -> None:
    buffer = PillarBuffer(max_points=3, max_pillars=8)
    for points in frames:
        _equal(
            hard_pillars(points, GRID, max_points=3, max_pillars=8, out=buffer),
            hard_pillars(points, GRID, max_points=3, max_pillars=8),
        )


def test_a_buffer_serves_grids_of_any_size() -> None:
    rng = np.random.default_rng(0)
    points = np.column_stack([rng.uniform(-4, 4, (500, 3)), rng.uniform(0, 1, (500, 2))]).astype(np.float32)
    buffer = PillarBuffer(max_points=3, max_pillars=500)
    for grid in (GRID, BevGrid(cell_m=0.2), GRID):
        _equal(
            hard_pillars(points, grid, max_points=3, max_pillars=200, out=buffer),
            hard_pillars(points, grid, max_points=3, max_pillars=200),
        )


def test_a_buffers_pillars_lie_in_its_memory() -> None:
    points = np.array([[0.1, 0.1, 0, 1, 0]], np.float32)
    buffer = PillarBuffer(max_points=2, max_pillars=4)
    first = hard_pillars(points, GRID, max_points=2, max_pillars=4, out=buffer)
    second = hard_pillars(points, GRID, max_points=2, max_pillars=4, out=buffer)
    assert np.shares_memory(first.points, second.points)
    fresh = hard_pillars(points, GRID, max_points=2, max_pillars=4)
    assert not np.shares_memory(fresh.points, hard_pillars(points, GRID, max_points=2, max_pillars=4).points)


@pytest.mark.parametrize(("max_points", "max_pillars"), [(3, 4), (2, 5)])
def test_a_buffer_that_does_not_fit_is_refused(max_points: int, max_pillars: int) -> None:
    points = np.array([[0.8 * k + 0.1, 0.1, 0, 1, 0] for k in range(5)], np.float32)
    buffer = PillarBuffer(max_points=2, max_pillars=4)
    with pytest.raises(ValueError, match=r"out holds 4 pillars of 2 points; .* are wanted"):
        hard_pillars(points, GRID, max_points=max_points, max_pillars=max_pillars, out=buffer)
