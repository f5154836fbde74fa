"""Which points lie in which boxes."""

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from fusionkd.preprocess.box_tiles import Tiles, first_boxes, mark_held, tiled
from fusionkd.preprocess.cells import BLOCK
from fusionkd.preprocess.checks import checked_boxes, checked_count, checked_points
from fusionkd.preprocess.lanes import copy_point
from fusionkd.preprocess.recycling import recycled
from fusionkd.preprocess.threads import in_threads


def _checked_sizes(boxes: NDArray[Any]) -> NDArray[np.float64]:
    boxes = checked_boxes(boxes, name="boxes", columns=9, finite=7)
    if np.any(boxes[:, 3:6] < 0):
        row = int(np.argmax(np.any(boxes[:, 3:6] < 0, axis=1)))
        raise ValueError(f"boxes must have sizes of 0 or more, found {boxes[row, 3:6].tolist()} in row {row}.")
    return boxes


def _searched(points: NDArray[Any], boxes: NDArray[Any], threads: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    threads = checked_count(threads, name="threads")
    points = checked_points(points, name="points", columns=3, exact=False, keep_float64=True)
    boxes = _checked_sizes(boxes)
    if len(boxes) == 0:
        return np.full(len(points), -1, np.int64), np.zeros(0, np.int64)
    tiles, counts = tiled(boxes), []
    first_box = np.empty(len(points), np.int64)
    in_threads(
        lambda begin, end: counts.append(first_boxes(points, begin, end, tiles, first_box)),
        len(points),
        threads=threads,
    )
    return first_box, np.sum(counts, axis=0)


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
def _copy_outside(points: Any, tiles: Tiles, out: Any) -> int:
    """The points in no box, row after row; ``out`` has room for all points."""
    xy, tile, near = np.empty((2, BLOCK), np.float32), np.empty(BLOCK, np.int32), np.empty(BLOCK, np.int32)
    held = np.empty(BLOCK, np.uint8)
    flat, flat_out, at = points.reshape(-1), out.reshape(-1), 0
    for first in range(0, len(points), BLOCK):
        last = min(first + BLOCK, len(points))
        if mark_held(points, first, last, tiles, xy, tile, near, held) == 0:
            for k in range(5 * (last - first)):
                flat_out[5 * at + k] = flat[5 * first + k]
            at += last - first
            continue
        for i in range(last - first):
            copy_point(out, at, points, first + i)
            at += 1 - held[i]
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
    boxes = _checked_sizes(boxes)
    if len(boxes) == 0:
        return np.concatenate([points, added])
    out = recycled((len(points) + len(added), 5), np.float32)
    kept = _copy_outside(points, tiled(boxes), out)
    out[kept : kept + len(added)] = added
    return out[: kept + len(added)]
