"""Which logits the terms on class logits compare."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from fusionkd.distillation import (
    CorrelationKD,
    DecoupledKD,
    LogitKL,
    StandardizedLogitKL,
    Term,
    correlation_kd,
    decoupled_kd,
    logit_kl,
    standardized_logit_kl,
)
from fusionkd.distillation.locations import annotated_centres
from fusionkd.errors import UserError
from fusionkd.geometry import DETECTION_CLASSES
from fusionkd.models.values import FusionOutput
from tests.distillation.conftest import FINE, GRID, make_batch, make_output

TERMS: dict[str, Callable[..., Term]] = {
    "logit_kl": LogitKL,
    "decoupled": DecoupledKD,
    "correlation": CorrelationKD,
    "standardized": StandardizedLogitKL,
}
LOSSES: dict[str, Callable[..., Tensor]] = {
    "logit_kl": lambda here, there, target, **options: logit_kl(here, there, **options),
    "decoupled": decoupled_kd,
    "correlation": lambda here, there, target, **options: correlation_kd(here, there, **options),
    "standardized": lambda here, there, target, **options: standardized_logit_kl(here, there, **options),
}
PEAKS = [(0, 2, 4, 5, 1.0), (0, 7, 20, 11, 2.0), (1, 2, 9, 30, 0.5), (1, 4, 25, 2, 3.0), (1, 9, 14, 14, 0.1)]
"""(frame, class, row, column, logit) of the teacher's objects."""


def with_peaks(output: FusionOutput, *, step: int = 1) -> FusionOutput:
    """The output with objects at PEAKS only; beside them the logits differ from cell to cell but stay low."""
    heatmap = output.heatmap.detach().clamp(-1, 1) - 8.0
    for frame, label, row, column, logit in PEAKS:
        heatmap[frame, label, row * step, column * step] = logit
    return replace(output, heatmap=heatmap)


def gathered(output: FusionOutput, *, step: int = 1) -> Tensor:
    return torch.stack([output.heatmap[frame, :, row * step, column * step] for frame, _, row, column, _ in PEAKS])


@pytest.mark.parametrize("name", TERMS)
class TestEveryTermOnLogits:
    @pytest.mark.parametrize(("grid", "step"), [(GRID, 1), (FINE, 2)], ids=["same grid", "finer teacher"])
    def test_compares_the_logits_at_the_teachers_peaks(self, name: str, grid: object, step: int) -> None:
        student, teacher = make_output(seed=1), with_peaks(make_output(grid, seed=2), step=step)  # type: ignore[arg-type]
        wanted = LOSSES[name](
            gathered(student),
            gathered(teacher, step=step),
            torch.tensor([peak[1] for peak in PEAKS]),
            weight=torch.tensor([peak[4] for peak in PEAKS]).sigmoid(),
        )
        assert float(TERMS[name]("t")(student, {"t": teacher}, make_batch())) == pytest.approx(float(wanted), rel=1e-5)

    def test_reaches_the_cells_of_objects_only(self, name: str) -> None:
        student = make_output(seed=1, requires_grad=True)
        TERMS[name]("t")(student, {"t": with_peaks(make_output(seed=2))}, make_batch()).backward()
        assert student.heatmap.grad is not None
        touched = (student.heatmap.grad.abs().sum(dim=1) > 0).nonzero().tolist()
        assert touched == sorted([frame, row, column] for frame, _, row, column, _ in PEAKS)

    def test_matches_classes_by_name(self, name: str) -> None:
        student, plain = make_output(seed=1), with_peaks(make_output(seed=2))
        order = tuple(reversed(DETECTION_CLASSES))
        turned = replace(plain, classes=order, heatmap=plain.heatmap.flip(1), task_of_class=tuple(range(9, -1, -1)))
        wanted = float(TERMS[name]("t")(student, {"t": plain}, make_batch()))
        assert float(TERMS[name]("t")(student, {"t": turned}, make_batch())) == pytest.approx(wanted, rel=1e-5)

    def test_leaves_classes_that_one_side_lacks_out_of_the_softmax(self, name: str) -> None:
        student = make_output(seed=1, requires_grad=True)
        teacher = make_output(seed=2, classes=("bus", "cow", "car", "truck"))
        TERMS[name]("t")(student, {"t": teacher}, make_batch()).backward()
        assert student.heatmap.grad is not None
        touched = student.heatmap.grad.abs().sum(dim=(0, 2, 3)) > 0
        assert {label for label, used in zip(DETECTION_CLASSES, touched) if used} == {"car", "truck", "bus"}
        only_cows = torch.where(torch.arange(4)[:, None, None] == 1, teacher.heatmap, -20.0)
        loss = TERMS[name]("t")(student, {"t": replace(teacher, heatmap=only_cows)}, make_batch())
        assert float(loss.detach()) == 0.0

    def test_looks_at_annotated_centres_of_labelled_frames(self, name: str) -> None:
        student, batch = make_output(seed=1, requires_grad=True), make_batch(labelled=(True, True))
        TERMS[name]("t", at="ground_truth")(student, {"t": make_output(seed=2)}, batch).backward()
        assert student.heatmap.grad is not None
        centres = annotated_centres(batch.gt_boxes, batch.gt_label, GRID)
        frame = torch.arange(2)[:, None].expand(-1, 3)
        wanted = torch.stack([frame, centres.row, centres.column], dim=-1).flatten(0, 1).tolist()
        assert (student.heatmap.grad.abs().sum(dim=1) > 0).nonzero().tolist() == sorted(wanted)

    def test_camera_teachers_teach_nothing_about_pasted_objects(self, name: str) -> None:
        batch = make_batch(pasted=True, labelled=(True, True))
        for lidar in (True, False):
            teacher = make_output(seed=2, lidar=lidar)
            loss = TERMS[name]("t", at="ground_truth")(make_output(seed=1), {"t": teacher}, batch)
            assert bool(loss > 0) == lidar

    def test_refuses_a_teacher_of_one_shared_class(self, name: str) -> None:
        with pytest.raises(UserError, match="teacher 't' and the student share only car"):
            TERMS[name]("t").prepare("mine", make_output(), {"t": make_output(classes=("car", "cow"))})

    def test_refuses_a_temperature_of_zero(self, name: str) -> None:
        with pytest.raises(UserError, match=f"{TERMS[name].__name__}'s temperature must be above 0, found 0"):
            TERMS[name]("t", temperature=0.0)


def test_decoupled_target_is_the_annotated_class() -> None:
    """Not what the teacher takes the object for."""
    batch = make_batch(boxes=1, labelled=(True, True))
    student, teacher = make_output(seed=1), make_output(seed=2)
    centres = annotated_centres(batch.gt_boxes, batch.gt_label, GRID)
    frame, label, row, column = torch.arange(2), centres.label[:, 0], centres.row[:, 0], centres.column[:, 0]
    there = teacher.heatmap[frame, :, row, column]
    weight = there.gather(1, label[:, None])[:, 0].sigmoid()
    wanted = decoupled_kd(student.heatmap[frame, :, row, column], there, label, weight=weight)
    found = DecoupledKD("t", at="ground_truth")(student, {"t": teacher}, batch)
    assert float(found) == pytest.approx(float(wanted), rel=1e-5)
    assert bool((there.argmax(dim=1) != label).any())


def test_options_reach_the_losses() -> None:
    student, teacher = make_output(seed=1), {"t": with_peaks(make_output(seed=2))}

    def loss(term: Term) -> float:
        return float(term(student, teacher, make_batch()))

    binary, others = (loss(DecoupledKD("t", alpha=a, beta=b)) for a, b in ((1.0, 0.0), (0.0, 1.0)))
    assert loss(DecoupledKD("t", alpha=2.0, beta=3.0)) == pytest.approx(2 * binary + 3 * others, rel=1e-5)
    between, within = (loss(CorrelationKD("t", beta=b, gamma=g)) for b, g in ((1.0, 0.0), (0.0, 1.0)))
    assert loss(CorrelationKD("t", beta=2.0, gamma=3.0)) == pytest.approx(2 * between + 3 * within, rel=1e-5)
    assert loss(LogitKL("t", temperature=1.0)) != pytest.approx(loss(LogitKL("t")), rel=0.01)
    # The three strongest peaks of a frame, which is all in the second, and none weaker than 0.6.
    assert loss(LogitKL("t", max_objects=3)) == pytest.approx(loss(LogitKL("t")), rel=1e-5)
    assert loss(LogitKL("t", max_objects=1)) == pytest.approx(loss(LogitKL("t", threshold=0.85)), rel=1e-5)
