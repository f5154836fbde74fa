"""Overlap of turned rectangles seen from above."""

import math
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray


@njit(cache=True, nogil=True)
def _clip(source: Any, count: int, axis: int, sign: float, half: float, target: Any) -> int:
    """Cuts a convex polygon where sign * coordinate > half (Sutherland and Hodgman, 1974)."""
    kept = 0
    for k in range(count):
        after = (k + 1) % count
        inside = half - sign * source[k, axis]
        beyond = half - sign * source[after, axis]
        if inside >= 0:
            target[kept, 0], target[kept, 1] = source[k, 0], source[k, 1]
            kept += 1
        if (inside > 0 and beyond < 0) or (inside < 0 and beyond > 0):
            share = inside / (inside - beyond)
            target[kept, 0] = source[k, 0] + share * (source[after, 0] - source[k, 0])
            target[kept, 1] = source[k, 1] + share * (source[after, 1] - source[k, 1])
            kept += 1
    return kept


@njit(cache=True, nogil=True)
def _shared_area(a: Any, b: Any, polygon: Any, spare: Any) -> float:
    """Area of rectangle b, in the axes of a, clipped at a's four sides."""
    cos_a, sin_a = math.cos(a[4]), math.sin(a[4])
    cos, sin = math.cos(b[4] - a[4]), math.sin(b[4] - a[4])
    dx, dy = b[0] - a[0], b[1] - a[1]
    x, y = dx * cos_a + dy * sin_a, dy * cos_a - dx * sin_a
    for k in range(4):
        along = b[2] * 0.5 if k == 0 or k == 3 else -b[2] * 0.5
        across = b[3] * 0.5 if k < 2 else -b[3] * 0.5
        polygon[k, 0] = x + along * cos - across * sin
        polygon[k, 1] = y + along * sin + across * cos
    count = 4
    for axis in range(2):
        half = a[2 + axis] * 0.5
        count = _clip(polygon, count, axis, 1.0, half, spare)
        count = _clip(spare, count, axis, -1.0, half, polygon)
    twice = 0.0
    for k in range(count):
        after = (k + 1) % count
        twice += polygon[k, 0] * polygon[after, 1] - polygon[after, 0] * polygon[k, 1]
    return max(0.5 * twice, 0.0)


@njit(cache=True, nogil=True)
def pair_iou(a: Any, b: Any, polygon: Any, spare: Any) -> float:
    """Intersection over union of two rectangles (x, y, l, w, yaw); ``polygon`` and ``spare`` are (20, 2) to work in."""
    reach = 0.5 * (math.hypot(a[2], a[3]) + math.hypot(b[2], b[3]))
    area_a, area_b = a[2] * a[3], b[2] * b[3]
    if math.hypot(a[0] - b[0], a[1] - b[1]) >= reach or area_a <= 0 or area_b <= 0:
        return 0.0
    shared = min(_shared_area(a, b, polygon, spare), area_a, area_b)
    return float(shared / (area_a + area_b - shared))


@njit(cache=True, nogil=True)
def _rotated_iou(boxes_a: Any, boxes_b: Any, iou: Any) -> None:
    # Exact arithmetic needs 8 corners; 1.5 times as many per cut is the bound whatever rounding does.
    polygon, spare = np.empty((20, 2)), np.empty((20, 2))
    for i in range(len(boxes_a)):
        for j in range(len(boxes_b)):
            iou[i, j] = pair_iou(boxes_a[i], boxes_b[j], polygon, spare)


def rotated_iou_bev(boxes_a: NDArray[Any], boxes_b: NDArray[Any]) -> NDArray[np.float64]:
    """Intersection over union of all pairs of turned rectangles.

    Args:
        boxes_a: (N, 5) rows (x, y, l, w, yaw): metres and radians, the length along the heading.
        boxes_b: (M, 5), the same.

    Returns:
        (N, M) float64 in [0, 1]; 0 where a box has no area.

    Raises:
        ValueError: If a shape is another, a number isn't finite or a size is negative.
    """
    a, b = checked_rectangles(boxes_a, "boxes_a"), checked_rectangles(boxes_b, "boxes_b")
    iou = np.zeros((len(a), len(b)))
    _rotated_iou(a, b, iou)
    return iou


def checked_rectangles(boxes: NDArray[Any], name: str) -> NDArray[np.float64]:
    """Rows (x, y, l, w, yaw) as contiguous float64.

    Raises:
        ValueError: If the shape is another, a number isn't finite or a size is negative.
    """
    array = np.ascontiguousarray(boxes, dtype=np.float64)
    if array.ndim != 2 or array.shape[1] != 5:
        raise ValueError(f"{name} must have shape (boxes, 5): x, y, l, w, yaw; found {array.shape}.")
    if not np.all(np.isfinite(array)):
        raise ValueError(f"{name} must be finite, found NaN or infinity.")
    if np.any(array[:, 2:4] < 0):
        raise ValueError(f"{name} must have lengths and widths of 0 or more, found {array[:, 2:4].min()}.")
    return array
