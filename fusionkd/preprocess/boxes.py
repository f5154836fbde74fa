"""Which points lie in which boxes."""

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from fusionkd.preprocess.checks import checked_boxes, checked_points

_TILES = 64


@njit(cache=True, nogil=True)
def _inside(x: Any, y: Any, z: Any, box: Any, cos: Any, sin: Any) -> Any:
    dx, dy, dz = x - box[0], y - box[1], z - box[2]
    along = dx * cos + dy * sin
    across = dy * cos - dx * sin
    return abs(along) <= box[3] * 0.5 and abs(across) <= box[4] * 0.5 and abs(dz) <= box[5] * 0.5


@njit(cache=True, nogil=True)
def _tile_lists(boxes: Any, half_x: Any, half_y: Any, origin_scale: Any, tiles: int) -> Any:
    """Per tile the boxes that reach into it, as one list and where each tile's part starts."""
    num = len(boxes)
    span = np.empty((num, 4), np.int64)  # first and last column, first and last row
    start = np.zeros(tiles * tiles + 1, np.int64)
    for b in range(num):
        span[b, 0] = int((boxes[b, 0] - half_x[b] - origin_scale[0]) * origin_scale[2])
        span[b, 1] = min(int((boxes[b, 0] + half_x[b] - origin_scale[0]) * origin_scale[2]), tiles - 1)
        span[b, 2] = int((boxes[b, 1] - half_y[b] - origin_scale[1]) * origin_scale[3])
        span[b, 3] = min(int((boxes[b, 1] + half_y[b] - origin_scale[1]) * origin_scale[3]), tiles - 1)
        for row in range(span[b, 2], span[b, 3] + 1):
            for column in range(span[b, 0], span[b, 1] + 1):
                start[row * tiles + column + 1] += 1
    for tile in range(tiles * tiles):
        start[tile + 1] += start[tile]
    at = start[:-1].copy()
    member = np.empty(start[-1], np.int64)
    for b in range(num):
        for row in range(span[b, 2], span[b, 3] + 1):
            for column in range(span[b, 0], span[b, 1] + 1):
                member[at[row * tiles + column]] = b
                at[row * tiles + column] += 1
    return start, member


@njit(cache=True, nogil=True)
def _search(points: Any, boxes: Any, tiles: int) -> Any:
    """First box of each point, and points per box.

    Boxes are sorted into tiles over their common extent first, so that a point is compared only
    with the boxes that reach into its tile.
    """
    num = len(boxes)
    first = np.full(len(points), -1, np.int64)
    counts = np.zeros(num, np.int64)
    if num == 0:
        return first, counts
    cos, sin = np.cos(boxes[:, 6]), np.sin(boxes[:, 6])
    half_x = 0.5 * (np.abs(cos) * boxes[:, 3] + np.abs(sin) * boxes[:, 4]) + 1e-6
    half_y = 0.5 * (np.abs(sin) * boxes[:, 3] + np.abs(cos) * boxes[:, 4]) + 1e-6
    x_low, x_high = np.min(boxes[:, 0] - half_x), np.max(boxes[:, 0] + half_x)
    y_low, y_high = np.min(boxes[:, 1] - half_y), np.max(boxes[:, 1] + half_y)
    per_x, per_y = tiles / (x_high - x_low), tiles / (y_high - y_low)
    start, member = _tile_lists(boxes, half_x, half_y, np.array([x_low, y_low, per_x, per_y]), tiles)
    for i in range(len(points)):
        x, y, z = np.float64(points[i, 0]), np.float64(points[i, 1]), np.float64(points[i, 2])
        if not (x_low <= x <= x_high and y_low <= y <= y_high):
            continue
        column = min(int((x - x_low) * per_x), tiles - 1)
        row = min(int((y - y_low) * per_y), tiles - 1)
        tile = row * tiles + column
        for k in range(start[tile], start[tile + 1]):
            box = member[k]
            if _inside(x, y, z, boxes[box], cos[box], sin[box]):
                counts[box] += 1
                if first[i] < 0:
                    first[i] = box
    return first, counts


def _searched(points: NDArray[Any], boxes: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    points = checked_points(points, name="points", columns=3, exact=False, keep_float64=True)
    boxes = checked_boxes(boxes, name="boxes", columns=9, finite=7)
    if np.any(boxes[:, 3:6] < 0):
        row = int(np.argmax(np.any(boxes[:, 3:6] < 0, axis=1)))
        raise ValueError(f"boxes must have sizes of 0 or more, found {boxes[row, 3:6].tolist()} in row {row}.")
    first, counts = _search(points, boxes, _TILES)
    return first, counts


def points_in_boxes(points: NDArray[Any], boxes: NDArray[Any]) -> NDArray[np.int64]:
    """The box that each point lies in.

    Borders count as inside, as in nuScenes' devkit (``points_in_box``).

    Args:
        points: (P, >=3) float32 or float64: x, y, z in metres; NaN or infinity lies in no box.
        boxes: (N, 9) rows (x, y, z, l, w, h, yaw, vx, vy) in the same frame; the velocity is not read.

    Returns:
        (P,) int64 index of the first box that holds the point, -1 where none does.

    Raises:
        ValueError: If a shape is another, or a box isn't finite or has a negative size.
    """
    return _searched(points, boxes)[0]


def count_points_in_boxes(points: NDArray[Any], boxes: NDArray[Any]) -> NDArray[np.int64]:
    """Points in each box, (N,) int64; a point in several boxes counts in each.

    Args and errors are those of ``points_in_boxes``.
    """
    return _searched(points, boxes)[1]
