"""How objects stand to each other in the teacher's features: distances of pairs, angles of triplets."""

from collections.abc import Mapping
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from fusionkd.distillation.base import Term, TermBatch
from fusionkd.distillation.box import extent_of_objects, teacher_objects
from fusionkd.distillation.locations import Locations, on_grid
from fusionkd.distillation.numerics import at_least_float32
from fusionkd.distillation.options import check_feature_taps, check_positive
from fusionkd.distillation.resample import bev_tap, sample_bev
from fusionkd.distillation.schedules import Schedule
from fusionkd.geometry import BevGrid
from fusionkd.models.values import FusionOutput
from fusionkd.teachers.cache_store import Extent

# Embeddings that are closer have no direction from one to the other.
_LEAST_DISTANCE = 1e-6


def relation_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Huber loss of pairwise distances, each side's divided by their mean (RKD-D; Park et al., CVPR 2019, eq. 5-7).

    Args:
        student: (N, C) embeddings.
        teacher: (N, D); its number of channels may differ.

    Returns:
        A scalar, the mean over pairs of different embeddings; 0 for fewer than two. It sees no shift, turn or scale
        of either side.
    """
    here, there = _relative_distances(student), _relative_distances(teacher)
    return F.smooth_l1_loss(here, there, reduction="sum") / max(len(here), 1)


def relation_angle(student: Tensor, teacher: Tensor) -> Tensor:
    """Huber loss of the cosines of all angles i-j-k at j (RKD-A; Park et al., CVPR 2019, eq. 8-9).

    Args:
        student: (N, C) embeddings; N^3 cosines are held at once.
        teacher: (N, D); its number of channels may differ.

    Returns:
        A scalar, the mean over triplets of different embeddings; 0 for fewer than three. It sees no shift, turn or
        scale of either side. Triplets with a leg of no length have no angle and are left out.
    """
    here, legs_here = _directions(student)
    there, legs_there = _directions(teacher)
    legs = legs_here & legs_there
    different = ~torch.eye(len(legs), dtype=torch.bool, device=legs.device)
    triplets = legs[:, :, None] & legs[:, None, :] & different  # (vertex, N, N)
    loss = F.smooth_l1_loss(here @ here.mT, there @ there.mT, reduction="none")  # (vertex, N, N)
    return (loss * triplets).sum() / triplets.sum().clamp(min=1)


class ObjectEmbeddings(Term):
    """What the terms on pairs and triplets share: an object's embedding is the BEV feature where it stands.

    Objects of all frames of a batch relate to each other. No adapter is needed, because only features of one model
    are compared.

    Args:
        teacher: Name or names in the task's ``teachers``; with several, the mean of their losses.
        weight: Factor on the loss.
        student_tap: ``bev``, ``camera_bev`` or ``lidar_bev`` of the student.
        teacher_tap: The same of the teacher.
        at: ``teacher`` looks at the teacher's peaks, ``ground_truth`` at annotated centres (on unlabelled frames at
            the peaks).
        threshold: Objects to which the teacher gives a lower score don't count, where they are its peaks.
        max_objects: Objects per batch, those with the teacher's highest scores.
        schedule: How the factor changes over the run; None keeps it.
    """

    def __init__(
        self,
        teacher: str | list[str],
        weight: float = 1.0,
        *,
        student_tap: str = "bev",
        teacher_tap: str = "bev",
        at: Literal["teacher", "ground_truth"] = "teacher",
        threshold: float = 0.2,
        max_objects: int = 64,
        schedule: Schedule | None = None,
    ) -> None:
        super().__init__(teacher, weight, schedule)
        check_feature_taps(self, student_tap=student_tap, teacher_tap=teacher_tap)
        check_positive(self, max_objects=max_objects)
        self.student_tap = student_tap
        self.teacher_tap = teacher_tap
        self.at = at
        self.threshold = threshold
        self.max_objects = max_objects

    def compare(self, student: Tensor, teacher: Tensor) -> Tensor:
        """The loss of N objects: (N, C) embeddings of the student, (N, D) of the teacher, those without gradient."""
        raise NotImplementedError

    def taps(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The taps of the arguments, and the teacher's heatmap for its objects."""
        return (self.student_tap,), (self.teacher_tap, "heatmap")

    def reads(self) -> dict[str, Extent]:
        """Features at objects."""
        features = extent_of_objects(self.threshold)
        if self.at == "ground_truth" and features == "objects":
            features = "truth"
        return {**super().reads(), self.teacher_tap: features}

    def loss(self, student: FusionOutput, teachers: Mapping[str, FusionOutput], batch: TermBatch) -> Tensor:
        """The unweighted loss, a scalar."""
        losses = []
        for teacher in teachers.values():
            objects = teacher_objects(
                student, teacher, batch, at=self.at, threshold=self.threshold, count=self.max_objects
            )
            xy_m = _centres_m(objects, teacher.grid)  # (B, N, 2)
            # The student must have a feature there too.
            chosen = self._strongest(on_grid(objects, source=teacher.grid, target=student.grid).weight.flatten())
            here = sample_bev(bev_tap(student, self.student_tap), xy_m, student.grid).mT.flatten(0, 1)  # (B * N, C)
            there = sample_bev(bev_tap(teacher, self.teacher_tap), xy_m, teacher.grid).mT.flatten(0, 1)  # (B * N, D)
            losses.append(self.compare(here[chosen], there[chosen].detach()))
        return torch.stack(losses).mean()

    def _strongest(self, weight: Tensor) -> Tensor:
        """Indices of the objects with the highest weights, none with weight 0."""
        highest, index = weight.topk(min(self.max_objects, len(weight)))
        return index[highest > 0]


class RelationDistance(ObjectEmbeddings):
    """Objects are as far apart as in the teacher's features; see ``relation_distance`` and ``ObjectEmbeddings``."""

    def compare(self, student: Tensor, teacher: Tensor) -> Tensor:
        """The loss of N objects."""
        return relation_distance(student, teacher)


class RelationAngle(ObjectEmbeddings):
    """Objects see each other under the teacher's angles; see ``relation_angle`` and ``ObjectEmbeddings``."""

    def compare(self, student: Tensor, teacher: Tensor) -> Tensor:
        """The loss of N objects."""
        return relation_angle(student, teacher)


def _relative_distances(embeddings: Tensor) -> Tensor:
    """Distances of all pairs over their mean, (N (N - 1) / 2,)."""
    embeddings = at_least_float32(embeddings)
    # Not F.pdist, whose gradient brings the process down where there are no embeddings (PyTorch 2.14).
    one, other = torch.triu_indices(len(embeddings), len(embeddings), offset=1, device=embeddings.device)
    distances: Tensor = torch.linalg.vector_norm(embeddings[one] - embeddings[other], dim=-1)
    mean = distances.sum() / max(len(distances), 1)
    return distances / mean.clamp(min=_LEAST_DISTANCE)


def _directions(embeddings: Tensor) -> tuple[Tensor, Tensor]:
    """Unit vectors from each embedding to each other, (N, N, C), and whether they have a direction, (N, N)."""
    embeddings = at_least_float32(embeddings)
    legs = embeddings[None, :] - embeddings[:, None]  # (from, to, C)
    length = torch.linalg.vector_norm(legs, dim=-1)
    return legs / length.clamp(min=_LEAST_DISTANCE)[..., None], length > _LEAST_DISTANCE


def _centres_m(locations: Locations, grid: BevGrid) -> Tensor:
    """Positions of the cells' centres, (B, N, 2)."""
    x_m = grid.x_min_m + (locations.column + 0.5) * grid.cell_m
    y_m = grid.y_min_m + (locations.row + 0.5) * grid.cell_m
    return torch.stack([x_m, y_m], dim=-1)
