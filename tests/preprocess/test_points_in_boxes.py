from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from nuscenes import NuScenes
from nuscenes.utils.data_classes import Box
from nuscenes.utils.geometry_utils import points_in_box
from pyquaternion import Quaternion

from fusionkd.geometry import Boxes3D, invert_rigid, rigid_from_quaternion, transform_points
from fusionkd.preprocess import count_points_in_boxes, fuse_sweeps, points_in_boxes, replace_points_in_boxes


def _devkit_box(row: NDArray[Any]) -> Box:
    length, width, height = row[3:6]
    return Box(row[:3], [width, length, height], Quaternion(axis=[0, 0, 1], angle=row[6]))


def _upright(box: Box) -> list[float]:
    width, length, height = box.wlh
    return [*box.center, length, width, height, box.orientation.yaw_pitch_roll[0], 0.0, 0.0]


@pytest.fixture(scope="module")
def real(shared_data: Path) -> NuScenes:
    return NuScenes("v1.0-mini", str(shared_data / "nuscenes-real"), verbose=False)


def _keyframe(real: NuScenes, sample: dict[str, Any]) -> tuple[NDArray[np.float32], Any, Any, NDArray[np.float64], Any]:
    """Points in the LiDAR frame, ego_from_lidar, global_from_ego, global boxes and the recorded counts."""
    lidar = real.get("sample_data", sample["data"]["LIDAR_TOP"])
    points = np.fromfile(Path(real.dataroot) / lidar["filename"], np.float32).reshape(-1, 5)
    mount = real.get("calibrated_sensor", lidar["calibrated_sensor_token"])
    pose = real.get("ego_pose", lidar["ego_pose_token"])
    boxes = np.array([_upright(box) for box in map(real.get_box, sample["anns"])])
    recorded = np.array([real.get("sample_annotation", token)["num_lidar_pts"] for token in sample["anns"]])
    ego_from_lidar = rigid_from_quaternion(mount["rotation"], mount["translation"])
    return points, ego_from_lidar, rigid_from_quaternion(pose["rotation"], pose["translation"]), boxes, recorded


def test_counts_of_all_real_boxes_equal_num_lidar_pts(real: NuScenes) -> None:
    checked = 0
    for sample in real.sample:
        points, ego_from_lidar, global_from_ego, boxes, recorded = _keyframe(real, sample)
        # In the global frame, where the boxes are upright; float32 is too coarse 1,800 m from its origin.
        in_global = transform_points(global_from_ego @ ego_from_lidar, points.astype(np.float64))
        np.testing.assert_array_equal(count_points_in_boxes(in_global, boxes), recorded)
        checked += len(recorded)
    assert checked == 69 + 23


def test_counts_of_real_boxes_in_ego_differ_only_by_the_cars_tilt(real: NuScenes) -> None:
    for sample in real.sample:
        points, ego_from_lidar, global_from_ego, boxes, recorded = _keyframe(real, sample)
        in_ego = fuse_sweeps([points], key_from_sweep=ego_from_lidar[None], age_s=[0.0], min_distance_m=0.0)
        global_boxes = Boxes3D.from_array(boxes, np.zeros(len(boxes)))
        ego_boxes = global_boxes.transformed(invert_rigid(global_from_ego)).to_array()
        counts = count_points_in_boxes(in_ego, ego_boxes)
        # The car leans by about a degree: at a box's lower and upper border some points change sides.
        np.testing.assert_allclose(counts, recorded, rtol=0.05, atol=4)
        assert np.mean(counts == recorded) > 0.9


ROWS = st.tuples(
    *[st.floats(-3, 3)] * 3,
    *[st.one_of(st.floats(0.1, 5), st.just(2.0))] * 3,
    st.floats(-7, 7),
    st.just(0.0),
    st.just(0.0),
)


def _clear_of_borders(points: NDArray[Any], row: NDArray[Any]) -> NDArray[np.bool_]:
    """Points that are no nearer to a face than rounding could move them."""
    grown, shrunk = row.copy(), row.copy()
    grown[3:6] += 1e-9
    shrunk[3:6] -= 1e-9
    return points_in_box(_devkit_box(grown), points.T) == points_in_box(_devkit_box(shrunk), points.T)


@given(rows=st.lists(ROWS, max_size=6), seed=st.integers(0, 10_000), dtype=st.sampled_from([np.float32, np.float64]))
def test_points_in_boxes_equal_the_devkit(rows: list[tuple[float, ...]], seed: int, dtype: Any) -> None:
    boxes = np.array(rows).reshape(-1, 9)
    points = np.random.default_rng(seed).uniform(-5, 5, (200, 3)).astype(dtype)
    sure = np.ones(len(points), bool)
    inside = np.zeros((len(boxes), len(points)), bool)
    for k, row in enumerate(boxes):
        inside[k] = points_in_box(_devkit_box(row), points.T)
        sure &= _clear_of_borders(points, row)
    first = np.where(inside.any(axis=0), inside.argmax(axis=0), -1) if len(boxes) else np.full(len(points), -1)
    np.testing.assert_array_equal(points_in_boxes(points, boxes)[sure], first[sure])
    np.testing.assert_array_equal(count_points_in_boxes(points[sure], boxes), inside[:, sure].sum(axis=1))


BOX = np.array([[10.0, 5.0, 1.0, 4.0, 2.0, 1.0, 0.0, 0.0, 0.0]])


@pytest.mark.parametrize("corner", Boxes3D.from_array(BOX, np.zeros(1)).corners()[0].tolist())
def test_corners_are_inside_as_in_the_devkit(corner: list[float]) -> None:
    point = np.array([corner], np.float32)
    assert points_in_box(_devkit_box(BOX[0]), point.T).all()
    assert points_in_boxes(point, BOX)[0] == 0


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("side", [-1, 1])
def test_just_beyond_a_face_is_outside(axis: int, side: int) -> None:
    point = BOX[:, :3].copy()
    point[0, axis] += side * BOX[0, 3 + axis] / 2
    assert points_in_boxes(point, BOX)[0] == 0
    point[0, axis] += side * 1e-6
    assert points_in_boxes(point, BOX)[0] == -1


def test_a_point_in_two_boxes_belongs_to_the_first_and_counts_in_both() -> None:
    boxes = np.repeat(BOX, 3, axis=0)
    boxes[0, 0] += 100
    point = BOX[:, :3]
    np.testing.assert_array_equal(points_in_boxes(point, boxes), [1])
    np.testing.assert_array_equal(count_points_in_boxes(point, boxes), [0, 1, 1])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("axis", range(3))
def test_a_point_that_is_not_finite_lies_in_no_box(axis: int, value: float) -> None:
    point = BOX[:, :3].copy()
    point[0, axis] = value
    assert points_in_boxes(point, BOX)[0] == -1
    assert points_in_boxes(point.astype(np.float32), BOX)[0] == -1


def test_no_points_and_no_boxes() -> None:
    np.testing.assert_array_equal(points_in_boxes(np.zeros((3, 5), np.float32), np.zeros((0, 9))), [-1, -1, -1])
    assert count_points_in_boxes(np.zeros((3, 5), np.float32), np.zeros((0, 9))).shape == (0,)
    assert points_in_boxes(np.zeros((0, 5), np.float32), BOX).shape == (0,)
    np.testing.assert_array_equal(count_points_in_boxes(np.zeros((0, 5), np.float32), BOX), [0])


def test_a_box_without_size_holds_only_its_centre() -> None:
    flat = BOX.copy()
    flat[0, 3:6] = 0
    np.testing.assert_array_equal(points_in_boxes(np.array([[10, 5, 1], [10, 5, 1.001]]), flat), [0, -1])


def test_boxes_far_from_the_origin_and_from_each_other() -> None:
    boxes = np.repeat(BOX, 3, axis=0)
    boxes[:, 0] = [-9e8, 0, 9e8]
    boxes[:, 3:6] = [[0, 0, 0], [4, 2, 1], [9e8, 1, 1]]
    np.testing.assert_array_equal(points_in_boxes(boxes[:, :3], boxes), [0, 1, 2])


def test_an_unknown_velocity_does_not_matter() -> None:
    unknown = BOX.copy()
    unknown[0, 7:] = np.nan
    assert points_in_boxes(BOX[:, :3], unknown)[0] == 0


@pytest.mark.parametrize(
    ("boxes", "message"),
    [
        (BOX[:, :7], r"boxes must have shape \(boxes, 9 columns\), found \(1, 7\)"),
        (BOX[0], r"boxes must have shape \(boxes, 9 columns\), found \(9,\)"),
        (BOX.astype(str), "boxes must hold real numbers, found <U32"),
        (
            np.where(np.arange(9) == 6, np.nan, BOX),
            "boxes must be finite and below 1e.09 in its first 7 columns, found row 0",
        ),
        (BOX * 1e12, "boxes must be finite and below 1e.09 in its first 7 columns, found row 0"),
        (BOX * [1, 1, 1, -1, 1, 1, 1, 1, 1], "boxes must have sizes of 0 or more, found .* in row 0"),
    ],
)
def test_boxes_that_do_not_fit_are_named(boxes: NDArray[Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        points_in_boxes(BOX[:, :3], boxes)


def test_points_in_boxes_give_way_to_others() -> None:
    rng = np.random.default_rng(8)
    points, added = rng.uniform(-5, 5, (3000, 5)).astype(np.float32), rng.uniform(0, 1, (7, 5)).astype(np.float32)
    boxes = np.column_stack([rng.uniform(-4, 4, (6, 3)), rng.uniform(1, 4, (6, 3)), rng.uniform(-3, 3, (6, 3))])
    outside = points_in_boxes(points, boxes) < 0
    assert 0 < outside.sum() < len(points)
    expected = np.concatenate([points[outside], added])
    np.testing.assert_array_equal(replace_points_in_boxes(points, boxes, added), expected)
    np.testing.assert_array_equal(replace_points_in_boxes(points, boxes, added[:0]), points[outside])
    np.testing.assert_array_equal(replace_points_in_boxes(points[:0], boxes, added), added)
    np.testing.assert_array_equal(replace_points_in_boxes(points, boxes[:0], added), np.concatenate([points, added]))
