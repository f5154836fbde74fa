"""Kernels against NumPy and the devkit."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from nuscenes.eval.common.utils import cummean
from nuscenes.utils.data_classes import Box
from nuscenes.utils.geometry_utils import points_in_box
from pyquaternion import Quaternion

from fusionkd.metrics.matching import Boxes, Surroundings, boxes_that_count, error_curve, interpolate, match

FINITE = st.floats(-1e6, 1e6, allow_nan=False, width=32)
STEPS = st.integers(-6, 6).map(lambda n: n / 4)


@settings(deadline=None, max_examples=200)
@given(
    x=hnp.arrays(np.float64, st.integers(0, 30), elements=STEPS | FINITE),
    known=st.lists(st.tuples(STEPS | FINITE, FINITE), min_size=1, max_size=30),
    right=FINITE,
)
def test_interpolates_like_numpy(x: np.ndarray, known: list[tuple[float, float]], right: float) -> None:
    x, known_x = np.sort(x), np.sort([a for a, _ in known])
    known_y = np.array([b for _, b in known])
    np.testing.assert_array_equal(interpolate(x, known_x, known_y, right), np.interp(x, known_x, known_y, right=right))


def test_interpolates_where_x_falls_by_a_rounding() -> None:
    x = np.array([0.5, np.nextafter(0.5, 0), 1.0])
    known_x, known_y = np.array([0.0, 0.5, 1.0]), np.array([3.0, 1.0, 2.0])
    np.testing.assert_array_equal(interpolate(x, known_x, known_y, 0.0), np.interp(x, known_x, known_y, right=0.0))


@settings(deadline=None, max_examples=100)
@given(
    error=hnp.arrays(np.float64, st.integers(1, 40), elements=st.floats(0, 10) | st.just(np.nan)),
    seed=st.integers(0, 1000),
)
def test_error_curve_is_the_devkits(error: np.ndarray, seed: int) -> None:
    rng = np.random.default_rng(seed)
    score = np.sort(rng.integers(0, 20, len(error)) / 20)[::-1].copy()
    confidence = np.sort(rng.uniform(0, 1, 101))[::-1].copy()
    expected = np.interp(confidence[::-1], score[::-1], cummean(error)[::-1])[::-1]
    np.testing.assert_allclose(error_curve(error, score, confidence), expected, rtol=1e-12)


def test_nearest_free_annotation_is_taken_and_the_first_of_equals() -> None:
    predicted = np.array([[0.0, 0.0], [0.0, 0.0], [0.0, 0.0], [9.0, 0.0]])
    annotated = np.array([[1.0, 0.0], [-1.0, 0.0], [3.0, 0.0], [9.0, 0.0]])
    # The last prediction belongs to a group without annotations; the last annotation to one without predictions.
    group = np.array([0, 0, 0, 1])
    matched = match(predicted, group, annotated, np.array([0, 3, 3, 4]), np.array([1.0, 2.0, 4.0]))
    # At 1 m nothing matches: a distance equal to the limit is too far.
    np.testing.assert_array_equal(matched, [[-1, -1, -1, -1], [0, 1, -1, -1], [0, 1, 2, -1]])


@settings(deadline=None, max_examples=100)
@given(seed=st.integers(0, 10_000))
def test_racks_hold_what_the_devkits_points_in_box_holds(seed: int) -> None:
    rng = np.random.default_rng(seed)
    box = Box(rng.uniform(-50, 50, 3), rng.uniform(1, 9, 3), Quaternion(rng.normal(size=4)))
    points = box.center + rng.uniform(-5, 5, (200, 3))
    inside = points_in_box(box, points.T)
    n = len(points)
    boxes = Boxes(
        np.zeros(n, np.int64),
        np.arange(n) % 2,
        points,
        np.ones((n, 3)),
        np.zeros(n),
        np.zeros((n, 2)),
        np.zeros(n, np.int64),
    )
    around = Surroundings(
        np.array([True]),
        np.zeros((1, 3)),
        np.array([0, 1]),
        box.corners().T[[0, 4, 1, 3]][None].copy(),
        np.array([1000.0, 1000.0]),
        0.0,
        np.array([True, False]),
    )
    # Only the first of the two classes may not be in racks.
    np.testing.assert_array_equal(boxes_that_count(boxes, around), ~inside | (boxes.label == 1))
