"""What is measured of a keyframe's points, boxes and images when two worlds are compared."""

from itertools import pairwise
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from fusionkd.geometry import DETECTION_CLASSES
from fusionkd.simulation.comparison_frames import Annotated
from fusionkd.simulation.comparison_ledger import Ledger
from fusionkd.simulation.rig import BEAMS

NEAR_M: Final = 1.0
"""Echoes nearer than this in x and y are the car itself or no echoes at all: every reader drops them."""
LIDAR_HEIGHT_M: Final = 1.84
RANGES_M: Final = np.array([0.0, 5.0, 10.0, 20.0, 30.0, 40.0, 50.0, 70.0, 110.0])
BOX_RANGES_M: Final = np.array([0.0, 10.0, 20.0, 30.0, 40.0, 50.0, 80.0])
INTENSITIES: Final = np.array([0, 1, 2, 3, 4, 5, 6, 8, 10, 13, 17, 22, 28, 36, 46, 60, 80, 101, 150, 256], dtype=float)
HEIGHTS_M: Final = np.arange(-1.0, 12.01, 0.25)
RELATIVE_STEPS: Final = np.array([0, 0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.0])
ROUGHNESSES_M: Final = np.array([0, 0.005, 0.01, 0.015, 0.02, 0.03, 0.04, 0.06, 0.08, 0.12, 0.2])
SPEEDS_MPS: Final = np.array([0, 0.2, 0.5, 1, 1.5, 2, 3, 4, 6, 8, 10, 12, 15, 20.0])
POINTS_IN_BOX: Final = np.array([0, 1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233, 377, 1000, 10_000.0])
IMAGE_WIDTH_PX: Final = 800
"""Images are compared at this width, so that the pixels of two roots see equally much."""
GRADIENTS: Final = np.array([0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 256, 512.0])
GREYS: Final = np.arange(0.0, 257.0, 8.0)


def _bins(edges: NDArray[np.float64], unit: str) -> tuple[str, ...]:
    return tuple(f"{low:g}-{high:g} {unit}" for low, high in pairwise(edges))


def add_points(ledger: Ledger, points: NDArray[np.float32]) -> None:
    """Statistics of one sweep, (N, 5)."""
    ring = points[:, 4].astype(np.int64)
    rings = tuple(f"ring {k}" for k in range(BEAMS))
    near = np.all(np.abs(points[:, :2]) < NEAR_M, axis=1)
    used, used_ring = points[~near], ring[~near]
    per_ring = np.bincount(ring, minlength=BEAMS)[:BEAMS]
    used_per_ring = np.bincount(used_ring, minlength=BEAMS)[:BEAMS]
    ledger.mean("lidar/points per ring", rings, used_per_ring)
    ledger.mean("lidar/share of beams without an echo per ring", rings, per_ring - used_per_ring, per_ring)
    away = np.hypot(used[:, 0], used[:, 1])
    which = np.digitize(away, RANGES_M) - 1
    per_range = np.bincount(which, minlength=len(RANGES_M))[: len(RANGES_M) - 1]
    labels = _bins(RANGES_M, "m")
    ledger.mean("lidar/points per range", labels, per_range)
    ledger.mean("lidar/points of a sweep", ("all",), np.array([len(used)]))
    height = used[:, 2] + LIDAR_HEIGHT_M
    ground = np.abs(height) < 0.25
    ledger.mean("lidar/ground share", ("all",), np.array([ground.sum()]), len(used))
    of_ground = np.bincount(which[ground], minlength=len(RANGES_M))[: len(RANGES_M) - 1]
    ledger.mean("lidar/ground share per range", labels, of_ground, per_range)
    ledger.count("lidar/height above the ground (m)", height, HEIGHTS_M)
    ledger.count("lidar/height of points above 0.3 m (m)", height[height > 0.3], HEIGHTS_M)
    intensity = used[:, 3]
    ledger.count("lidar/intensity", intensity, INTENSITIES)
    ledger.count("lidar/intensity of the ground", intensity[ground], INTENSITIES)
    ledger.count("lidar/intensity above the ground", intensity[~ground], INTENSITIES)
    sums = np.bincount(which, np.minimum(intensity, 100.0), minlength=len(RANGES_M))[: len(RANGES_M) - 1]
    ledger.mean("lidar/mean intensity up to 100 per range", labels, sums, per_range)
    _add_structure(ledger, used, used_ring)
    cells = np.unique(np.floor(used[:, :2] / 0.5).astype(np.int64), axis=0)
    middle = np.hypot(cells[:, 0] + 0.5, cells[:, 1] + 0.5) * 0.5
    ledger.mean("lidar/cells of 0.5 m with points per range", labels, np.histogram(middle, RANGES_M)[0])


def _add_structure(ledger: Ledger, used: NDArray[np.float32], ring: NDArray[np.int64]) -> None:
    """How rough the ground is, and how ranges change from one beam of a ring to the next."""
    away = np.linalg.norm(used[:, :3], axis=1)
    high = used[:, 2] + LIDAR_HEIGHT_M > 0.3
    for what, chosen in (("ground", ~high), ("things", high)):
        steps = []
        for k in range(BEAMS):
            own = away[chosen & (ring == k)]
            steps.append(np.abs(np.diff(own)) / np.maximum(own[:-1], 1e-3))
        ledger.count(f"lidar/relative step between neighbours on {what}", np.concatenate(steps), RELATIVE_STEPS)
    flat = used[(~high) & (away < 20.0)]
    if len(flat) == 0:
        return
    cell = np.floor(flat[:, :2] / 0.6).astype(np.int64)
    _, index, counts = np.unique(cell, axis=0, return_inverse=True, return_counts=True)
    index = index.reshape(-1)
    mean = np.bincount(index, flat[:, 2]) / counts
    spread = np.sqrt(np.bincount(index, (flat[:, 2] - mean[index]) ** 2) / counts)
    ledger.count("lidar/roughness of the ground within 0.6 m (m)", spread[counts >= 4], ROUGHNESSES_M)


def add_boxes(ledger: Ledger, boxes: Annotated) -> None:
    """Statistics of one keyframe's annotations."""
    away = np.hypot(boxes.centre_m[:, 0], boxes.centre_m[:, 1])
    which = np.digitize(away, BOX_RANGES_M) - 1
    kind = np.array(boxes.kind)
    near = away < BOX_RANGES_M[-1]
    ledger.mean("boxes/of a keyframe", ("all",), np.array([near.sum()]))
    of_class = np.array([np.sum(near & (kind == name)) for name in DETECTION_CLASSES])
    ledger.mean("boxes/of a keyframe per class", DETECTION_CLASSES, of_class)
    per_range = np.array([np.sum(which == k) for k in range(len(BOX_RANGES_M) - 1)])
    ledger.mean("boxes/of a keyframe per range", _bins(BOX_RANGES_M, "m"), per_range)
    ledger.count("boxes/points inside", boxes.points, POINTS_IN_BOX)
    sizes = [boxes.lwh_m[kind == name].sum(axis=0) for name in DETECTION_CLASSES]
    axes = tuple(f"{name} {axis}" for name in DETECTION_CLASSES for axis in ("length", "width", "height"))
    counts = np.repeat([np.sum(kind == name) for name in DETECTION_CLASSES], 3)
    ledger.mean("boxes/mean size per class (m)", axes, np.ravel(sizes), counts)
    labels, sums, weights = [], [], []
    for name in DETECTION_CLASSES:
        for k, span in enumerate(_bins(BOX_RANGES_M, "m")):
            chosen = (kind == name) & (which == k)
            labels.append(f"{name} {span}")
            sums.append(boxes.points[chosen].sum())
            weights.append(chosen.sum())
    ledger.mean("boxes/mean points inside per class and range", tuple(labels), np.array(sums), np.array(weights))
    for name in ("car", "pedestrian"):
        speed = boxes.speed_mps[(kind == name) & np.isfinite(boxes.speed_mps)]
        ledger.count(f"boxes/speed of class {name} (m/s)", speed, SPEEDS_MPS)


def add_image(ledger: Ledger, image: NDArray[np.uint8]) -> None:
    """Statistics of one image, (H, W, 3) RGB."""
    height = image.shape[0] * IMAGE_WIDTH_PX // image.shape[1]
    small: Any = cv2.resize(image, (IMAGE_WIDTH_PX, height), interpolation=cv2.INTER_AREA)
    grey = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY).astype(np.float64)
    hue = cv2.cvtColor(small, cv2.COLOR_RGB2HSV)
    ledger.count("image/luminance", grey, GREYS)
    ledger.count("image/saturation", hue[..., 1], GREYS)
    names = ("red", "green", "blue")
    ledger.mean("image/mean of channels", names, small.reshape(-1, 3).mean(axis=0))
    ledger.mean("image/deviation of channels", names, small.reshape(-1, 3).std(axis=0))
    bands = np.array([band.mean() for band in np.array_split(grey, 8)])
    ledger.mean("image/luminance of eight bands from above", tuple(f"band {k}" for k in range(8)), bands)
    deviations = np.array([band.std() for band in np.array_split(grey, 8)])
    ledger.mean("image/contrast of eight bands from above", tuple(f"band {k}" for k in range(8)), deviations)
    across, down = cv2.Sobel(grey, cv2.CV_64F, 1, 0) / 4, cv2.Sobel(grey, cv2.CV_64F, 0, 1) / 4
    gradient = np.hypot(across, down)
    ledger.count("image/gradient", gradient, GRADIENTS)
    edges = np.array([np.mean(part > 12) for part in np.array_split(gradient, 8)])
    ledger.mean("image/share of edges in eight bands from above", tuple(f"band {k}" for k in range(8)), edges)
    ledger.mean(
        "image/horizontal over vertical gradient", ("ratio",), np.array([np.abs(across).sum()]), np.abs(down).sum()
    )
    ledger.mean("image/slope of the power spectrum", ("slope",), np.array([power_slope(grey)]))


def power_slope(grey: NDArray[np.float64]) -> float:
    """Exponent of power over spatial frequency; natural images lie near -2 (Field, 1987).

    Args:
        grey: (H, W) image.
    """
    side = min(grey.shape)
    square = grey[:side, :side] - grey[:side, :side].mean()
    window = np.hanning(side)
    power = np.abs(np.fft.fft2(square * window[:, None] * window)) ** 2
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(side), np.fft.fftfreq(side)))
    edges = np.geomspace(4 / side, 0.45, 16)
    ring = np.digitize(frequency.ravel(), edges)
    mean = np.array([power.ravel()[ring == k].mean() for k in range(1, len(edges))])
    middle = np.sqrt(edges[:-1] * edges[1:])
    return float(np.polyfit(np.log(middle), np.log(mean + 1e-9), 1)[0])
