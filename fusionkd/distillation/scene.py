"""How the parts of a scene stand to each other in the teacher's features."""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from fusionkd.distillation.base import Term, TermBatch
from fusionkd.distillation.masks import unseen_by
from fusionkd.distillation.numerics import at_least_float32
from fusionkd.distillation.options import check_feature_taps
from fusionkd.distillation.relation import cosine_matrix
from fusionkd.distillation.resample import bev_tap, covered_cells, resample_bev
from fusionkd.distillation.schedules import Schedule
from fusionkd.errors import UserError
from fusionkd.models.values import FusionOutput


def affinity(
    student: Tensor, teacher: Tensor, *, scales: Sequence[int] = (16, 8, 4), cells: Tensor | None = None
) -> Tensor:
    """Mean over scales of the L1 distance of F^T F, F the pooled cells of unit length (Zhao et al., CRKD, CVPR 2024).

    At scale n both maps are averaged to n x n cells; entry (i, j) of F^T F is the cosine between the cells i and j.

    Args:
        student: (B, C, rows, columns) features.
        teacher: (B, D, rows, columns) of the same ground; its number of channels may differ.
        scales: Cells per side; n^4 cosines per frame are held at once.
        cells: (B, 1, rows, columns), weights in [0, 1] of the cells that make the average; None takes all alike.

    Returns:
        A scalar in [0, 2], the mean over pairs of pooled cells in which something counts; 0 where nothing does. It
        sees no turn of the channels and no positive scale of either side.
    """
    student, teacher = at_least_float32(student), at_least_float32(teacher)
    if cells is None:
        cells = torch.ones_like(student[:, :1])
    return torch.stack([_affinity_at(student * cells, teacher * cells, cells, side=side) for side in scales]).mean()


class Affinity(Term):
    """All parts of the scene are as alike as in the teacher's features (relation distillation of CRKD).

    It needs no adapter, because only features of one model are compared. Where the grids differ the teacher's
    features are resampled to the student's cells by metres.

    Args:
        teacher: Name or names in the task's ``teachers``; with several, the mean of their losses.
        weight: Factor on the loss.
        student_tap: ``bev``, ``camera_bev`` or ``lidar_bev`` of the student.
        teacher_tap: The same of the teacher.
        scales: The scene is averaged to that many cells per side; with several, the mean of their losses.
        schedule: How the factor changes over the run; None keeps it.
    """

    def __init__(
        self,
        teacher: str | list[str],
        weight: float = 1.0,
        *,
        student_tap: str = "bev",
        teacher_tap: str = "bev",
        scales: tuple[int, ...] = (16, 8, 4),
        schedule: Schedule | None = None,
    ) -> None:
        super().__init__(teacher, weight, schedule)
        check_feature_taps(self, student_tap=student_tap, teacher_tap=teacher_tap)
        if not scales or min(scales) < 2:
            found = ", ".join(map(str, scales)) or "none"
            raise UserError(f"Affinity's scales must be numbers of cells per side, at least 2, found {found}.")
        self.student_tap = student_tap
        self.teacher_tap = teacher_tap
        self.scales = scales

    def taps(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The taps of the arguments."""
        return (self.student_tap,), (self.teacher_tap,)

    def loss(self, student: FusionOutput, teachers: Mapping[str, FusionOutput], batch: TermBatch) -> Tensor:
        """The unweighted loss, a scalar."""
        here = bev_tap(student, self.student_tap)
        losses = []
        for teacher in teachers.values():
            there = resample_bev(bev_tap(teacher, self.teacher_tap), source=teacher.grid, target=student.grid)
            cells = _comparable(student, teacher, batch).to(here.dtype)
            losses.append(affinity(here, there.detach(), scales=self.scales, cells=cells))
        return torch.stack(losses).mean()


def _affinity_at(student: Tensor, teacher: Tensor, cells: Tensor, *, side: int) -> Tensor:
    """The loss at one scale; the maps are weighted by ``cells`` already."""
    counts = _pool(cells, side)[..., 0] > 0  # (B, side^2)
    pairs = counts[:, :, None] & counts[:, None, :]  # (B, side^2, side^2)
    # A cosine doesn't see the length, so that the weighted sum does for the weighted mean.
    difference = (cosine_matrix(_pool(student, side)) - cosine_matrix(_pool(teacher, side))).abs()
    return (difference * pairs).sum() / pairs.sum().clamp(min=1)


def _pool(maps: Tensor, side: int) -> Tensor:
    """Means over a coarse grid, (B, C, rows, columns) -> (B, side^2, C)."""
    return F.adaptive_avg_pool2d(maps, side).flatten(2).mT


def _comparable(student: FusionOutput, teacher: FusionOutput, batch: TermBatch) -> Tensor:
    """Cells that the teacher's grid reaches and whose objects it could see, (B, 1, rows, columns) bool."""
    reached = covered_cells(source=teacher.grid, target=student.grid, device=student.heatmap.device)
    return reached & ~unseen_by(teacher, batch, student.grid)
