import numpy as np
import pytest
from clouds import GRID, cell_by_numpy, clouds
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from fusionkd.preprocess import AGE_SCALE_S, bev_raster, raster_channels


def _by_numpy(points: NDArray[np.float32], z_slices: int, age_slices: int = 0) -> NDArray[np.float64]:
    raster = np.zeros((z_slices + 4 + age_slices, GRID.rows, GRID.columns))
    inside, cells = cell_by_numpy(points, GRID)
    height = (points[inside, 2] - np.float32(GRID.z_min_m)) / np.float32(GRID.z_max_m - GRID.z_min_m)
    layer = np.floor(height * np.float32(z_slices)).astype(np.int64)
    for cell in {tuple(c) for c in cells.tolist()}:
        members = np.all(cells == cell, axis=1)
        for k in range(z_slices):
            raster[(k, *cell)] = np.log1p(np.sum(members & (layer == k)))
        raster[(z_slices, *cell)] = height[members].max()
        raster[(z_slices + 1, *cell)] = points[inside][members, 3].mean(dtype=np.float64) / 255
        raster[(z_slices + 2, *cell)] = np.log1p(members.sum())
        raster[(z_slices + 3, *cell)] = points[inside][members, 4].mean(dtype=np.float64) / AGE_SCALE_S
        edges_s = np.append(np.arange(age_slices) * (AGE_SCALE_S / max(age_slices, 1)) - 0.025, np.inf)
        for k in range(age_slices):
            age_s = points[inside][members, 4]
            raster[(z_slices + 4 + k, *cell)] = np.log1p(np.sum((age_s >= edges_s[k]) & (age_s < edges_s[k + 1])))
    return raster


@given(points=clouds(), z_slices=st.sampled_from([1, 2, 4, 8]))
def test_raster_equals_a_restatement(points: NDArray[np.float32], z_slices: int) -> None:
    raster = bev_raster(points, GRID, z_slices=z_slices)
    assert raster.dtype == np.float32
    assert raster.shape == (raster_channels(z_slices), 6, 10)
    np.testing.assert_allclose(raster, _by_numpy(points, z_slices), rtol=1e-4, atol=1e-6)


@given(points=clouds(), age_slices=st.sampled_from([1, 2, 5]))
def test_age_slices_equal_a_restatement(points: NDArray[np.float32], age_slices: int) -> None:
    points[:, 4] = np.round(np.abs(points[:, 4]) % 1, 2)  # none on a border, where float32 and float64 differ
    raster = bev_raster(points, GRID, z_slices=2, age_slices=age_slices)
    assert raster.shape == (raster_channels(2, age_slices), 6, 10)
    np.testing.assert_allclose(raster, _by_numpy(points, 2, age_slices), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("age_s", "slot"), [(-3e38, 0), (-1.0, 0), (0.0, 0), (0.45, 4), (9.0, 4), (3e38, 4)])
def test_every_age_has_a_slice(age_s: float, slot: int) -> None:
    slices = bev_raster(np.array([[0.1, 0.1, 0, 9, age_s]], np.float32), GRID, z_slices=1, age_slices=5)[5:]
    assert np.flatnonzero(slices.any(axis=(1, 2))).tolist() == [slot]


def test_a_moving_object_is_elsewhere_in_each_age_slice() -> None:
    moving = np.array([[-1.4 + k, 0.1, 0, 9, 0.1 * k] for k in range(4)], np.float32)
    slices = bev_raster(moving, GRID, z_slices=1, age_slices=5)[5:]
    where = [np.argwhere(layer).tolist() for layer in slices]
    assert [len(cells) for cells in where] == [1, 1, 1, 1, 0]
    assert len({tuple(cells[0]) for cells in where[:4]}) == 4


@given(points=clouds(), seed=st.integers(0, 1000))
def test_the_order_of_the_points_does_not_matter(points: NDArray[np.float32], seed: int) -> None:
    shuffled = np.random.default_rng(seed).permutation(points)
    np.testing.assert_allclose(
        bev_raster(shuffled, GRID, z_slices=4), bev_raster(points, GRID, z_slices=4), rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize("column", range(5))
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_point_that_is_not_finite_leaves_no_trace(column: int, value: float) -> None:
    points = np.array([[1, 1, 1, 100, 0.1], [1, 1, 1, 50, 0.2]], np.float32)
    points[1, column] = value
    np.testing.assert_array_equal(bev_raster(points, GRID, z_slices=4), bev_raster(points[:1], GRID, z_slices=4))


def test_an_empty_cloud_is_all_zeros() -> None:
    assert not bev_raster(np.zeros((0, 5), np.float32), GRID, z_slices=3).any()


def test_an_older_trail_shows_in_the_age_channel() -> None:
    moving = np.array([[0.1, 0.1, 0, 9, 0.0], [1.0, 0.1, 0, 9, 0.1]], np.float32)
    age = bev_raster(moving, GRID, z_slices=1)[-1]
    assert age[3, 5] == 0
    assert age[3, 6] == pytest.approx(0.1 / AGE_SCALE_S)


@pytest.mark.parametrize("z_slices", [0, -2, 1.5])
def test_slices_below_one_are_refused(z_slices: int) -> None:
    with pytest.raises(ValueError, match="z_slices must be a whole number of at least 1, found"):
        bev_raster(np.zeros((1, 5), np.float32), GRID, z_slices=z_slices)
