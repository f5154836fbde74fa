"""What the teacher says: its boxes."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from fusionkd.distillation.base import LEAST_SCORE, Term, TermBatch, class_mapping
from fusionkd.distillation.locations import (
    Locations,
    annotated_centres,
    choose,
    gather_tasks,
    heatmap_peaks,
    on_grid,
    relabel,
)
from fusionkd.distillation.masks import unseen_by
from fusionkd.distillation.schedules import Schedule
from fusionkd.models.values import REGRESSION_CHANNELS, FusionOutput
from fusionkd.teachers.cache_store import Extent

_VELOCITY = [REGRESSION_CHANNELS.index("vx_mps"), REGRESSION_CHANNELS.index("vy_mps")]
_MOVING_MPS = 0.5


def weighted_smooth_l1(student: Tensor, teacher: Tensor, *, weight: Tensor, channel_weight: Tensor) -> Tensor:
    """Smooth L1 of regression values at some locations, weighted by location and channel.

    Args:
        student: (B, K, C).
        teacher: (B, K, C).
        weight: (B, K), 0 where there is no object.
        channel_weight: (C,) or (B, K, C).

    Returns:
        A scalar: the mean over objects of the sum over channels; 0 where no location counts.
    """
    difference = F.smooth_l1_loss(student, teacher, beta=0.1, reduction="none")
    per_location = (difference * channel_weight).sum(dim=-1)  # (B, K)
    return (per_location * weight).sum() / weight.sum().clamp(min=1.0)


class BoxResponse(Term):
    """The student's boxes imitate the teachers' where the teachers see objects (SparseKD; CRKD, CVPR 2024).

    The groups of classes that share one regression may differ between student and teacher, and so may the grids: a
    teacher's offset is carried to the student's cell by metres.

    Args:
        teacher: Name or names in the task's ``teachers``; with several, the mean of their losses.
        weight: Factor on the loss.
        at: ``teacher`` looks at the teacher's peaks, ``ground_truth`` at annotated centres (on unlabelled frames at
            the peaks). Either way a location counts with the teacher's score there.
        threshold: Peaks with a lower score don't count.
        max_objects: Peaks per frame.
        velocity_weight: Weight of each velocity channel, per m/s; the other channels have 1.
        mover_weight: Additional factor on the velocity where the teacher sees motion. Half of all objects stand, so
            that without it a student that answers zero does well.
        schedule: How the factor changes over the run; None keeps it.
    """

    def __init__(
        self,
        teacher: str | list[str],
        weight: float = 1.0,
        *,
        at: Literal["teacher", "ground_truth"] = "teacher",
        threshold: float = 0.1,
        max_objects: int = 200,
        velocity_weight: float = 0.2,
        mover_weight: float = 2.0,
        schedule: Schedule | None = None,
    ) -> None:
        super().__init__(teacher, weight, schedule)
        self.at = at
        self.threshold = threshold
        self.max_objects = max_objects
        self.velocity_weight = velocity_weight
        self.mover_weight = mover_weight

    def taps(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Regression against regression, at places of the teacher's heatmap."""
        return ("box_regression",), ("box_regression", "heatmap")

    def reads(self) -> dict[str, Extent]:
        """The regression at objects."""
        return {**super().reads(), "box_regression": extent_of_objects(self.threshold)}

    def loss(self, student: FusionOutput, teachers: Mapping[str, FusionOutput], batch: TermBatch) -> Tensor:
        """The unweighted loss, a scalar."""
        return torch.stack([self._compare(student, teacher, batch) for teacher in teachers.values()]).mean()

    def _compare(self, student: FusionOutput, teacher: FusionOutput, batch: TermBatch) -> Tensor:
        there = teacher_objects(student, teacher, batch, at=self.at, threshold=self.threshold, count=self.max_objects)
        mapping = torch.tensor(class_mapping(teacher.classes, student.classes), device=there.label.device)
        here = on_grid(relabel(there, mapping), source=teacher.grid, target=student.grid)
        wanted = gather_tasks(teacher.box_regression, there, teacher.task_of_class).detach()  # (B, K, 10)
        wanted = _offsets_on_grid(wanted, there, here, source=teacher, target=student)
        found = gather_tasks(student.box_regression, here, student.task_of_class)  # (B, K, 10)
        loss = weighted_smooth_l1(found, wanted, weight=here.weight, channel_weight=self._channel_weight(wanted))
        if student.heading_axis is not None and teacher.heading_axis is not None:
            wanted_axis = gather_tasks(teacher.heading_axis, there, teacher.task_of_class).detach()  # (B, K, 2)
            found_axis = gather_tasks(student.heading_axis, here, student.task_of_class)
            ones = torch.ones_like(wanted_axis)
            loss = loss + weighted_smooth_l1(found_axis, wanted_axis, weight=here.weight, channel_weight=ones)
        return loss

    def _channel_weight(self, wanted: Tensor) -> Tensor:
        weight = torch.ones_like(wanted)
        moving = (torch.linalg.vector_norm(wanted[..., _VELOCITY], dim=-1, keepdim=True) > _MOVING_MPS).float()
        weight[..., _VELOCITY] = self.velocity_weight * (1.0 + self.mover_weight * moving)
        return weight


def extent_of_objects(threshold: float) -> Extent:
    """Where a term looks that reads the teacher's objects of at least this score."""
    return "objects" if threshold >= LEAST_SCORE else "everywhere"


def teacher_objects(
    student: FusionOutput,
    teacher: FusionOutput,
    batch: TermBatch,
    *,
    at: Literal["teacher", "ground_truth"],
    threshold: float,
    count: int,
) -> Locations:
    """Where a teacher has something to teach, on its own grid and in its own order of classes.

    Args:
        student: For the order of classes that annotations are in.
        teacher: Whose objects.
        batch: For annotations.
        at: ``teacher`` for its peaks, ``ground_truth`` for annotated centres where there are labels.
        threshold: Peaks with a lower score don't count.
        count: Peaks per frame.

    Returns:
        Locations that count with the teacher's score.
    """
    objects = heatmap_peaks(teacher.heatmap, threshold=threshold, count=count)
    if at == "ground_truth":
        centres = annotated_centres(batch.gt_boxes, batch.gt_label, teacher.grid)
        mapping = torch.tensor(class_mapping(student.classes, teacher.classes), device=centres.label.device)
        centres = relabel(centres, mapping)
        frame = torch.arange(len(centres.label), device=centres.label.device)[:, None]
        score = teacher.heatmap[frame, centres.label, centres.row, centres.column].float().sigmoid()
        objects = choose(batch.labelled, replace(centres, weight=centres.weight * score), objects)
    unseen = unseen_by(teacher, batch, teacher.grid)[:, 0]  # (B, rows, columns)
    frame = torch.arange(len(unseen), device=unseen.device)[:, None]
    objects = replace(objects, weight=objects.weight * ~unseen[frame, objects.row, objects.column])
    return replace(objects, weight=objects.weight.detach())


def _offsets_on_grid(
    values: Tensor, there: Locations, here: Locations, *, source: FusionOutput, target: FusionOutput
) -> Tensor:
    """Regression values whose offsets count from the target's cells instead of the source's."""
    scale = source.grid.cell_m / target.grid.cell_m
    if scale == 1.0 and source.grid.shape == target.grid.shape and source.grid.x_min_m == target.grid.x_min_m:
        return values
    border_x = (source.grid.x_min_m - target.grid.x_min_m) / target.grid.cell_m + there.column * scale - here.column
    border_y = (source.grid.y_min_m - target.grid.y_min_m) / target.grid.cell_m + there.row * scale - here.row
    offset = torch.stack([border_x, border_y], dim=-1).to(values.dtype) + values[..., :2] * scale
    return torch.cat([offset, values[..., 2:]], dim=-1)
