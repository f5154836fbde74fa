"""What every term on BEV features has in common."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from fusionkd.distillation.adapters import Adapters
from fusionkd.distillation.base import Term, TermBatch, tap
from fusionkd.distillation.masks import MaskKind, unseen_by
from fusionkd.distillation.options import check_feature_taps
from fusionkd.distillation.resample import bev_tap, covered_cells, lies_on_ground, resample_bev
from fusionkd.distillation.response import aligned_probability, foreground
from fusionkd.distillation.schedules import Schedule
from fusionkd.errors import UserError
from fusionkd.models.values import FusionOutput


@dataclass(frozen=True)
class AlignedMaps:
    """The student's features beside one teacher's, cell by cell.

    Attributes:
        teacher_name: Whose features.
        student: (B, C, rows, columns), through the adapter where the term has one.
        teacher: (B, D, rows, columns) on the student's grid, without gradient; D is C behind an adapter.
        cells: (B, 1, rows, columns) in [0, 1], how much each cell counts.
        seen: (B, 1, rows, columns) bool, cells of which the teacher knows anything.
    """

    teacher_name: str
    student: Tensor
    teacher: Tensor
    cells: Tensor
    seen: Tensor


class FeatureTerm(Term):
    """Compares BEV features of the student with a teacher's, on the student's grid.

    Where the grids differ the teacher's features are resampled to the student's cells by metres. A subclass says how
    two aligned maps are compared, and whether the student's channels have to become the teacher's first.

    Args:
        teacher: Name or names in the task's ``teachers``; with several, the mean of their losses.
        weight: Factor on the loss.
        student_tap: ``bev``, ``camera_bev`` or ``lidar_bev`` of the student, or the dotted path of a module that
            gives a map of the ground or, with mask ``none``, maps of the camera images.
        teacher_tap: The same of the teacher.
        mask: Cells that count: ``none`` is all of them, ``ground_truth`` (Gaussians on annotated boxes; on unlabelled
            frames the teacher's score) or ``teacher`` (its score).
        schedule: How the factor changes over the run; None keeps it.
    """

    adapts: ClassVar[bool] = True
    """Whether a 1x1 convolution brings the student's channels to the teacher's."""

    def __init__(
        self,
        teacher: str | list[str],
        weight: float = 1.0,
        *,
        student_tap: str = "bev",
        teacher_tap: str = "bev",
        mask: MaskKind = "none",
        schedule: Schedule | None = None,
    ) -> None:
        super().__init__(teacher, weight, schedule)
        check_feature_taps(self, student_tap=student_tap, teacher_tap=teacher_tap)
        self.student_tap = student_tap
        self.teacher_tap = teacher_tap
        self.mask = mask
        self.adapters: Adapters | None = None

    def taps(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The taps of the arguments, and the heatmap for the mask."""
        return (self.student_tap,), (self.teacher_tap, "heatmap")

    def build(self, student: FusionOutput, teachers: Mapping[str, FusionOutput]) -> None:
        """Make the adapters."""
        if self.adapts:
            self.adapters = Adapters(tap(student, self.student_tap).shape[1], channels(teachers, self.teacher_tap))

    def loss(self, student: FusionOutput, teachers: Mapping[str, FusionOutput], batch: TermBatch) -> Tensor:
        """The unweighted loss, a scalar."""
        losses = [self.compare(self.align(student, teacher, batch, name=name)) for name, teacher in teachers.items()]
        return torch.stack(losses).mean()

    def compare(self, maps: AlignedMaps) -> Tensor:
        """The loss against one teacher, a scalar."""
        raise NotImplementedError

    def align(self, student: FusionOutput, teacher: FusionOutput, batch: TermBatch, *, name: str) -> AlignedMaps:
        """Bring the student's channels and the cells of the teacher of that name together."""
        if not lies_on_ground(tap(student, self.student_tap), student):
            return self._align_images(student, teacher, name=name)
        here = self._adapted(bev_tap(student, self.student_tap), name)
        wanted = resample_bev(bev_tap(teacher, self.teacher_tap), source=teacher.grid, target=student.grid)
        probability, _ = aligned_probability(student, teacher)
        seen = covered_cells(source=teacher.grid, target=student.grid, device=here.device)
        seen = seen.expand_as(probability[:, :1])  # (B, 1, rows, columns)
        seen = seen & ~unseen_by(teacher, batch, student.grid)
        return AlignedMaps(name, here, wanted.detach(), self.foreground(probability, batch, student) * seen, seen)

    def _align_images(self, student: FusionOutput, teacher: FusionOutput, *, name: str) -> AlignedMaps:
        """Maps of the camera images, (B * N, C, h, w): the teacher's are resized to the student's."""
        here, wanted = tap(student, self.student_tap), tap(teacher, self.teacher_tap)
        if self.mask != "none" or here.ndim != 4 or wanted.ndim != 4 or len(here) != len(wanted):
            raise UserError(
                f"{type(self).__name__} can't compare the tap '{self.student_tap}' of {tuple(here.shape)} with "
                f"'{self.teacher_tap}' of teacher '{name}', {tuple(wanted.shape)}, under the mask '{self.mask}': "
                f"maps of the ground go with maps of the ground, maps of equally many images with each other and the "
                f"mask 'none'."
            )
        here = self._adapted(here, name)
        if wanted.shape[-2:] != here.shape[-2:]:
            wanted = F.interpolate(wanted, size=here.shape[-2:], mode="bilinear", align_corners=False)
        cells = torch.ones_like(here[:, :1])
        return AlignedMaps(name, here, wanted.detach(), cells, cells.bool())

    def _adapted(self, maps: Tensor, name: str) -> Tensor:
        if not self.adapts:
            return maps
        adapted: Tensor = self.prepared_adapters()(maps, name)
        return adapted

    def prepared_adapters(self) -> Adapters:
        """The adapters, which are made before the first step."""
        if self.adapters is None:
            raise RuntimeError(f"{type(self).__name__}.prepare() must run before the first step.")
        return self.adapters

    def foreground(self, probability: Tensor, batch: TermBatch, student: FusionOutput) -> Tensor:
        """Cells that count, (B, 1, rows, columns), for a teacher's class probabilities on the student's grid."""
        return foreground(self.mask, probability, batch, student)


def channels(teachers: Mapping[str, FusionOutput], name: str) -> dict[str, int]:
    """Number of channels of each teacher's tap."""
    return {teacher: tap(output, name).shape[1] for teacher, output in teachers.items()}
