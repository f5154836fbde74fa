"""What the teacher sees: its BEV features."""

from torch import Tensor

from fusionkd.distillation.feature_term import AlignedMaps, FeatureTerm
from fusionkd.distillation.masks import MaskKind
from fusionkd.distillation.schedules import Schedule
from fusionkd.teachers.cache_store import Extent


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


class FeatureMimic(FeatureTerm):
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
        super().__init__(
            teacher, weight, student_tap=student_tap, teacher_tap=teacher_tap, mask=mask, schedule=schedule
        )

    def reads(self) -> dict[str, Extent]:
        """Features where the mask counts."""
        extents: dict[MaskKind, Extent] = {"none": "everywhere", "ground_truth": "truth", "teacher": "objects"}
        return {**super().reads(), self.teacher_tap: extents[self.mask]}

    def compare(self, maps: AlignedMaps) -> Tensor:
        """``masked_mimic`` over the mask; where it leaves cells out, they cost nothing."""
        if self.mask == "none":
            return masked_mimic(super()._adapted(maps.student, maps.teacher_name), maps.teacher, maps.cells)
        at = maps.cells[:, 0] > 0  # (B, rows, columns)
        here, there, weight = (x.permute(0, 2, 3, 1)[at] for x in (maps.student, maps.teacher, maps.cells))
        adapted = self.prepared_adapters().at(here, maps.teacher_name)  # (K, D)
        # As one row of K cells.
        return masked_mimic(*(x.T[None, :, None] for x in (adapted, there, weight)))

    def _adapted(self, maps: Tensor, name: str) -> Tensor:
        """The student's own channels: ``compare`` adapts what counts."""
        return maps
