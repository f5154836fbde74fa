"""Suppression of detections of the same object."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusionkd.errors import UserError
from fusionkd.geometry.boxes import Boxes3D
from fusionkd.geometry.iou import checked_rectangles
from fusionkd.geometry.suppression import circle_kept, rotated_kept

DEFAULT_RADIUS_M = (2.0, 3.0, 3.0, 3.5, 3.5, 0.8, 0.9, 0.9, 0.4, 0.4)
"""Circle radius per class of ``DETECTION_CLASSES``: less than what two neighbours keep as distance."""


def circle_nms(xy_m: NDArray[Any], score: NDArray[Any], *, radius_m: float) -> NDArray[np.int64]:
    """Indices kept, best first: no better kept one has its centre within the radius, border included.

    mmdetection3d calls the SQUARED distance ``min_radius``: its 4 is a radius of 2 m here.

    Args:
        xy_m: (N, 2) centres.
        score: (N,); equal scores keep their order.
        radius_m: Radius of suppression.
    """
    order = np.argsort(-score, kind="stable")
    kept: NDArray[np.int64] = order[circle_kept(np.ascontiguousarray(xy_m[order], np.float64), float(radius_m))]
    return kept


def rotated_nms(boxes: NDArray[Any], score: NDArray[Any], *, iou: float) -> NDArray[np.int64]:
    """Indices kept, best first: no better kept one overlaps more than ``iou``.

    Args:
        boxes: (N, 5) x, y, l, w, yaw.
        score: (N,); equal scores keep their order.
        iou: Largest overlap from above that two kept boxes may have.
    """
    order = np.argsort(-score, kind="stable")
    kept: NDArray[np.int64] = order[rotated_kept(checked_rectangles(boxes[order], "boxes"), float(iou))]
    return kept


@dataclass(frozen=True)
class CircleNms:
    """Circle NMS within each class, or within each task over all of its classes (Yin et al., CVPR 2021).

    Attributes:
        radius_m: One radius per class, or per task.
        per_task: Whether the classes of a task suppress each other.
    """

    radius_m: Sequence[float] = field(default=DEFAULT_RADIUS_M)
    per_task: bool = False

    def __call__(self, boxes: Boxes3D, task_of_class: Sequence[int]) -> NDArray[np.int64]:
        """Indices kept, best first.

        Raises:
            UserError: If a class (or task) has no radius.
        """
        group = np.asarray(task_of_class)[boxes.label] if self.per_task else boxes.label
        if len(group) and group.max() >= len(self.radius_m):
            kind = "task" if self.per_task else "class"
            raise UserError(
                f"CircleNms.radius_m has {len(self.radius_m)} radii, found a box of {kind} {group.max()}: give one "
                f"radius per {kind}."
            )
        kept = [
            rows[circle_nms(boxes.xyz_m[rows, :2], boxes.score[rows], radius_m=self.radius_m[number])]
            for number, rows in _groups(group)
        ]
        return _best_first(kept, boxes.score)


@dataclass(frozen=True)
class RotatedNms:
    """NMS by the overlap of turned rectangles within each class.

    Attributes:
        iou: Largest overlap that two kept boxes may have.
    """

    iou: float = 0.2

    def __call__(self, boxes: Boxes3D, task_of_class: Sequence[int]) -> NDArray[np.int64]:
        """Indices kept, best first."""
        flat = np.concatenate([boxes.xyz_m[:, :2], boxes.lwh_m[:, :2], boxes.yaw_rad[:, None]], axis=1)
        kept = [rows[rotated_nms(flat[rows], boxes.score[rows], iou=self.iou)] for _, rows in _groups(boxes.label)]
        return _best_first(kept, boxes.score)


@dataclass(frozen=True)
class NoNms:
    """Keeps everything."""

    def __call__(self, boxes: Boxes3D, task_of_class: Sequence[int]) -> NDArray[np.int64]:
        """All indices, best first."""
        return _best_first([np.arange(len(boxes))], boxes.score)


def _groups(group: NDArray[np.int64]) -> list[tuple[int, NDArray[np.int64]]]:
    return [(int(number), np.flatnonzero(group == number)) for number in np.unique(group)]


def _best_first(parts: list[NDArray[np.int64]], score: NDArray[np.float32]) -> NDArray[np.int64]:
    kept = np.concatenate([np.zeros(0, np.int64), *parts])
    order: NDArray[np.int64] = kept[np.argsort(-score[kept], kind="stable")]
    return order
