"""Which points lie in which boxes."""

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from fusionkd.preprocess.cells import BLOCK
from fusionkd.preprocess.checks import checked_boxes, checked_count, checked_points
from fusionkd.preprocess.lanes import copy_point
from fusionkd.preprocess.recycling import recycled
from fusionkd.preprocess.threads import in_threads

_TILES = 64
_MARGIN_M = 1e-6


@njit(cache=True, nogil=True)
def _tile_lists(span: Any, tiles: int) -> Any:
    """Per tile the boxes that reach into it, as one list and where each tile's part starts."""
    start = np.zeros(tiles * tiles + 1, np.int64)
    for b in range(len(span)):
        for row in range(span[b, 2], span[b, 3] + 1):
            for column in range(span[b, 0], span[b, 1] + 1):
                start[row * tiles + column] += 1
    for tile in range(tiles * tiles):
        start[tile + 1] += start[tile]
    member = np.empty(start[-1], np.int64)
    for b in range(len(span) - 1, -1, -1):  # filled from each part's end, so that it ascends
        for row in range(span[b, 2], span[b, 3] + 1):
            for column in range(span[b, 0], span[b, 1] + 1):
                start[row * tiles + column] -= 1
                member[start[row * tiles + column]] = b
    return start, member


@njit(cache=True, nogil=True)
def _near_boxes(points: Any, first: int, last: int, bounds: Any, start: Any, tiles: int, near: Any, tile: Any) -> int:
    """Those of some points whose tile holds a box, and their tiles; returns how many."""
    x_low, x_high, y_low, y_high, per_x, per_y = bounds
    found = 0
    for i in range(first, last):
        x, y = np.float64(points[i, 0]), np.float64(points[i, 1])
        # Without `and`, and written in any case: most points are near no box, but which ones can't be guessed.
        inside = (x >= x_low) & (x <= x_high) & (y >= y_low) & (y <= y_high)
        x, y = (x if inside else x_low), (y if inside else y_low)
        here = min(int((y - y_low) * per_y), tiles - 1) * tiles + min(int((x - x_low) * per_x), tiles - 1)
        near[found], tile[found] = i, here
        found += inside & (start[here] < start[here + 1])
    return found


@njit(cache=True, nogil=True)
def _search(
    points: Any, begin: int, end: int, boxes: Any, bounds: Any, start: Any, member: Any, tiles: int, first: Any
) -> Any:
    """First box of each point from ``begin`` to ``end``, into ``first``; returns how many of them each box holds."""
    counts = np.zeros(len(boxes), np.int64)
    near, tile = np.empty(BLOCK, np.int64), np.empty(BLOCK, np.int64)
    first[begin:end] = -1
    for block in range(begin, end, BLOCK):
        found = _near_boxes(points, block, min(block + BLOCK, end), bounds, start, tiles, near, tile)
        for j in range(found):
            i = near[j]
            x, y, z = np.float64(points[i, 0]), np.float64(points[i, 1]), np.float64(points[i, 2])
            for k in range(start[tile[j]], start[tile[j] + 1]):
                b = member[k]
                dx, dy, dz = x - boxes[b, 0], y - boxes[b, 1], z - boxes[b, 2]
                along = dx * boxes[b, 6] + dy * boxes[b, 7]
                across = dy * boxes[b, 6] - dx * boxes[b, 7]
                if abs(along) <= boxes[b, 3] and abs(across) <= boxes[b, 4] and abs(dz) <= boxes[b, 5]:
                    counts[b] += 1
                    if first[i] < 0:
                        first[i] = b
    return counts


def _tiled(boxes: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Where the tiles lie (low and high x, low and high y, tiles per metre in x and y) and each box's span of them."""
    cos, sin = np.abs(np.cos(boxes[:, 6])), np.abs(np.sin(boxes[:, 6]))
    # The margin keeps a point on a border, off by a rounding, within the tiles of its box.
    reach_x = (cos * boxes[:, 3] + sin * boxes[:, 4]) / 2 + _MARGIN_M
    reach_y = (sin * boxes[:, 3] + cos * boxes[:, 4]) / 2 + _MARGIN_M
    sides = np.stack([boxes[:, 0] - reach_x, boxes[:, 0] + reach_x, boxes[:, 1] - reach_y, boxes[:, 1] + reach_y], 1)
    x_low, x_high, y_low, y_high = sides[:, 0].min(), sides[:, 1].max(), sides[:, 2].min(), sides[:, 3].max()
    per_x, per_y = _TILES / (x_high - x_low), _TILES / (y_high - y_low)
    span = (sides - [x_low, x_low, y_low, y_low]) * [per_x, per_x, per_y, per_y]  # (N, 4)
    return np.array([x_low, x_high, y_low, y_high, per_x, per_y]), np.clip(span, 0, _TILES - 1).astype(np.int64)


def _searched(points: NDArray[Any], boxes: NDArray[Any], threads: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    threads = checked_count(threads, name="threads")
    points = checked_points(points, name="points", columns=3, exact=False, keep_float64=True)
    boxes = checked_boxes(boxes, name="boxes", columns=9, finite=7)
    if np.any(boxes[:, 3:6] < 0):
        row = int(np.argmax(np.any(boxes[:, 3:6] < 0, axis=1)))
        raise ValueError(f"boxes must have sizes of 0 or more, found {boxes[row, 3:6].tolist()} in row {row}.")
    if len(boxes) == 0:
        return np.full(len(points), -1, np.int64), np.zeros(0, np.int64)
    bounds, span = _tiled(boxes)
    start, member = _tile_lists(span, _TILES)
    turn = np.stack([np.cos(boxes[:, 6]), np.sin(boxes[:, 6])], axis=1)
    halved = np.concatenate([boxes[:, :3], boxes[:, 3:6] / 2, turn], axis=1)  # (N, 8)
    first, counts = np.empty(len(points), np.int64), []

    def search(begin: int, end: int) -> None:
        counts.append(_search(points, begin, end, halved, bounds, start, member, _TILES, first))

    in_threads(search, len(points), threads=threads)
    return first, np.sum(counts, axis=0)


def points_in_boxes(points: NDArray[Any], boxes: NDArray[Any], *, threads: int = 1) -> NDArray[np.int64]:
    """The box that each point lies in.

    Borders count as inside, as in nuScenes' devkit (``points_in_box``).

    Args:
        points: (P, >=3) float32 or float64: x, y, z in metres; NaN or infinity lies in no box.
        boxes: (N, 9) rows (x, y, z, l, w, h, yaw, vx, vy) in the same frame; the velocity is not read.
        threads: Threads that share the points; the result is the same.

    Returns:
        (P,) int64 index of the first box that holds the point, -1 where none does.

    Raises:
        ValueError: If a shape is another, or a box isn't finite or has a negative size.
    """
    return _searched(points, boxes, threads)[0]


def count_points_in_boxes(points: NDArray[Any], boxes: NDArray[Any], *, threads: int = 1) -> NDArray[np.int64]:
    """Points in each box, (N,) int64; a point in several boxes counts in each.

    Args and errors are those of ``points_in_boxes``.
    """
    return _searched(points, boxes, threads)[1]


@njit(cache=True, nogil=True)
def _copy_outside(points: Any, first: Any, out: Any) -> int:
    """The points in no box, row after row; ``out`` has room for all points."""
    at = 0
    for i in range(len(points)):
        copy_point(out, at, points, i)
        at += first[i] < 0
    return at


def replace_points_in_boxes(
    points: NDArray[np.float32], boxes: NDArray[Any], added: NDArray[np.float32]
) -> NDArray[np.float32]:
    """The points that lie in none of the boxes, followed by others: what pasting objects does to a cloud.

    Args:
        points: (P, 5) float32.
        boxes: (N, 9), see ``points_in_boxes``.
        added: (Q, 5) float32.

    Returns:
        (P' + Q, 5) float32, a new array.

    Raises:
        ValueError: If a shape is another, or a box isn't finite or has a negative size.
    """
    points, added = checked_points(points, name="points"), checked_points(added, name="added")
    out = recycled((len(points) + len(added), 5), np.float32)
    kept = _copy_outside(points, points_in_boxes(points, boxes), out)
    out[kept : kept + len(added)] = added
    return out[: kept + len(added)]
