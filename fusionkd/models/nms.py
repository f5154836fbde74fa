"""Suppression of detections of the same object."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fusionkd.errors import UserError
from fusionkd.geometry import Boxes3D
from fusionkd.geometry.iou import rotated_iou_bev

DEFAULT_RADIUS_M = (2.0, 3.0, 3.0, 3.5, 3.5, 0.8, 0.9, 0.9, 0.4, 0.4)
"""Circle radius per class of ``DETECTION_CLASSES``: about half of what two neighbours keep as distance."""


def circle_nms(xy_m: NDArray[np.float32], score: NDArray[np.float32], *, radius_m: float) -> NDArray[np.int64]:
    """Indices kept, best first: no better kept one has its centre within the radius, border included."""
    order = np.argsort(-score, kind="stable")
    points = xy_m[order].astype(np.float64)
    near = ((points[:, None] - points[None]) ** 2).sum(axis=-1) <= radius_m**2
    return order[_greedy(near)]


def rotated_nms(boxes: NDArray[np.float32], score: NDArray[np.float32], *, iou: float) -> NDArray[np.int64]:
    """Indices kept, best first: no better kept one overlaps more than ``iou``.

    Args:
        boxes: (N, 5) x, y, l, w, yaw.
        score: (N,).
        iou: Largest overlap from above that two kept boxes may have.
    """
    order = np.argsort(-score, kind="stable")
    overlaps = rotated_iou_bev(boxes[order], boxes[order]) > iou
    return order[_greedy(overlaps)]


def _greedy(conflict: NDArray[np.bool_]) -> NDArray[np.int64]:
    alive = np.ones(len(conflict), np.bool_)
    kept = []
    for i in range(len(conflict)):
        if alive[i]:
            kept.append(i)
            alive[i + 1 :] &= ~conflict[i, i + 1 :]
    return np.asarray(kept, np.int64)


@dataclass(frozen=True)
class CircleNms:
    """Circle NMS within each class (Yin et al., CVPR 2021).

    Attributes:
        radius_m: One radius per class.
    """

    radius_m: Sequence[float] = field(default=DEFAULT_RADIUS_M)

    def __call__(self, boxes: Boxes3D) -> NDArray[np.int64]:
        """Indices kept.

        Raises:
            UserError: If a class has no radius.
        """
        kept = []
        for label in np.unique(boxes.label):
            if label >= len(self.radius_m):
                raise UserError(f"CircleNms.radius_m has {len(self.radius_m)} radii, found a box of class {label}.")
            rows = np.flatnonzero(boxes.label == label)
            kept.append(rows[circle_nms(boxes.xyz_m[rows, :2], boxes.score[rows], radius_m=self.radius_m[label])])
        return np.concatenate([np.zeros(0, np.int64), *kept])


@dataclass(frozen=True)
class RotatedNms:
    """NMS by the overlap of turned rectangles within each class.

    Attributes:
        iou: Largest overlap that two kept boxes may have.
    """

    iou: float = 0.2

    def __call__(self, boxes: Boxes3D) -> NDArray[np.int64]:
        """Indices kept."""
        flat = np.concatenate([boxes.xyz_m[:, :2], boxes.lwh_m[:, :2], boxes.yaw_rad[:, None]], axis=1)
        kept = []
        for label in np.unique(boxes.label):
            rows = np.flatnonzero(boxes.label == label)
            kept.append(rows[rotated_nms(flat[rows], boxes.score[rows], iou=self.iou)])
        return np.concatenate([np.zeros(0, np.int64), *kept])


@dataclass(frozen=True)
class NoNms:
    """Keeps everything."""

    def __call__(self, boxes: Boxes3D) -> NDArray[np.int64]:
        """All indices."""
        return np.arange(len(boxes))
