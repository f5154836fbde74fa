"""How much each of a term's teachers counts: what ``SeveralTeachers`` takes as its weighting."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fusionkd.distillation.base import TermBatch, taps_of
from fusionkd.distillation.locations import annotated_centres
from fusionkd.distillation.response import aligned_probability
from fusionkd.distillation.trust import recorded_precision
from fusionkd.distillation.weights import (
    bernoulli_entropy,
    confidence_weights,
    dynamic_average_weights,
    entropy_weights,
    min_norm_weights,
)
from fusionkd.errors import UserError
from fusionkd.models.values import FusionOutput


@dataclass(frozen=True)
class Question:
    """What a weighting may look at.

    Attributes:
        student: The student's output, with gradient.
        teachers: The term's teachers' outputs by name, in order.
        batch: The frames.
    """

    student: FusionOutput
    teachers: Mapping[str, FusionOutput]
    batch: TermBatch

    def probability(self) -> tuple[Tensor, Tensor]:
        """Teachers' class probabilities on the student's grid, (T, B, K, rows, columns), and 1 where they know any."""
        answers = [aligned_probability(self.student, teacher) for teacher in self.teachers.values()]
        found = torch.stack([probability for probability, _ in answers])
        known = torch.stack([known for _, known in answers])[:, None]  # (T, 1, K, rows, columns)
        return found, known.expand_as(found)


class Weighting(nn.Module):
    """Makes one loss of a term's losses against each teacher.

    A subclass says how much each counts; teachers are in the term's order.
    """

    def check(self, teachers: Sequence[str], *, term: str, records: Mapping[str, Mapping[str, float]]) -> None:
        """Refuse teachers that the weighting can't weigh, before the first step.

        Args:
            teachers: Their names.
            term: The term's key, for messages.
            records: Their recorded nuScenes figures.

        Raises:
            UserError: If it can't.
        """

    def build(self, teachers: Sequence[str]) -> None:
        """Make what depends on the number of teachers; called once, before the optimiser is made."""

    def weights(self, losses: Tensor, question: Question) -> Tensor:
        """(T,) weights without gradient, which add up to one.

        Args:
            losses: (T,) of the student against each teacher, with gradient.
            question: What they are about.
        """
        raise NotImplementedError

    def forward(self, losses: Tensor, question: Question) -> tuple[Tensor, Tensor]:
        """The loss, a scalar, and the weights that made it."""
        with torch.no_grad():
            weight = self.weights(losses.detach(), question)
        return (weight * losses).sum(), weight


class Uniform(Weighting):
    """All alike."""

    def weights(self, losses: Tensor, question: Question) -> Tensor:
        """(T,)."""
        return torch.full_like(losses, 1.0 / len(losses))


class Static(Weighting):
    """What the user says; the baseline that an adaptive weighting has to beat.

    Args:
        weights: By teacher, at least 0; 1 where absent. They are divided by their sum.
    """

    def __init__(self, weights: dict[str, float]) -> None:
        super().__init__()
        self.said = weights
        negative = [f"{name}: {value}" for name, value in weights.items() if not value >= 0]
        if negative:
            raise UserError(f"Static weights must be at least 0, found {', '.join(negative)}.")

    def check(self, teachers: Sequence[str], *, term: str, records: Mapping[str, Mapping[str, float]]) -> None:
        """Refuse names that aren't teachers, and teachers that all count nothing."""
        strangers = sorted(set(self.said) - set(teachers))
        if strangers:
            raise UserError(
                f"Term '{term}': the weights name {', '.join(strangers)}; its teachers are {', '.join(teachers)}."
            )
        if sum(self.said.get(name, 1.0) for name in teachers) <= 0:
            raise UserError(f"Term '{term}': all of its teachers have the weight 0, so nobody teaches.")

    def weights(self, losses: Tensor, question: Question) -> Tensor:
        """(T,)."""
        said = losses.new_tensor([self.said.get(name, 1.0) for name in question.teachers])
        return said / said.sum()


class Recorded(Weighting):
    """Who is known to find more counts more: the mean of the AP per class that each teacher's file says it reached.

    Per class instead: ``class_weights: recorded`` of ``HeatmapResponse`` and ``DetectionPseudoLabel``.
    """

    def check(self, teachers: Sequence[str], *, term: str, records: Mapping[str, Mapping[str, float]]) -> None:
        """Refuse teachers without a record, and remember the others'."""
        self.precisions = {
            name: recorded_precision(name, records.get(name, {}), term=f"Term '{term}'") for name in teachers
        }

    def weights(self, losses: Tensor, question: Question) -> Tensor:
        """(T,)."""
        precision = [list(self.precisions[name].values()) for name in question.teachers]
        means = losses.new_tensor([sum(values) / len(values) for values in precision])
        return means / means.sum()


class Entropy(Weighting):
    """Who is surer counts more, see ``entropy_weights``.

    A teacher's entropy is the mean over the cells where any teacher sees an object, in the likeliest class there.

    Args:
        temperature: The higher, the more alike are the weights.
        threshold: Least probability of an object.
    """

    def __init__(self, temperature: float = 0.1, *, threshold: float = 0.1) -> None:
        super().__init__()
        _above_zero(self, temperature=temperature, threshold=threshold)
        self.temperature = temperature
        self.threshold = threshold

    def weights(self, losses: Tensor, question: Question) -> Tensor:
        """(T,); uniform where nobody sees anything."""
        probability, known = question.probability()
        objects = (probability * (known > 0)).amax(dim=(0, 2)) >= self.threshold  # (B, rows, columns)
        if not bool(objects.any()):
            return torch.full_like(losses, 1.0 / len(losses))
        likeliest = (probability * known).amax(dim=2)  # (T, B, rows, columns)
        entropy = bernoulli_entropy(likeliest)[:, objects].mean(dim=1)
        return entropy_weights(entropy, temperature=self.temperature)


class Confidence(Weighting):
    """Who is right counts more, see ``confidence_weights``.

    A teacher's error is the mean of -ln p of the annotated class over annotated centres on labelled frames, among
    classes that all teachers know; uniform where there is none.
    """

    def weights(self, losses: Tensor, question: Question) -> Tensor:
        """(T,)."""
        probability, known = question.probability()
        student, batch = question.student, question.batch
        centres = annotated_centres(batch.gt_boxes.float(), batch.gt_label, student.grid)
        frame = torch.arange(len(centres.label), device=centres.label.device)[:, None]
        place = (slice(None), frame, centres.label, centres.row, centres.column)
        counts = (centres.weight > 0) & batch.labelled[:, None] & (known[place] > 0).all(dim=0)  # (B, M)
        if not bool(counts.any()):
            return torch.full_like(losses, 1.0 / len(losses))
        error = -probability[place].clamp(min=1e-6).log()  # (T, B, M)
        return confidence_weights(error[:, counts].mean(dim=1))


class LearnedUncertainty(Weighting):
    """sum_t exp(-s_t) L_t + s_t with learned s_t = ln of a variance (Kendall et al., CVPR 2018, eq. 10, as coded).

    The sum is divided by the number of teachers. The loss may become negative; what is reported as weights are the
    shares of exp(-s_t).
    """

    def build(self, teachers: Sequence[str]) -> None:
        """Begin with equal variances of 1."""
        self.log_variance = nn.Parameter(torch.zeros(len(teachers)))

    def forward(self, losses: Tensor, question: Question) -> tuple[Tensor, Tensor]:
        """The loss and the shares."""
        precision = (-self.log_variance).exp()
        return (precision * losses + self.log_variance).mean(), (precision / precision.sum()).detach()


class DynamicAverage(Weighting):
    """Whose loss falls slowest counts most, see ``dynamic_average_weights``.

    What the paper calls an epoch is a window of training steps here. The first two windows are uniform.

    Args:
        window: Steps.
        temperature: The higher, the more alike are the weights.
    """

    sums: Tensor
    means: Tensor
    steps: Tensor

    def __init__(self, window: int = 50, *, temperature: float = 2.0) -> None:
        super().__init__()
        _above_zero(self, window=window, temperature=temperature)
        self.window = window
        self.temperature = temperature

    def build(self, teachers: Sequence[str]) -> None:
        """Begin without a history; it is part of checkpoints, so that a resumed run goes on alike."""
        self.register_buffer("sums", torch.zeros(len(teachers)))
        self.register_buffer("means", torch.zeros(2, len(teachers)))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def forward(self, losses: Tensor, question: Question) -> tuple[Tensor, Tensor]:
        """The loss and the weights; the losses become part of the history in training alone."""
        loss, weight = super().forward(losses, question)
        if losses.requires_grad:
            self.sums += losses.detach()
            self.steps += 1
            if int(self.steps) % self.window == 0:
                self.means.copy_(torch.stack([self.means[1], self.sums / self.window]))
                self.sums.zero_()
        return loss, weight

    def weights(self, losses: Tensor, question: Question) -> Tensor:
        """(T,)."""
        if int(self.steps) < 2 * self.window:
            return torch.full_like(losses, 1.0 / len(losses))
        return dynamic_average_weights(self.means[1], self.means[0], temperature=self.temperature)


class GradientAgreement(Weighting):
    """The direction in which all teachers agree best, see ``min_norm_weights``.

    Gradients are taken at a map of the student, not at its weights, as the paper does at the logits.

    Args:
        tap: The map: a field of ``FusionOutput``, or the dotted path of a module that the term taps. It must lie
            between the student's weights and what the term compares.
        cap: Highest weight of a teacher; 1 lets one alone decide.
    """

    def __init__(self, tap: str = "bev", *, cap: float = 0.8) -> None:
        super().__init__()
        if not 0 < cap <= 1:
            raise UserError(f"GradientAgreement's cap must lie in (0, 1], found {cap}.")
        self.tap = tap
        self.cap = cap

    def check(self, teachers: Sequence[str], *, term: str, records: Mapping[str, Mapping[str, float]]) -> None:
        """Refuse a cap with which the weights can't add up to one."""
        if self.cap * len(teachers) < 1:
            raise UserError(
                f"Term '{term}': a cap of {self.cap} on {len(teachers)} teachers' weights lets them add up to "
                f"{self.cap * len(teachers):g} at most; they must reach 1."
            )

    def forward(self, losses: Tensor, question: Question) -> tuple[Tensor, Tensor]:
        """The loss and the weights; uniform where there is no gradient to compare."""
        if not losses.requires_grad:
            weight = torch.full_like(losses, 1.0 / len(losses))
        else:
            weight = min_norm_weights(self._gradients(losses, question.student), cap=self.cap)
        return (weight * losses).sum(), weight

    def _gradients(self, losses: Tensor, student: FusionOutput) -> Tensor:
        if self.tap not in taps_of(student):
            raise UserError(
                f"GradientAgreement asks for the tap '{self.tap}' of the student, which has "
                f"{', '.join(taps_of(student))}."
            )
        at = getattr(student, self.tap, None)
        at = student.hooked[self.tap] if at is None else at
        found = [torch.autograd.grad(loss, at, retain_graph=True, allow_unused=True)[0] for loss in losses]
        if all(one is None for one in found):
            raise UserError(
                f"GradientAgreement asks for gradients at the tap '{self.tap}', on which the term doesn't depend; name "
                f"what it compares, or a map on the way there."
            )
        return torch.stack([torch.zeros_like(at) if one is None else one for one in found]).flatten(1).float()


def _above_zero(weighting: Weighting, **options: float) -> None:
    for name, value in options.items():
        if not value > 0:
            raise UserError(f"{type(weighting).__name__}'s {name} must be above 0, found {value}.")
