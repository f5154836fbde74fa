"""Pictures of two worlds side by side."""

from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from fusionkd.simulation.comparison_statistics import LIDAR_HEIGHT_M

REACH_M: Final = 50.0
SIDE_PX: Final = 900
TILE_PX: Final = (480, 270)
ROWS: Final = (("CAM_FRONT_LEFT", "CAM_FRONT", "CAM_FRONT_RIGHT"), ("CAM_BACK_LEFT", "CAM_BACK", "CAM_BACK_RIGHT"))

Named = tuple[str, NDArray[np.float32]]
NamedImages = tuple[str, dict[str, NDArray[np.uint8]]]


def save_lidar_pair(path: Path, real: Named, simulated: Named) -> None:
    """Two sweeps from above, +-50 m, coloured by height; the same scale left and right."""
    both = [
        draw_lidar(points, f"{what}: {name}") for what, (name, points) in (("real", real), ("simulated", simulated))
    ]
    _write(path, np.concatenate([both[0], np.full((SIDE_PX, 6, 3), 90, np.uint8), both[1]], axis=1))


def draw_lidar(points: NDArray[np.float32], title: str) -> NDArray[np.uint8]:
    """A sweep from above, (900, 900, 3) BGR; the LiDAR frame's +y, which is ahead, is up."""
    image = np.zeros((SIDE_PX, SIDE_PX, 3), np.uint8)
    scale = SIDE_PX / (2 * REACH_M)
    inside = np.all(np.abs(points[:, :2]) < REACH_M - 0.1, axis=1) & ~np.all(np.abs(points[:, :2]) < 1.0, axis=1)
    used = points[inside]
    column = ((used[:, 0] + REACH_M) * scale).astype(np.int64)
    row = ((REACH_M - used[:, 1]) * scale).astype(np.int64)
    share = np.clip((used[:, 2] + LIDAR_HEIGHT_M + 0.5) / 4.5, 0, 1)
    colours: Any = cv2.applyColorMap((255 * share).astype(np.uint8)[:, None], cv2.COLORMAP_TURBO)
    order = np.argsort(used[:, 2])
    image[row[order], column[order]] = colours[order, 0]
    _say(image, title)
    return image


def save_surround_pair(path: Path, real: NamedImages, simulated: NamedImages) -> None:
    """The six cameras of two keyframes, one above the other."""
    halves = []
    for what, (name, images) in (("real", real), ("simulated", simulated)):
        rows = [np.concatenate([_tile(images.get(channel)) for channel in row], axis=1) for row in ROWS]
        half = np.concatenate(rows, axis=0)
        _say(half, f"{what}: {name}")
        halves.append(half)
    _write(path, np.concatenate([halves[0], np.full((6, halves[0].shape[1], 3), 90, np.uint8), halves[1]], axis=0))


def _tile(image: NDArray[np.uint8] | None) -> NDArray[np.uint8]:
    if image is None:
        return np.full((TILE_PX[1], TILE_PX[0], 3), 40, np.uint8)
    return np.asarray(cv2.resize(image[..., ::-1], TILE_PX, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def _say(image: NDArray[np.uint8], text: str) -> None:
    for colour, width in (((0, 0, 0), 4), ((255, 255, 255), 1)):
        cv2.putText(image, text, (10, 24), cv2.FONT_HERSHEY_SIMPLEX, 0.6, colour, width, cv2.LINE_AA)


def _write(path: Path, image: NDArray[np.uint8]) -> None:
    if not cv2.imwrite(str(path), image):
        raise OSError(f"OpenCV could not write {path}.")
