"""Teacher features made again from a part of the student's."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from fusionkd.distillation.feature import masked_mimic
from fusionkd.distillation.feature_term import AlignedMaps, FeatureTerm, channels
from fusionkd.distillation.masks import MaskKind
from fusionkd.distillation.schedules import Schedule
from fusionkd.errors import UserError
from fusionkd.models.values import FusionOutput


def masked_generative(
    student: Tensor, teacher: Tensor, mask: Tensor, *, generator: Callable[[Tensor], Tensor], hidden_share: float = 0.65
) -> Tensor:
    """Distance of the teacher's map from one generated of a student map with holes (Yang et al., MGD, ECCV 2022).

    ``|| t - G(s * M) ||^2`` with a random M that hides a share of the cells, all channels of a cell together. Taken
    relative to the teacher's own square, see ``masked_mimic``. M is drawn from torch's global random numbers, so that
    ``torch.manual_seed`` repeats it.

    Args:
        student: (B, C, rows, columns).
        teacher: (B, D, rows, columns).
        mask: (B, 1, rows, columns), weights in [0, 1] of the cells to be generated.
        generator: G, from (B, C, rows, columns) to (B, D, rows, columns).
        hidden_share: Share of the cells that M hides, in [0, 1).

    Returns:
        A scalar; 0 for an empty mask. What it is at equality depends on the generator, which has to guess.
    """
    kept = torch.rand_like(student[:, :1]) >= hidden_share  # (B, 1, rows, columns)
    return masked_mimic(generator(student * kept), teacher, mask)


class MaskedGenerative(FeatureTerm):
    """Student features with holes, through a 1x1 adapter, suffice to make a teacher's again (MGD, ECCV 2022).

    Two 3x3 convolutions per teacher generate, as published; they are learned beside the student.

    Args:
        teacher: Name or names in the task's ``teachers``; with several, the mean of their losses.
        weight: Factor on the loss.
        student_tap: ``bev``, ``camera_bev`` or ``lidar_bev`` of the student.
        teacher_tap: The same of the teacher.
        mask: Cells that have to be generated, see ``FeatureTerm``; any cell may be hidden.
        hidden_share: Share of the student's cells that are hidden, in [0, 1).
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
        hidden_share: float = 0.65,
        schedule: Schedule | None = None,
    ) -> None:
        super().__init__(
            teacher, weight, student_tap=student_tap, teacher_tap=teacher_tap, mask=mask, schedule=schedule
        )
        if not 0 <= hidden_share < 1:
            raise UserError(
                f"MaskedGenerative's hidden_share must be in [0, 1), found {hidden_share}; a student that is hidden "
                "everywhere learns nothing."
            )
        self.hidden_share = hidden_share

    def build(self, student: FusionOutput, teachers: Mapping[str, FusionOutput]) -> None:
        """Make the adapters and the generators."""
        super().build(student, teachers)
        sizes = channels(teachers, self.teacher_tap)
        self.generators = nn.ModuleDict({name: _generator(size) for name, size in sizes.items()})

    def compare(self, maps: AlignedMaps) -> Tensor:
        """``masked_generative`` over the mask; what only the student saw is always hidden."""
        return masked_generative(
            maps.student * maps.seen,
            maps.teacher,
            maps.cells,
            generator=self.generators[maps.teacher_name],
            hidden_share=self.hidden_share,
        )


def _generator(size: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(size, size, kernel_size=3, padding=1), nn.ReLU(), nn.Conv2d(size, size, kernel_size=3, padding=1)
    )
