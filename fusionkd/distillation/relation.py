"""How the parts of an object stand to each other in the teacher's features."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from fusionkd.distillation.base import LEAST_BOX_SCORE, MOST_BOXES, Term, TermBatch
from fusionkd.distillation.box import extent_of_objects, teacher_objects
from fusionkd.distillation.locations import boxes_at
from fusionkd.distillation.masks import knew_ground, unseen_boxes
from fusionkd.distillation.options import check_feature_taps
from fusionkd.distillation.resample import bev_tap, sample_bev
from fusionkd.distillation.schedules import Schedule
from fusionkd.geometry import BevGrid
from fusionkd.models.values import FusionOutput
from fusionkd.teachers.cache_store import Extent

# Corners, midpoints of the sides and the centre, in half lengths and half widths.
_NINE_POINTS = [(1, 1), (-1, 1), (-1, -1), (1, -1), (0, 1), (-1, 0), (0, -1), (1, 0), (0, 0)]


def nine_points(boxes: Tensor) -> Tensor:
    """Corners, midpoints of the sides and centre of boxes on the ground.

    Args:
        boxes: (..., 5): x, y, l, w in metres, yaw in radians.

    Returns:
        (..., 9, 2) positions in metres.
    """
    unit = boxes.new_tensor(_NINE_POINTS) * 0.5  # (9, 2)
    local = unit * boxes[..., None, 2:4]  # (..., 9, 2)
    cos, sin = boxes[..., 4].cos()[..., None], boxes[..., 4].sin()[..., None]
    x = local[..., 0] * cos - local[..., 1] * sin + boxes[..., :1]
    y = local[..., 0] * sin + local[..., 1] * cos + boxes[..., 1:2]
    return torch.stack([x, y], dim=-1)


def cosine_matrix(features: Tensor) -> Tensor:
    """Cosines between all pairs of P vectors, (..., P, C) -> (..., P, P)."""
    unit = F.normalize(features, dim=-1, eps=1e-6)
    return unit @ unit.transpose(-1, -2)


def object_relation(student: Tensor, teacher: Tensor, weight: Tensor) -> Tensor:
    """L1 of the cosine matrices of each object's points (Zhou et al., UniDistill, CVPR 2023, eq. 5).

    Args:
        student: (B, N, P, C) features at P points of N objects.
        teacher: (B, N, P, D); its number of channels may differ.
        weight: (B, N), 0 where there is no object.

    Returns:
        A scalar; 0 where no object counts.
    """
    difference = (cosine_matrix(student) - cosine_matrix(teacher)).abs().mean(dim=(-1, -2))  # (B, N)
    return (difference * weight).sum() / weight.sum().clamp(min=1.0)


class ObjectRelation(Term):
    """Nine points of each object relate to each other in the student's features as in the teacher's (UniDistill).

    It needs no adapter, because only angles between features of one model are compared.

    Args:
        teacher: Name or names in the task's ``teachers``; with several, the mean of their losses.
        weight: Factor on the loss.
        student_tap: ``bev``, ``camera_bev`` or ``lidar_bev`` of the student.
        teacher_tap: The same of the teacher.
        threshold: On unlabelled frames, the least score of a teacher's box.
        max_objects: Teacher's boxes per unlabelled frame.
        schedule: How the factor changes over the run; None keeps it.
    """

    def __init__(
        self,
        teacher: str | list[str],
        weight: float = 1.0,
        *,
        student_tap: str = "bev",
        teacher_tap: str = "bev",
        threshold: float = 0.2,
        max_objects: int = 60,
        schedule: Schedule | None = None,
    ) -> None:
        super().__init__(teacher, weight, schedule)
        check_feature_taps(self, student_tap=student_tap, teacher_tap=teacher_tap)
        self.student_tap = student_tap
        self.teacher_tap = teacher_tap
        self.threshold = threshold
        self.max_objects = max_objects

    def taps(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The taps of the arguments, and the teacher's boxes for unlabelled frames."""
        return (self.student_tap,), (self.teacher_tap, "heatmap", "box_regression")

    def reads(self) -> dict[str, Extent]:
        """Features and boxes at objects."""
        few = self.threshold >= LEAST_BOX_SCORE and self.max_objects <= MOST_BOXES
        boxes = extent_of_objects(self.threshold)
        return {**super().reads(), self.teacher_tap: "boxes" if few else "everywhere", "box_regression": boxes}

    def loss(self, student: FusionOutput, teachers: Mapping[str, FusionOutput], batch: TermBatch) -> Tensor:
        """The unweighted loss, a scalar."""
        losses = []
        for teacher in teachers.values():
            boxes, weight = self._objects(student, teacher, batch)
            points = nine_points(boxes)  # (B, N, 9, 2)
            here = _at_points(bev_tap(student, self.student_tap), points, student.grid)
            there = _at_points(bev_tap(teacher, self.teacher_tap), points, teacher.grid)
            losses.append(object_relation(here, there.detach(), weight))
        return torch.stack(losses).mean()

    def _objects(self, student: FusionOutput, teacher: FusionOutput, batch: TermBatch) -> tuple[Tensor, Tensor]:
        """Annotated boxes of labelled frames, the teacher's of others: (B, N, 5) and their weights (B, N)."""
        peaks = teacher_objects(student, teacher, batch, at="teacher", threshold=self.threshold, count=self.max_objects)
        labelled = batch.labelled[:, None]
        annotated = batch.gt_boxes[..., [0, 1, 3, 4, 6]].float()  # (B, M, 5)
        usable = (batch.gt_label >= 0) & labelled
        usable = usable & ~unseen_boxes(teacher, batch) & knew_ground(teacher, annotated[..., :2])
        boxes = torch.cat([annotated, boxes_at(teacher, peaks).detach()], dim=1)
        weight = torch.cat([usable.float(), (peaks.weight > 0) * ~labelled], dim=1)
        return boxes, weight


def _at_points(maps: Tensor, points: Tensor, grid: BevGrid) -> Tensor:
    frames, objects, count, _ = points.shape
    values = sample_bev(maps, points.flatten(1, 2), grid)  # (B, C, N * P)
    return values.reshape(frames, -1, objects, count).permute(0, 2, 3, 1)  # (B, N, P, C)
