"""What the teacher sees: its BEV features."""

from collections.abc import Mapping

import torch
from torch import Tensor

from fusionkd.distillation.adapters import Adapters
from fusionkd.distillation.base import TAPS, Term, TermBatch, tap
from fusionkd.distillation.masks import MaskKind, unseen_cells
from fusionkd.distillation.resample import covered_cells, resample_bev
from fusionkd.distillation.response import aligned_probability, foreground
from fusionkd.distillation.schedules import Schedule
from fusionkd.errors import UserError
from fusionkd.models.values import FusionOutput


def masked_mimic(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """Squared difference of two feature maps over a mask, relative to the teacher's own square.

    Dividing by the teacher's mean square makes a weight mean the same for teachers whose features have different
    scales: 1 is what a student that answers zero everywhere pays.

    Args:
        student: (B, C, rows, columns).
        teacher: (B, C, rows, columns).
        mask: (B, 1, rows, columns), weights in [0, 1].

    Returns:
        A scalar; 0 for an empty mask.
    """
    cells = mask.sum().clamp(min=1e-6)
    difference = ((student - teacher).square().mean(dim=1, keepdim=True) * mask).sum() / cells
    scale = (teacher.square().mean(dim=1, keepdim=True) * mask).sum() / cells
    return difference / scale.clamp(min=1e-6).detach()


class FeatureMimic(Term):
    """Student features, through a 1x1 adapter, imitate a teacher's (FitNets, ICLR 2015; masked as in BEVDistill).

    Where the grids differ the teacher's features are resampled to the student's cells by metres.

    Args:
        teacher: Name or names in the task's ``teachers``; with several, the mean of their losses.
        weight: Factor on the loss.
        student_tap: ``bev``, ``camera_bev`` or ``lidar_bev`` of the student.
        teacher_tap: The same of the teacher.
        mask: Cells that count: ``none``, ``ground_truth`` (Gaussians on annotated boxes; on unlabelled frames the
            teacher's score) or ``teacher`` (its score).
        schedule: How the factor changes over the run; None keeps it.
    """

    def __init__(
        self,
        teacher: str | list[str],
        weight: float = 1.0,
        *,
        student_tap: str = "bev",
        teacher_tap: str = "bev",
        mask: MaskKind = "ground_truth",
        schedule: Schedule | None = None,
    ) -> None:
        super().__init__(teacher, weight, schedule)
        features = [name for name in TAPS if name.endswith("bev")]
        for option, name in (("student_tap", student_tap), ("teacher_tap", teacher_tap)):
            if name not in features:
                raise UserError(f"FeatureMimic's {option} must be one of {', '.join(features)}, found '{name}'.")
        self.student_tap = student_tap
        self.teacher_tap = teacher_tap
        self.mask = mask
        self.adapters: Adapters | None = None

    def taps(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The taps of the arguments, and the heatmap for the mask."""
        return (self.student_tap,), (self.teacher_tap, "heatmap")

    def build(self, student: FusionOutput, teachers: Mapping[str, FusionOutput]) -> None:
        """Make the adapters."""
        channels = {name: tap(output, self.teacher_tap).shape[1] for name, output in teachers.items()}
        self.adapters = Adapters(tap(student, self.student_tap).shape[1], channels)

    def loss(self, student: FusionOutput, teachers: Mapping[str, FusionOutput], batch: TermBatch) -> Tensor:
        """The unweighted loss, a scalar."""
        if self.adapters is None:
            raise RuntimeError("FeatureMimic.prepare() must run before the first step.")
        losses = []
        for name, teacher in teachers.items():
            wanted = resample_bev(tap(teacher, self.teacher_tap), source=teacher.grid, target=student.grid)
            adapted = self.adapters(tap(student, self.student_tap), name)
            losses.append(masked_mimic(adapted, wanted.detach(), self._cells(student, teacher, batch)))
        return torch.stack(losses).mean()

    def _cells(self, student: FusionOutput, teacher: FusionOutput, batch: TermBatch) -> Tensor:
        probability, _ = aligned_probability(student, teacher)
        cells = foreground(self.mask, probability, batch, student)
        if teacher.lidar_bev is None:
            cells = cells * ~unseen_cells(batch.gt_boxes, batch.pasted, student.grid)
        return cells * covered_cells(source=teacher.grid, target=student.grid, device=cells.device)
