"""LiDAR points as sparse depth maps, which a camera's depth net is supervised with."""

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from fusionkd.preprocess.checks import checked_count, checked_points, checked_transforms
from fusionkd.preprocess.threads import in_threads


@njit(cache=True, nogil=True)
def _draw_depth(
    points: Any, image_from_ego: Any, first: int, last: int, stride: int, min_depth_m: Any, depth: Any
) -> None:
    _, height, width = depth.shape
    for n in range(first, last):
        t = image_from_ego[n]
        for i in range(len(points)):
            x, y, z = np.float64(points[i, 0]), np.float64(points[i, 1]), np.float64(points[i, 2])
            d = t[2, 0] * x + t[2, 1] * y + t[2, 2] * z + t[2, 3]
            # Written so that NaN and infinity fail.
            if not (min_depth_m <= d < np.inf):
                continue
            column = (t[0, 0] * x + t[0, 1] * y + t[0, 2] * z + t[0, 3]) / (d * stride)
            row = (t[1, 0] * x + t[1, 1] * y + t[1, 2] * z + t[1, 3]) / (d * stride)
            if 0 <= column < width and 0 <= row < height:
                nearest = depth[n, int(row), int(column)]
                if nearest == 0 or d < nearest:
                    depth[n, int(row), int(column)] = d


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

    def draw(first: int, last: int) -> None:
        _draw_depth(points, transforms, first, last, stride, float(min_depth_m), depth)

    in_threads(draw, len(transforms), threads=threads)
    return depth
