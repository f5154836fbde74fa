from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from shapely.affinity import rotate, translate
from shapely.geometry import Polygon, box

from fusionkd.geometry.iou import rotated_iou_bev

SIZE = st.floats(0.05, 15)
TURNS = st.one_of(st.floats(-10, 10), st.sampled_from([k * np.pi / 4 for k in range(-4, 9)]))
RECTANGLES = st.lists(st.tuples(st.floats(-8, 8), st.floats(-8, 8), SIZE, SIZE, TURNS), max_size=5)


def _polygon(row: NDArray[Any]) -> Polygon:
    x, y, length, width, yaw = row
    upright = box(-length / 2, -width / 2, length / 2, width / 2)
    return translate(rotate(upright, yaw, origin=(0, 0), use_radians=True), x, y)


def _by_shapely(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.float64]:
    iou = np.zeros((len(a), len(b)))
    for i, row_a in enumerate(a):
        for j, row_b in enumerate(b):
            first, second = _polygon(row_a), _polygon(row_b)
            shared = first.intersection(second).area
            iou[i, j] = shared / (first.area + second.area - shared)
    return iou


def _rows(rectangles: list[tuple[float, ...]]) -> NDArray[np.float64]:
    return np.array(rectangles).reshape(-1, 5)


@given(a=RECTANGLES, b=RECTANGLES)
def test_all_pairs_equal_shapely(a: list[tuple[float, ...]], b: list[tuple[float, ...]]) -> None:
    found = rotated_iou_bev(_rows(a), _rows(b))
    assert found.shape == (len(a), len(b))
    np.testing.assert_allclose(found, _by_shapely(_rows(a), _rows(b)), atol=1e-7)


@given(a=RECTANGLES, quarter=st.integers(-8, 8), nudge=st.sampled_from([0.0, 1e-16, 1e-9, 1e-5]))
def test_nearly_equal_boxes_equal_shapely(a: list[tuple[float, ...]], quarter: int, nudge: float) -> None:
    rows = _rows(a)
    other = rows + nudge
    other[:, 4] += quarter * np.pi / 2
    np.testing.assert_allclose(rotated_iou_bev(rows, other), _by_shapely(rows, other), atol=1e-7)


@given(a=RECTANGLES, b=RECTANGLES)
def test_iou_is_symmetric_and_bounded(a: list[tuple[float, ...]], b: list[tuple[float, ...]]) -> None:
    found = rotated_iou_bev(_rows(a), _rows(b))
    assert np.all((found >= 0) & (found <= 1))
    np.testing.assert_allclose(found, rotated_iou_bev(_rows(b), _rows(a)).T, atol=1e-9)


@given(a=RECTANGLES)
def test_a_box_overlaps_itself_wholly_and_its_half_by_half(a: list[tuple[float, ...]]) -> None:
    rows = _rows(a)
    np.testing.assert_allclose(np.diag(rotated_iou_bev(rows, rows)), 1, rtol=1e-9)
    half = rows * [1, 1, 0.5, 1, 1]
    np.testing.assert_allclose(np.diag(rotated_iou_bev(rows, half)), 0.5, rtol=1e-9)


def test_touching_and_distant_boxes_share_nothing() -> None:
    a = np.array([[0.0, 0, 2, 2, 0]])
    b = np.array([[2.0, 0, 2, 2, 0], [2, 2, 2, 2, 0], [50, 0, 2, 2, 0.3]])
    np.testing.assert_allclose(rotated_iou_bev(a, b), 0, atol=1e-12)


def test_a_box_without_area_overlaps_nothing() -> None:
    a = np.array([[0.0, 0, 0, 2, 0], [0, 0, 2, 2, 0]])
    np.testing.assert_array_equal(rotated_iou_bev(a, a), [[0, 0], [0, 1]])


def test_float32_strided_input_is_fine() -> None:
    rows = np.ones((4, 10), np.float32)[::2, ::2]
    np.testing.assert_allclose(rotated_iou_bev(rows, rows), 1)


@pytest.mark.parametrize(
    ("boxes", "message"),
    [
        (np.zeros((2, 4)), r"boxes_b must have shape \(boxes, 5\): x, y, l, w, yaw; found \(2, 4\)"),
        (np.zeros(5), r"boxes_b must have shape .* found \(5,\)"),
        (np.full((1, 5), np.nan), "boxes_b must be finite"),
        (np.array([[0.0, 0, -2, 1, 0]]), "boxes_b must have lengths and widths of 0 or more, found -2.0"),
    ],
)
def test_what_does_not_fit_is_named(boxes: NDArray[Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        rotated_iou_bev(np.ones((1, 5)), boxes)
