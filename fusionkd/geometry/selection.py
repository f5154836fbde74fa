"""From a network's candidates to the boxes that are kept: threshold, range, suppression of doubles, limits."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusionkd.errors import UserError
from fusionkd.geometry.boxes import Boxes3D
from fusionkd.geometry.nms import CircleNms, NoNms, RotatedNms


@dataclass(frozen=True)
class BoxSelection:
    """Which candidates of a frame become its boxes.

    Attributes:
        score_threshold: Boxes must score higher.
        max_boxes: Boxes kept per frame, the best ones.
        nms: Suppression of doubles.
        max_boxes_per_task: Boxes kept per task and frame; None for no such limit.
        range_m: Lowest x, y, z and highest x, y, z that a centre may have; None for no limit.
    """

    score_threshold: float = 0.05
    max_boxes: int = 300
    nms: CircleNms | RotatedNms | NoNms = field(default_factory=CircleNms)
    max_boxes_per_task: int | None = None
    range_m: tuple[float, float, float, float, float, float] | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.score_threshold < 1 or self.max_boxes < 1:
            raise UserError(
                f"BoxSelection needs 0 <= score_threshold < 1 and max_boxes >= 1, found {self.score_threshold} and "
                f"{self.max_boxes}."
            )

    def admit(self, score: NDArray[Any], label: NDArray[Any], boxes: NDArray[Any]) -> Boxes3D:
        """The candidates above the threshold and within the range.

        Args:
            score: (K,).
            label: (K,).
            boxes: (K, 9) rows x, y, z, l, w, h, yaw, vx, vy.
        """
        keep = score > np.float32(self.score_threshold)
        if self.range_m is not None:
            limits = np.asarray(self.range_m, np.float32)
            keep &= ((boxes[:, :3] >= limits[:3]) & (boxes[:, :3] <= limits[3:])).all(axis=1)
        return Boxes3D.from_array(boxes[keep], label[keep], score[keep])

    def suppress(self, boxes: Boxes3D, task_of_class: Sequence[int]) -> Boxes3D:
        """The boxes without doubles, best first, within the limits of numbers."""
        kept = boxes.select(self.nms(boxes, task_of_class))
        if self.max_boxes_per_task is not None:
            kept = kept.select(_first_of_each(kept, task_of_class, count=self.max_boxes_per_task))
        return kept.select(np.arange(min(len(kept), self.max_boxes)))


def _first_of_each(boxes: Boxes3D, task_of_class: Sequence[int], *, count: int) -> NDArray[np.int64]:
    """Indices of the first ``count`` boxes of every task, in order."""
    task = np.asarray(task_of_class, dtype=np.int64)[boxes.label]
    parts = [np.flatnonzero(task == number)[:count] for number in np.unique(task)]
    return np.sort(np.concatenate([np.zeros(0, np.int64), *parts]))
