import numpy as np
import pytest
import torch
from clouds import GRID, clouds
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from fusionkd.geometry import BevGrid
from fusionkd.preprocess import hard_pillars, mean_voxels


def _by_numpy(
    points: NDArray[np.float32], *, layers: int, max_points: int, max_voxels: int
) -> dict[tuple[int, int, int], NDArray[np.float32]]:
    """First points of each voxel by its (layer, row, column), in order of appearance."""
    low = np.array([GRID.x_min_m, GRID.y_min_m, GRID.z_min_m], np.float32)
    size = np.array([GRID.cell_m, GRID.cell_m, (GRID.z_max_m - GRID.z_min_m) / layers], np.float32)
    with np.errstate(all="ignore"):
        cell = np.floor((points[:, :3] - low) / size)
        inside = np.all((cell >= 0) & (cell < np.array([GRID.columns, GRID.rows, layers])), axis=1)
    voxels: dict[tuple[int, int, int], list[NDArray[np.float32]]] = {}
    for point, (column, row, layer) in zip(points[inside], cell[inside].astype(int).tolist()):
        if (layer, row, column) in voxels or len(voxels) < max_voxels:
            voxels.setdefault((layer, row, column), []).append(point)
    return {cell: np.stack(members[:max_points]) for cell, members in voxels.items()}


@given(points=clouds(), layers=st.integers(1, 5), max_points=st.integers(1, 5), max_voxels=st.integers(1, 6))
def test_voxels_equal_a_restatement(points: NDArray[np.float32], layers: int, max_points: int, max_voxels: int) -> None:
    expected = _by_numpy(points, layers=layers, max_points=max_points, max_voxels=max_voxels)
    found = mean_voxels(points, GRID, layers=layers, max_points=max_points, max_voxels=max_voxels)
    assert [tuple(cell) for cell in found.layer_row_column.tolist()] == list(expected)
    assert found.count.tolist() == [len(members) for members in expected.values()]
    for mean, members in zip(found.mean, expected.values()):
        # A few roundings of the largest number in the sum, which may be larger than the mean.
        atol = 4 * np.finfo(np.float32).eps * np.abs(members).max(axis=0)
        assert np.all(np.abs(mean - members.astype(np.float64).mean(axis=0)) <= atol + 1e-45)
    assert (found.mean.dtype, found.count.dtype, found.layer_row_column.dtype) == (np.float32, np.int64, np.int64)


@pytest.mark.parametrize(("cell_m", "layers"), [(0.8, 1), (0.1, 40)], ids=["a slot per cell", "a hash table"])
def test_voxels_equal_spconv(cell_m: float, layers: int) -> None:
    utils = pytest.importorskip("spconv.pytorch.utils", reason="spconv (the peers extra) is not installed")
    rng = np.random.default_rng(11)
    points = np.column_stack([rng.normal(0, 8, (20_000, 3)), rng.uniform(0, 255, (20_000, 2))]).astype(np.float32)
    voxelize = utils.PointToVoxel([cell_m, cell_m, 8.0 / layers], [-51.2, -51.2, -5.0, 51.2, 51.2, 3.0], 5, 20_000, 3)
    voxels, cells, count = voxelize(torch.from_numpy(points))
    found = mean_voxels(points, BevGrid(cell_m=cell_m), layers=layers, max_points=3, max_voxels=20_000)
    np.testing.assert_array_equal(found.layer_row_column, cells.numpy())
    np.testing.assert_array_equal(found.count, count.numpy())
    np.testing.assert_allclose(found.mean, voxels.numpy().sum(axis=1) / count.numpy()[:, None], rtol=1e-5, atol=1e-5)


def test_pillars_are_voxels_of_one_layer() -> None:
    rng = np.random.default_rng(3)
    points = np.column_stack([rng.uniform(-4, 4, (5000, 3)), rng.uniform(0, 1, (5000, 2))]).astype(np.float32)
    pillars = hard_pillars(points, GRID, max_points=7, max_pillars=40)
    voxels = mean_voxels(points, GRID, max_points=7, max_voxels=40)
    np.testing.assert_array_equal(voxels.layer_row_column[:, 1:], pillars.row_column)
    np.testing.assert_array_equal(voxels.count, pillars.count)
    np.testing.assert_allclose(voxels.mean, pillars.points.sum(axis=1) / pillars.count[:, None], rtol=1e-5, atol=1e-5)


def test_two_million_points_in_one_voxel_have_their_mean() -> None:
    points = np.tile(np.array([[0.125, 0.25, 0.5, 1, 0]], np.float32), (2_000_000, 1))
    voxels = mean_voxels(points, GRID, max_points=2_000_000, max_voxels=10)
    np.testing.assert_array_equal(voxels.count, [2_000_000])
    np.testing.assert_array_equal(voxels.mean, points[:1])  # sums of these powers of two are exact


def test_no_points_have_no_voxels() -> None:
    voxels = mean_voxels(np.zeros((0, 5), np.float32), GRID, layers=3, max_points=2, max_voxels=4)
    assert (voxels.mean.shape, voxels.count.shape, voxels.layer_row_column.shape) == ((0, 5), (0,), (0, 3))


def test_a_grid_of_too_many_cells_is_refused() -> None:
    with pytest.raises(ValueError, match=r"at most 2147483647 cells, found 1024 rows x 1024 columns x 4096 layers"):
        mean_voxels(np.zeros((1, 5), np.float32), BevGrid(cell_m=0.1), layers=4096, max_points=2, max_voxels=4)


@pytest.mark.parametrize("name", ["layers", "max_points", "max_voxels"])
def test_a_limit_below_one_is_named(name: str) -> None:
    limits = {"layers": 1, "max_points": 20, "max_voxels": 10, name: 0}
    with pytest.raises(ValueError, match=f"{name} must be a whole number of at least 1, found 0"):
        mean_voxels(np.zeros((1, 5), np.float32), GRID, **limits)
