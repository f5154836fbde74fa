"""Which object the teacher is surer of: losses on the order of candidates."""

from collections.abc import Mapping
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from fusionkd.distillation.base import Term, TermBatch, class_mapping
from fusionkd.distillation.box import teacher_objects
from fusionkd.distillation.locations import Locations, on_grid, relabel
from fusionkd.distillation.numerics import at_least_float32, weighted_mean
from fusionkd.distillation.options import check_positive
from fusionkd.distillation.schedules import Schedule
from fusionkd.errors import UserError
from fusionkd.models.values import FusionOutput


def list_mle(student: Tensor, teacher: Tensor, *, mask: Tensor | None = None) -> Tensor:
    """Negative log-likelihood of the teacher's order under the student's scores (ListMLE; Xia et al., ICML 2008).

    With the candidates in falling order of the teacher's scores, the sum over places i of
    log(sum_{j >= i} exp(s_j)) - s_i: whoever stands at a place is chosen among those that are left. It is divided by
    the number of candidates, so that lists of different lengths count alike.

    Args:
        student: (B, N) scores, any real numbers.
        teacher: (B, N) scores; only their order counts.
        mask: (B, N) bool, the candidates that count; None counts all.

    Returns:
        A scalar, the mean over lists of at least two candidates; above 0, and near 0 only where the student's
        scores fall in the teacher's order by wide gaps.
    """
    student = at_least_float32(student)
    mask = torch.ones_like(student, dtype=torch.bool) if mask is None else mask
    order = teacher.masked_fill(~mask, -torch.inf).argsort(dim=-1, descending=True, stable=True)
    ranked = _without(student, mask).gather(-1, order)
    left = ranked.flip(-1).logcumsumexp(dim=-1).flip(-1)  # (B, N): over places from i on
    candidates = mask.sum(dim=-1)
    surprise = (left - ranked).where(mask.gather(-1, order), 0.0).sum(dim=-1)  # (B,)
    return weighted_mean(surprise / candidates.clamp(min=1), (candidates > 1).to(student.dtype))


def list_net(student: Tensor, teacher: Tensor, *, mask: Tensor | None = None) -> Tensor:
    """KL between the probabilities of standing first, softmax over the candidates (ListNet; Cao et al., ICML 2007).

    The paper's cross entropy less the teacher's own entropy, which has no gradient, so that agreement costs 0.

    Args:
        student: (B, N) scores, any real numbers.
        teacher: (B, N) scores on the same scale.
        mask: (B, N) bool, the candidates that count; None counts all.

    Returns:
        A scalar, at least 0, the mean over lists of at least two candidates.
    """
    student, teacher = at_least_float32(student), at_least_float32(teacher)
    mask = torch.ones_like(student, dtype=torch.bool) if mask is None else mask
    here = _without(student, mask).log_softmax(dim=-1)
    there = _without(teacher, mask).log_softmax(dim=-1)
    divergence = F.kl_div(here, there, reduction="none", log_target=True).where(mask, 0.0).sum(dim=-1)  # (B,)
    return weighted_mean(divergence, (mask.sum(dim=-1) > 1).to(student.dtype))


class Ranking(Term):
    """The student is surer of the candidates of which the teacher is surer.

    Candidates are the teacher's strongest peaks in a frame; the score is the logit of the peak's class there.

    Args:
        teacher: Name or names in the task's ``teachers``; with several, the mean of their losses.
        weight: Factor on the loss.
        kind: ``list_mle`` takes the teacher's order only, ``list_net`` also by how much it is surer.
        threshold: Peaks with a lower score are no candidates.
        max_objects: Candidates per frame.
        schedule: How the factor changes over the run; None keeps it.
    """

    def __init__(
        self,
        teacher: str | list[str],
        weight: float = 1.0,
        *,
        kind: Literal["list_mle", "list_net"] = "list_mle",
        threshold: float = 0.1,
        max_objects: int = 50,
        schedule: Schedule | None = None,
    ) -> None:
        super().__init__(teacher, weight, schedule)
        if kind not in ("list_mle", "list_net"):
            raise UserError(f"Ranking's kind must be list_mle or list_net, found '{kind}'.")
        check_positive(self, max_objects=max_objects)
        self.kind = kind
        self.threshold = threshold
        self.max_objects = max_objects

    def taps(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Heatmap against heatmap."""
        return ("heatmap",), ("heatmap",)

    def loss(self, student: FusionOutput, teachers: Mapping[str, FusionOutput], batch: TermBatch) -> Tensor:
        """The unweighted loss, a scalar."""
        compare = list_mle if self.kind == "list_mle" else list_net
        losses = []
        for teacher in teachers.values():
            there = teacher_objects(
                student, teacher, batch, at="teacher", threshold=self.threshold, count=self.max_objects
            )
            mapping = torch.tensor(class_mapping(teacher.classes, student.classes), device=there.label.device)
            here = on_grid(relabel(there, mapping), source=teacher.grid, target=student.grid)
            wanted = _scores(teacher, there).detach()
            losses.append(compare(_scores(student, here), wanted, mask=here.weight > 0))
        return torch.stack(losses).mean()


def _without(scores: Tensor, mask: Tensor) -> Tensor:
    """Scores so low outside the mask that they take no part in a softmax; finite, for the gradient's sake."""
    return scores.masked_fill(~mask, torch.finfo(scores.dtype).min)


def _scores(output: FusionOutput, locations: Locations) -> Tensor:
    """The logit of each location's class, (B, N) float32."""
    frame = torch.arange(len(output.heatmap), device=output.heatmap.device)[:, None]
    return output.heatmap[frame, locations.label, locations.row, locations.column].float()
