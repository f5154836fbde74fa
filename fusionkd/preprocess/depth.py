"""LiDAR points as sparse depth maps, which a camera's depth net is supervised with.

A camera of a ring of six sees a tenth of the points. Which ones it may see is found out for a block of points at a time
in float32, with room for rounding; only those are projected, in float64, so that float32 decides nothing.

Numba widens what comes of two int32 to int64, of which half as many fit into a vector, unless it is told otherwise.
"""

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from fusionkd.preprocess.cells import BLOCK, columns_of_block
from fusionkd.preprocess.checks import checked_count, checked_points, checked_transforms
from fusionkd.preprocess.threads import in_threads

_ROUNDING = 1e-6
"""Relative to the size of its terms, no sum of four float32 products is off by more (it is 8 roundings, 5e-7)."""

_ALL_BUT_SIGN, _INFINITY_BITS, _NAN_BITS = np.int32(0x7FFFFFFF), np.int32(0x7F800000), np.int32(0x7FC00000)


@njit(cache=True, nogil=True)
def _take_block(points: Any, start: int, count: int, xyz: Any, most: Any) -> None:
    """Coordinates of some points side by side, NaN for infinity, and the largest size along each axis."""
    columns_of_block(points, start, start + count, xyz)
    sizes = most.view(np.int32)
    for axis in range(3):
        # As integers, whose largest is found several at a time: the bits of positive floats are in their order.
        bits, largest = xyz[axis].view(np.int32), np.int32(0)
        for i in range(count):
            size = np.int32(bits[i] & _ALL_BUT_SIGN)
            largest = np.int32(max(largest, size if size < _INFINITY_BITS else np.int32(0)))
            bits[i] = bits[i] if size < _INFINITY_BITS else _NAN_BITS
        sizes[axis] = largest


@njit(cache=True, nogil=True)
def _is_ahead(xyz: Any, most: Any, count: int, t: Any, near: Any) -> Any:
    """Whether a camera may see any of the points by their depth alone: most blocks lie behind most cameras."""
    x, y, z = xyz[0], xyz[1], xyz[2]
    t20, t21, t22, t23 = t[2, 0], t[2, 1], t[2, 2], t[2, 3]
    off = np.float32(_ROUNDING) * (abs(t20) * most[0] + abs(t21) * most[1] + abs(t22) * most[2] + abs(t23))
    nearest, ahead = near - off, np.int32(0)
    for i in range(count):
        behind = t20 * x[i] + t21 * y[i] + t22 * z[i] + t23 < nearest
        ahead = np.int32(ahead | (np.int32(0) if behind else np.int32(1)))
    return ahead != 0


@njit(cache=True, nogil=True)
def _mark(xyz: Any, most: Any, count: int, t: Any, limits: Any, masks: Any) -> Any:
    """Marks the points that a camera may see: all that it does see, in float32 and without a division."""
    x, y, z = xyz[0], xyz[1], xyz[2]
    t00, t01, t02, t03 = t[0, 0], t[0, 1], t[0, 2], t[0, 3]
    t10, t11, t12, t13 = t[1, 0], t[1, 1], t[1, 2], t[1, 3]
    t20, t21, t22, t23 = t[2, 0], t[2, 1], t[2, 2], t[2, 3]
    near, right, below = limits
    rounding = np.float32(_ROUNDING)
    off_d = rounding * (abs(t20) * most[0] + abs(t21) * most[1] + abs(t22) * most[2] + abs(t23))
    off_u = rounding * (abs(t00) * most[0] + abs(t01) * most[1] + abs(t02) * most[2] + abs(t03)) + right * off_d
    off_v = rounding * (abs(t10) * most[0] + abs(t11) * most[1] + abs(t12) * most[2] + abs(t13)) + below * off_d
    nearest, marked = near - off_d, np.int32(0)
    for i in range(count):
        d = t20 * x[i] + t21 * y[i] + t22 * z[i] + t23
        u = t00 * x[i] + t01 * y[i] + t02 * z[i] + t03
        v = t10 * x[i] + t11 * y[i] + t12 * z[i] + t13
        # Written so that NaN, and infinity where sums overflow, count as perhaps seen.
        out = (d < nearest) | (u < -off_u) | (v < -off_v) | (u > right * d + off_u) | (v > below * d + off_v)
        seen = np.int32(0) if out else np.int32(1)
        masks[i] = seen
        marked = np.int32(marked + seen)
    return marked


@njit(cache=True, nogil=True)
def _list_marked(masks: Any, count: int, picked: Any) -> None:
    found = np.uint32(0)
    for i in range(count):
        picked[found] = i  # in any case, and kept if it is marked: no guess for the processor to get wrong
        found += np.uint32(masks[i])


@njit(cache=True, nogil=True, error_model="numpy")
def _project(
    xyz: Any, picked: Any, t: Any, stride: int, min_depth_m: Any, shape: Any, taken: Any, cell: Any, away_m: Any
) -> None:
    """Cell ``row * width + column`` of the picked points, -1 outside the image, and their depth, in float64."""
    x, y, z = taken[0], taken[1], taken[2]
    for j in range(len(picked)):
        x[j], y[j], z[j] = xyz[0, picked[j]], xyz[1, picked[j]], xyz[2, picked[j]]
    t00, t01, t02, t03 = t[0, 0], t[0, 1], t[0, 2], t[0, 3]
    t10, t11, t12, t13 = t[1, 0], t[1, 1], t[1, 2], t[1, 3]
    t20, t21, t22, t23 = t[2, 0], t[2, 1], t[2, 2], t[2, 3]
    height, width, per_block = float(shape[1]), float(shape[2]), float(stride)
    for j in range(len(picked)):
        d = t20 * x[j] + t21 * y[j] + t22 * z[j] + t23
        column = (t00 * x[j] + t01 * y[j] + t02 * z[j] + t03) / (d * per_block)
        row = (t10 * x[j] + t11 * y[j] + t12 * z[j] + t13) / (d * per_block)
        # Written so that NaN and infinity fail.
        seen = (d >= min_depth_m) & (d < np.inf) & (column >= 0) & (column < width) & (row >= 0) & (row < height)
        place = np.floor(row) * width + np.floor(column)
        cell[j] = np.int32(place if seen else -1.0)
        away_m[j] = d


@njit(cache=True, nogil=True)
def _draw_nearest(cell: Any, away_m: Any, flat: Any) -> None:
    for j in range(len(cell)):
        if cell[j] >= 0:
            depth, nearest = np.float32(away_m[j]), flat[cell[j]]
            flat[cell[j]] = depth if (nearest == 0) | (depth < nearest) else nearest


@njit(cache=True, nogil=True)
def _draw_depth(points: Any, image_from_ego: Any, stride: int, min_depth_m: Any, depth: Any) -> None:
    """Draws all points into the maps (N, height, width) of some cameras."""
    xyz, most, masks = np.empty((4, BLOCK), np.float32), np.empty(3, np.float32), np.empty(BLOCK, np.int32)
    picked = np.empty(BLOCK, np.int32)
    taken, cell, away_m = np.empty((3, BLOCK)), np.empty(BLOCK, np.int32), np.empty(BLOCK)
    rough, near = image_from_ego.astype(np.float32), np.float32(min_depth_m)
    limits = (near, np.float32(stride * depth.shape[2]), np.float32(stride * depth.shape[1]))
    for start in range(0, len(points), BLOCK):
        count = min(BLOCK, len(points) - start)
        _take_block(points, start, count, xyz, most)
        for n in range(len(depth)):
            if not _is_ahead(xyz, most, count, rough[n], near):
                continue
            marked = _mark(xyz, most, count, rough[n], limits, masks)
            if marked == 0:
                continue
            _list_marked(masks, count, picked)
            _project(xyz, picked[:marked], image_from_ego[n], stride, min_depth_m, depth.shape, taken, cell, away_m)
            _draw_nearest(cell[:marked], away_m, depth[n].reshape(-1))


def lidar_depth_maps(
    points: NDArray[Any],
    *,
    image_from_ego: NDArray[Any],
    size_px: tuple[int, int],
    stride: int,
    min_depth_m: float = 1.0,
    threads: int = 1,
) -> NDArray[np.float32]:
    """Depth of the nearest LiDAR point in each ``stride`` x ``stride`` block of each image.

    Args:
        points: (P, >=3) float32: x, y, z in ego, metres; NaN or infinity is drawn nowhere.
        image_from_ego: (N, 4, 4), see ``CameraRig.image_from_ego``.
        size_px: (height, width) of the images.
        stride: Side of a block, pixels; must divide both sides.
        min_depth_m: Nearer points, as on the car itself, are left out; must be positive.
        threads: Threads that share the cameras; the result is the same.

    Returns:
        (N, height / stride, width / stride) float32, metres along the optical axis; 0 where no point fell.

    Raises:
        ValueError: If a shape is another or the stride doesn't divide the size.
    """
    points = checked_points(points, name="points", columns=3, exact=False)
    transforms = checked_transforms(image_from_ego, name="image_from_ego")
    stride = checked_count(stride, name="stride")
    height, width = (checked_count(side, name="size_px") for side in size_px)
    if height % stride or width % stride:
        raise ValueError(f"stride must divide the image's size, found stride {stride} for {height} x {width} pixels.")
    if not min_depth_m > 0:
        raise ValueError(f"min_depth_m must be positive, found {min_depth_m}.")
    depth = np.zeros((len(transforms), height // stride, width // stride), np.float32)

    def draw(start: int, stop: int) -> None:
        _draw_depth(points, transforms[start:stop], stride, float(min_depth_m), depth[start:stop])

    in_threads(draw, len(transforms), threads=threads)
    return depth
