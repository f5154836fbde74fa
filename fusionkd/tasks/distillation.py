"""A student learns from labels and from frozen teachers."""

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from fusionkd.data import Batch
from fusionkd.distillation import Term, check_modules, module_taps, recording
from fusionkd.distillation.base import unmapped_classes
from fusionkd.errors import UserError
from fusionkd.models import CenterLoss, Decoder, FusionModel, FusionOutput
from fusionkd.tasks.caching import fill_caches
from fusionkd.tasks.evaluation import check_teachers, say
from fusionkd.tasks.faculty import Faculty
from fusionkd.tasks.optimization import OneCycle
from fusionkd.tasks.supervised import SupervisedTask
from fusionkd.teachers import FrozenTeacher

# Not None: an option that may be None hides what is wrong inside of it behind "expected None".
NO_TEACHERS: dict[str, FrozenTeacher] = {}
NO_TERMS: dict[str, Term] = {}


class DistillationTask(SupervisedTask):
    """Trains a student on labels and on terms that compare it with teachers.

    With no teachers and no terms it trains on labels alone.

    Args:
        student: The model that learns.
        loss: Compares its output with annotations, on labelled frames.
        decoder: Turns its output into boxes.
        teachers: Frozen models by name; the names appear in logs and on the command line.
        terms: What is compared, by name; each term names its teachers.
        optimizer: Learning rate and weight decay.
        warm_start: Parts of the student that begin with the same part of a trained model, see ``SupervisedTask``.
        label_weight: Factor on the losses of ``loss``; 0 learns from teachers alone.
        check_frames: Validation frames on which teachers are checked before the first step; 0 for no check.
        remember_teachers: Ask the teachers once about each frame and keep their answers in memory. For runs whose
            frames fit, without BEV augmentation; see ``Faculty``.
    """

    def __init__(
        self,
        student: FusionModel,
        loss: CenterLoss | None = None,
        decoder: Decoder | None = None,
        *,
        teachers: dict[str, FrozenTeacher] = NO_TEACHERS,
        terms: dict[str, Term] = NO_TERMS,
        optimizer: OneCycle | None = None,
        warm_start: dict[str, str] | None = None,
        label_weight: float = 1.0,
        check_frames: int = 8,
        remember_teachers: bool = False,
    ) -> None:
        super().__init__(student, loss, decoder, optimizer=optimizer, warm_start=warm_start)
        self.faculty = Faculty(teachers, remember=remember_teachers)
        self.terms = nn.ModuleDict(terms)
        self.label_weight = label_weight
        self.check_frames = check_frames
        unused = sorted(set(self.faculty.teachers) - {name for _, term in self._terms() for name in term.teachers})
        if unused and terms:
            raise UserError(
                f"No term learns from teacher {', '.join(unused)}. Name it in a term's 'teacher', or leave it out."
            )

    def setup(self, stage: str) -> None:
        """Check the terms against real outputs and build what depends on the models' sizes."""
        super().setup(stage)
        if stage == "fit" and len(self.terms):
            self._prepare_terms()

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
        """One step on labels and teachers."""
        output = self.student_output(batch)
        losses = {name: self.label_weight * value for name, value in self.losses(output, batch).items()}
        progress = self.progress
        active = {name: term for name, term in self._terms() if term.factor(progress) > 0}
        asked = {teacher for term in active.values() for teacher in term.teachers}
        answers = self.faculty.outputs(batch, asked)
        for name, term in active.items():
            losses[f"distill/{name}"] = term(output, answers, batch, progress=progress)
            signals = {f"train/distill/{name}/{key}": value for key, value in term.signals.items()}
            self.log_dict(signals, batch_size=len(batch))
        return self.total(losses, batch) + self._idle(active)

    def student_output(self, batch: Batch) -> FusionOutput:
        """The student's maps, with what its modules gave where a term reads that."""
        paths = module_taps(name for _, term in self._terms() for name in term.taps()[0])
        with recording(self.student, paths) as hooked:
            output: FusionOutput = self(batch)
        return replace(output, hooked=hooked)

    def _idle(self, active: Mapping[str, Term]) -> Tensor:
        """Zero, with a gradient of zero for the adapters of terms that pause: DDP waits for every parameter."""
        idle = [p for name, term in self._terms() if name not in active for p in term.parameters()]
        return torch.stack([p.sum() for p in idle]).sum() * 0.0 if idle else torch.zeros((), device=self.device)

    def _terms(self) -> list[tuple[str, Term]]:
        return [(name, term) for name, term in self.terms.items() if isinstance(term, Term)]

    def _prepare_terms(self) -> None:
        frame = self.data.dataset(self.data.records("train")[:1])[0]
        batch = self.data.batch([frame])
        self._settle_taps()
        fill_caches(self.faculty.teachers, self._terms(), trainer=self.trainer, data=self.data)
        was_training = self.student.training
        self.student.eval()
        # In eval mode and on one frame, so that no batch statistics are spent.
        with torch.no_grad():
            output = self.student_output(batch)
            answers = {name: self.faculty.ask(name, batch) for name in self.faculty.teachers}
        self.student.train(was_training)
        records = {name: teacher.record.figures for name, teacher in self.faculty.teachers.items()}
        for name, term in self._terms():
            term.prepare(name, output, answers, records=records)
        self._tell_unmapped(output, answers)
        # What can't be aligned shall be refused now; the run's random numbers are left as they were.
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            for name, term in self._terms():
                try:
                    term(output, answers, batch)
                except UserError as error:
                    raise UserError(f"Term '{name}': {error}") from None

    def _tell_unmapped(self, student: FusionOutput, answers: Mapping[str, FusionOutput]) -> None:
        for name, answer in answers.items():
            unused, untaught = unmapped_classes(student, answer)
            for classes, text in ((unused, "the student doesn't know"), (untaught, "it doesn't know, nor teach")):
                if classes:
                    say(f"Teacher '{name}' and the student have different classes; {text}: {', '.join(classes)}.")

    def _settle_taps(self) -> None:
        """Tell the faculty what is read of each teacher, and see that all modules that are read exist."""
        for name, term in self._terms():
            of_student, of_teacher = term.taps()
            check_modules(of_student, self.student, term=name, owner="the student")
            for teacher in set(term.teachers) & set(self.faculty.teachers):
                model = self.faculty.teachers[teacher].model
                check_modules(of_teacher, model, term=name, owner=f"teacher '{teacher}'")
        for name in self.faculty.needed:
            self.faculty.needed[name] = {
                tap for _, term in self._terms() if name in term.teachers for tap in term.taps()[1]
            }
            # Boxes stand on the heading's axis where the teacher has one; lidar_bev says whether it saw the LiDAR.
            if "box_regression" in self.faculty.needed[name]:
                self.faculty.needed[name].add("heading_axis")
