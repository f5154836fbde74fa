"""Objects told apart as the teacher tells them apart."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fusionkd.distillation.base import Term, TermBatch, tap
from fusionkd.distillation.box import extent_of_objects, teacher_objects
from fusionkd.distillation.feature_term import channels
from fusionkd.distillation.locations import Locations, on_grid
from fusionkd.distillation.options import check_feature_taps, check_positive
from fusionkd.distillation.resample import bev_tap
from fusionkd.distillation.schedules import Schedule
from fusionkd.geometry import BevGrid
from fusionkd.models.values import FusionOutput
from fusionkd.teachers.cache_store import Extent


def contrastive(
    student: Tensor, teacher: Tensor, weight: Tensor, *, place: Tensor, temperature: float = 0.07
) -> Tensor:
    """InfoNCE of objects between student and teacher (CRD; Tian et al., ICLR 2020; at objects as in BEVDistill).

    ``-log(exp(s_i . t_i / T) / sum_j exp(s_i . t_j / T))`` for unit vectors, where j runs over i and all objects at
    other places. The weighted mean over objects i is taken.

    Args:
        student: (N, D) embedded vectors of N objects of the whole batch; they are brought to length 1.
        teacher: (N, D) of the same objects.
        weight: (N,), 0 where there is no object.
        place: (N,) integers, equal where two objects share a cell and so a vector: these can't be told apart.
        temperature: T; the lower, the more the most similar objects count.

    Returns:
        A scalar of at least 0, near 0 where each object is most like itself; 0 where no object counts.
    """
    cosine = F.normalize(student, dim=1, eps=1e-6) @ F.normalize(teacher, dim=1, eps=1e-6).T  # (N, N)
    itself = torch.eye(len(place), dtype=torch.bool, device=place.device)
    apart = (place[:, None] != place[None, :]) & (weight > 0)
    logits = (cosine / temperature).masked_fill(~(apart | itself), -torch.inf)
    loss = logits.logsumexp(dim=1) - logits.diagonal()  # (N,)
    return (loss * weight).sum() / weight.sum().clamp(min=1e-6)


class Contrastive(Term):
    """Each object's features, embedded, are nearer to the teacher's of it than of any other (CRD, ICLR 2020).

    A linear head for the student and one for the teacher embed; both are learned. Objects are annotated centres, on
    unlabelled frames the teacher's peaks, and count with the teacher's score. The other objects of the batch are what
    each is told from, so that the loss grows with the logarithm of their number.

    Args:
        teacher: Name or names in the task's ``teachers``; with several, the mean of their losses.
        weight: Factor on the loss.
        student_tap: ``bev``, ``camera_bev`` or ``lidar_bev`` of the student.
        teacher_tap: The same of the teacher.
        embedding: Length of the embedded vectors, above 0.
        temperature: Softness of the choice among objects, above 0.
        threshold: Peaks with a lower score don't count.
        max_objects: Peaks per frame, above 0.
        schedule: How the factor changes over the run; None keeps it.
    """

    def __init__(
        self,
        teacher: str | list[str],
        weight: float = 1.0,
        *,
        student_tap: str = "bev",
        teacher_tap: str = "bev",
        embedding: int = 64,
        temperature: float = 0.07,
        threshold: float = 0.1,
        max_objects: int = 60,
        schedule: Schedule | None = None,
    ) -> None:
        super().__init__(teacher, weight, schedule)
        check_feature_taps(self, student_tap=student_tap, teacher_tap=teacher_tap)
        check_positive(self, embedding=embedding, temperature=temperature, max_objects=max_objects)
        self.student_tap = student_tap
        self.teacher_tap = teacher_tap
        self.embedding = embedding
        self.temperature = temperature
        self.threshold = threshold
        self.max_objects = max_objects

    def taps(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The taps of the arguments, and the teacher's heatmap for its peaks."""
        return (self.student_tap,), (self.teacher_tap, "heatmap")

    def reads(self) -> dict[str, Extent]:
        """Features at objects."""
        objects = extent_of_objects(self.threshold)
        return {**super().reads(), self.teacher_tap: "truth" if objects == "objects" else "everywhere"}

    def build(self, student: FusionOutput, teachers: Mapping[str, FusionOutput]) -> None:
        """Make the heads."""
        sizes = channels(teachers, self.teacher_tap)
        own = tap(student, self.student_tap).shape[1]
        self.student_heads = nn.ModuleDict({name: nn.Linear(own, self.embedding) for name in sizes})
        self.teacher_heads = nn.ModuleDict({name: nn.Linear(size, self.embedding) for name, size in sizes.items()})

    def loss(self, student: FusionOutput, teachers: Mapping[str, FusionOutput], batch: TermBatch) -> Tensor:
        """The unweighted loss, a scalar."""
        losses = []
        for name, teacher in teachers.items():
            there = teacher_objects(
                student, teacher, batch, at="ground_truth", threshold=self.threshold, count=self.max_objects
            )
            here = on_grid(there, source=teacher.grid, target=student.grid)
            found = self.student_heads[name](vectors_at(bev_tap(student, self.student_tap), here))
            wanted = self.teacher_heads[name](vectors_at(bev_tap(teacher, self.teacher_tap), there).detach())
            place = cells_of(here, student.grid)
            losses.append(contrastive(found, wanted, here.weight.flatten(), place=place, temperature=self.temperature))
        return torch.stack(losses).mean()


def vectors_at(maps: Tensor, locations: Locations) -> Tensor:
    """Vectors (B * K, C) of maps (B, C, rows, columns) at K places per frame."""
    frame = torch.arange(len(maps), device=maps.device)[:, None]
    return maps[frame, :, locations.row, locations.column].flatten(0, 1)  # (B, K, C) -> (B * K, C)


def cells_of(locations: Locations, grid: BevGrid) -> Tensor:
    """One number for each cell of each frame, (B * K,)."""
    frame = torch.arange(len(locations.row), device=locations.row.device)[:, None]
    return ((frame * grid.rows + locations.row) * grid.columns + locations.column).flatten()
