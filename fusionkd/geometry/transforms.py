"""Rigid transforms between named frames.

A transform is a (4, 4) float64 matrix named destination first: ``ego_from_lidar`` takes points of
the LiDAR frame to the ego frame, so that neighbours cancel in
``global_from_ego @ ego_from_lidar``.
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.floating[Any]]

_NEXT, _LAST = np.array([1, 2, 0]), np.array([2, 0, 1])
"""Of three axes the one after each, and the one after that."""


def rotation_from_quaternion(wxyz: ArrayLike) -> NDArray[np.float64]:
    """Rotation matrix of a quaternion.

    Args:
        wxyz: Quaternion(s), scalar first, (..., 4); normalised here.

    Returns:
        Rotation matrices, (..., 3, 3).

    Raises:
        ValueError: If a quaternion has no length or is not finite.
    """
    q = np.asarray(wxyz, dtype=np.float64)
    norm = np.linalg.norm(q, axis=-1, keepdims=True)
    if not np.all(np.isfinite(norm)) or np.any(norm < 1e-9):
        raise ValueError(f"A rotation quaternion must be finite and not zero, found {wxyz!r}.")
    w, x, y, z = np.moveaxis(q / norm, -1, 0)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def quaternion_from_yaw(yaw_rad: float) -> tuple[float, float, float, float]:
    """Quaternion (w, x, y, z) of a turn about +z."""
    return (float(np.cos(yaw_rad / 2)), 0.0, 0.0, float(np.sin(yaw_rad / 2)))


def quaternion_from_rotation(rotation: ArrayLike) -> tuple[float, float, float, float]:
    """Quaternion (w, x, y, z), w >= 0, of a (3, 3) rotation matrix."""
    m = np.asarray(rotation, dtype=np.float64)
    # The largest of the four squared components is divided by, so that none is near zero.
    squared = np.array(
        [
            1 + m[0, 0] + m[1, 1] + m[2, 2],
            1 + m[0, 0] - m[1, 1] - m[2, 2],
            1 - m[0, 0] + m[1, 1] - m[2, 2],
            1 - m[0, 0] - m[1, 1] + m[2, 2],
        ]
    )
    products = np.array(
        [
            [squared[0], m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1]],
            [m[2, 1] - m[1, 2], squared[1], m[1, 0] + m[0, 1], m[0, 2] + m[2, 0]],
            [m[0, 2] - m[2, 0], m[1, 0] + m[0, 1], squared[2], m[2, 1] + m[1, 2]],
            [m[1, 0] - m[0, 1], m[0, 2] + m[2, 0], m[2, 1] + m[1, 2], squared[3]],
        ]
    )
    q = products[int(np.argmax(squared))]
    q = q / np.linalg.norm(q)
    w, x, y, z = q if q[0] >= 0 else -q
    return (float(w), float(x), float(y), float(z))


def rigid_from_quaternion(wxyz: ArrayLike, translation_m: ArrayLike) -> NDArray[np.float64]:
    """(4, 4) transform of a quaternion (w, x, y, z) and a translation in metres."""
    out = np.eye(4)
    out[:3, :3] = rotation_from_quaternion(wxyz)
    out[:3, 3] = np.asarray(translation_m, dtype=np.float64)
    return out


def rigid_from_yaw(yaw_rad: float, translation_m: ArrayLike) -> NDArray[np.float64]:
    """(4, 4) transform of a turn about +z and a translation in metres."""
    return rigid_from_quaternion(quaternion_from_yaw(yaw_rad), translation_m)


def invert_rigid(a_from_b: FloatArray) -> NDArray[np.float64]:
    """``b_from_a`` of a rigid (..., 4, 4) transform, without a general matrix inverse."""
    transform = np.asarray(a_from_b, dtype=np.float64)
    rotation = np.swapaxes(transform[..., :3, :3], -1, -2)
    out = np.zeros_like(transform)
    out[..., :3, :3] = rotation
    out[..., :3, 3] = -(rotation @ transform[..., :3, 3:])[..., 0]
    out[..., 3, 3] = 1.0
    return out


def invert_affine(a_from_b: FloatArray) -> NDArray[np.float64]:
    """``b_from_a`` of an affine (..., 4, 4) transform, by cofactors.

    A general inverse goes to LAPACK, whose threads make four numbers take 30 ms now and then on a busy machine.

    Args:
        a_from_b: Transforms whose last row is (0, 0, 0, 1); the linear part may be scaled, sheared, a projection.
    """
    transform = np.asarray(a_from_b, dtype=np.float64)
    rows = transform[..., :3, :3]
    # Cross products of the other two rows; np.cross costs more than all the rest together.
    next_row, last_row = rows[..., _NEXT, :], rows[..., _LAST, :]
    cofactors = next_row[..., _NEXT] * last_row[..., _LAST] - next_row[..., _LAST] * last_row[..., _NEXT]
    determinant = (rows[..., 0, :] * cofactors[..., 0, :]).sum(axis=-1)
    out = np.zeros_like(transform)
    out[..., :3, :3] = np.swapaxes(cofactors, -1, -2) / determinant[..., None, None]
    out[..., :3, 3] = -(out[..., :3, :3] @ transform[..., :3, 3:])[..., 0]
    out[..., 3, 3] = 1.0
    return out


def transform_points(a_from_b: FloatArray, points_b: FloatArray) -> NDArray[np.float64]:
    """Points (N, 3) of frame b in frame a, in metres."""
    rotation, translation = a_from_b[:3, :3], a_from_b[:3, 3]
    return np.asarray(points_b[:, :3] @ rotation.T + translation, dtype=np.float64)


def yaw_of(a_from_b: FloatArray) -> float:
    """Heading in frame a, radians, of frame b's x axis seen from above."""
    return float(np.arctan2(a_from_b[1, 0], a_from_b[0, 0]))


def wrap_angle_rad(angle_rad: ArrayLike) -> NDArray[np.float64]:
    """Angle(s) wrapped to [-pi, pi)."""
    return (np.asarray(angle_rad, dtype=np.float64) + np.pi) % (2 * np.pi) - np.pi
