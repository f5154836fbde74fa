"""From the stored camera image to the network's: scaling, cropping, warping, colour.

Pixel coordinates are continuous: pixel ``i`` covers ``[i, i + 1)``, so that scaling an image by ``s``
takes ``u`` to ``s * u``.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from fusionkd.errors import UserError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
"""RGB mean of ImageNet in units of 1, what torchvision's weights expect."""

IMAGENET_STD = (0.229, 0.224, 0.225)
"""RGB deviation of ImageNet."""


def base_size_px(stored_px: tuple[int, int], size_px: tuple[int, int]) -> tuple[int, int]:
    """(height, width) of the whole stored image once it has the width of the network's image.

    Raises:
        UserError: If the network's image would be taller than that.
    """
    height = round(stored_px[0] * size_px[1] / stored_px[1])
    if height < size_px[0]:
        raise UserError(
            f"image_size_px {size_px[0]}x{size_px[1]} (height x width) is too tall: a camera image of "
            f"{stored_px[0]}x{stored_px[1]} has {height} rows at that width. Choose a height up to {height}."
        )
    return (height, size_px[1])


def base_from_stored(stored_px: tuple[int, int], base_px: tuple[int, int]) -> NDArray[np.float64]:
    """(3, 3) pixel map of the scaling."""
    return np.diag([base_px[1] / stored_px[1], base_px[0] / stored_px[0], 1.0])


def crop_top(base_px: tuple[int, int], size_px: tuple[int, int]) -> NDArray[np.float64]:
    """(3, 3) pixel map that crops the top: sky that no object of interest is seen in."""
    out = np.eye(3)
    out[1, 2] = size_px[0] - base_px[0]
    return out


def warp(
    image: NDArray[np.uint8], network_from_base: NDArray[np.float64], size_px: tuple[int, int]
) -> NDArray[np.uint8]:
    """An image under an affine pixel map; black where the map leaves the image.

    Args:
        image: (h, w, 3) uint8.
        network_from_base: (3, 3) map of continuous pixel coordinates.
        size_px: (height, width) of the result.
    """
    rows = _plain_crop(network_from_base, image.shape[:2], size_px)
    if rows is not None:
        return image[rows]
    half = np.eye(3)
    half[:2, 2] = 0.5
    # OpenCV counts from pixel centres.
    centred = np.linalg.inv(half) @ network_from_base @ half
    warped = cv2.warpAffine(image, centred[:2], (size_px[1], size_px[0]), flags=cv2.INTER_LINEAR)
    return np.asarray(warped, dtype=np.uint8)


def recolour(image: NDArray[np.uint8], colour: NDArray[np.float64]) -> NDArray[np.uint8]:
    """An image under an affine colour map, (3, 4) on (r, g, b, 1) in 0..255, cut to that range."""
    return np.asarray(cv2.transform(image, colour.astype(np.float32)), dtype=np.uint8)


def _plain_crop(
    network_from_base: NDArray[np.float64], base_px: tuple[int, ...], size_px: tuple[int, int]
) -> slice | None:
    """The rows to keep where the map only cuts whole rows, so that no pixel has to be computed."""
    top = -network_from_base[1, 2]
    shifted = np.eye(3)
    shifted[1, 2] = -top
    if not np.array_equal(network_from_base, shifted) or top != round(top) or base_px[1] != size_px[1]:
        return None
    if top < 0 or top + size_px[0] > base_px[0]:
        return None
    return slice(int(top), int(top) + size_px[0])
