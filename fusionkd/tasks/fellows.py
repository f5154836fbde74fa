"""Who learns beside the student in the same run: peers, and heads on the student's earlier stages."""

from collections.abc import Collection
from dataclasses import replace

from torch import nn

from fusionkd.data import Batch
from fusionkd.distillation import TAPS, Term, recording
from fusionkd.distillation.hooks import module_at
from fusionkd.distillation.resample import bev_tap
from fusionkd.errors import UserError
from fusionkd.models import CenterHead, CenterLoss, FusionModel, FusionOutput, build_model
from fusionkd.teachers import Teacher

STUDENT = "student"
"""What terms call the student where it teaches somebody."""


class Fellow(Teacher):
    """Learns in the same run as the student, from labels and from terms of its own.

    Terms of the student may name a fellow, and a fellow's terms name ``student`` or other teachers. Whoever teaches is
    read without gradient: nobody is pulled towards his own pupil.

    Args:
        terms: What the fellow is compared in, by name.
        loss: Compares it with annotations, on labelled frames; None for ``CenterLoss``.
    """

    fixed = False

    def __init__(self, terms: dict[str, Term], loss: CenterLoss | None = None) -> None:
        super().__init__()
        self.terms = nn.ModuleDict(terms)
        self.loss = loss or CenterLoss()

    def reads(self) -> tuple[str, ...]:
        """Taps of the student that the fellow is made of."""
        return ()

    def check_student(self, student: FusionModel, *, name: str) -> None:
        """See that the student has what the fellow is made of.

        Args:
            student: The run's.
            name: The fellow's, for messages.

        Raises:
            UserError: If it hasn't.
        """

    def output(self, batch: Batch, student: FusionOutput, *, paths: Collection[str]) -> FusionOutput:
        """The fellow's maps, with gradient.

        Args:
            batch: The frames.
            student: The student's maps of them, with gradient, and what ``reads`` asked for.
            paths: Modules of the fellow to record.
        """
        raise NotImplementedError


class Peer(Fellow):
    """A second student; both learn at the same time and teach each other (Zhang et al., DML, CVPR 2018, eq. 5 and 6).

    The student's terms that name the peer and the peer's terms that name ``student`` are the two directions. Further
    peers make a cohort. Each is judged at the end, under its name; the run's student is the first.

    Args:
        terms: What the peer is compared in, by name.
        model: The peer; None builds a second one like the student, with other initial weights.
        loss: As for ``Fellow``.
    """

    def __init__(
        self, terms: dict[str, Term], *, model: FusionModel | None = None, loss: CenterLoss | None = None
    ) -> None:
        super().__init__(terms, loss)
        if model is not None:
            self.model = model

    def meet(self, student: FusionModel) -> None:
        """Become like the student, where no model was given.

        Raises:
            UserError: If the student doesn't know how it is built.
        """
        if "model" in self._modules:
            return
        if student.spec is None:
            raise UserError("A Peer without a model is built like the student, which needs a spec: use build_model.")
        self.model = build_model(student.spec)

    def output(self, batch: Batch, student: FusionOutput, *, paths: Collection[str]) -> FusionOutput:
        """The peer's maps, with gradient."""
        with recording(self.model, paths) as hooked:
            output: FusionOutput = self.model(batch)
        return replace(output, hooked=hooked)


class ShallowHead(Fellow):
    """A head on an earlier stage of the student (Zhang et al., BYOT, ICCV 2019).

    It learns from labels and, by terms that name ``student``, from the deepest stage: its answers and, with a feature
    term, its features. What it learns flows on into the stages below the tap, which the student shares. It is no part
    of the student, neither in its checkpoints nor in exported files, so that the student stays as fast.

    Args:
        tap: Map of the ground that the head reads: ``camera_bev``, ``lidar_bev`` or the dotted path of a module.
        head: Answers from it; its ``in_channels`` are the tap's.
        terms: What it is compared in, by name; its ``bev`` is the tapped map on the student's grid.
        loss: As for ``Fellow``.
    """

    def __init__(self, tap: str, head: CenterHead, terms: dict[str, Term], loss: CenterLoss | None = None) -> None:
        super().__init__(terms, loss)
        if tap in TAPS and not tap.endswith("_bev"):
            raise UserError(
                f"ShallowHead's tap must be camera_bev, lidar_bev or the path of a module before the student's own "
                f"head, found '{tap}'."
            )
        self.tap = tap
        self.head = head

    def reads(self) -> tuple[str, ...]:
        """The tap."""
        return (self.tap,)

    def check_student(self, student: FusionModel, *, name: str) -> None:
        """See that the tapped module is there.

        Raises:
            UserError: If it isn't.
        """
        if self.tap in TAPS:
            if getattr(student, self.tap.removesuffix("_bev")) is None:
                raise UserError(f"The head '{name}' reads '{self.tap}' of the student, which has no such branch.")
            return
        try:
            module_at(student, self.tap)
        except UserError as error:
            raise UserError(f"The head '{name}' reads '{self.tap}' of the student, but {error}") from None

    def output(self, batch: Batch, student: FusionOutput, *, paths: Collection[str]) -> FusionOutput:
        """The head's maps on the student's grid, with gradient down into the student.

        Raises:
            UserError: If the tapped map isn't one of the ground, or has other channels than the head reads.
        """
        features = bev_tap(student, self.tap)
        wanted = self.head.shared_conv.conv.in_channels
        if features.shape[1] != wanted:
            raise UserError(
                f"The tap '{self.tap}' of the student has {features.shape[1]} channels, and the ShallowHead on it "
                f"reads {wanted}: set its head's in_channels to {features.shape[1]}."
            )
        with recording(self, paths) as hooked:
            heatmap, regression, axis = self.head(features)
        return replace(
            student,
            heatmap=heatmap,
            box_regression=regression,
            heading_axis=axis,
            bev=features,
            depth_logits=None,
            classes=self.head.classes,
            task_of_class=self.head.task_of_class,
            hooked=hooked,
        )
