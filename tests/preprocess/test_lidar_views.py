import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from fusionkd.geometry import BevGrid
from fusionkd.preprocess import hard_pillars
from fusionkd.preprocess.mixing import mixed_pillars, mixing_step
from fusionkd.preprocess.views import PillarView


def mixed(points: NDArray[np.float32]) -> NDArray[np.float32]:
    """The mixed order by NumPy, as a copy of the points."""
    return points[np.arange(len(points), dtype=np.int64) * mixing_step(len(points)) % max(len(points), 1)]


@given(st.integers(0, 5000))
def test_mixing_visits_each_point_once(count: int) -> None:
    points = np.arange(count * 5, dtype=np.float32).reshape(count, 5)
    again = mixed(points)
    np.testing.assert_array_equal(again[np.argsort(again[:, 0])], points)


def test_every_stretch_of_mixed_points_holds_all_ages() -> None:
    sweeps = np.repeat(np.arange(10), 1000)
    points = np.zeros((len(sweeps), 5), np.float32)
    points[:, 4] = 0.05 * sweeps
    for stretch in np.split(mixed(points)[:, 4], 200):  # of 50 points
        assert np.unique(stretch).size == 10


@pytest.mark.parametrize("count", [0, 1, 2, 1023, 1024, 1025, 30_000])
def test_mixed_pillars_are_the_pillars_of_mixed_points(count: int) -> None:
    points = np.random.default_rng(count).uniform(-60, 60, (count, 5)).astype(np.float32)
    points[::7, 1] = np.nan
    grid, limits = BevGrid(cell_m=1.6), {"max_points": 3, "max_pillars": 2000}
    found, expected = mixed_pillars(points, grid, **limits), hard_pillars(mixed(points), grid, **limits)
    for part in ("points", "count", "row_column"):
        np.testing.assert_array_equal(getattr(found, part), getattr(expected, part))


def test_a_full_pillar_knows_of_older_sweeps_only_where_ages_are_mixed() -> None:
    points = np.tile(np.float32([0.1, 0.1, 0.5, 0.3, 0.0]), (400, 1))
    points[:, 4] = np.repeat(0.05 * np.arange(10), 40)
    grid = BevGrid(cell_m=0.4)
    plain = PillarView(grid=grid).make(points)["points"]
    mixture = PillarView(grid=grid, mix_ages=True).make(points)["points"]
    assert np.unique(np.asarray(plain)[0, :, 4]).size == 1
    assert np.unique(np.asarray(mixture)[0, :, 4]).size == 10
