"""Any term, with its teachers weighed against each other."""

from collections.abc import Mapping

import torch
from torch import Tensor

from fusionkd.distillation.base import Term, TermBatch
from fusionkd.distillation.response import HeatmapResponse, disagreement_on_objects
from fusionkd.distillation.trust import ClassTrust
from fusionkd.distillation.weighting import Question, Weighting
from fusionkd.errors import UserError
from fusionkd.models.values import FusionOutput
from fusionkd.teachers.cache_store import Extent


class SeveralTeachers(Term):
    """A term of several teachers, whose losses are weighed by something else than their number.

    Logged beside the loss: ``train/distill/NAME/weight/TEACHER`` and ``train/distill/NAME/disagreement``, which lies
    in [0, ln 2] (see ``disagreement``).

    Args:
        term: What is compared, with at least two teachers; its weight and schedule hold for the sum.
        weighting: How much each teacher counts.

    Raises:
        UserError: If the term has a single teacher, or weighs or merges its teachers by itself.
    """

    def __init__(self, term: Term, weighting: Weighting) -> None:
        super().__init__(list(term.teachers), term.weight, term.schedule)
        kind = type(term).__name__
        if len(self.teachers) < 2:
            raise UserError(f"SeveralTeachers: {kind} has the single teacher {self.teachers[0]}; nothing to weigh.")
        if isinstance(term, HeatmapResponse) and (term.merge != "each" or term.mask == "agreement"):
            raise UserError(
                "SeveralTeachers asks each teacher alone: HeatmapResponse must have merge 'each' and a mask other than "
                f"'agreement', found '{term.merge}' and '{term.mask}'."
            )
        trust = getattr(term, "trust", None)
        if isinstance(trust, ClassTrust) and trust.is_said:
            raise UserError(f"SeveralTeachers: {kind} has class_weights already; give either them or a weighting.")
        self.term = term
        self.weighting = weighting

    def taps(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The term's, and the teachers' heatmaps for the weighting."""
        of_student, of_teacher = self.term.taps()
        return of_student, tuple(dict.fromkeys((*of_teacher, "heatmap")))

    def reads(self) -> dict[str, Extent]:
        """The term's, and the teachers' heatmaps."""
        return {**super().reads(), **self.term.reads()}

    def build(self, student: FusionOutput, teachers: Mapping[str, FusionOutput]) -> None:
        """Make the parts of term and weighting."""
        self.term.build(student, teachers)
        self.weighting.build(self.teachers)

    def prepare(
        self,
        name: str,
        student: FusionOutput,
        teachers: Mapping[str, FusionOutput],
        *,
        records: Mapping[str, Mapping[str, float]] | None = None,
    ) -> None:
        """As every term; the weighting may refuse the teachers.

        Raises:
            UserError: If it does.
        """
        super().prepare(name, student, teachers, records=records)
        self.weighting.check(self.teachers, term=name, records=records or {})

    def loss(self, student: FusionOutput, teachers: Mapping[str, FusionOutput], batch: TermBatch) -> Tensor:
        """The unweighted loss, a scalar."""
        ordered = {name: teachers[name] for name in self.teachers}
        losses = torch.stack([self.term.loss(student, {name: output}, batch) for name, output in ordered.items()])
        question = Question(student, ordered, batch)
        loss: Tensor
        loss, weight = self.weighting(losses, question)
        self.signals = {f"weight/{name}": value for name, value in zip(ordered, weight)}
        self.signals["disagreement"] = disagreement_on_objects(*question.probability())
        return loss
