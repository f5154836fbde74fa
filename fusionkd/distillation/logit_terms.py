"""What the teacher says about the class of an object: losses on logits, applied where the objects are."""

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from fusionkd.distillation.base import Term, TermBatch, class_mapping
from fusionkd.distillation.box import teacher_objects
from fusionkd.distillation.locations import Locations, on_grid, relabel
from fusionkd.distillation.logits import correlation_kd, decoupled_kd, logit_kl, standardized_logit_kl
from fusionkd.distillation.options import check_positive
from fusionkd.distillation.schedules import Schedule
from fusionkd.errors import UserError
from fusionkd.models.values import FusionOutput


class ObjectLogits(Term):
    """What the terms on class logits share: they compare the logits of the cells in which objects are centred.

    An object is a sample, its cell's logits are a classifier's. Classes that the teacher doesn't know are left out
    of the softmax on both sides, objects of classes that the student doesn't know are left out altogether.

    Args:
        teacher: Name or names in the task's ``teachers``; with several, the mean of their losses.
        weight: Factor on the loss.
        temperature: Divides the logits before the softmax.
        at: ``teacher`` looks at the teacher's peaks, ``ground_truth`` at annotated centres (on unlabelled frames at
            the peaks). Either way a location counts with the teacher's score there.
        threshold: Peaks with a lower score don't count.
        max_objects: Peaks per frame.
        schedule: How the factor changes over the run; None keeps it.
    """

    def __init__(
        self,
        teacher: str | list[str],
        weight: float = 1.0,
        *,
        temperature: float = 4.0,
        at: Literal["teacher", "ground_truth"] = "teacher",
        threshold: float = 0.1,
        max_objects: int = 200,
        schedule: Schedule | None = None,
    ) -> None:
        super().__init__(teacher, weight, schedule)
        check_positive(self, temperature=temperature, max_objects=max_objects)
        self.temperature = temperature
        self.at = at
        self.threshold = threshold
        self.max_objects = max_objects

    def compare(self, student: Tensor, teacher: Tensor, *, target: Tensor, weight: Tensor) -> Tensor:
        """The loss of N objects.

        Args:
            student: (N, K) logits of the classes that both know.
            teacher: (N, K), without gradient.
            target: (N,) index of the object's class among the K: annotated, or the teacher's peak.
            weight: (N,), 0 where there is no object.
        """
        raise NotImplementedError

    def taps(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Heatmap against heatmap."""
        return ("heatmap",), ("heatmap",)

    def build(self, student: FusionOutput, teachers: Mapping[str, FusionOutput]) -> None:
        """Check that there is something to choose from.

        Raises:
            UserError: If student and teacher share a single class.
        """
        for name, teacher in teachers.items():
            shared = _shared_classes(student, teacher)
            if len(shared) < 2:
                raise UserError(
                    f"{type(self).__name__} compares probabilities among classes, but teacher '{name}' and the student "
                    f"share only {', '.join(shared)}; use HeatmapResponse for this teacher."
                )

    def loss(self, student: FusionOutput, teachers: Mapping[str, FusionOutput], batch: TermBatch) -> Tensor:
        """The unweighted loss, a scalar."""
        return torch.stack([self._at_objects(student, teacher, batch) for teacher in teachers.values()]).mean()

    def _at_objects(self, student: FusionOutput, teacher: FusionOutput, batch: TermBatch) -> Tensor:
        shared = _shared_classes(student, teacher)
        there = teacher_objects(student, teacher, batch, at=self.at, threshold=self.threshold, count=self.max_objects)
        mapping = torch.tensor(class_mapping(teacher.classes, shared), device=there.label.device)
        here = on_grid(relabel(there, mapping), source=teacher.grid, target=student.grid)
        return self.compare(
            _gather_classes(student, here, shared).flatten(0, 1),  # (B * N, K)
            _gather_classes(teacher, there, shared).flatten(0, 1).detach(),
            target=here.label.flatten(),
            weight=here.weight.flatten(),
        )


class LogitKL(ObjectLogits):
    """The student's classes at each object are as likely as the teacher's; see ``logit_kl`` and ``ObjectLogits``."""

    def compare(self, student: Tensor, teacher: Tensor, *, target: Tensor, weight: Tensor) -> Tensor:
        """The loss of N objects."""
        return logit_kl(student, teacher, temperature=self.temperature, weight=weight)


class DecoupledKD(ObjectLogits):
    """An object's class and the others are taught apart; see ``decoupled_kd``.

    Args:
        teacher: Name or names in the task's ``teachers``; with several, the mean of their losses.
        weight: Factor on the loss.
        alpha: Weight of the object's class against all others.
        beta: Weight of the others among each other.
        temperature: Divides the logits before the softmax.
        at: Where objects are, as in ``ObjectLogits``; it also decides whose class is the target.
        threshold: Peaks with a lower score don't count.
        max_objects: Peaks per frame.
        schedule: How the factor changes over the run; None keeps it.
    """

    def __init__(
        self,
        teacher: str | list[str],
        weight: float = 1.0,
        *,
        alpha: float = 1.0,
        beta: float = 8.0,
        temperature: float = 4.0,
        at: Literal["teacher", "ground_truth"] = "teacher",
        threshold: float = 0.1,
        max_objects: int = 200,
        schedule: Schedule | None = None,
    ) -> None:
        super().__init__(
            teacher,
            weight,
            temperature=temperature,
            at=at,
            threshold=threshold,
            max_objects=max_objects,
            schedule=schedule,
        )
        self.alpha = alpha
        self.beta = beta

    def compare(self, student: Tensor, teacher: Tensor, *, target: Tensor, weight: Tensor) -> Tensor:
        """The loss of N objects."""
        return decoupled_kd(
            student,
            teacher,
            target,
            alpha=self.alpha,
            beta=self.beta,
            temperature=self.temperature,
            weight=weight,
        )


class CorrelationKD(ObjectLogits):
    """Probabilities rise and fall with the teacher's, over classes and over objects; see ``correlation_kd``.

    Args:
        teacher: Name or names in the task's ``teachers``; with several, the mean of their losses.
        weight: Factor on the loss.
        beta: Weight of the relation between the classes of an object.
        gamma: Weight of the relation between the objects of a batch, class by class.
        temperature: Divides the logits before the softmax.
        at: Where objects are, as in ``ObjectLogits``.
        threshold: Peaks with a lower score don't count.
        max_objects: Peaks per frame.
        schedule: How the factor changes over the run; None keeps it.
    """

    def __init__(
        self,
        teacher: str | list[str],
        weight: float = 1.0,
        *,
        beta: float = 1.0,
        gamma: float = 1.0,
        temperature: float = 1.0,
        at: Literal["teacher", "ground_truth"] = "teacher",
        threshold: float = 0.1,
        max_objects: int = 200,
        schedule: Schedule | None = None,
    ) -> None:
        super().__init__(
            teacher,
            weight,
            temperature=temperature,
            at=at,
            threshold=threshold,
            max_objects=max_objects,
            schedule=schedule,
        )
        self.beta = beta
        self.gamma = gamma

    def compare(self, student: Tensor, teacher: Tensor, *, target: Tensor, weight: Tensor) -> Tensor:
        """The loss of N objects."""
        return correlation_kd(
            student, teacher, beta=self.beta, gamma=self.gamma, temperature=self.temperature, weight=weight
        )


class StandardizedLogitKL(ObjectLogits):
    """Like ``LogitKL``, blind to how sure either model is; see ``standardized_logit_kl``.

    Args:
        teacher: Name or names in the task's ``teachers``; with several, the mean of their losses.
        weight: Factor on the loss.
        temperature: Divides the standardised logits before the softmax.
        at: Where objects are, as in ``ObjectLogits``.
        threshold: Peaks with a lower score don't count.
        max_objects: Peaks per frame.
        schedule: How the factor changes over the run; None keeps it.
    """

    def __init__(
        self,
        teacher: str | list[str],
        weight: float = 1.0,
        *,
        temperature: float = 2.0,
        at: Literal["teacher", "ground_truth"] = "teacher",
        threshold: float = 0.1,
        max_objects: int = 200,
        schedule: Schedule | None = None,
    ) -> None:
        super().__init__(
            teacher,
            weight,
            temperature=temperature,
            at=at,
            threshold=threshold,
            max_objects=max_objects,
            schedule=schedule,
        )

    def compare(self, student: Tensor, teacher: Tensor, *, target: Tensor, weight: Tensor) -> Tensor:
        """The loss of N objects."""
        return standardized_logit_kl(student, teacher, temperature=self.temperature, weight=weight)


def _shared_classes(student: FusionOutput, teacher: FusionOutput) -> tuple[str, ...]:
    return tuple(name for name in student.classes if name in teacher.classes)


def _gather_classes(output: FusionOutput, locations: Locations, classes: tuple[str, ...]) -> Tensor:
    """Logits of some classes at each location, (B, N, classes) float32."""
    frame = torch.arange(len(output.heatmap), device=output.heatmap.device)[:, None]
    index = torch.tensor(class_mapping(classes, output.classes), device=output.heatmap.device)
    # Gathered first and cast then: the maps are large, the places few.
    return output.heatmap[frame, :, locations.row, locations.column].float()[..., index]
