from dataclasses import replace

import numpy as np
import pytest
import torch

from fusionkd.distillation import DetectionPseudoLabel
from fusionkd.distillation.pseudo_label import PseudoLabels
from fusionkd.errors import UserError
from fusionkd.geometry import DETECTION_CLASSES, Boxes3D
from fusionkd.models import CenterLoss, LossWeights, center_targets
from fusionkd.models.values import FusionOutput
from tests.distillation.conftest import FINE, make_batch, make_output

UNLABELLED = make_batch(labelled=(False, False))


def saying(boxes: torch.Tensor, label: torch.Tensor, *, logit: float = 4.0, like: FusionOutput) -> FusionOutput:
    """An output that decodes to the given boxes, and to nothing else."""
    targets = center_targets(boxes, label, grid=like.grid, classes=len(like.classes))
    heatmap = torch.full_like(like.heatmap, -20.0)
    regression, axis = torch.zeros_like(like.box_regression), torch.zeros_like(like.box_regression[:, :, :2])
    for b, number in np.ndindex(*label.shape):
        if not targets.mask[b, number]:
            continue
        row, column = divmod(int(targets.cell[b, number]), like.grid.columns)
        task = like.task_of_class[int(label[b, number])]
        heatmap[b, label[b, number], row, column] = logit
        regression[b, task, :, row, column] = targets.regression[b, number]
        axis[b, task, :, row, column] = targets.axis[b, number]
    return replace(like, heatmap=heatmap, box_regression=regression, heading_axis=axis)


def two_boxes(frames: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    boxes = torch.tensor(
        [[3.1, 2.2, 0.5, 4.0, 2.0, 1.5, 0.4, 2.0, 1.0], [-6.0, 5.0, 0.8, 0.7, 0.7, 1.8, 1.2, 0.0, 0.0]]
    )
    return boxes.expand(frames, 2, 9), torch.tensor([0, 8]).expand(frames, 2)


def test_equals_the_loss_on_annotations_where_the_teacher_tells_the_truth() -> None:
    student, (boxes, label) = make_output(seed=1), two_boxes()
    teacher = saying(boxes, label, logit=20.0, like=make_output())
    term = DetectionPseudoLabel("t")
    term.prepare("pseudo", student, {"t": teacher})
    frames = torch.ones(2, dtype=torch.bool)
    truth = PseudoLabels(boxes, label, torch.ones(2, 2), frames, torch.zeros(0), torch.zeros(0))
    wanted = sum(CenterLoss()(student, truth).values())
    torch.testing.assert_close(term(student, {"t": teacher}, UNLABELLED), wanted, rtol=1e-4, atol=1e-4)


def test_labelled_frames_are_left_to_their_labels() -> None:
    student = make_output(seed=1, requires_grad=True)
    teacher = saying(*two_boxes(), like=make_output())
    term = DetectionPseudoLabel("t")
    loss = term(student, {"t": teacher}, make_batch(labelled=(True, True)))
    loss.backward()
    assert float(loss.detach()) == 0.0
    term(student, {"t": teacher}, make_batch(labelled=(True, False))).backward()
    assert float(student.heatmap.grad[0].abs().sum()) == 0.0
    assert float(student.heatmap.grad[1].abs().sum()) > 0.0


def test_doubtful_boxes_count_less_and_weak_ones_not_at_all() -> None:
    student = make_output(seed=1)
    boxes, label = two_boxes()
    only_box = LossWeights(heatmap=0, heatmap_quality=0, velocity=0, heading=0, heading_axis=0, direction=0, depth=0)
    term = DetectionPseudoLabel("t", threshold=0.3, losses=only_box)

    def loss(first_logit: float) -> float:
        teacher = saying(boxes, label, like=make_output())
        heatmap = teacher.heatmap.clone()
        heatmap[:, 0][heatmap[:, 0] > 0] = first_logit
        return float(term(student, {"t": replace(teacher, heatmap=heatmap)}, UNLABELLED))

    sure, doubtful, weak = loss(4.0), loss(0.0), loss(-2.0)
    first, second = (
        float(term(student, {"t": saying(boxes[:, [n]], label[:, [n]], like=make_output())}, UNLABELLED))
        for n in (0, 1)
    )
    assert sure == pytest.approx((first + second) / 2)
    score = torch.tensor([0.0, 4.0]).sigmoid()
    assert doubtful == pytest.approx(float(score @ torch.tensor([first, second]) / score.sum()), rel=1e-5)
    assert weak == pytest.approx(second)


def test_several_teachers_are_fused_first() -> None:
    student, (boxes, label) = make_output(seed=1), two_boxes()
    moved = boxes.clone()
    moved[:, 0, 0] += 0.4
    teachers = {"a": saying(boxes, label, like=make_output()), "b": saying(moved, label, like=make_output(FINE))}
    (frame, _) = DetectionPseudoLabel(["a", "b"]).boxes(student, teachers)
    assert isinstance(frame, Boxes3D)
    assert sorted(frame.label) == [0, 8]
    car = frame.select(frame.label == 0)
    np.testing.assert_allclose(car.xyz_m, [[3.3, 2.2, 0.5]], atol=1e-4)
    for weights in ({"b": {"car": 0.0}}, {"b": 0.0}):
        (frame, _) = DetectionPseudoLabel(["a", "b"], class_weights=weights).boxes(student, teachers)
        np.testing.assert_allclose(frame.select(frame.label == 0).xyz_m, [[3.1, 2.2, 0.5]], atol=1e-4)


def test_box_that_one_of_two_teachers_sees_needs_a_high_score() -> None:
    student, (boxes, label) = make_output(seed=1), two_boxes()
    both = saying(boxes, label, like=make_output())
    one = saying(boxes[:, :1], label[:, :1], like=make_output())
    kept = DetectionPseudoLabel(["a", "b"], threshold=0.4).boxes(student, {"a": both, "b": one})
    assert [sorted(frame.label) for frame in kept] == [[0, 8]] * 2
    kept = DetectionPseudoLabel(["a", "b"], threshold=0.6).boxes(student, {"a": both, "b": one})
    assert [sorted(frame.label) for frame in kept] == [[0]] * 2


def test_classes_are_matched_by_name() -> None:
    student, (boxes, label) = make_output(seed=1), two_boxes()
    two_classes = make_output(classes=("pedestrian", "rickshaw"))
    teacher = saying(boxes, label.new_tensor([[1, 0]]).expand(2, 2), like=two_classes)
    (frame, _) = DetectionPseudoLabel("t").boxes(student, {"t": teacher})
    assert [DETECTION_CLASSES[index] for index in frame.label] == ["pedestrian"]
    # A teacher without cars doesn't vote on them.
    other = saying(boxes, label, like=make_output())
    (frame, _) = DetectionPseudoLabel(["t", "o"], threshold=0.9).boxes(student, {"t": teacher, "o": other})
    assert sorted(frame.label) == [0, 8]


@pytest.mark.parametrize("thresholds", [(0.0, 0.0), (0.5, 0.3), (0.1, 1.0)])
def test_thresholds_are_checked(thresholds: tuple[float, float]) -> None:
    with pytest.raises(UserError, match="candidate_threshold"):
        DetectionPseudoLabel("t", candidate_threshold=thresholds[0], threshold=thresholds[1])
