"""What every term of distillation has in common."""

from collections.abc import Iterable, Mapping
from typing import Protocol

import torch
from torch import Tensor, nn

from fusionkd.distillation.schedules import Constant, Schedule
from fusionkd.errors import UserError
from fusionkd.models.values import FusionOutput
from fusionkd.teachers.cache_store import Extent

TAPS: tuple[str, ...] = ("heatmap", "box_regression", "bev", "camera_bev", "lidar_bev")
"""Maps of ``FusionOutput`` that a term can compare; any other tap is the dotted path of a module."""

LEAST_SCORE = 0.1
"""Of a teacher's objects, the lowest score of those that a cache keeps."""

LEAST_BOX_SCORE = 0.2
"""The same of those around which it keeps features closely."""

MOST_BOXES = 60
"""Of those, how many a frame has."""


class TermBatch(Protocol):
    """The part of a batch that terms read; ``fusionkd.data.Batch`` is one."""

    @property
    def gt_boxes(self) -> Tensor:
        """(B, M, 9) rows (x, y, z, l, w, h, yaw, vx, vy)."""

    @property
    def gt_label(self) -> Tensor:
        """(B, M), -1 where there is no box."""

    @property
    def labelled(self) -> Tensor:
        """(B,) bool; the annotations of other frames may not be used."""

    @property
    def pasted(self) -> Tensor:
        """(B, M) bool; boxes that only the LiDAR saw."""


class Term(nn.Module):
    """Compares a tap of the student with taps of one or more teachers.

    Args:
        teacher: Name or names in the task's ``teachers``.
        weight: Factor on the loss.
        schedule: How the factor changes over the run; None keeps it.
    """

    def __init__(self, teacher: str | list[str], weight: float = 1.0, schedule: Schedule | None = None) -> None:
        super().__init__()
        self.teachers: tuple[str, ...] = (teacher,) if isinstance(teacher, str) else tuple(teacher)
        if not self.teachers:
            raise UserError(f"{type(self).__name__} needs at least one teacher, found an empty list.")
        if weight < 0:
            raise UserError(f"{type(self).__name__}'s weight must not be negative, found {weight}.")
        self.weight = weight
        self.schedule = schedule or Constant()
        self.signals: dict[str, Tensor] = {}
        """Scalars of the last call, logged below the term's name."""

    def taps(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """What the term reads of the student and of each teacher: fields of ``FusionOutput`` or paths of modules."""
        raise NotImplementedError

    def reads(self) -> dict[str, Extent]:
        """Where on each of the teachers' taps the term looks; a cache keeps no more.

        Every cell, unless a term knows better. Whatever says ``truth`` or ``objects`` must look at the teacher's
        objects through ``heatmap_peaks`` or ``teacher_foreground``, with a threshold of at least ``LEAST_SCORE``;
        ``boxes`` is ``nine_points`` of at most ``MOST_BOXES`` peaks of at least ``LEAST_BOX_SCORE``.
        """
        return dict.fromkeys(self.taps()[1], "everywhere")

    def build(self, student: FusionOutput, teachers: Mapping[str, FusionOutput]) -> None:
        """Make the parts whose sizes the models decide; called once, before the optimiser is made."""

    def loss(self, student: FusionOutput, teachers: Mapping[str, FusionOutput], batch: TermBatch) -> Tensor:
        """The unweighted loss, a float32 scalar; outputs may come in 16 bits, and autocast is off."""
        raise NotImplementedError

    def factor(self, progress: float) -> float:
        """Weight at ``progress`` in [0, 1] of the run."""
        return self.weight * self.schedule.factor(progress)

    def know(self, records: Mapping[str, Mapping[str, float]]) -> None:
        """Learn what the teachers are known to reach; called before ``build``.

        Args:
            records: Recorded nuScenes figures by teacher.

        Raises:
            UserError: If the term needs figures that aren't there.
        """

    def prepare(
        self,
        name: str,
        student: FusionOutput,
        teachers: Mapping[str, FusionOutput],
        *,
        records: Mapping[str, Mapping[str, float]] | None = None,
    ) -> None:
        """Check the term against real outputs before the first step, and build its parts.

        Args:
            name: The term's key, for messages.
            student: The student's output for any batch.
            teachers: All teachers' outputs for any batch, by name.
            records: The teachers' recorded nuScenes figures, where there are any.

        Raises:
            UserError: If a teacher doesn't exist, a tap isn't there, or student and teacher lie in different
                frames or share no class.
        """
        for teacher in self.teachers:
            if teacher not in teachers:
                known = ", ".join(teachers) or "none"
                raise UserError(
                    f"Term '{name}' asks for teacher '{teacher}', which doesn't exist; the teachers are: {known}."
                )
        student_taps, teacher_taps = self.taps()
        _check_taps(name, student_taps, "the student", student)
        for teacher in self.teachers:
            output = teachers[teacher]
            _check_taps(name, teacher_taps, f"teacher '{teacher}'", output)
            if output.frame != student.frame:
                raise UserError(
                    f"Term '{name}': teacher '{teacher}' answers in the frame '{output.frame}', the student in "
                    f"'{student.frame}'; only outputs in one frame can be compared."
                )
            if not set(output.classes) & set(student.classes):
                raise UserError(
                    f"Term '{name}': teacher '{teacher}' knows {', '.join(output.classes)}; the student knows none "
                    f"of them but {', '.join(student.classes)}."
                )
        self.know({teacher: (records or {}).get(teacher, {}) for teacher in self.teachers})
        self.build(student, {teacher: teachers[teacher] for teacher in self.teachers})

    def forward(
        self,
        student: FusionOutput,
        teachers: Mapping[str, FusionOutput],
        batch: TermBatch,
        *,
        progress: float = 0.0,
    ) -> Tensor:
        """The weighted loss, a scalar.

        Args:
            student: The student's output, with gradient.
            teachers: Outputs of the task's teachers, by name.
            batch: The frames that both saw.
            progress: Share of the run that is done, in [0, 1].
        """
        chosen = {teacher: teachers[teacher] for teacher in self.teachers}
        # Differences of nearly equal numbers lose everything in 16 bits: terms turn what they read into float32.
        with torch.autocast(device_type=student.heatmap.device.type, enabled=False):
            return self.factor(progress) * self.loss(student, chosen, batch)


def tap(output: FusionOutput, name: str) -> Tensor:
    """What stands at a tap of an output, in float32.

    Raises:
        UserError: If the model has no such tap.
    """
    value = getattr(output, name, None) if name in TAPS else output.hooked.get(name)
    if value is None:
        raise UserError(f"There is no tap '{name}'; this model has {', '.join(taps_of(output))}.")
    return value.float()


def taps_of(output: FusionOutput) -> list[str]:
    """Names of the taps that an output has: its fields, then the modules that were recorded."""
    return [name for name in TAPS if getattr(output, name) is not None] + sorted(output.hooked)


def module_taps(names: Iterable[str]) -> set[str]:
    """Those taps that are dotted paths of modules and no fields of ``FusionOutput``."""
    return set(names) - set(TAPS)


def class_mapping(source: tuple[str, ...], target: tuple[str, ...]) -> list[int]:
    """For each source class its index among the target's, -1 where the target doesn't know it."""
    return [target.index(name) if name in target else -1 for name in source]


def unmapped_classes(student: FusionOutput, teacher: FusionOutput) -> tuple[list[str], list[str]]:
    """Classes that the teacher alone knows, which teach nothing, and those that the student alone knows."""
    return (
        [name for name in teacher.classes if name not in student.classes],
        [name for name in student.classes if name not in teacher.classes],
    )


def _check_taps(term: str, wanted: tuple[str, ...], owner: str, output: FusionOutput) -> None:
    for name in wanted:
        if name not in taps_of(output):
            missing_branch = {"camera_bev": "it has no camera branch", "lidar_bev": "it has no LiDAR branch"}
            reason = missing_branch.get(name, "no model has it")
            raise UserError(
                f"Term '{term}' asks for the tap '{name}' of {owner}: {reason}. "
                f"Taps there: {', '.join(taps_of(output))}."
            )
