from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from nuscenes.utils.data_classes import LidarPointCloud
from nuscenes.utils.geometry_utils import transform_matrix
from pyquaternion import Quaternion

from fusionkd.geometry import invert_rigid, rigid_from_quaternion
from fusionkd.preprocess import fuse_sweeps

LIDAR_POSE = ([0.94, 0.0, 1.84], [0.70675, -0.01170, 0.01057, -0.70729])
TOLERANCE_M = 2e-5


class _Tables:
    """As much of ``nuscenes.NuScenes`` as the devkit's sweep loader asks for, around files of its own."""

    def __init__(self, root: Path, sweeps: list[NDArray[np.float32]], poses: list[Any], times_us: list[int]) -> None:
        self.dataroot = str(root)
        self.rows: dict[tuple[str, str], Any] = {
            ("calibrated_sensor", "lidar"): {"translation": LIDAR_POSE[0], "rotation": LIDAR_POSE[1]}
        }
        for k, (sweep, (translation, rotation), time_us) in enumerate(zip(sweeps, poses, times_us)):
            sweep.tofile(root / f"{k}.pcd.bin")
            self.rows["ego_pose", f"pose{k}"] = {"translation": translation, "rotation": rotation}
            self.rows["sample_data", f"sweep{k}"] = {
                "filename": f"{k}.pcd.bin",
                "timestamp": time_us,
                "ego_pose_token": f"pose{k}",
                "calibrated_sensor_token": "lidar",
                "prev": f"sweep{k + 1}" if k + 1 < len(sweeps) else "",
            }

    def get(self, table: str, token: str) -> Any:
        return self.rows[table, token]


def _sweep(rng: np.random.Generator, points: int) -> NDArray[np.float32]:
    xyz = rng.normal(0, [15, 15, 1.5], (points, 3))
    xyz[: points // 10] = rng.uniform(-1.3, 1.3, (points // 10, 3))  # around the border of the car's own returns
    return np.column_stack([xyz, rng.uniform(0, 255, points), rng.integers(0, 32, points)]).astype(np.float32)


def test_fusion_equals_the_devkit(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    sweeps = [_sweep(rng, n) for n in (900, 1000, 1100, 0, 800)]
    # Real poses are global: x and y of some hundred metres, and not quite upright.
    turns = [Quaternion(axis=[0.01 * k, 0.02, 1], angle=1.9 - 0.03 * k) for k in range(5)]
    poses = [([411.3 - 0.5 * k, 1180.9 + 0.2 * k, 0.01 * k], q.elements.tolist()) for k, q in enumerate(turns)]
    times_us = [1_532_402_927_647_951 - 50_113 * k for k in range(5)]
    tables = _Tables(tmp_path, sweeps, poses, times_us)
    expected, expected_age = LidarPointCloud.from_file_multisweep(
        tables, {"data": {"LIDAR_TOP": "sweep0"}}, "LIDAR_TOP", "LIDAR_TOP", nsweeps=10
    )
    ego_from_lidar = rigid_from_quaternion(LIDAR_POSE[1], LIDAR_POSE[0])
    # The devkit joins sweeps in the LiDAR frame of the keyframe, we in its ego frame.
    expected.transform(transform_matrix(LIDAR_POSE[0], Quaternion(LIDAR_POSE[1])))
    global_from_ego = [rigid_from_quaternion(q, t) for t, q in poses]
    found = fuse_sweeps(
        sweeps,
        key_from_sweep=np.stack([invert_rigid(global_from_ego[0]) @ pose @ ego_from_lidar for pose in global_from_ego]),
        age_s=(times_us[0] - np.array(times_us)) * 1e-6,
    )
    assert found.dtype == np.float32
    assert len(found) == expected.nbr_points() < sum(map(len, sweeps))
    np.testing.assert_allclose(found[:, :3], expected.points[:3].T, rtol=0, atol=TOLERANCE_M)
    np.testing.assert_array_equal(found[:, 3], expected.points[3])
    np.testing.assert_allclose(found[:, 4], expected_age[0], rtol=0, atol=1e-6)


def test_a_real_keyframe_equals_the_devkit(shared_data: Path) -> None:
    root = shared_data / "nuscenes-real"
    for path in sorted((root / "samples" / "LIDAR_TOP").iterdir()):
        expected = LidarPointCloud.from_file(str(path))
        expected.remove_close(1.0)
        expected.transform(transform_matrix(LIDAR_POSE[0], Quaternion(LIDAR_POSE[1])))
        found = fuse_sweeps(
            [np.fromfile(path, np.float32).reshape(-1, 5)],
            key_from_sweep=rigid_from_quaternion(LIDAR_POSE[1], LIDAR_POSE[0])[None],
            age_s=[0.0],
        )
        np.testing.assert_allclose(found[:, :4], expected.points.T, rtol=0, atol=TOLERANCE_M)
        assert not found[:, 4].any()


def test_a_standing_wall_stays_in_place_while_the_car_drives() -> None:
    wall = np.array([[20.0, y, 0.0, 30.0] for y in np.linspace(-3, 3, 7)], np.float32)
    driven = [0.0, 0.7, 1.4]
    seen = [wall + np.array([d, 0, 0, 0], np.float32) for d in driven]
    key_from_sweep = np.tile(np.eye(4), (3, 1, 1))
    key_from_sweep[:, 0, 3] = -np.array(driven)
    fused = fuse_sweeps(seen, key_from_sweep=key_from_sweep, age_s=[0, 0.05, 0.1]).reshape(3, 7, 5)
    for sweep in fused:
        np.testing.assert_allclose(sweep[:, :3], wall[:, :3], atol=TOLERANCE_M)
    np.testing.assert_allclose(fused[:, 0, 4], [0, 0.05, 0.1], rtol=1e-6)


NEAR = st.one_of(st.floats(-3, 3, width=32), st.sampled_from([-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0]))


@given(xy=st.lists(st.tuples(NEAR, NEAR), max_size=30), radius=st.sampled_from([0.0, 0.5, 1.0, 2.0]))
def test_near_points_go_as_in_the_devkit(xy: list[tuple[float, float]], radius: float) -> None:
    sweep = np.zeros((len(xy), 4), np.float32)
    sweep[:, :2] = np.array(xy, np.float32).reshape(-1, 2)
    expected = LidarPointCloud(sweep.T.copy())
    expected.remove_close(radius)
    found = fuse_sweeps([sweep], key_from_sweep=np.eye(4)[None], age_s=[0.0], min_distance_m=radius)
    np.testing.assert_array_equal(found[:, :4], expected.points.T)


@pytest.mark.parametrize("column", range(4))
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_points_that_are_not_finite_are_dropped(column: int, value: float) -> None:
    sweep = np.array([[5, 5, 1, 10, 0], [6, 6, 1, 20, 0], [7, 7, 1, 30, 0]], np.float32)
    sweep[1, column] = value
    fused = fuse_sweeps([sweep], key_from_sweep=np.eye(4)[None], age_s=[0.0])
    np.testing.assert_array_equal(fused[:, 3], [10, 30])


def test_no_sweep_and_empty_sweeps_give_an_empty_cloud() -> None:
    assert fuse_sweeps([], key_from_sweep=np.zeros((0, 4, 4)), age_s=[]).shape == (0, 5)
    empty = np.zeros((0, 5), np.float32)
    assert fuse_sweeps([empty] * 2, key_from_sweep=np.tile(np.eye(4), (2, 1, 1)), age_s=[0, 0.05]).shape == (0, 5)


def test_the_inputs_are_left_alone() -> None:
    sweep = np.array([[5, 5, 1, 10, 3]], np.float32)
    before = sweep.copy()
    fused = fuse_sweeps([sweep], key_from_sweep=np.eye(4)[None], age_s=[0.0])
    fused[:] = -1
    np.testing.assert_array_equal(sweep, before)


SWEEP = np.ones((3, 5), np.float32)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"sweeps": [SWEEP, SWEEP[:, :3]]},
            r"sweeps\[1\] must have shape \(points, at least 4 columns\), found \(3, 3",
        ),
        ({"sweeps": [SWEEP, SWEEP.astype(int)]}, r"sweeps\[1\] must hold float32 numbers, found int64"),
        ({"sweeps": [SWEEP, SWEEP.tolist()]}, r"sweeps\[1\] must be a numpy array of points, found list"),
        ({"sweeps": [SWEEP]}, r"key_from_sweep must have shape \(1, 4, 4\), found \(2, 4, 4\)"),
        ({"key_from_sweep": np.full((2, 4, 4), np.nan)}, "key_from_sweep must be finite"),
        ({"key_from_sweep": np.zeros((2, 3, 4))}, r"key_from_sweep must have shape \(2, 4, 4\), found \(2, 3, 4\)"),
        ({"age_s": [0.0]}, r"age_s must hold one age for each of 2 sweeps, found shape \(1,\)"),
        ({"age_s": [0.0, -0.05]}, r"older sweeps are positive\), found \[0.0, -0.05\]"),
        ({"age_s": [0.0, np.nan]}, "age_s must be finite"),
        ({"min_distance_m": -1.0}, "min_distance_m must be 0 or more, found -1.0"),
    ],
)
def test_what_does_not_fit_is_named(change: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {
        "sweeps": [SWEEP, SWEEP],
        "key_from_sweep": np.tile(np.eye(4), (2, 1, 1)),
        "age_s": [0.0, 0.05],
    }
    arguments.update(change)
    with pytest.raises(ValueError, match=message):
        fuse_sweeps(arguments.pop("sweeps"), **arguments)
