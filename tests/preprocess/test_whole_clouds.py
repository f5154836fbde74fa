import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from fusionkd.preprocess.clouds import moved_points, younger


def cloud(ages: list[float]) -> NDArray[np.float32]:
    points = np.arange(len(ages) * 5, dtype=np.float32).reshape(-1, 5)
    points[:, 4] = ages
    return points


@given(st.lists(st.sampled_from([0.0, 0.05, 0.1, 0.12, 0.15, np.nan, np.inf]), max_size=40))
def test_the_young_are_those_that_numpy_takes(ages: list[float]) -> None:
    points = cloud(ages)
    kept = points.copy()
    np.testing.assert_array_equal(younger(points, 0.12), points[points[:, 4] <= np.float32(0.12)])
    np.testing.assert_array_equal(points, kept)


def test_sweeps_in_order_are_not_copied() -> None:
    points = cloud([0.0] * 5 + [0.05] * 7 + [0.1] * 3)
    assert np.shares_memory(younger(points, 0.05), points)
    assert len(younger(points, 0.05)) == 12
    assert np.shares_memory(younger(points, 1.0), points)


def test_moved_points_are_those_of_numpy_column_by_column() -> None:
    rng = np.random.default_rng(0)
    points = rng.uniform(-50, 50, (3000, 5)).astype(np.float32)
    matrix = np.eye(4)
    matrix[:3] = rng.uniform(-2, 2, (3, 4))
    expected, (x, y, z) = points.copy(), points[:, :3].T
    for axis, (a, b, c, shift) in enumerate(matrix[:3].astype(np.float32)):
        expected[:, axis] = a * x + b * y + c * z + shift
    np.testing.assert_array_equal(moved_points(points, matrix), expected)


@pytest.mark.parametrize("columns", [3, 6])
def test_clouds_of_other_columns_are_refused(columns: int) -> None:
    points = np.zeros((4, columns), np.float32)
    with pytest.raises(ValueError, match=r"points must have shape \(points, 5 columns\)"):
        younger(points, 0.1)
    with pytest.raises(ValueError, match=r"points must have shape \(points, 5 columns\)"):
        moved_points(points, np.eye(4))
