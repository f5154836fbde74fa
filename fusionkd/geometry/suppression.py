"""Numba kernels of greedy suppression: each box is compared with the kept ones alone, until one is too near."""

from typing import Any

import numpy as np
from numba import njit

from fusionkd.geometry.iou import pair_iou


@njit(cache=True, nogil=True)
def circle_kept(xy_m: Any, radius_m: float) -> Any:
    """Indices of the points, best first, that have no better kept one within the radius, border included.

    Args:
        xy_m: (N, 2) float64, best first.
        radius_m: Radius of suppression.
    """
    kept, count = np.empty(len(xy_m), np.int64), 0
    limit = radius_m * radius_m
    for i in range(len(xy_m)):
        alone = True
        for k in range(count):
            dx, dy = xy_m[kept[k], 0] - xy_m[i, 0], xy_m[kept[k], 1] - xy_m[i, 1]
            if dx * dx + dy * dy <= limit:
                alone = False
                break
        if alone:
            kept[count] = i
            count += 1
    return kept[:count]


@njit(cache=True, nogil=True)
def rotated_kept(boxes: Any, iou: float) -> Any:
    """Indices of the rectangles, best first, that no better kept one overlaps more than ``iou``.

    Args:
        boxes: (N, 5) float64 rows (x, y, l, w, yaw), best first.
        iou: Largest overlap that two kept ones may have.
    """
    kept, count = np.empty(len(boxes), np.int64), 0
    polygon, spare = np.empty((20, 2)), np.empty((20, 2))
    for i in range(len(boxes)):
        alone = True
        for k in range(count):
            if pair_iou(boxes[kept[k]], boxes[i], polygon, spare) > iou:
                alone = False
                break
        if alone:
            kept[count] = i
            count += 1
    return kept[:count]
