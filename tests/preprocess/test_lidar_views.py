import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fusionkd.geometry import BevGrid
from fusionkd.preprocess.views import PillarView, mixed


@given(st.integers(0, 5000))
def test_mixing_loses_no_point_and_invents_none(count: int) -> None:
    points = np.arange(count * 5, dtype=np.float32).reshape(count, 5)
    again = mixed(points)
    np.testing.assert_array_equal(again[np.argsort(again[:, 0])], points)
    np.testing.assert_array_equal(again, mixed(points))


def test_every_stretch_of_mixed_points_holds_all_ages() -> None:
    sweeps = np.repeat(np.arange(10), 1000)
    points = np.zeros((len(sweeps), 5), np.float32)
    points[:, 4] = 0.05 * sweeps
    for stretch in np.split(mixed(points)[:, 4], 200):  # of 50 points
        assert np.unique(stretch).size == 10


def test_a_full_pillar_knows_of_older_sweeps_only_where_ages_are_mixed() -> None:
    points = np.tile(np.float32([0.1, 0.1, 0.5, 0.3, 0.0]), (400, 1))
    points[:, 4] = np.repeat(0.05 * np.arange(10), 40)
    grid = BevGrid(cell_m=0.4)
    plain = PillarView(grid=grid).make(points)["points"]
    mixture = PillarView(grid=grid, mix_ages=True).make(points)["points"]
    assert np.unique(np.asarray(plain)[0, :, 4]).size == 1
    assert np.unique(np.asarray(mixture)[0, :, 4]).size == 10
