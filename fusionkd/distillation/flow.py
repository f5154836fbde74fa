"""How the teacher gets from one layer to the next."""

from collections.abc import Mapping

import torch
from torch import Tensor

from fusionkd.distillation.adapters import Adapters
from fusionkd.distillation.base import TermBatch, tap
from fusionkd.distillation.feature_term import FeatureTerm, channels
from fusionkd.distillation.masks import MaskKind
from fusionkd.distillation.options import check_feature_taps
from fusionkd.distillation.resample import bev_tap, resample_bev
from fusionkd.distillation.schedules import Schedule
from fusionkd.models.values import FusionOutput


def flow_matrix(first: Tensor, second: Tensor, mask: Tensor) -> Tensor:
    """Gram matrix between two layers on one grid (Yim et al., FSP, CVPR 2017, eq. 1).

    ``G_ij = 1 / (h w) * sum_cells first_i * second_j``, as a weighted mean over the cells of each frame.

    Args:
        first: (B, C, rows, columns) of the earlier layer.
        second: (B, D, rows, columns) of the later one.
        mask: (B, 1, rows, columns), weights in [0, 1].

    Returns:
        (B, C, D); zeros for a frame with an empty mask.
    """
    share = mask / mask.sum(dim=(2, 3), keepdim=True).clamp(min=1e-6)
    return (first * share).flatten(2) @ second.flatten(2).transpose(1, 2)  # (B, C, D)


def flow_of_solution(student: tuple[Tensor, Tensor], teacher: tuple[Tensor, Tensor], mask: Tensor) -> Tensor:
    """Squared difference of two models' flow matrices (Yim et al., FSP, CVPR 2017, eq. 2).

    The mean over frames and over the entries of the matrix is taken, where the paper sums the entries.

    Args:
        student: An earlier and a later layer, (B, C, rows, columns) and (B, D, rows, columns).
        teacher: The same of the teacher, with the same C and D.
        mask: (B, 1, rows, columns), weights in [0, 1].

    Returns:
        A scalar; 0 for an empty mask.
    """
    return (flow_matrix(*student, mask) - flow_matrix(*teacher, mask)).square().mean()


class FlowOfSolution(FeatureTerm):
    """The student gets from one sensor's features to the fused ones as a teacher does (FSP; Yim et al., CVPR 2017).

    Both of the student's layers go through a 1x1 adapter, since their numbers of channels must be the teacher's.

    Args:
        teacher: Name or names in the task's ``teachers``; with several, the mean of their losses.
        weight: Factor on the loss.
        student_first: Where the student's flow begins: ``lidar_bev`` or ``camera_bev``.
        teacher_first: Where the teacher's does; a teacher of one sensor has no other.
        student_tap: Where the student's flow ends.
        teacher_tap: Where the teacher's does.
        mask: Cells that count, see ``FeatureTerm``.
        schedule: How the factor changes over the run; None keeps it.
    """

    def __init__(
        self,
        teacher: str | list[str],
        weight: float = 1.0,
        *,
        student_first: str = "lidar_bev",
        teacher_first: str = "lidar_bev",
        student_tap: str = "bev",
        teacher_tap: str = "bev",
        mask: MaskKind = "none",
        schedule: Schedule | None = None,
    ) -> None:
        super().__init__(
            teacher, weight, student_tap=student_tap, teacher_tap=teacher_tap, mask=mask, schedule=schedule
        )
        check_feature_taps(self, student_first=student_first, teacher_first=teacher_first)
        self.student_first = student_first
        self.teacher_first = teacher_first
        self.first_adapters: Adapters | None = None

    def taps(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Both ends of the flows, and the heatmap for the mask."""
        student, teacher = super().taps()
        return (self.student_first, *student), (self.teacher_first, *teacher)

    def build(self, student: FusionOutput, teachers: Mapping[str, FusionOutput]) -> None:
        """Make the adapters of both layers."""
        super().build(student, teachers)
        sizes = channels(teachers, self.teacher_first)
        self.first_adapters = Adapters(tap(student, self.student_first).shape[1], sizes)

    def loss(self, student: FusionOutput, teachers: Mapping[str, FusionOutput], batch: TermBatch) -> Tensor:
        """The unweighted loss, a scalar."""
        if self.first_adapters is None:
            raise RuntimeError("FlowOfSolution.prepare() must run before the first step.")
        losses = []
        for name, teacher in teachers.items():
            last = self.align(student, teacher, batch, name=name)
            here = self.first_adapters(bev_tap(student, self.student_first), name)
            there = resample_bev(
                bev_tap(teacher, self.teacher_first), source=teacher.grid, target=student.grid
            ).detach()
            losses.append(flow_of_solution((here, last.student), (there, last.teacher), last.cells))
        return torch.stack(losses).mean()
