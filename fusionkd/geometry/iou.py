"""Overlap of turned rectangles seen from above."""

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray


@njit(cache=True, nogil=True)
def _clip(polygon: Any, count: int, half: Any, axis: int, sign: float, out: Any) -> int:
    """Cuts a convex polygon at one side of an axis-aligned rectangle (Sutherland and Hodgman, 1974)."""
    kept = 0
    for k in range(count):
        here, there = polygon[k], polygon[(k + 1) % count]
        inside = half - sign * here[axis]
        beyond = half - sign * there[axis]
        if inside >= 0:
            out[kept, 0], out[kept, 1] = here[0], here[1]
            kept += 1
        if (inside > 0 and beyond < 0) or (inside < 0 and beyond > 0):
            share = inside / (inside - beyond)
            out[kept, 0] = here[0] + share * (there[0] - here[0])
            out[kept, 1] = here[1] + share * (there[1] - here[1])
            kept += 1
    return kept


@njit(cache=True, nogil=True)
def _overlap(a: Any, b: Any, polygon: Any, spare: Any) -> float:
    """Shared area: rectangle b in the axes of a, clipped at a's four sides."""
    cos_a, sin_a = np.cos(a[4]), np.sin(a[4])
    cos, sin = np.cos(b[4] - a[4]), np.sin(b[4] - a[4])
    dx, dy = b[0] - a[0], b[1] - a[1]
    x, y = dx * cos_a + dy * sin_a, dy * cos_a - dx * sin_a
    for k in range(4):
        along = b[2] * 0.5 if k == 0 or k == 3 else -b[2] * 0.5
        across = b[3] * 0.5 if k < 2 else -b[3] * 0.5
        polygon[k, 0] = x + along * cos - across * sin
        polygon[k, 1] = y + along * sin + across * cos
    count = _clip(polygon, 4, a[2] * 0.5, 0, 1.0, spare)
    count = _clip(spare, count, a[2] * 0.5, 0, -1.0, polygon)
    count = _clip(polygon, count, a[3] * 0.5, 1, 1.0, spare)
    count = _clip(spare, count, a[3] * 0.5, 1, -1.0, polygon)
    area = 0.0
    for k in range(count):
        here, there = polygon[k], polygon[(k + 1) % count]
        area += here[0] * there[1] - there[0] * here[1]
    return max(0.5 * area, 0.0)


@njit(cache=True, nogil=True)
def _rotated_iou(boxes_a: Any, boxes_b: Any) -> Any:
    out = np.zeros((len(boxes_a), len(boxes_b)))
    polygon, spare = np.empty((8, 2)), np.empty((8, 2))
    for i in range(len(boxes_a)):
        for j in range(len(boxes_b)):
            a, b = boxes_a[i], boxes_b[j]
            reach = 0.5 * (np.hypot(a[2], a[3]) + np.hypot(b[2], b[3]))
            area_a, area_b = a[2] * a[3], b[2] * b[3]
            apart = np.hypot(a[0] - b[0], a[1] - b[1]) >= reach
            if apart or area_a == 0 or area_b == 0:
                continue
            shared = min(_overlap(a, b, polygon, spare), area_a, area_b)
            out[i, j] = shared / (area_a + area_b - shared)
    return out


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
    return np.asarray(_rotated_iou(_checked(boxes_a, "boxes_a"), _checked(boxes_b, "boxes_b")))


def _checked(boxes: NDArray[Any], name: str) -> NDArray[np.float64]:
    array = np.ascontiguousarray(boxes, dtype=np.float64)
    if array.ndim != 2 or array.shape[1] != 5:
        raise ValueError(f"{name} must have shape (boxes, 5): x, y, l, w, yaw; found {array.shape}.")
    if not np.all(np.isfinite(array)):
        raise ValueError(f"{name} must be finite, found NaN or infinity.")
    if np.any(array[:, 2:4] < 0):
        raise ValueError(f"{name} must have lengths and widths of 0 or more, found {array[:, 2:4].min()}.")
    return array
