from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from nuscenes.utils.geometry_utils import view_points
from pyquaternion import Quaternion

from fusionkd.geometry import CAMERAS, CameraRig, invert_rigid, rigid_from_quaternion, transform_points

# One of nuScenes' own front cameras.
INTRINSIC = np.array([[1266.417203, 0.0, 816.267020], [0.0, 1266.417203, 491.507066], [0.0, 0.0, 1.0]])
EGO_FROM_CAMERA = rigid_from_quaternion([0.4998, -0.5030, 0.4998, -0.4974], [1.7008, 0.0159, 1.5110])


def _rig(image_aug: NDArray[np.float64] | None = None) -> CameraRig:
    aug = np.eye(3) if image_aug is None else image_aug
    return CameraRig(INTRINSIC[None], EGO_FROM_CAMERA[None], aug[None], (900, 1600))


def test_there_are_six_cameras_front_first() -> None:
    assert len(set(CAMERAS)) == 6
    assert CAMERAS[:3] == ("CAM_FRONT_LEFT", "CAM_FRONT", "CAM_FRONT_RIGHT")


@given(seed=st.integers(0, 1000), angle=st.floats(-3, 3))
def test_projection_equals_the_devkits(seed: int, angle: float) -> None:
    ego_from_camera = EGO_FROM_CAMERA.copy()
    ego_from_camera[:3, :3] = Quaternion(axis=[0, 0, 1], angle=angle).rotation_matrix @ ego_from_camera[:3, :3]
    rig = CameraRig(INTRINSIC[None], ego_from_camera[None], np.eye(3)[None], (900, 1600))
    points = np.random.default_rng(seed).uniform(-50, 50, (100, 3))
    in_camera = transform_points(invert_rigid(ego_from_camera), points)
    ahead = in_camera[:, 2] > 0.1
    pixel, depth = rig.project(0, points)
    np.testing.assert_allclose(depth, in_camera[:, 2], atol=1e-9)
    expected = view_points(in_camera[ahead].T, INTRINSIC, normalize=True)[:2].T
    np.testing.assert_allclose(pixel[ahead], expected, rtol=1e-9, atol=1e-6)


def test_each_camera_projects_with_its_own_matrices() -> None:
    turned = EGO_FROM_CAMERA.copy()
    turned[:3, :3] = Quaternion(axis=[0, 0, 1], angle=np.pi).rotation_matrix @ turned[:3, :3]
    rig = CameraRig(
        np.stack([INTRINSIC, INTRINSIC]), np.stack([EGO_FROM_CAMERA, turned]), np.tile(np.eye(3), (2, 1, 1)), (9, 16)
    )
    ahead = np.array([[20.0, 0.0, 1.5]])
    assert len(rig) == 2
    assert rig.project(0, ahead)[1][0] == pytest.approx(20 - 1.7, abs=0.1)
    assert rig.project(1, ahead)[1][0] < 0


def test_the_image_augmentation_acts_on_pixels() -> None:
    resize_and_crop = np.array([[0.5, 0, -10], [0, 0.25, -40], [0, 0, 1.0]])
    points = np.array([[20.0, 2.0, 1.0], [8.0, -1.0, 0.3]])
    plain, plain_depth = _rig().project(0, points)
    pixel, depth = _rig(resize_and_crop).project(0, points)
    np.testing.assert_allclose(pixel, plain * [0.5, 0.25] - [10, 40])
    np.testing.assert_allclose(depth, plain_depth)


def test_a_bev_augmentation_in_the_mounting_keeps_pixels_and_depth() -> None:
    flip_and_scale = np.diag([1.1, -1.1, 1.1, 1.0])
    points = np.array([[20.0, 2.0, 1.0], [8.0, -1.0, 0.3]])
    augmented = CameraRig(INTRINSIC[None], (flip_and_scale @ EGO_FROM_CAMERA)[None], np.eye(3)[None], (900, 1600))
    moved = transform_points(flip_and_scale, points)
    for found, expected in zip(augmented.project(0, moved), _rig().project(0, points)):
        np.testing.assert_allclose(found, expected)


def test_points_on_the_image_plane_do_not_divide_by_zero() -> None:
    rig = CameraRig(np.eye(3)[None], np.eye(4)[None], np.eye(3)[None], (2, 2))
    pixel, depth = rig.project(0, np.array([[1.0, 1.0, 0.0], [1.0, 1.0, -2.0]]))
    assert np.all(np.isfinite(pixel))
    np.testing.assert_array_equal(depth, [0, -2])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"intrinsics": np.zeros((1, 3, 4))}, r"CameraRig.intrinsics .* shape \(1, 3, 3\), found shape \(1, 3, 4\)"),
        (
            {"ego_from_camera": np.zeros((2, 4, 4))},
            r"CameraRig.ego_from_camera .* \(1, 4, 4\), found shape \(2, 4, 4\)",
        ),
        ({"image_aug": np.full((1, 3, 3), np.nan)}, "CameraRig.image_aug must be finite"),
    ],
)
def test_what_does_not_fit_is_named(change: dict[str, Any], message: str) -> None:
    fields: dict[str, Any] = {
        "intrinsics": INTRINSIC[None],
        "ego_from_camera": EGO_FROM_CAMERA[None],
        "image_aug": np.eye(3)[None],
        "size_px": (900, 1600),
    }
    with pytest.raises(ValueError, match=message):
        CameraRig(**{**fields, **change})
