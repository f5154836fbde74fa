"""Boxes sorted into square tiles seen from above, so that a point is compared with those near it alone."""

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from fusionkd.preprocess.cells import BLOCK

_SIDE = 64
"""Tiles along each side of the square that all boxes lie in."""

_MARGIN_M = 1e-6
_MARGIN = 2e-7
"""With both a box reaches into all tiles of the points it holds: the rounding of its turned sides is far below the
first, that of a number to float32 below the second, a share of its size."""


class Tiles(NamedTuple):
    """Boxes and where they lie.

    Tiles are found in float32, by steps that keep the order of numbers: a point between a box's sides can't fall in
    another tile than those between the tiles of the sides.

    Attributes:
        boxes: Rows (x, y, z, half of l, w, h, cos, sin of the yaw), (N, 8).
        range_m: Low and high x, low and high y of all boxes, (4,) float32.
        per_m: Tiles per metre along x and y, (2,) float32.
        start: Where each tile's part of ``member`` starts, (_SIDE**2 + 2,) int32; the last tile, of points out of
            range, has none.
        member: Boxes that reach into each tile, ascending.
    """

    boxes: NDArray[np.float64]
    range_m: NDArray[np.float32]
    per_m: NDArray[np.float32]
    start: NDArray[np.int32]
    member: NDArray[np.int32]


@njit(cache=True, nogil=True)
def _sides(boxes: Any, halved: Any) -> Any:
    """Low and high x, low and high y of each box, rounded outwards; fills the rows of ``Tiles.boxes``."""
    sides = np.empty((len(boxes), 4), np.float32)
    for b in range(len(boxes)):
        cos, sin = np.cos(boxes[b, 6]), np.sin(boxes[b, 6])
        for axis in range(3):
            halved[b, axis], halved[b, 3 + axis] = boxes[b, axis], boxes[b, 3 + axis] / 2
        halved[b, 6], halved[b, 7] = cos, sin
        length, width = halved[b, 3], halved[b, 4]
        for axis in range(2):
            reach = abs(cos) * length + abs(sin) * width if axis == 0 else abs(sin) * length + abs(cos) * width
            reach += _MARGIN_M + _MARGIN * (abs(boxes[b, axis]) + reach)
            sides[b, 2 * axis] = boxes[b, axis] - reach
            sides[b, 2 * axis + 1] = boxes[b, axis] + reach
    return sides


@njit(cache=True, nogil=True)
def _tile(value: Any, low: Any, per_m: Any) -> Any:
    return min(np.int32((value - low) * per_m), np.int32(_SIDE - 1))


@njit(cache=True, nogil=True)
def tiled(boxes: Any) -> Tiles:
    """The tiles of boxes (N, 9), at least one."""
    halved = np.empty((len(boxes), 8))
    sides = _sides(boxes, halved)
    range_m, per_m = np.empty(4, np.float32), np.empty(2, np.float32)
    span = np.empty((len(boxes), 4), np.int32)
    for axis in range(2):
        low, high = sides[:, 2 * axis].min(), sides[:, 2 * axis + 1].max()
        range_m[2 * axis], range_m[2 * axis + 1], per_m[axis] = low, high, np.float32(_SIDE) / (high - low)
        for b in range(len(boxes)):
            for end in range(2):
                span[b, 2 * axis + end] = _tile(sides[b, 2 * axis + end], low, per_m[axis])
    start = np.zeros(_SIDE * _SIDE + 2, np.int32)
    for b in range(len(span)):
        for row in range(span[b, 2], span[b, 3] + 1):
            for column in range(span[b, 0], span[b, 1] + 1):
                start[row * _SIDE + column] += 1
    for tile in range(len(start) - 1):
        start[tile + 1] += start[tile]
    member = np.empty(start[-1], np.int32)
    for b in range(len(span) - 1, -1, -1):  # filled from each part's end, so that it ascends
        for row in range(span[b, 2], span[b, 3] + 1):
            for column in range(span[b, 0], span[b, 1] + 1):
                start[row * _SIDE + column] -= 1
                member[start[row * _SIDE + column]] = b
    return Tiles(halved, range_m, per_m, start, member)


@njit(cache=True, nogil=True)
def near_boxes(points: Any, first: int, last: int, tiles: Tiles, xy: Any, tile: Any, near: Any) -> Any:
    """Those of some points whose tile holds a box.

    Args:
        points: (P, >=3) floating.
        first: First point.
        last: The point after the last, at most ``BLOCK`` further.
        tiles: The boxes.
        xy: (2, BLOCK) float32 to work in.
        tile: The tile of each point near a box, (BLOCK,) int32.
        near: Its number less ``first``, (BLOCK,) int32.

    Returns:
        How many there are.
    """
    x_low, x_high, y_low, y_high = tiles.range_m
    per_x, per_y = tiles.per_m
    x, y = xy[0], xy[1]
    for i in range(last - first):
        x[i], y[i] = points[first + i, 0], points[first + i, 1]
    for i in range(last - first):
        inside = (x[i] >= x_low) & (x[i] <= x_high) & (y[i] >= y_low) & (y[i] <= y_high)  # NaN isn't
        column = _tile(x[i] if inside else x_low, x_low, per_x)
        row = _tile(y[i] if inside else y_low, y_low, per_y)
        tile[i] = row * np.int32(_SIDE) + column if inside else np.int32(_SIDE * _SIDE)
    found = np.uint32(0)
    for i in range(last - first):
        # Written in any case: which points are near a box can't be guessed.
        here = np.uint32(tile[i])
        near[found], tile[found] = i, here
        found += np.uint32(tiles.start[here] < tiles.start[here + np.uint32(1)])
    return np.int64(found)


@njit(cache=True, nogil=True)
def is_held(points: Any, i: int, boxes: Any, b: int) -> Any:
    """Whether a box holds a point, borders included, in float64."""
    dx, dy = np.float64(points[i, 0]) - boxes[b, 0], np.float64(points[i, 1]) - boxes[b, 1]
    dz = np.float64(points[i, 2]) - boxes[b, 2]
    along = dx * boxes[b, 6] + dy * boxes[b, 7]
    across = dy * boxes[b, 6] - dx * boxes[b, 7]
    return (abs(along) <= boxes[b, 3]) & (abs(across) <= boxes[b, 4]) & (abs(dz) <= boxes[b, 5])


@njit(cache=True, nogil=True)
def mark_held(points: Any, first: int, last: int, tiles: Tiles, xy: Any, tile: Any, near: Any, held: Any) -> int:
    """Sets ``held[:last - first]`` to 1 for points that a box holds, else 0; returns how many those are."""
    held[: last - first] = 0
    total = 0
    for j in range(near_boxes(points, first, last, tiles, xy, tile, near)):
        inside = False
        for k in range(tiles.start[tile[j]], tiles.start[tile[j] + 1]):
            inside |= is_held(points, first + near[j], tiles.boxes, tiles.member[k])
        held[near[j]] = inside
        total += inside
    return total


@njit(cache=True, nogil=True)
def first_boxes(points: Any, begin: int, end: int, tiles: Tiles, first_box: Any) -> Any:
    """First box of each point from ``begin`` to ``end``, into ``first_box``; returns how many of them each box holds.

    Args:
        points: (P, >=3) floating.
        begin: First point.
        end: The point after the last.
        tiles: The boxes.
        first_box: (P,) int64, -1 where no box holds the point.
    """
    counts = np.zeros(len(tiles.boxes), np.int64)
    xy, tile, near = np.empty((2, BLOCK), np.float32), np.empty(BLOCK, np.int32), np.empty(BLOCK, np.int32)
    first_box[begin:end] = -1
    for first in range(begin, end, BLOCK):
        for j in range(near_boxes(points, first, min(first + BLOCK, end), tiles, xy, tile, near)):
            i, found = first + near[j], np.int64(-1)
            for k in range(tiles.start[tile[j] + 1] - 1, tiles.start[tile[j]] - 1, -1):
                b = tiles.member[k]
                inside = is_held(points, i, tiles.boxes, b)
                counts[b] += inside
                found = b if inside else found  # the last that is looked at is the first in the list
            first_box[i] = found
    return counts
