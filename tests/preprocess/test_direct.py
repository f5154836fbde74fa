from typing import Any

import numpy as np
import pytest
from clouds import GRID, clouds
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from fusionkd.geometry import rigid_from_yaw
from fusionkd.preprocess import (
    PillarBuffer,
    bev_raster,
    fuse_sweeps,
    hard_pillars,
    pillars_of_sweeps,
    raster_of_sweeps,
)


def _motion(sweeps: int) -> dict[str, Any]:
    poses = [rigid_from_yaw(0.05 * k, [0.3 * k, 0.1, 0.0]) for k in range(sweeps)]
    return {"key_from_sweep": np.stack(poses), "age_s": 0.05 * np.arange(sweeps)}


def _large() -> list[NDArray[np.float32]]:
    """Sweeps longer than a block, most of whose points lie on the grid."""
    rng = np.random.default_rng(2)
    return [
        np.column_stack([rng.normal(0, 2, (n, 3)), rng.uniform(0, 255, (n, 2))]).astype(np.float32)
        for n in (3000, 1024, 1, 1025)
    ]


@given(sweeps=st.lists(clouds(), min_size=1, max_size=4), most=st.integers(1, 12), near=st.sampled_from([0.0, 0.3]))
def test_pillars_equal_those_of_the_fused_cloud(sweeps: list[NDArray[np.float32]], most: int, near: float) -> None:
    motion = {**_motion(len(sweeps)), "min_distance_m": near}
    expected = hard_pillars(fuse_sweeps(sweeps, **motion), GRID, max_points=3, max_pillars=most)
    buffer = PillarBuffer(max_points=3, max_pillars=most)
    for _ in range(2):
        found = pillars_of_sweeps(sweeps, GRID, max_points=3, max_pillars=most, out=buffer, **motion)
        np.testing.assert_array_equal(found.points, expected.points)
        np.testing.assert_array_equal(found.count, expected.count)
        np.testing.assert_array_equal(found.row_column, expected.row_column)


@given(sweeps=st.lists(clouds(), min_size=1, max_size=4), ages=st.sampled_from([0, 3]))
def test_a_raster_equals_that_of_the_fused_cloud(sweeps: list[NDArray[np.float32]], ages: int) -> None:
    motion = _motion(len(sweeps))
    expected = bev_raster(fuse_sweeps(sweeps, **motion), GRID, z_slices=4, age_slices=ages)
    np.testing.assert_array_equal(raster_of_sweeps(sweeps, GRID, z_slices=4, age_slices=ages, **motion), expected)


def test_sweeps_of_many_blocks_give_the_same() -> None:
    sweeps = _large()
    motion = _motion(len(sweeps))
    fused = fuse_sweeps(sweeps, **motion)
    pillars = hard_pillars(fused, GRID, max_points=5, max_pillars=60)
    found = pillars_of_sweeps(sweeps, GRID, max_points=5, max_pillars=60, **motion)
    assert len(found) > 10
    np.testing.assert_array_equal(found.points, pillars.points)
    np.testing.assert_array_equal(
        raster_of_sweeps(sweeps, GRID, z_slices=4, **motion), bev_raster(fused, GRID, z_slices=4)
    )


@pytest.mark.parametrize("columns", [4, 5])
def test_points_that_are_not_finite_or_too_near_are_left_out_wherever_they_stand(columns: int) -> None:
    rng = np.random.default_rng(3)
    sweep = rng.uniform(-3, 3, (1027, columns)).astype(np.float32)
    for k, value in enumerate([np.nan, np.inf, -np.inf]):
        for column in range(4):
            sweep[[100 + 4 * k + column, 1023 - 4 * k - column], column] = value
    sweep[-1, 3], sweep[-2, :2], sweep[-3, :2] = np.inf, [0.2, -0.3], [0.2, -2.0]
    motion = {**_motion(1), "min_distance_m": 1.0}
    expected = hard_pillars(fuse_sweeps([sweep], **motion), GRID, max_points=40, max_pillars=60)
    found = pillars_of_sweeps([sweep], GRID, max_points=40, max_pillars=60, **motion)
    np.testing.assert_array_equal(found.points, expected.points)
    np.testing.assert_array_equal(found.count, expected.count)


def test_no_sweeps_give_nothing() -> None:
    motion = {"key_from_sweep": np.zeros((0, 4, 4)), "age_s": np.zeros(0)}
    assert len(pillars_of_sweeps([], GRID, max_points=3, max_pillars=4, **motion)) == 0
    assert not raster_of_sweeps([], GRID, z_slices=4, **motion).any()


def test_a_transform_too_few_is_named() -> None:
    with pytest.raises(ValueError, match=r"key_from_sweep must have shape \(4, 4, 4\), found \(3, 4, 4\)"):
        raster_of_sweeps(_large(), GRID, z_slices=4, **_motion(3))
