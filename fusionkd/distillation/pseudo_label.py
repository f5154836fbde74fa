"""What the teachers find, taken for annotations."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from fusionkd.distillation.base import Term, TermBatch, class_mapping
from fusionkd.distillation.box import extent_of_objects
from fusionkd.distillation.schedules import Schedule
from fusionkd.distillation.trust import ClassTrust, Trust
from fusionkd.errors import UserError
from fusionkd.geometry import Boxes3D
from fusionkd.models.decode import Decoder
from fusionkd.models.losses import CenterLoss, LossWeights
from fusionkd.models.values import FusionOutput
from fusionkd.teachers import weighted_box_fusion
from fusionkd.teachers.cache_store import Extent


@dataclass(frozen=True)
class PseudoLabels:
    """Boxes of B frames in the place of annotations; what ``CenterLoss`` reads.

    Attributes:
        gt_boxes: (B, M, 9) rows (x, y, z, l, w, h, yaw, vx, vy).
        gt_label: (B, M), -1 where there is no box.
        score: (B, M) float32, how sure a box is.
        labelled: (B,) bool, the frames that count.
        lidar_depth: Empty: depth needs no labels and stays with the loss on annotations.
        camera_present: Empty.
    """

    gt_boxes: Tensor
    gt_label: Tensor
    score: Tensor
    labelled: Tensor
    lidar_depth: Tensor
    camera_present: Tensor


def pseudo_labels(frames: Sequence[Boxes3D], counts: Tensor) -> PseudoLabels:
    """Boxes of some frames of a batch, padded to equal numbers.

    Args:
        frames: Boxes of the frames that count, their labels in the student's order of classes.
        counts: (B,) bool, which frames of the batch those are.
    """
    most = max([1, *map(len, frames)])
    boxes = np.zeros((len(counts), most, 9), np.float32)
    label = np.full((len(counts), most), -1, np.int64)
    score = np.zeros((len(counts), most), np.float32)
    for number, found in zip(counts.nonzero()[:, 0].tolist(), frames):
        boxes[number, : len(found)] = found.to_array()
        label[number, : len(found)] = found.label
        score[number, : len(found)] = found.score
    device = counts.device
    nothing = torch.zeros(0, device=device)
    return PseudoLabels(
        gt_boxes=torch.from_numpy(boxes).to(device),
        gt_label=torch.from_numpy(label).to(device),
        score=torch.from_numpy(score).to(device),
        labelled=counts,
        lidar_depth=nothing,
        camera_present=nothing,
    )


class DetectionPseudoLabel(Term):
    """The teachers' boxes become the unlabelled frames' annotations (label KD of SparseKD, Yang et al., NeurIPS 2022).

    Several teachers' boxes are made one set by ``weighted_box_fusion``. What is left above the threshold is compared
    with the student by the losses that annotations have, each box counting with its score.

    Args:
        teacher: Name or names in the task's ``teachers``.
        weight: Factor on the loss.
        threshold: Boxes with a lower (fused) score are left out.
        candidate_threshold: Lowest score with which a teacher's box takes part in the fusion.
        class_weights: By teacher, how much its word counts in the fusion: a number, or one per
            class; 1 where absent. ``recorded`` takes each teacher's recorded AP per class.
        losses: Weights of the losses; those of ``CenterLoss`` where None, without depth.
        schedule: How the factor changes over the run; None keeps it.
    """

    def __init__(
        self,
        teacher: str | list[str],
        weight: float = 1.0,
        *,
        threshold: float = 0.3,
        candidate_threshold: float = 0.1,
        class_weights: Trust | None = None,
        losses: LossWeights | None = None,
        schedule: Schedule | None = None,
    ) -> None:
        super().__init__(teacher, weight, schedule)
        if not 0 < candidate_threshold <= threshold < 1:
            raise UserError(
                f"DetectionPseudoLabel needs 0 < candidate_threshold <= threshold < 1, found {candidate_threshold} "
                f"and {threshold}."
            )
        self.threshold = threshold
        self.trust = ClassTrust(class_weights, term=type(self).__name__, teachers=self.teachers)
        self.decoder = Decoder(candidate_threshold if len(self.teachers) > 1 else threshold)
        self.criterion = CenterLoss(losses)

    def taps(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Whatever boxes are made of."""
        return ("heatmap", "box_regression"), ("heatmap", "box_regression")

    def reads(self) -> dict[str, Extent]:
        """The regression at objects."""
        return {**super().reads(), "box_regression": extent_of_objects(self.decoder.selection.score_threshold)}

    def know(self, records: Mapping[str, Mapping[str, float]]) -> None:
        """Take the recorded precisions where ``class_weights`` asks for them."""
        self.trust.know(records)

    def build(self, student: FusionOutput, teachers: Mapping[str, FusionOutput]) -> None:
        """Check the names in ``class_weights``.

        Raises:
            UserError: If a class isn't one of the student's.
        """
        self.trust.check(student.classes)

    def loss(self, student: FusionOutput, teachers: Mapping[str, FusionOutput], batch: TermBatch) -> Tensor:
        """The unweighted loss, a scalar; 0 where all frames are labelled."""
        frames = self.boxes(student, {name: _frames(output, ~batch.labelled) for name, output in teachers.items()})
        labels = pseudo_labels(frames, ~batch.labelled)
        losses = self.criterion(replace(student, depth_logits=None), labels, score=labels.score)
        return torch.stack(list(losses.values())).sum()

    def boxes(self, student: FusionOutput, teachers: Mapping[str, FusionOutput]) -> list[Boxes3D]:
        """The teachers' boxes per frame, labels in the student's order of classes, best first."""
        sets = [
            _in_classes(self.decoder(teacher), class_mapping(teacher.classes, student.classes))
            for teacher in teachers.values()
        ]
        if len(sets) == 1:
            return sets[0]
        trust = np.array([self.trust.row(name, student.classes) for name in teachers])
        trust *= [[label in teacher.classes for label in student.classes] for teacher in teachers.values()]
        fused = [weighted_box_fusion(frame, trust=trust) for frame in zip(*sets)]
        return [frame.select(frame.score >= self.threshold) for frame in fused]


def _frames(output: FusionOutput, chosen: Tensor) -> FusionOutput:
    """What boxes are made of, of some frames."""
    axis = None if output.heading_axis is None else output.heading_axis[chosen]
    return replace(
        output, heatmap=output.heatmap[chosen], box_regression=output.box_regression[chosen], heading_axis=axis
    )


def _in_classes(frames: Sequence[Boxes3D], mapping: Sequence[int]) -> list[Boxes3D]:
    """Boxes relabelled; those of classes that are mapped to -1 are left out."""
    lookup = np.asarray(mapping, np.int64)
    relabelled = [replace(frame, label=lookup[frame.label]) for frame in frames]
    return [frame.select(frame.label >= 0) for frame in relabelled]
