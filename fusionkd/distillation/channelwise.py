"""Where each channel of the teacher is strong."""

import torch
from torch import Tensor

from fusionkd.distillation.feature_term import AlignedMaps, FeatureTerm
from fusionkd.distillation.masks import MaskKind
from fusionkd.distillation.options import check_positive
from fusionkd.distillation.schedules import Schedule


def channel_wise(student: Tensor, teacher: Tensor, mask: Tensor, *, temperature: float = 4.0) -> Tensor:
    """Kullback-Leibler divergence of each channel's distribution over the cells (Shu et al., CWD, ICCV 2021).

    ``T^2 / C * sum_c sum_i phi(t_ci) * log(phi(t_ci) / phi(s_ci))`` with phi the softmax of ``features / T`` over
    the cells i of a channel; the mean over frames is taken. A constant added to a channel changes nothing.

    Args:
        student: (B, C, rows, columns).
        teacher: (B, C, rows, columns).
        mask: (B, 1, rows, columns), weights in [0, 1] of the cells in the softmax.
        temperature: T; the higher, the more cells a channel's distribution spreads over.

    Returns:
        A scalar; 0 for an empty mask.
    """
    here = _log_distribution(student, mask, temperature)
    there = _log_distribution(teacher, mask, temperature)
    divergence = (there.exp() * (there - here)).sum(dim=-1)  # (B, C)
    return temperature**2 * divergence.mean()


def _log_distribution(features: Tensor, mask: Tensor, temperature: float) -> Tensor:
    # Half of the lowest number, so that subtracting the normaliser doesn't overflow.
    nowhere = torch.finfo(features.dtype).min / 2
    logits = (features / temperature + mask.log()).masked_fill(mask <= 0, nowhere)
    return logits.flatten(2).log_softmax(dim=-1)  # (B, C, rows * columns)


class ChannelWise(FeatureTerm):
    """Each of the student's channels, through a 1x1 adapter, is strong where the teacher's is (CWD, ICCV 2021).

    Args:
        teacher: Name or names in the task's ``teachers``; with several, the mean of their losses.
        weight: Factor on the loss.
        student_tap: ``bev``, ``camera_bev`` or ``lidar_bev`` of the student.
        teacher_tap: The same of the teacher.
        mask: Cells that count, see ``FeatureTerm``.
        temperature: Softness of the distributions, above 0.
        schedule: How the factor changes over the run; None keeps it.
    """

    def __init__(
        self,
        teacher: str | list[str],
        weight: float = 1.0,
        *,
        student_tap: str = "bev",
        teacher_tap: str = "bev",
        mask: MaskKind = "none",
        temperature: float = 4.0,
        schedule: Schedule | None = None,
    ) -> None:
        super().__init__(
            teacher, weight, student_tap=student_tap, teacher_tap=teacher_tap, mask=mask, schedule=schedule
        )
        check_positive(self, temperature=temperature)
        self.temperature = temperature

    def compare(self, maps: AlignedMaps) -> Tensor:
        """``channel_wise`` over the mask."""
        return channel_wise(maps.student, maps.teacher, maps.cells, temperature=self.temperature)
