"""Box edges in images against the devkit's own corners and projection."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from picture_frames import boxes, camera_rig
from pyquaternion import Quaternion

from fusionkd.data import NuScenesIndex
from fusionkd.geometry import CAMERAS, Boxes3D, invert_rigid, transform_points
from fusionkd.visualize import picture_frame
from fusionkd.visualize.projection import NEAREST_M, box_segments, in_image, project_segments


def _devkit_corners_px(box: Boxes3D, camera: int) -> NDArray[np.float64]:
    """The devkit's corners of one box in the made-up rig, (8, 2)."""
    from nuscenes.utils.data_classes import Box
    from nuscenes.utils.geometry_utils import view_points

    rig = camera_rig()
    length, width, height = box.lwh_m[0].tolist()
    devkit = Box(box.xyz_m[0].tolist(), [width, length, height], Quaternion(axis=[0, 0, 1], radians=box.yaw_rad[0]))
    camera_from_ego = invert_rigid(rig.ego_from_camera[camera])
    devkit.rotate(Quaternion(matrix=camera_from_ego[:3, :3], atol=1e-6))
    devkit.translate(camera_from_ego[:3, 3])
    return view_points(devkit.corners(), rig.intrinsics[camera], normalize=True)[:2].T


@given(st.integers(0, 5), st.floats(6, 60), st.floats(-25, 25), st.floats(-3.1, 3.1))
@settings(deadline=None)
def test_projected_corners_are_the_devkits(camera: int, distance: float, side_deg: float, yaw: float) -> None:
    rig = camera_rig()
    angle = np.deg2rad(side_deg) + np.arctan2(*rig.ego_from_camera[camera][[1, 0], 2])
    box = boxes(("car", distance * np.cos(angle), distance * np.sin(angle)), yaw_rad=yaw)
    pixels = project_segments(rig, camera, box_segments(box))[0, :12].reshape(-1, 2)
    wanted = _devkit_corners_px(box, camera)
    # Each corner ends three edges.
    distance_px = np.linalg.norm(pixels[:, None] - wanted, axis=2)
    assert distance_px.min(axis=1).max() < 1e-3
    assert (distance_px < 1e-3).sum(axis=0).min() >= 3


def test_the_heading_line_runs_from_the_centre_of_the_bottom_to_its_front() -> None:
    line = box_segments(boxes(("car", 10, 2), yaw_rad=np.pi / 2))[0, 12]
    np.testing.assert_allclose(line, [[10, 2, 0], [10, 2 + 2.25, 0]], atol=1e-6)


@given(st.floats(-8, 8), st.floats(-4, 4), st.floats(-3.1, 3.1))
@settings(deadline=None)
def test_edges_are_cut_where_they_pass_the_image_plane(x: float, y: float, yaw: float) -> None:
    rig, camera = camera_rig(), CAMERAS.index("CAM_FRONT")
    segments = box_segments(boxes(("car", x, y), yaw_rad=yaw))[0]
    for ends, drawn in zip(segments, project_segments(rig, camera, segments)):
        _, depth = rig.project(camera, ends)
        if depth.max() < NEAREST_M:
            assert np.isnan(drawn).all()
            continue
        shown = ends.copy()
        for end in np.flatnonzero(depth < NEAREST_M):
            other = 1 - end
            share = (NEAREST_M - depth[end]) / (depth[other] - depth[end])
            shown[end] = ends[end] + share * (ends[other] - ends[end])
        wanted, shown_depth = rig.project(camera, shown)
        assert shown_depth.min() > NEAREST_M - 1e-9
        np.testing.assert_allclose(drawn, wanted, rtol=1e-6, atol=1e-6)


def test_boxes_behind_a_camera_are_not_drawn_in_it() -> None:
    rig = camera_rig()
    behind, ahead = boxes(("car", -12, 0)), boxes(("car", 12, 0))
    front, back = CAMERAS.index("CAM_FRONT"), CAMERAS.index("CAM_BACK")
    assert np.isnan(project_segments(rig, front, box_segments(behind))).all()
    assert np.isfinite(project_segments(rig, back, box_segments(behind))).all()
    both = box_segments(Boxes3D.concatenate([behind, ahead]))
    assert in_image(project_segments(rig, front, both), rig.size_px).tolist() == [False, True]
    assert in_image(project_segments(rig, back, both), rig.size_px).tolist() == [True, False]


def test_boxes_beside_the_image_are_not_in_it() -> None:
    rig = camera_rig()
    front = CAMERAS.index("CAM_FRONT")
    beside = boxes(("car", 6, 30), ("car", 12, 0))
    assert in_image(project_segments(rig, front, box_segments(beside)), rig.size_px).tolist() == [False, True]
    assert in_image(np.full((1, 13, 2, 2), np.nan), rig.size_px).tolist() == [False]


@pytest.mark.parametrize("row", [0, 1])
def test_real_boxes_lie_where_the_devkit_draws_them(real_picture_root: Path, row: int) -> None:
    from nuscenes.nuscenes import NuScenes
    from nuscenes.utils.geometry_utils import BoxVisibility, view_points

    nusc = NuScenes("v1.0-mini", str(real_picture_root), verbose=False)
    index = NuScenesIndex.load(real_picture_root)
    frame = picture_frame(index, index.sample_tokens[row])
    assert frame.images.shape[1:3] == (450, 800)
    sample = nusc.get("sample", frame.token)
    assert frame.boxes is not None
    centres = transform_points(frame.global_from_ego, frame.boxes.xyz_m)
    compared = 0
    for camera, channel in enumerate(CAMERAS):
        _, devkit, matrix = nusc.get_sample_data(sample["data"][channel], box_vis_level=BoxVisibility.ALL)
        pixels = project_segments(frame.rig, camera, box_segments(frame.boxes))
        for box in devkit:
            annotation = nusc.get("sample_annotation", box.token)
            distance_m = np.linalg.norm(centres - annotation["translation"], axis=1)
            if distance_m.min() > 1e-3:
                # Boxes without a point and of no detection class are left out of frames.
                continue
            corners = view_points(box.corners(), matrix, normalize=True)[:2].T / 2
            drawn = pixels[int(np.argmin(distance_m)), :12].reshape(-1, 2)
            distance_px = np.linalg.norm(drawn[:, None] - corners, axis=2).min(axis=0)
            # Our boxes are upright in the car's frame, the devkit's on the map; the car tilts by up to a degree.
            assert distance_px.max() < 0.02 * np.ptp(corners, axis=0).max() + 0.7
            compared += 1
    assert compared >= 15
