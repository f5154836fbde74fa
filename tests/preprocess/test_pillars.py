import importlib.util
import zlib
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from clouds import GRID, cell_by_numpy, clouds
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from fusionkd.geometry import BevGrid
from fusionkd.preprocess import dynamic_pillars, hard_pillars

PEER_GRID = BevGrid(cell_m=0.2)
CASES = ("real", "synthetic", "dense_voxels_only")


def _make_weights(shared_parity: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_weights", shared_parity / "make_weights.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _by_numpy(
    points: NDArray[np.float32], *, max_points: int, max_pillars: int
) -> tuple[NDArray[np.float32], list[int], list[tuple[int, int]]]:
    """Hard pillars restated with a dict: slow, and readable beside the rule."""
    inside, cells = cell_by_numpy(points, GRID)
    pillars: dict[tuple[int, int], list[NDArray[np.float32]]] = {}
    for point, (row, column) in zip(points[inside], cells.tolist()):
        if (row, column) not in pillars and len(pillars) == max_pillars:
            continue
        pillars.setdefault((row, column), []).append(point)
    kept = [members[:max_points] for members in pillars.values()]
    padded = np.zeros((len(kept), max_points, 5), np.float32)
    for k, members in enumerate(kept):
        padded[k, : len(members)] = members
    return padded, [len(members) for members in kept], list(pillars)


@pytest.mark.parametrize("case", CASES)
def test_hard_pillars_equal_mmdetection3d_bit_for_bit(shared_parity: Path, case: str) -> None:
    peer = _make_weights(shared_parity)
    spec = peer.load_spec(str(shared_parity / "centerpoint_pillar"))
    expected = spec["cases"][case]["voxelisation"]
    points = peer.make_input(spec, case)["points"]
    pillars = hard_pillars(points, PEER_GRID, max_points=20, max_pillars=40000)
    coors = np.zeros((len(pillars), 4), np.int32)  # batch, z, y, x
    coors[:, 2:] = pillars.row_column
    assert len(pillars) == expected["num_pillars"]
    assert zlib.crc32(coors.tobytes()) == expected["coors_crc32"]
    assert zlib.crc32(pillars.count.astype(np.int32).tobytes()) == expected["num_points_crc32"]
    assert zlib.crc32(pillars.points.tobytes()) == expected["voxels_crc32"]


def test_hard_pillars_equal_spconv() -> None:
    utils = pytest.importorskip("spconv.pytorch.utils", reason="spconv (the peers extra) is not installed")
    rng = np.random.default_rng(11)
    points = np.column_stack([rng.normal(0, 20, (20_000, 3)), rng.uniform(0, 255, (20_000, 2))]).astype(np.float32)
    voxelize = utils.PointToVoxel([0.8, 0.8, 8.0], [-51.2, -51.2, -5.0, 51.2, 51.2, 3.0], 5, 20_000, 3)
    voxels, cells, count = voxelize(torch.from_numpy(points))
    found = hard_pillars(points, BevGrid(cell_m=0.8), max_points=3, max_pillars=20_000)
    assert count.max() == 3
    np.testing.assert_array_equal(found.points, voxels.numpy())
    np.testing.assert_array_equal(found.count, count.numpy())
    np.testing.assert_array_equal(found.row_column, cells.numpy()[:, 1:])


@given(points=clouds(), max_points=st.integers(1, 5), max_pillars=st.integers(1, 6))
def test_hard_pillars_equal_a_restatement(points: NDArray[np.float32], max_points: int, max_pillars: int) -> None:
    found = hard_pillars(points, GRID, max_points=max_points, max_pillars=max_pillars)
    padded, count, cells = _by_numpy(points, max_points=max_points, max_pillars=max_pillars)
    np.testing.assert_array_equal(found.points, padded)
    np.testing.assert_array_equal(found.count, count)
    np.testing.assert_array_equal(found.row_column, np.array(cells, np.int64).reshape(-1, 2))
    assert (found.points.dtype, found.count.dtype, found.row_column.dtype) == (np.float32, np.int64, np.int64)


@given(points=clouds())
def test_dynamic_pillars_know_the_cell_of_every_point_on_the_grid(points: NDArray[np.float32]) -> None:
    inside, cells = cell_by_numpy(points, GRID)
    found = dynamic_pillars(points, GRID)
    np.testing.assert_array_equal(found.points, points[inside])
    np.testing.assert_array_equal(found.row_column[found.pillar_of_point], cells)
    # No cell twice, none empty, numbered by first appearance.
    assert len({tuple(cell) for cell in found.row_column.tolist()}) == len(found)
    _, first = np.unique(found.pillar_of_point, return_index=True)
    assert len(first) == len(found)
    assert np.all(np.diff(first) > 0)


def test_points_of_an_open_pillar_are_taken_after_the_last_pillar_opened() -> None:
    points = np.array([[0.1, 0.1, 0, 1, 0], [1.0, 0.1, 0, 2, 0], [0.2, 0.1, 0, 3, 0]], np.float32)
    pillars = hard_pillars(points, GRID, max_points=4, max_pillars=1)
    np.testing.assert_array_equal(pillars.count, [2])
    np.testing.assert_array_equal(pillars.points[0, :, 3], [1, 3, 0, 0])


def test_two_million_points_in_one_cell_fill_one_pillar() -> None:
    points = np.tile(np.array([[0.1, 0.1, 0.5, 9, 0]], np.float32), (2_000_000, 1))
    points[:, 3] = np.arange(len(points)) % 256
    pillars = hard_pillars(points, GRID, max_points=20, max_pillars=10)
    np.testing.assert_array_equal(pillars.count, [20])
    np.testing.assert_array_equal(pillars.points[0], points[:20])


def test_an_empty_cloud_has_no_pillars() -> None:
    empty = np.zeros((0, 5), np.float32)
    assert hard_pillars(empty, GRID, max_points=20, max_pillars=10).points.shape == (0, 20, 5)
    assert hard_pillars(empty, GRID, max_points=20, max_pillars=10).row_column.shape == (0, 2)
    assert dynamic_pillars(empty, GRID).points.shape == (0, 5)
    assert dynamic_pillars(empty, GRID).row_column.shape == (0, 2)


@pytest.mark.parametrize("name", ["max_points", "max_pillars"])
@pytest.mark.parametrize("value", [0, -1, 2.0, True])
def test_a_limit_below_one_is_refused(name: str, value: object) -> None:
    limits = {"max_points": 20, "max_pillars": 10, name: value}
    with pytest.raises(ValueError, match=f"{name} must be a whole number of at least 1, found"):
        hard_pillars(np.zeros((1, 5), np.float32), GRID, **limits)  # type: ignore[arg-type]
