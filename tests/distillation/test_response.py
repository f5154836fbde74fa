"""Heatmap and box responses against plain restatements."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fusionkd.distillation import BoxResponse, HeatmapResponse, quality_focal
from fusionkd.distillation.box import teacher_objects
from fusionkd.distillation.locations import annotated_centres, boxes_at, heatmap_peaks
from fusionkd.geometry import DETECTION_CLASSES
from tests.distillation.conftest import FINE, GRID, make_batch, make_output


@given(logit=st.floats(-8, 8), target=st.floats(0, 1), beta=st.floats(0.5, 3))
def test_quality_focal_is_its_formula(logit: float, target: float, beta: float) -> None:
    probability = 1 / (1 + np.exp(-logit))
    entropy = -(target * np.log(probability) + (1 - target) * np.log(1 - probability))
    wanted = abs(target - probability) ** beta * entropy
    found = quality_focal(
        torch.tensor([logit], dtype=torch.float64), torch.tensor([target], dtype=torch.float64), beta=beta
    )
    assert float(found) == pytest.approx(wanted, rel=1e-6, abs=1e-9)


def only(output_seed: int, probability: float) -> torch.Tensor:
    return torch.full((2, 10, GRID.rows, GRID.columns), float(torch.logit(torch.tensor(probability))))


def test_max_takes_the_confident_teacher() -> None:
    student = make_output(seed=1)
    sure = replace(make_output(seed=2), heatmap=only(0, 0.9))
    unsure = replace(make_output(seed=3), heatmap=only(0, 0.3))
    batch = make_batch()
    both = HeatmapResponse(["sure", "unsure"], merge="max")
    alone = HeatmapResponse("sure")
    teachers = {"sure": sure, "unsure": unsure}
    assert float(both(student, teachers, batch)) == pytest.approx(float(alone(student, teachers, batch)))


def test_mean_and_each_follow_static_class_weights() -> None:
    student = make_output(seed=1)
    teachers = {"a": make_output(seed=2), "b": make_output(seed=3)}
    ignored = {"b": dict.fromkeys(DETECTION_CLASSES, 0.0)}
    alone = float(HeatmapResponse("a")(student, teachers, make_batch()))
    for merge in ("mean", "each"):
        weighted = HeatmapResponse(["a", "b"], merge=merge, class_weights=ignored)
        assert float(weighted(student, teachers, make_batch())) == pytest.approx(alone, rel=1e-5)


def test_each_is_the_mean_of_the_teachers_losses() -> None:
    student = make_output(seed=1)
    teachers = {"a": make_output(seed=2), "b": make_output(seed=3)}
    singles = [float(HeatmapResponse(name)(student, teachers, make_batch())) for name in teachers]
    both = HeatmapResponse(["a", "b"])
    assert float(both(student, teachers, make_batch())) == pytest.approx(np.mean(singles), rel=1e-5)


def test_classes_are_matched_by_name() -> None:
    student = make_output(seed=1)
    order = tuple(reversed(DETECTION_CLASSES))
    plain = make_output(seed=2)
    turned = replace(plain, classes=order, heatmap=plain.heatmap.flip(1), task_of_class=tuple(range(9, -1, -1)))
    for term in (HeatmapResponse("t"), BoxResponse("t")):
        wanted = float(term(student, {"t": plain}, make_batch()))
        assert float(term(student, {"t": turned}, make_batch())) == pytest.approx(wanted, rel=1e-5)


def test_a_class_that_the_teacher_lacks_is_left_alone() -> None:
    student = make_output(seed=1, requires_grad=True)
    teacher = make_output(seed=2, classes=("car", "bus"))
    HeatmapResponse("t")(student, {"t": teacher}, make_batch()).backward()
    gradient = student.heatmap.grad
    assert gradient is not None
    touched = gradient.abs().sum(dim=(0, 2, 3)) > 0
    assert [name for name, used in zip(DETECTION_CLASSES, touched) if used] == ["car", "bus"]


def test_camera_teachers_teach_nothing_about_pasted_objects() -> None:
    batch = make_batch(boxes=1, pasted=True)
    for lidar in (True, False):
        student = make_output(seed=1, requires_grad=True)
        HeatmapResponse("t")(student, {"t": make_output(seed=2, lidar=lidar)}, batch).backward()
        cells = annotated_centres(batch.gt_boxes, batch.gt_label, GRID)
        gradient = student.heatmap.grad
        assert gradient is not None
        there = gradient[torch.arange(2), :, cells.row[:, 0], cells.column[:, 0]]
        assert bool((there.abs().sum() > 0) == lidar)


def test_peaks_are_local_maxima_in_falling_order() -> None:
    logits = torch.full((1, 10, 16, 16), -8.0)
    logits[0, 3, 4, 5], logits[0, 3, 4, 6], logits[0, 7, 10, 2] = 2.0, 1.0, 3.0
    peaks = heatmap_peaks(logits, threshold=0.1, count=5)
    assert peaks.label[0, :2].tolist() == [7, 3]
    assert (peaks.row[0, :2].tolist(), peaks.column[0, :2].tolist()) == ([10, 4], [2, 5])
    assert int((peaks.weight > 0).sum()) == 2


def test_offsets_are_carried_to_another_grid_by_metres() -> None:
    """A student whose boxes stand exactly where the finer teacher's do pays nothing."""
    teacher = make_output(FINE, seed=2, frames=2)
    heatmap = torch.full_like(teacher.heatmap, -8.0)
    heatmap[:, 4, 21, 33] = 3.0
    regression = torch.zeros_like(teacher.box_regression)
    regression[:, 4, 0, 21, 33], regression[:, 4, 1, 21, 33] = 0.3, 0.7
    axis = torch.zeros(2, 10, 2, FINE.rows, FINE.columns)
    teacher = replace(teacher, heatmap=heatmap, box_regression=regression, heading_axis=axis)
    student = make_output(seed=1)
    wanted = torch.zeros_like(student.box_regression)
    # 33.3 fine columns are 16.65 coarse ones, 21.7 fine rows 10.85.
    wanted[:, 4, 0, 10, 16], wanted[:, 4, 1, 10, 16] = 0.65, 0.85
    student = replace(student, box_regression=wanted, heading_axis=torch.zeros_like(student.heading_axis))
    assert float(BoxResponse("t")(student, {"t": teacher}, make_batch())) == pytest.approx(0.0, abs=1e-6)
    there = teacher_objects(student, teacher, make_batch(), at="teacher", threshold=0.1, count=1)
    x_m = boxes_at(teacher, there)[0, 0, 0]
    assert float(x_m) == pytest.approx(-12.8 + 33.3 * 0.4, abs=1e-5)


def test_ground_truth_locations_are_used_on_labelled_frames_only() -> None:
    teacher, batch = make_output(seed=2), make_batch(labelled=(True, False))
    places = teacher_objects(teacher, teacher, batch, at="ground_truth", threshold=0.1, count=5)
    assert int((places.weight[0] > 0).sum()) == 3
    assert int((places.weight[1, 3:] > 0).sum()) == 0 or int((places.weight[1] > 0).sum()) == 5


def test_movers_count_more() -> None:
    student = make_output(seed=1)
    teacher = make_output(seed=2)
    light = BoxResponse("t", mover_weight=0.0)
    heavy = BoxResponse("t", mover_weight=5.0)
    assert float(heavy(student, {"t": teacher}, make_batch())) > float(light(student, {"t": teacher}, make_batch()))
