"""From the stored camera image to the network's: decoding, scaling, cropping, warping, colour, normalisation.

Pixel coordinates are continuous: pixel ``i`` covers ``[i, i + 1)``, so that scaling an image by ``s``
takes ``u`` to ``s * u``. OpenCV is imported where it is used: whoever has raw images at hand does without it.
"""

from typing import Any

import numpy as np
from numba import njit
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
    import cv2

    # OpenCV counts from pixel centres.
    half, back = np.eye(3), np.eye(3)
    half[:2, 2], back[:2, 2] = 0.5, -0.5
    centred = back @ network_from_base @ half
    warped = cv2.warpAffine(image, centred[:2], (size_px[1], size_px[0]), flags=cv2.INTER_LINEAR)
    return np.asarray(warped, dtype=np.uint8)


def recolour(image: NDArray[np.uint8], colour: NDArray[np.float64]) -> NDArray[np.uint8]:
    """An image under an affine colour map, (3, 4) on (r, g, b, 1) in 0..255, cut to that range."""
    import cv2

    return np.asarray(cv2.transform(image, colour.astype(np.float32)), dtype=np.uint8)


def decode_jpeg(
    data: NDArray[np.uint8], *, stored_px: tuple[int, int], base_px: tuple[int, int], name: str
) -> NDArray[np.uint8]:
    """A JPEG image, scaled down.

    Where the target is much smaller, the decoder itself leaves out the fine detail (libjpeg's 1/2,
    1/4, 1/8 decoding), which is several times faster and, being an average, free of aliasing.

    Args:
        data: Bytes of the file.
        stored_px: (height, width) that is promised.
        base_px: (height, width) to scale to.
        name: What the image is called in messages.

    Returns:
        (height, width, 3) uint8 RGB.

    Raises:
        UserError: If it is cut off, no JPEG, or of another size than promised.
    """
    import cv2

    # The decoder fills the lost part of a cut-off file with grey and says nothing, so look for the end marker.
    if data[:2].tobytes() != b"\xff\xd8" or b"\xff\xd9" not in data[-64:].tobytes():
        what = "is cut off" if data[:2].tobytes() == b"\xff\xd8" else "is no JPEG file"
        raise UserError(f"{name} ({len(data)} bytes) {what}; expected a whole JPEG image.")
    reduction = _reduction(stored_px, base_px)
    image = cv2.imdecode(data, _decode_flag(reduction))
    if image is None:
        raise UserError(f"{name} ({len(data)} bytes) is corrupt; expected a whole JPEG image.")
    wanted = (-(-stored_px[0] // reduction), -(-stored_px[1] // reduction))
    if image.shape[:2] != wanted:
        found = tuple(n * reduction for n in image.shape[:2])
        raise UserError(
            f"{name} is about {found[1]}x{found[0]} pixels, not {stored_px[1]}x{stored_px[0]} as promised "
            f"(by sample_data.json, or RawFrame.stored_px)."
        )
    return np.asarray(cv2.cvtColor(scaled(image, base_px), cv2.COLOR_BGR2RGB), dtype=np.uint8)


def scaled(image: NDArray[Any], size_px: tuple[int, int]) -> NDArray[np.uint8]:
    """An image (h, w, 3) averaged down to (height, width)."""
    if image.shape[:2] == size_px:
        return image
    import cv2

    resized = cv2.resize(image, (size_px[1], size_px[0]), interpolation=cv2.INTER_AREA)
    return np.asarray(resized, dtype=np.uint8)


@njit(cache=True, nogil=True)
def _normalise(image: Any, scale: Any, shift: Any, out: Any) -> None:
    for c in range(3):
        for row in range(image.shape[0]):
            for column in range(image.shape[1]):
                out[c, row, column] = np.float32(image[row, column, c]) * scale[c] - shift[c]


def normalise_images(
    images: NDArray[np.uint8],
    mean: tuple[float, float, float] = IMAGENET_MEAN,
    std: tuple[float, float, float] = IMAGENET_STD,
    *,
    out: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """Images as networks read them: (v / 255 - mean) / std, channels first, in one pass.

    Args:
        images: (N, H, W, 3) uint8 RGB.
        mean: Per channel, in units of 1.
        std: Per channel.
        out: (N, 3, H, W) float32 to write to instead of new memory.

    Returns:
        (N, 3, H, W) float32.
    """
    scale = np.float32(1) / (np.float32(255) * np.asarray(std, np.float32))
    shift = np.asarray(mean, np.float32) / np.asarray(std, np.float32)
    if out is None:
        out = np.empty((len(images), 3, *images.shape[1:3]), np.float32)
    for image, normalised in zip(images, out):
        _normalise(image, scale, shift, normalised)
    return out


def _decode_flag(reduction: int) -> int:
    import cv2

    return {
        1: cv2.IMREAD_COLOR,
        2: cv2.IMREAD_REDUCED_COLOR_2,
        4: cv2.IMREAD_REDUCED_COLOR_4,
        8: cv2.IMREAD_REDUCED_COLOR_8,
    }[reduction]


def _reduction(stored_px: tuple[int, int], base_px: tuple[int, int]) -> int:
    """The largest reduction whose result is still no smaller than the target."""
    ratio = min(stored_px[0] / base_px[0], stored_px[1] / base_px[1])
    return max(n for n in (1, 2, 4, 8) if n <= max(ratio, 1))


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
