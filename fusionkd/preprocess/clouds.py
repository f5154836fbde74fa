"""Whole clouds: the young part of one, and one in another frame."""

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from fusionkd.preprocess.checks import checked_points
from fusionkd.preprocess.lanes import copy_point
from fusionkd.preprocess.recycling import recycled


@njit(cache=True, nogil=True)
def _count_young(points: Any, max_age_s: Any) -> Any:
    """How many points are young, and how many before the first that isn't."""
    young, leading = 0, len(points)
    for i in range(len(points)):
        is_young = points[i, 4] <= max_age_s
        young += is_young
        leading = leading if is_young else min(leading, i)
    return young, leading


@njit(cache=True, nogil=True)
def _take_young(points: Any, max_age_s: Any, young: int) -> Any:
    out = np.empty((young + 1, 5), np.float32)  # a point that isn't young is written, too, and then overwritten
    at = 0
    for i in range(len(points)):
        copy_point(out, at, points, i)
        at += points[i, 4] <= max_age_s
    return out[:young]


def younger(points: NDArray[np.float32], max_age_s: float) -> NDArray[np.float32]:
    """The points up to an age, in their order.

    Fused sweeps come newest first, so that the young ones are a part of the same memory; elsewhere they are copied.

    Args:
        points: (P, 5) float32: x, y, z, intensity, age.
        max_age_s: Compared in float32; a point whose age is NaN is left out.

    Returns:
        (P', 5) float32: ``points`` or a part of it where no copy is needed, so not to be written to.

    Raises:
        ValueError: If ``points`` is not (P, 5) of floats.
    """
    points = checked_points(points, name="points")
    oldest = np.float32(max_age_s)
    young, leading = _count_young(points, oldest)
    taken: NDArray[np.float32] = points[:young] if young == leading else _take_young(points, oldest, young)
    return taken


@njit(cache=True, nogil=True)
def _move(points: Any, matrix: Any, out: Any) -> None:
    for i in range(len(points)):
        x, y, z = points[i, 0], points[i, 1], points[i, 2]
        for axis in range(3):
            out[i, axis] = matrix[axis, 0] * x + matrix[axis, 1] * y + matrix[axis, 2] * z + matrix[axis, 3]
        out[i, 3], out[i, 4] = points[i, 3], points[i, 4]


def moved_points(points: NDArray[np.float32], new_from_old: NDArray[np.float64]) -> NDArray[np.float32]:
    """Points in another frame, in one pass.

    Args:
        points: (P, 5) float32: x, y, z, and two columns that stay as they are.
        new_from_old: (4, 4) affine map; products and sums are float32.

    Returns:
        (P, 5) float32, a new array.

    Raises:
        ValueError: If ``points`` is not (P, 5) of floats.
    """
    points = checked_points(points, name="points")
    out = recycled(points.shape, np.float32)
    _move(points, np.ascontiguousarray(new_from_old[:3], np.float32), out)
    return out
