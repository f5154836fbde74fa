"""What the teacher says: its heatmap."""

import math
from collections.abc import Mapping
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from fusionkd.distillation.base import Term, TermBatch, class_mapping
from fusionkd.distillation.locations import highest_around
from fusionkd.distillation.masks import MaskKind, gaussian_foreground, teacher_foreground, unseen_by
from fusionkd.distillation.resample import covered_cells, resample_bev
from fusionkd.distillation.schedules import Schedule
from fusionkd.distillation.trust import ClassTrust, Trust
from fusionkd.distillation.weights import bernoulli_entropy, disagreement, entropy_weights
from fusionkd.errors import UserError
from fusionkd.models.values import FusionOutput

# Of the weights by entropy: a teacher that is certain (0) counts e^0.69/0.2 = 32 times one that has no idea (ln 2).
_ENTROPY_TEMPERATURE = 0.2


def quality_focal(student_logits: Tensor, teacher_probability: Tensor, *, beta: float = 2.0) -> Tensor:
    """Quality focal loss per cell: |p_t - sigma(s)|^beta * BCE(s, p_t) (Li et al., NeurIPS 2020, eq. 2).

    The teacher's side is a probability already, the student's a logit, so that each sigmoid is applied once.

    Args:
        student_logits: Any shape.
        teacher_probability: The same shape, in [0, 1].
        beta: How strongly agreement is forgiven.

    Returns:
        The loss of each cell, the same shape; 0 where both agree.
    """
    distance = (teacher_probability - student_logits.sigmoid()).abs()
    entropy = F.binary_cross_entropy_with_logits(student_logits, teacher_probability, reduction="none")
    return distance**beta * entropy


class HeatmapResponse(Term):
    """The student's heatmap imitates the teachers'.

    Summed over cells and classes, divided by the teacher's number of objects (the sum of its peaks' scores).
    The twin without a teacher is the quality focal part of ``fusionkd.models.CenterLoss``.

    Args:
        teacher: Name or names in the task's ``teachers``.
        weight: Factor on the loss.
        beta: Exponent of ``quality_focal``.
        merge: ``each`` takes the mean of the losses against every teacher; ``mean`` and ``max`` make one
            probability of the teachers' first, the mean or the most confident one; ``entropy`` is a mean in which the
            surer teacher of a class at a cell counts more, see ``entropy_weights``.
        class_weights: By teacher, how much its word counts in ``each`` and ``mean``: a number, or one per
            class; 1 where absent. ``recorded`` takes each teacher's recorded AP per class.
        mask: Cells that count: ``none`` is all of them; ``agreement`` counts each class of a cell with
            1 - disagreement / ln 2 of the teachers.
        schedule: How the factor changes over the run; None keeps it.
    """

    def __init__(
        self,
        teacher: str | list[str],
        weight: float = 1.0,
        *,
        beta: float = 2.0,
        merge: Literal["each", "mean", "max", "entropy"] = "each",
        class_weights: Trust | None = None,
        mask: MaskKind | Literal["agreement"] = "none",
        schedule: Schedule | None = None,
    ) -> None:
        super().__init__(teacher, weight, schedule)
        self.beta = beta
        self.merge = merge
        self.mask = mask
        self.trust = ClassTrust(class_weights, term=type(self).__name__, teachers=self.teachers)
        if class_weights and merge == "max":
            raise UserError("HeatmapResponse: class_weights have no meaning with merge 'max'; use 'mean' or 'each'.")
        if len(self.teachers) < 2 and (merge == "entropy" or mask == "agreement"):
            raise UserError(
                f"HeatmapResponse: merge '{merge}' with mask '{mask}' needs at least two teachers, found "
                f"{', '.join(self.teachers)} alone."
            )

    def taps(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Heatmap against heatmap."""
        return ("heatmap",), ("heatmap",)

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
        """The unweighted loss, a scalar."""
        probability, trust = self._answers(student, teachers, batch)
        agreement = self._agreement(probability, trust)
        if self.merge == "max":
            probability, trust = _most_confident(probability, trust)
        elif self.merge in ("mean", "entropy"):
            if self.merge == "entropy":
                trust = trust * entropy_weights(bernoulli_entropy(probability), temperature=_ENTROPY_TEMPERATURE)
            known = trust.sum(dim=0, keepdim=True)
            probability = (probability * trust).sum(dim=0, keepdim=True) / known.clamp(min=1e-6)
            trust = (known > 0).float()
        else:
            # The teachers' shares add up to one wherever any of them has something to say.
            trust = trust / trust.sum(dim=0, keepdim=True).clamp(min=1e-6)
        logits = student.heatmap.float()
        losses = [
            (
                agreement * share * quality_focal(logits, answer, beta=self.beta) * self._cells(answer, student, batch)
            ).sum()
            / object_count(answer)
            for answer, share in zip(probability, trust)
        ]
        return torch.stack(losses).sum()

    def _answers(
        self, student: FusionOutput, teachers: Mapping[str, FusionOutput], batch: TermBatch
    ) -> tuple[Tensor, Tensor]:
        """Probabilities and trust, each (teachers, B, student classes, rows, columns)."""
        answers = [aligned_probability(student, teacher) for teacher in teachers.values()]
        trust = []
        for (name, teacher), (_, known) in zip(teachers.items(), answers):
            per_class = known.new_tensor(self.trust.row(name, student.classes))
            cells = known * per_class[:, None, None]  # (classes, rows, columns)
            seen = (~unseen_by(teacher, batch, student.grid)).float()
            trust.append(cells * seen)  # (B, classes, rows, columns)
        return torch.stack([probability for probability, _ in answers]), torch.stack(trust)

    def _agreement(self, probability: Tensor, trust: Tensor) -> Tensor:
        """How far the teachers agree, (B, classes, rows, columns) or one for all; what they don't is logged."""
        if len(self.teachers) < 2 or len(probability) < 2:
            return probability.new_ones(())
        self.signals = {"disagreement": disagreement_on_objects(probability, trust)}
        if self.mask != "agreement":
            return probability.new_ones(())
        return 1 - disagreement(probability, trust) / math.log(2)

    def _cells(self, probability: Tensor, student: FusionOutput, batch: TermBatch) -> Tensor:
        return foreground("none" if self.mask == "agreement" else self.mask, probability, batch, student)


def aligned_probability(student: FusionOutput, teacher: FusionOutput) -> tuple[Tensor, Tensor]:
    """A teacher's class probabilities on the student's grid, in the student's order of classes.

    Returns:
        (B, classes, rows, columns) probabilities, and (classes, rows, columns) 1 where the teacher knows the
        class and its grid reaches, else 0.
    """
    probability = resample_bev(teacher.heatmap.float().sigmoid(), source=teacher.grid, target=student.grid)
    order = class_mapping(student.classes, teacher.classes)
    reached = covered_cells(source=teacher.grid, target=student.grid, device=probability.device).float()
    knows = probability.new_tensor([float(index >= 0) for index in order])
    known = knows[:, None, None] * reached  # (classes, rows, columns)
    index = torch.tensor([max(index, 0) for index in order], device=probability.device)
    return probability[:, index], known


def disagreement_on_objects(probability: Tensor, known: Tensor, *, threshold: float = 0.1) -> Tensor:
    """The mean ``disagreement`` about classes at cells where some teacher sees one; 0 where nobody does.

    Args:
        probability: (T, B, classes, rows, columns).
        known: The same shape, 0 where a teacher has no word.
        threshold: Least probability of an object.
    """
    seen = ((probability >= threshold) & (known > 0)).any(dim=0)
    # Few cells hold an object, and logarithms are dear.
    return disagreement(probability[:, seen], known[:, seen]).sum() / seen.sum().clamp(min=1)


def object_count(probability: Tensor, *, threshold: float = 0.1) -> Tensor:
    """How many objects a heatmap speaks of: the sum of its peaks' scores, at least 1.

    Args:
        probability: (B, classes, rows, columns).
        threshold: Weaker peaks are noise.
    """
    peaks = (highest_around(probability) == probability) & (probability >= threshold)
    return probability[peaks].sum().clamp(min=1.0)


def foreground(kind: MaskKind, probability: Tensor, batch: TermBatch, student: FusionOutput) -> Tensor:
    """The cells of a mask, (B, 1, rows, columns) in [0, 1].

    Args:
        kind: Which mask; on frames without labels ``ground_truth`` means ``teacher``.
        probability: A teacher's class probabilities on the student's grid.
        batch: For annotations.
        student: For the grid.
    """
    if kind == "none":
        return torch.ones_like(probability[:, :1])
    by_teacher = teacher_foreground(probability)
    if kind == "teacher":
        return by_teacher
    by_truth = gaussian_foreground(batch.gt_boxes.float(), batch.gt_label, student.grid)
    return torch.where(batch.labelled[:, None, None, None], by_truth, by_teacher)


def _most_confident(probability: Tensor, trust: Tensor) -> tuple[Tensor, Tensor]:
    known = trust > 0
    highest = torch.where(known, probability, -1.0).amax(dim=0, keepdim=True).clamp(min=0.0)
    return highest, known.any(dim=0, keepdim=True).float()
