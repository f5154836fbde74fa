from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from nuscenes.eval.detection.constants import DETECTION_NAMES
from nuscenes.utils.data_classes import Box
from pyquaternion import Quaternion

from fusionkd.geometry import DETECTION_CLASSES, Boxes3D, invert_rigid, rigid_from_yaw, wrap_angle_rad

ROW = st.tuples(
    *[st.floats(-60, 60, width=32)] * 3,
    *[st.floats(0.125, 12, width=32)] * 3,
    st.floats(-3, 3, width=32),
    *[st.floats(-20, 20, width=32)] * 2,
)


@st.composite
def boxes(draw: st.DrawFn) -> Boxes3D:
    rows = draw(st.lists(ROW, max_size=5))
    label = draw(st.lists(st.integers(0, 9), min_size=len(rows), max_size=len(rows)))
    score = draw(st.lists(st.floats(0, 1, width=32), min_size=len(rows), max_size=len(rows)))
    return Boxes3D.from_array(np.array(rows).reshape(-1, 9), np.array(label), np.array(score))


def _devkit(row: NDArray[Any]) -> Box:
    x, y, z, length, width, height, yaw, vx, vy = (float(v) for v in row)
    return Box([x, y, z], [width, length, height], Quaternion(axis=[0, 0, 1], angle=yaw), velocity=(vx, vy, 0.0))


def _assert_same(a: Boxes3D, b: Boxes3D, atol: float = 0.0) -> None:
    for name in ("xyz_m", "lwh_m", "velocity_mps", "label", "score"):
        np.testing.assert_allclose(getattr(a, name), getattr(b, name), rtol=0, atol=atol)
    np.testing.assert_allclose(wrap_angle_rad(a.yaw_rad - b.yaw_rad), 0, atol=max(atol, 1e-9))


def test_the_class_order_is_ours_and_the_names_are_the_devkits() -> None:
    assert sorted(DETECTION_CLASSES) == sorted(DETECTION_NAMES)
    assert DETECTION_CLASSES[0] == "car"
    assert DETECTION_CLASSES[8:] == ("pedestrian", "traffic_cone")


@given(boxes=boxes())
def test_rows_round_trip(boxes: Boxes3D) -> None:
    rows = boxes.to_array()
    assert rows.shape == (len(boxes), 9)
    assert rows.dtype == np.float32
    _assert_same(Boxes3D.from_array(rows, boxes.label, boxes.score), boxes)


@given(boxes=boxes())
def test_corners_equal_the_devkits(boxes: Boxes3D) -> None:
    # The devkit's corners 0, 1, 2, 3 are the front's upper left, upper right, lower right, lower left.
    devkit_of_ours = [3, 7, 6, 2, 0, 4, 5, 1]
    expected = np.array([_devkit(row).corners().T[devkit_of_ours] for row in boxes.to_array()]).reshape(-1, 8, 3)
    np.testing.assert_allclose(boxes.corners(), expected, atol=2e-5)


@given(boxes=boxes(), yaw=st.floats(-4, 4), x=st.floats(-100, 100), z=st.floats(-3, 3))
def test_transformed_boxes_equal_the_devkits(boxes: Boxes3D, yaw: float, x: float, z: float) -> None:
    moved = boxes.transformed(rigid_from_yaw(yaw, [x, -2 * x, z]))
    for k, row in enumerate(boxes.to_array()):
        box = _devkit(row)
        box.rotate(Quaternion(axis=[0, 0, 1], angle=yaw))
        box.translate(np.array([x, -2 * x, z]))
        np.testing.assert_allclose(moved.xyz_m[k], box.center, atol=5e-5)
        np.testing.assert_allclose(moved.velocity_mps[k], box.velocity[:2], atol=1e-5)
        assert wrap_angle_rad(moved.yaw_rad[k] - box.orientation.yaw_pitch_roll[0]) == pytest.approx(0, abs=1e-5)
    np.testing.assert_array_equal(moved.lwh_m, boxes.lwh_m)
    np.testing.assert_array_equal(moved.label, boxes.label)
    np.testing.assert_array_equal(moved.score, boxes.score)


@given(boxes=boxes(), yaw=st.floats(-4, 4))
def test_there_and_back_again(boxes: Boxes3D, yaw: float) -> None:
    a_from_b = rigid_from_yaw(yaw, [10.0, -20.0, 1.0])
    _assert_same(boxes.transformed(a_from_b).transformed(invert_rigid(a_from_b)), boxes, atol=5e-5)


def test_an_unknown_velocity_stays_unknown() -> None:
    unknown = Boxes3D.from_array(np.array([[0, 0, 0, 1, 1, 1, 0, np.nan, np.nan]]), np.array([3]))
    assert np.isnan(unknown.transformed(rigid_from_yaw(1.0, [1, 2, 3])).velocity_mps).all()


@given(boxes=boxes(), data=st.data())
def test_selections_keep_rows_together(boxes: Boxes3D, data: st.DataObject) -> None:
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=len(boxes), max_size=len(boxes))), bool)
    chosen = boxes.select(mask)
    np.testing.assert_array_equal(chosen.to_array(), boxes.to_array()[mask])
    _assert_same(boxes.select(np.flatnonzero(mask)), chosen)
    _assert_same(Boxes3D.concatenate([chosen, boxes.select(~mask)]), boxes.select(np.argsort(~mask, kind="stable")))


def test_no_boxes() -> None:
    empty = Boxes3D.empty()
    assert len(empty) == len(Boxes3D.concatenate([])) == 0
    assert empty.corners().shape == (0, 8, 3)
    assert len(empty.transformed(np.eye(4))) == 0


def test_annotations_have_score_one() -> None:
    np.testing.assert_array_equal(Boxes3D.from_array(np.ones((2, 9)), np.zeros(2)).score, [1, 1])


@pytest.mark.parametrize(
    ("name", "value", "shape"),
    [
        ("xyz_m", np.zeros((2, 2)), r"\(2, 3\) for 2 boxes, found \(2, 2\)"),
        ("lwh_m", np.zeros((3, 3)), r"\(2, 3\) for 2 boxes, found \(3, 3\)"),
        ("yaw_rad", np.zeros((2, 1)), r"\(2,\) for 2 boxes, found \(2, 1\)"),
        ("velocity_mps", np.zeros((2, 3)), r"\(2, 2\) for 2 boxes, found \(2, 3\)"),
        ("label", np.zeros(1), r"\(2,\) for 2 boxes, found \(1,\)"),
        ("score", np.zeros(()), r"\(2,\) for 2 boxes, found \(\)"),
    ],
)
def test_a_shape_that_does_not_fit_is_named(name: str, value: NDArray[Any], shape: str) -> None:
    fields: dict[str, Any] = {
        "xyz_m": np.zeros((2, 3)),
        "lwh_m": np.ones((2, 3)),
        "yaw_rad": np.zeros(2),
        "velocity_mps": np.zeros((2, 2)),
        "label": np.zeros(2),
        "score": np.ones(2),
    }
    with pytest.raises(ValueError, match=rf"Boxes3D.{name} must have shape {shape}"):
        Boxes3D(**{**fields, name: value})
