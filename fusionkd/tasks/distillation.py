"""A student learns from labels and from teachers."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from fusionkd.data import Batch
from fusionkd.distillation import Term, module_taps, recording
from fusionkd.models import CenterLoss, Decoder, FusionModel, FusionOutput
from fusionkd.tasks.caching import fill_caches
from fusionkd.tasks.evaluation import check_teachers
from fusionkd.tasks.faculty import Faculty
from fusionkd.tasks.fellows import STUDENT, Fellow, Peer, ShallowHead
from fusionkd.tasks.lessons import (
    Lesson,
    check_roles,
    check_taps,
    lessons_of,
    needed_taps,
    prepare_lessons,
    tell_unmapped,
    without_gradient,
)
from fusionkd.tasks.optimization import OneCycle
from fusionkd.tasks.supervised import SupervisedTask
from fusionkd.teachers import Teacher
from fusionkd.teachers.checkpoints import check_weights

# Not None: an option that may be None hides what is wrong inside of it behind "expected None".
NO_TEACHERS: dict[str, Teacher] = {}
NO_TERMS: dict[str, Term] = {}


class DistillationTask(SupervisedTask):
    """Trains a student on labels and on terms that compare it with teachers.

    With no teachers and no terms it trains on labels alone.

    Args:
        student: The model that learns.
        loss: Compares its output with annotations, on labelled frames.
        decoder: Turns its output into boxes.
        teachers: Whoever stands beside the student, by name: frozen models, the student's own average, peers and
            shallow heads that learn in the same run. The names appear in logs and on the command line.
        terms: What the student is compared in, by name; each term names its teachers, ``student`` among them where
            a deeper stage teaches an earlier one.
        optimizer: Learning rate and weight decay.
        warm_start: Parts of the student that begin with the same part of a trained model, see ``SupervisedTask``.
        label_weight: Factor on the losses of ``loss``; 0 learns from teachers alone.
        check_frames: Validation frames on which teachers are checked before the first step; 0 for no check.
        remember_teachers: Ask frozen teachers once about each frame and keep their answers in memory. For runs whose
            frames fit, without BEV augmentation; see ``Faculty``.
    """

    def __init__(
        self,
        student: FusionModel,
        loss: CenterLoss | None = None,
        decoder: Decoder | None = None,
        *,
        teachers: dict[str, Teacher] = NO_TEACHERS,
        terms: dict[str, Term] = NO_TERMS,
        optimizer: OneCycle | None = None,
        warm_start: dict[str, str] | None = None,
        label_weight: float = 1.0,
        check_frames: int = 8,
        remember_teachers: bool = False,
    ) -> None:
        super().__init__(student, loss, decoder, optimizer=optimizer, warm_start=warm_start)
        self.fellows = {name: teacher for name, teacher in teachers.items() if isinstance(teacher, Fellow)}
        answering = {name: teacher for name, teacher in teachers.items() if name not in self.fellows}
        self.faculty = Faculty(answering, remember=remember_teachers)
        self.terms = nn.ModuleDict(terms)
        # Those who change are kept in checkpoints, and those who learn are in the optimiser.
        self.living = nn.ModuleDict({name: teacher for name, teacher in teachers.items() if not teacher.fixed})
        self.label_weight = label_weight
        self.check_frames = check_frames
        self.lessons = lessons_of(self.terms, self.fellows)
        owed = [name for name, teacher in teachers.items() if not isinstance(teacher, ShallowHead)]
        check_roles(self.lessons, owed, pupils=list(self.fellows))

    @property
    def title(self) -> str:
        """A student is distilled where anybody teaches it."""
        return "distilled student" if self.lessons or self.faculty.teachers else "student"

    @property
    def judged(self) -> tuple[str, ...]:
        """The student and its peers."""
        return (STUDENT, *(f"living.{name}.model" for name, one in self.fellows.items() if isinstance(one, Peer)))

    def company(self) -> dict[str, nn.Module]:
        """Teachers and peers, on the device."""
        self.faculty.to(self.device)
        peers = {f"peer {name}": one.model for name, one in self.fellows.items() if isinstance(one, Peer)}
        return {f"teacher {name}": teacher for name, teacher in self.faculty.teachers.items()} | {
            name: model.to(self.device).eval() for name, model in peers.items()
        }

    def setup(self, stage: str) -> None:
        """Check the terms against real outputs and build what depends on the models' sizes."""
        super().setup(stage)
        if stage != "fit":
            return
        for name, teacher in (self.faculty.teachers | self.fellows).items():
            if isinstance(teacher, Fellow):
                teacher.check_student(self.student, name=name)
            teacher.meet(self.student)
        if self.lessons or self.fellows:
            self._prepare()

    def on_fit_start(self) -> None:
        """Move the teachers to the device and see whether they still know what they knew.

        Raises:
            UserError: If a teacher's figures on a few frames are far below its recorded ones.
        """
        self.faculty.to(self.device)
        if self.check_frames and not self.trainer.fast_dev_run:  # type: ignore[attr-defined]
            teachers = {name: teacher for name, teacher in self.faculty.teachers.items() if teacher.check}
            check_teachers(teachers, self.data, decoder=self.decoder, frames=self.check_frames, device=self.device)

    @property
    def progress(self) -> float:
        """Share of the run that is done, in [0, 1]."""
        steps = self.trainer.estimated_stepping_batches
        return min(self.global_step / max(float(steps) - 1, 1.0), 1.0)

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        """One step on labels and teachers, of the student and of those who learn beside it."""
        progress = self.progress
        active = [lesson for lesson in self.lessons if lesson.term.factor(progress) > 0]
        outputs = self.learners_outputs(batch)
        asked = {teacher for lesson in active for teacher in lesson.term.teachers}
        answers = self.faculty.outputs(batch, asked)
        answers |= {name: without_gradient(output) for name, output in outputs.items() if name in asked}
        losses = self._label_losses(outputs, batch)
        for lesson in active:
            losses[lesson.key] = lesson.term(outputs[lesson.pupil], answers, batch, progress=progress)
            signals = {f"train/{lesson.key}/{key}": value for key, value in lesson.term.signals.items()}
            self.log_dict(signals, batch_size=len(batch))
        return self.total(losses, batch) + self._idle(active)

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """A step, after which the teachers that are made of the student follow it."""
        super().optimizer_step(*args, **kwargs)
        for teacher in self.faculty.teachers.values():
            teacher.follow(self.student, step=self.global_step + 1)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Check the weights of all that learns, name by name.

        Raises:
            UserError: If they don't fit exactly.
        """
        super().on_load_checkpoint(checkpoint)
        if self.trainer.state.fn != "fit":
            return
        for part in ("living", "terms"):
            prefix = f"{part}."
            state = checkpoint["state_dict"].items()
            weights = {name.removeprefix(prefix): value for name, value in state if name.startswith(prefix)}
            check_weights(self.get_submodule(part), weights, source=f"'{part}' in the checkpoint")

    def learners_outputs(self, batch: Batch) -> dict[str, FusionOutput]:
        """Maps of the student and its fellows, with gradient, and what their modules gave where somebody reads that."""
        read = {tap for fellow in self.fellows.values() for tap in fellow.reads()}
        with recording(self.student, module_taps(needed_taps(self.lessons, STUDENT) | read)) as hooked:
            output: FusionOutput = self(batch)
        outputs = {STUDENT: replace(output, hooked=hooked)}
        for name, fellow in self.fellows.items():
            paths = module_taps(needed_taps(self.lessons, name))
            outputs[name] = fellow.output(batch, outputs[STUDENT], paths=paths)
        return outputs

    def _label_losses(self, outputs: dict[str, FusionOutput], batch: Batch) -> dict[str, Tensor]:
        losses = self.losses(outputs[STUDENT], batch)
        for name, fellow in self.fellows.items():
            losses |= {f"{name}/loss/{key}": value for key, value in fellow.loss(outputs[name], batch).items()}
        return {name: self.label_weight * value for name, value in losses.items()}

    def _idle(self, active: Collection[Lesson]) -> Tensor:
        """Zero, with a gradient of zero for the adapters of terms that pause: DDP waits for every parameter."""
        idle = [p for lesson in self.lessons if lesson not in active for p in lesson.term.parameters()]
        return torch.stack([p.sum() for p in idle]).sum() * 0.0 if idle else torch.zeros((), device=self.device)

    def _prepare(self) -> None:
        frame = self.data.dataset(self.data.records("train")[:1])[0]
        batch = self.data.batch([frame])
        self._settle_taps()
        lessons = [(lesson.title, lesson.term) for lesson in self.lessons]
        fill_caches(self.faculty.teachers, lessons, trainer=self.trainer, data=self.data)
        models: Sequence[nn.Module] = [self.student, *self.fellows.values()]
        were_training = [model.training for model in models]
        # In eval mode and on one frame, so that no batch statistics are spent.
        with torch.no_grad():
            for model in models:
                model.eval()
            learners = self.learners_outputs(batch)
            answers = {name: self.faculty.ask(name, batch) for name in self.faculty.teachers}
        for model, mode in zip(models, were_training):
            model.train(mode)
        records = {name: teacher.record.figures for name, teacher in self.faculty.teachers.items()}
        tell_unmapped(learners[STUDENT], answers)
        prepare_lessons(self.lessons, learners | answers, batch, records=records)

    def _settle_taps(self) -> None:
        """Tell the faculty what is read of each teacher, and see that all modules that are read exist."""
        models = {name: getattr(one, "model", one) for name, one in (self.faculty.teachers | self.fellows).items()}
        check_taps(self.lessons, {STUDENT: self.student} | models)
        for name in self.faculty.needed:
            self.faculty.needed[name] = needed_taps(self.lessons, name)
            # Boxes stand on the heading's axis where the teacher has one; lidar_bev says whether it saw the LiDAR.
            if "box_regression" in self.faculty.needed[name]:
                self.faculty.needed[name].add("heading_axis")
