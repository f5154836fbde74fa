"""Where the teacher looks: the strength of its features."""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from fusionkd.distillation.feature_term import AlignedMaps, FeatureTerm
from fusionkd.distillation.masks import MaskKind
from fusionkd.distillation.schedules import Schedule
from fusionkd.errors import UserError


def attention_transfer(student: Tensor, teacher: Tensor, mask: Tensor, *, power: float = 2.0) -> Tensor:
    """Distance of normalised attention maps (Zagoruyko & Komodakis, ICLR 2017, eq. 2).

    ``|| Q_s / ||Q_s|| - Q_t / ||Q_t|| ||`` with ``Q = sum_c |F_c|^p``, all norms L2 over the cells of a frame; the
    mean over frames is taken. (The authors' code takes the mean square instead.) The scale of the features changes
    nothing.

    Args:
        student: (B, C, rows, columns).
        teacher: (B, D, rows, columns); its number of channels may differ.
        mask: (B, 1, rows, columns), factors in [0, 1] on the attention.
        power: Exponent p, at least 1; the higher, the more the strongest channels decide.

    Returns:
        A scalar in [0, sqrt(2)]; 0 for an empty mask.
    """
    here = _unit_attention(student, mask, power)
    there = _unit_attention(teacher, mask, power)
    distance: Tensor = torch.linalg.vector_norm(here - there, dim=1)  # (B,)
    return distance.mean()


def _unit_attention(features: Tensor, mask: Tensor, power: float) -> Tensor:
    attention = features.abs().pow(power).sum(dim=1, keepdim=True)  # (B, 1, rows, columns)
    return F.normalize((attention * mask).flatten(1), dim=1)  # (B, rows * columns)


class AttentionTransfer(FeatureTerm):
    """The student's features are strong where a teacher's are (Zagoruyko & Komodakis, ICLR 2017).

    It needs no adapter, because channels are summed before anything is compared.

    Args:
        teacher: Name or names in the task's ``teachers``; with several, the mean of their losses.
        weight: Factor on the loss.
        student_tap: ``bev``, ``camera_bev`` or ``lidar_bev`` of the student.
        teacher_tap: The same of the teacher.
        mask: Cells that count, see ``FeatureTerm``.
        power: Exponent of the features, at least 1.
        schedule: How the factor changes over the run; None keeps it.
    """

    adapts: ClassVar[bool] = False

    def __init__(
        self,
        teacher: str | list[str],
        weight: float = 1.0,
        *,
        student_tap: str = "bev",
        teacher_tap: str = "bev",
        mask: MaskKind = "none",
        power: float = 2.0,
        schedule: Schedule | None = None,
    ) -> None:
        super().__init__(
            teacher, weight, student_tap=student_tap, teacher_tap=teacher_tap, mask=mask, schedule=schedule
        )
        if not power >= 1:
            raise UserError(f"AttentionTransfer's power must be at least 1, found {power}.")
        self.power = power

    def compare(self, maps: AlignedMaps) -> Tensor:
        """``attention_transfer`` over the mask."""
        return attention_transfer(maps.student, maps.teacher, maps.cells, power=self.power)
