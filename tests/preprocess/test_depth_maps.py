from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from nuscenes import NuScenes
from nuscenes.utils.data_classes import LidarPointCloud
from nuscenes.utils.geometry_utils import view_points
from pyquaternion import Quaternion

from fusionkd.geometry import CAMERAS, CameraRig, invert_rigid, rigid_from_quaternion
from fusionkd.preprocess import fuse_sweeps, lidar_depth_maps

SIZE_PX = (48, 96)
INTRINSIC = np.array([[60.0, 0, 48], [0, 60.0, 24], [0, 0, 1]])
EGO_FROM_CAMERA = np.array([[0.0, 0, 1, 1.5], [-1, 0, 0, 0], [0, -1, 0, 1.5], [0, 0, 0, 1]])
"""Looking along x, 1.5 m in front of and above ego's origin."""


def _rig(cameras: int = 1) -> CameraRig:
    mounts = [EGO_FROM_CAMERA]
    for k in range(1, cameras):
        turned = np.eye(4)
        turned[:3, :3] = Quaternion(axis=[0, 0, 1], angle=k).rotation_matrix
        mounts.append(turned @ EGO_FROM_CAMERA)
    return CameraRig(
        np.tile(INTRINSIC, (cameras, 1, 1)), np.stack(mounts), np.tile(np.eye(3), (cameras, 1, 1)), SIZE_PX
    )


def _by_devkit(points: NDArray[Any], rig: CameraRig, stride: int, min_depth_m: float) -> NDArray[np.float64]:
    """Nearest depths from the devkit's projection, block by block."""
    depth = np.full((len(rig), rig.size_px[0] // stride, rig.size_px[1] // stride), np.inf)
    for n in range(len(rig)):
        camera_from_ego = np.linalg.inv(rig.ego_from_camera[n])
        in_camera = camera_from_ego[:3] @ np.vstack([points[:, :3].T.astype(np.float64), np.ones(len(points))])
        in_camera = in_camera[:, in_camera[2] >= min_depth_m]
        pixel = view_points(in_camera, rig.intrinsics[n], normalize=True)
        cell = np.floor(pixel[:2] / stride).astype(np.int64)
        seen = np.all((cell >= 0) & (cell < np.array([[depth.shape[2]], [depth.shape[1]]])), axis=0)
        np.minimum.at(depth[n], (cell[1, seen], cell[0, seen]), in_camera[2, seen])
    return np.where(np.isinf(depth), 0, depth)


@given(seed=st.integers(0, 10_000), points=st.integers(0, 300), stride=st.sampled_from([1, 4, 16]))
def test_depth_maps_equal_the_devkits_projection(seed: int, points: int, stride: int) -> None:
    rng = np.random.default_rng(seed)
    cloud = np.column_stack([rng.uniform(-30, 30, (points, 2)), rng.uniform(-3, 5, (points, 3))]).astype(np.float32)
    rig = _rig(3)
    found = lidar_depth_maps(cloud, image_from_ego=rig.image_from_ego, size_px=SIZE_PX, stride=stride, min_depth_m=0.5)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, _by_devkit(cloud, rig, stride, 0.5), rtol=1e-6)


def test_depth_maps_of_real_frames_equal_the_devkits_projection(shared_data: Path) -> None:
    real = NuScenes("v1.0-mini", str(shared_data / "nuscenes-real"), verbose=False)
    for sample in real.sample:
        records = [real.get("sample_data", sample["data"][channel]) for channel in ("LIDAR_TOP", *CAMERAS)]
        mounts = [real.get("calibrated_sensor", r["calibrated_sensor_token"]) for r in records]
        poses = [real.get("ego_pose", r["ego_pose_token"]) for r in records]
        global_from_ego = [rigid_from_quaternion(p["rotation"], p["translation"]) for p in poses]
        ego_from_sensor = [rigid_from_quaternion(m["rotation"], m["translation"]) for m in mounts]
        key_from_global = invert_rigid(global_from_ego[0])
        rig = CameraRig(
            np.array([m["camera_intrinsic"] for m in mounts[1:]]),
            np.stack([key_from_global @ g @ e for g, e in zip(global_from_ego[1:], ego_from_sensor[1:])]),
            np.tile(np.eye(3), (6, 1, 1)),
            (896, 1600),
        )
        cloud = LidarPointCloud.from_file(str(Path(real.dataroot) / records[0]["filename"])).points.T
        points = fuse_sweeps([cloud], key_from_sweep=ego_from_sensor[0][None], age_s=[0.0])
        found = lidar_depth_maps(points, image_from_ego=rig.image_from_ego, size_px=rig.size_px, stride=16)
        np.testing.assert_allclose(found, _by_devkit(points, rig, 16, 1.0), rtol=1e-6)
        assert np.all(np.mean(found > 0, axis=(1, 2)) > 0.1)


def _depth(points: list[list[float]], **change: Any) -> NDArray[np.float32]:
    arguments: dict[str, Any] = {"image_from_ego": _rig().image_from_ego, "size_px": SIZE_PX, "stride": 8, **change}
    return lidar_depth_maps(np.array(points, np.float32).reshape(-1, 3), **arguments)


def test_the_nearest_point_of_a_block_wins_whatever_the_order() -> None:
    far, near = [41.5, 0.0, 1.5], [11.5, 0.0, 1.5]
    for points in ([far, near], [near, far]):
        depth = _depth(points)
        assert depth[0, 3, 6] == pytest.approx(10.0)
        assert np.count_nonzero(depth) == 1


def test_a_point_left_of_the_axis_is_drawn_left_and_one_below_it_below() -> None:
    depth = _depth([[11.5, 3.0, 0.0]])
    row, column = np.argwhere(depth[0])[0]
    assert (row, column) == ((24 + 9) // 8, (48 - 18) // 8)


def test_points_behind_or_too_near_are_not_drawn() -> None:
    assert not _depth([[-10.0, 0.0, 1.5], [1.5, 0.0, 1.5], [2.4, 0.0, 1.5]]).any()
    assert _depth([[2.5, 0.0, 1.5]]).max() == pytest.approx(1.0)
    assert _depth([[2.4, 0.0, 1.5]], min_depth_m=0.5).max() == pytest.approx(0.9)


def _by_numpy(points: NDArray[np.float32], image_from_ego: NDArray[np.float64], stride: int) -> NDArray[np.float32]:
    """The rule of the projection in float64, camera by camera."""
    maps = np.full((len(image_from_ego), SIZE_PX[0] // stride, SIZE_PX[1] // stride), np.inf, np.float32)
    x, y, z = points[:, :3].T.astype(np.float64)
    with np.errstate(all="ignore"):
        for t, depth in zip(image_from_ego, maps):
            u, v, d = (t[k, 0] * x + t[k, 1] * y + t[k, 2] * z + t[k, 3] for k in range(3))
            column, row = u / (d * stride), v / (d * stride)
            inside = (column >= 0) & (column < depth.shape[1]) & (row >= 0) & (row < depth.shape[0])
            seen = np.flatnonzero((d >= 1.0) & (d < np.inf) & inside)
            np.minimum.at(depth, (row[seen].astype(int), column[seen].astype(int)), d[seen].astype(np.float32))
    return np.where(np.isinf(maps), np.float32(0), maps)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), cameras=st.sampled_from([1, 6, 33]), size=st.sampled_from([1.0, 1e4, 1e30]))
def test_what_float32_leaves_out_no_camera_sees(seed: int, cameras: int, size: float) -> None:
    rng = np.random.default_rng(seed)
    rig = _rig(cameras).image_from_ego
    points = rng.uniform(-40, 40, (1100, 3)).astype(np.float32)
    points[::3] *= np.float32(size)
    points[::50] = [np.nan, np.inf, 1e38]
    # Onto the borders of the first camera's image and its nearest depth, where rounding decides.
    edge = np.linalg.inv(rig[0]) @ [[0, 96, 48, 48, 30], [24, 24, 0, 48, 20], [1, 1, 1, 1, 1], [1, 1, 1, 1, 1]]
    points[7:1097:109][:5] = edge[:3].T
    found = lidar_depth_maps(points, image_from_ego=rig, size_px=SIZE_PX, stride=4)
    np.testing.assert_array_equal(found, _by_numpy(points, rig, 4))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("axis", range(3))
def test_points_that_are_not_finite_are_not_drawn(axis: int, value: float) -> None:
    point = [11.5, 0.0, 1.5]
    point[axis] = value
    assert not _depth([point]).any()


def test_no_points_and_no_cameras() -> None:
    assert not _depth([]).any()
    assert _depth([[11.5, 0, 1.5]], image_from_ego=np.zeros((0, 4, 4))).shape == (0, 6, 12)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stride": 7}, "stride must divide the image's size, found stride 7 for 48 x 96 pixels"),
        ({"stride": 0}, "stride must be a whole number of at least 1, found 0"),
        ({"size_px": (0, 96)}, "size_px must be a whole number of at least 1, found 0"),
        ({"min_depth_m": 0.0}, "min_depth_m must be positive, found 0.0"),
        ({"image_from_ego": np.eye(4)}, r"image_from_ego must have shape \(N, 4, 4\), found \(4, 4\)"),
        ({"image_from_ego": np.full((1, 4, 4), np.inf)}, "image_from_ego must be finite"),
    ],
)
def test_what_does_not_fit_is_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _depth([[11.5, 0, 1.5]], **change)
