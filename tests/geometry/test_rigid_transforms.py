import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.typing import NDArray
from nuscenes.utils.geometry_utils import transform_matrix
from pyquaternion import Quaternion

from fusionkd.geometry import (
    invert_affine,
    invert_rigid,
    quaternion_from_rotation,
    quaternion_from_yaw,
    rigid_from_quaternion,
    rigid_from_yaw,
    rotation_from_quaternion,
    transform_points,
    wrap_angle_rad,
    yaw_of,
)

COMPONENT = st.floats(-1, 1, allow_subnormal=False)
METRES = st.floats(-2000, 2000, allow_subnormal=False)
ANGLE = st.floats(-50, 50)


@st.composite
def quaternions(draw: st.DrawFn) -> NDArray[np.float64]:
    q = np.array([draw(COMPONENT) for _ in range(4)])
    assume(np.linalg.norm(q) > 1e-3)
    return q


translations = st.tuples(METRES, METRES, METRES)


@given(q=quaternions())
def test_rotation_equals_pyquaternion(q: NDArray[np.float64]) -> None:
    np.testing.assert_allclose(rotation_from_quaternion(q), Quaternion(q).normalised.rotation_matrix, atol=1e-12)


def test_a_stack_of_quaternions_gives_a_stack_of_rotations() -> None:
    q = np.random.default_rng(0).normal(size=(2, 3, 4))
    found = rotation_from_quaternion(q)
    assert found.shape == (2, 3, 3, 3)
    np.testing.assert_allclose(found[1, 2], Quaternion(q[1, 2]).normalised.rotation_matrix, atol=1e-12)


@given(q=quaternions())
def test_quaternion_of_a_rotation_round_trips(q: NDArray[np.float64]) -> None:
    found = np.array(quaternion_from_rotation(rotation_from_quaternion(q)))
    assert found[0] >= 0
    assert np.linalg.norm(found) == pytest.approx(1)
    # q and -q are the same rotation; at w = 0 either sign may come back.
    unit = q / np.linalg.norm(q)
    assert min(np.abs(found - unit).max(), np.abs(found + unit).max()) < 1e-6


@pytest.mark.parametrize("axis", [[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [0, 1, -1]])
def test_half_turns_have_a_quaternion(axis: list[int]) -> None:
    half_turn = Quaternion(axis=axis, angle=np.pi).rotation_matrix
    np.testing.assert_allclose(rotation_from_quaternion(quaternion_from_rotation(half_turn)), half_turn, atol=1e-12)


@given(q=quaternions(), translation=translations)
def test_rigid_equals_the_devkit(q: NDArray[np.float64], translation: tuple[float, ...]) -> None:
    expected = transform_matrix(np.array(translation), Quaternion(q).normalised)
    found = rigid_from_quaternion(q, translation)
    np.testing.assert_allclose(found, expected, atol=1e-9)
    inverse = transform_matrix(np.array(translation), Quaternion(q).normalised, inverse=True)
    np.testing.assert_allclose(invert_rigid(found), inverse, atol=1e-9)


def test_a_stack_of_transforms_is_inverted_one_by_one() -> None:
    rng = np.random.default_rng(1)
    stack = np.stack([rigid_from_quaternion(rng.normal(size=4), rng.normal(size=3)) for _ in range(5)])
    np.testing.assert_allclose(invert_rigid(stack) @ stack, np.tile(np.eye(4), (5, 1, 1)), atol=1e-12)


@given(angle=ANGLE, translation=translations)
def test_yaw_round_trips_and_turns_counter_clockwise(angle: float, translation: tuple[float, ...]) -> None:
    transform = rigid_from_yaw(angle, translation)
    assert wrap_angle_rad(yaw_of(transform) - angle) == pytest.approx(0, abs=1e-9)
    assert Quaternion(quaternion_from_yaw(angle)).rotation_matrix[1, 0] == pytest.approx(np.sin(angle), abs=1e-9)
    np.testing.assert_allclose(
        transform_points(transform, np.array([[1.0, 0, 0]]))[0] - translation,
        [np.cos(angle), np.sin(angle), 0],
        atol=1e-9,
    )


@given(q=quaternions(), translation=translations, seed=st.integers(0, 1000))
def test_points_move_as_in_homogeneous_coordinates(
    q: NDArray[np.float64], translation: tuple[float, ...], seed: int
) -> None:
    points = np.random.default_rng(seed).normal(0, 50, (20, 3))
    transform = rigid_from_quaternion(q, translation)
    expected = (transform @ np.column_stack([points, np.ones(20)]).T)[:3].T
    np.testing.assert_allclose(transform_points(transform, points), expected, atol=1e-9)
    np.testing.assert_allclose(transform_points(invert_rigid(transform), expected), points, atol=1e-9)


def test_neighbours_cancel() -> None:
    a_from_b = rigid_from_yaw(0.3, [1, 2, 3])
    b_from_c = rigid_from_yaw(-1.1, [4, 5, 6])
    points = np.array([[1.0, -2.0, 0.5]])
    np.testing.assert_allclose(
        transform_points(a_from_b @ b_from_c, points), transform_points(a_from_b, transform_points(b_from_c, points))
    )


def test_float32_points_far_from_the_origin_keep_float64_precision() -> None:
    moved = transform_points(rigid_from_yaw(0, [1e6, 0, 0]), np.array([[0.001, 0, 0]], np.float32))
    assert moved.dtype == np.float64
    assert moved[0, 0] - 1e6 == pytest.approx(0.001, rel=1e-6)


@given(angle=ANGLE)
def test_wrapped_angles_are_the_same_direction_in_range(angle: float) -> None:
    wrapped = float(wrap_angle_rad(angle))
    assert -np.pi <= wrapped < np.pi
    assert np.exp(1j * wrapped) == pytest.approx(np.exp(1j * angle), abs=1e-9)


def test_half_a_turn_wraps_to_minus_pi() -> None:
    np.testing.assert_allclose(wrap_angle_rad([np.pi, -np.pi, 3 * np.pi]), [-np.pi] * 3)


@pytest.mark.parametrize("q", [[0, 0, 0, 0], [np.nan, 0, 0, 1], [np.inf, 0, 0, 1]])
def test_a_quaternion_without_direction_is_named(q: list[float]) -> None:
    with pytest.raises(ValueError, match=r"quaternion must be finite and not zero, found \["):
        rotation_from_quaternion(q)


@given(q=quaternions(), t=translations, scale=st.tuples(*[st.floats(0.2, 500)] * 3), shear=st.floats(-300, 300))
def test_affine_inverse_equals_numpys(
    q: NDArray[np.float64], t: tuple[float, float, float], scale: tuple[float, float, float], shear: float
) -> None:
    affine = rigid_from_quaternion(q, np.array(t))
    linear = np.diag(scale)
    linear[0, 2] = shear  # a principal point, as in a projection
    affine[:3] = linear @ affine[:3]
    stacked = np.stack([affine, np.eye(4)])
    np.testing.assert_allclose(invert_affine(stacked), np.linalg.inv(stacked), rtol=1e-7, atol=1e-6)
    np.testing.assert_allclose(invert_affine(affine) @ affine, np.eye(4), atol=1e-6)
