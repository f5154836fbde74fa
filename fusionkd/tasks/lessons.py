"""Who learns what from whom in a run."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor, nn

from fusionkd.data import Batch
from fusionkd.distillation import Term, check_modules
from fusionkd.distillation.base import unmapped_classes
from fusionkd.errors import UserError
from fusionkd.models import FusionOutput
from fusionkd.tasks.evaluation import say
from fusionkd.tasks.fellows import STUDENT, Fellow


@dataclass(frozen=True)
class Lesson:
    """A term and who learns by it.

    Attributes:
        pupil: ``student`` or the name of a fellow.
        name: The term's key.
        term: What is compared with whom.
    """

    pupil: str
    name: str
    term: Term

    @property
    def key(self) -> str:
        """Name of its loss: ``distill/TERM`` of the student, ``PUPIL/distill/TERM`` of a fellow."""
        return f"distill/{self.name}" if self.pupil == STUDENT else f"{self.pupil}/distill/{self.name}"

    @property
    def title(self) -> str:
        """Its name in messages."""
        return self.name if self.pupil == STUDENT else f"{self.pupil}.{self.name}"


def lessons_of(terms: nn.ModuleDict, fellows: Mapping[str, Fellow]) -> list[Lesson]:
    """The student's terms, then those of its fellows."""
    pupils = {STUDENT: terms} | {name: fellow.terms for name, fellow in fellows.items()}
    return [
        Lesson(pupil, name, term)
        for pupil, owned in pupils.items()
        for name, term in owned.items()
        if isinstance(term, Term)
    ]


def check_roles(lessons: Sequence[Lesson], teachers: Collection[str], *, pupils: Collection[str]) -> None:
    """Refuse teachers that teach nobody, and terms that compare somebody with himself.

    Args:
        lessons: All of the run.
        teachers: Names of those whom some term has to name.
        pupils: Names of the fellows.

    Raises:
        UserError: If there is one.
    """
    if STUDENT in (*teachers, *pupils):
        raise UserError("A teacher can't be named 'student': so terms name the student itself.")
    unused = sorted(set(teachers) - {name for lesson in lessons for name in lesson.term.teachers})
    if unused and lessons:
        raise UserError(
            f"No term learns from teacher {', '.join(unused)}. Name it in a term's 'teacher', or leave it out."
        )
    for lesson in lessons:
        of_pupil, of_teacher = lesson.term.taps()
        if lesson.pupil in lesson.term.teachers and set(of_pupil) <= set(of_teacher):
            raise UserError(
                f"Term '{lesson.title}' compares {lesson.pupil}'s {', '.join(of_pupil)} with itself: name another "
                f"teacher, or taps of two different stages."
            )


def needed_taps(lessons: Sequence[Lesson], name: str) -> set[str]:
    """What is read of somebody, as a pupil and as a teacher."""
    as_pupil = {tap for lesson in lessons if lesson.pupil == name for tap in lesson.term.taps()[0]}
    return as_pupil | {tap for lesson in lessons if name in lesson.term.teachers for tap in lesson.term.taps()[1]}


def check_taps(lessons: Sequence[Lesson], models: Mapping[str, nn.Module]) -> None:
    """See that all modules that are read exist.

    Args:
        lessons: All of the run.
        models: Pupils and teachers by name.

    Raises:
        UserError: If one doesn't.
    """
    for lesson in lessons:
        of_pupil, of_teacher = lesson.term.taps()
        owner = "the student" if lesson.pupil == STUDENT else f"'{lesson.pupil}'"
        check_modules(of_pupil, models[lesson.pupil], term=lesson.title, owner=owner)
        for teacher in set(lesson.term.teachers) & set(models):
            owner = "the student" if teacher == STUDENT else f"teacher '{teacher}'"
            check_modules(of_teacher, models[teacher], term=lesson.title, owner=owner)


def prepare_lessons(
    lessons: Sequence[Lesson],
    outputs: Mapping[str, FusionOutput],
    batch: Batch,
    *,
    records: Mapping[str, Mapping[str, float]],
) -> None:
    """Check all terms against real outputs and build their parts.

    Args:
        lessons: All of the run.
        outputs: Of pupils and teachers, for the batch.
        batch: Any.
        records: The teachers' recorded nuScenes figures.

    Raises:
        UserError: If outputs can't be compared; the term is named.
    """
    for lesson in lessons:
        lesson.term.prepare(lesson.title, outputs[lesson.pupil], outputs, records=records)
    # What can't be aligned shall be refused now; the run's random numbers are left as they were.
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        for lesson in lessons:
            try:
                lesson.term(outputs[lesson.pupil], outputs, batch)
            except UserError as error:
                raise UserError(f"Term '{lesson.title}': {error}") from None


def tell_unmapped(student: FusionOutput, answers: Mapping[str, FusionOutput]) -> None:
    """Name the classes that a teacher and the student don't share."""
    for name, answer in answers.items():
        unused, untaught = unmapped_classes(student, answer)
        for classes, text in ((unused, "the student doesn't know"), (untaught, "it doesn't know, nor teach")):
            if classes:
                say(f"Teacher '{name}' and the student have different classes; {text}: {', '.join(classes)}.")


def without_gradient(output: FusionOutput) -> FusionOutput:
    """The same maps, cut off from what made them."""
    cut: dict[str, Any] = {
        field.name: getattr(output, field.name).detach()
        for field in fields(output)
        if isinstance(getattr(output, field.name), Tensor)
    }
    return replace(output, **cut, hooked={path: value.detach() for path, value in output.hooked.items()})
