"""Distances and angles between embeddings against torchdistill, and where the terms take them from."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor

from fusionkd.distillation import RelationAngle, RelationDistance, Term, relation_angle, relation_distance
from fusionkd.errors import UserError
from fusionkd.geometry import BevGrid
from fusionkd.models.values import FusionOutput
from tests.distillation.conftest import FINE, GRID, make_batch, make_output
from tests.distillation.oracles import assert_agree, assert_finite, draw, torchdistill, value_and_gradient

LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"distance": relation_distance, "angle": relation_angle}
TERMS: dict[str, Callable[..., Term]] = {"distance": RelationDistance, "angle": RelationAngle}
PLACES = [(5, 7), (20, 9), (11, 26), (25, 24), (15, 16)]
"""(row, column) on GRID of the peaks that some tests set, far from the border."""


class TestAgainstTorchdistill:
    """It takes the mean over all N^2 pairs and N^3 triplets; ours is over the different ones, of which the others
    contribute nothing."""

    def oracle(self, teacher: Tensor, *, distance: float, angle: float) -> Callable[[Tensor], Tensor]:
        loss = torchdistill(
            "RKDLoss",
            student_output_path="e",
            teacher_output_path="e",
            dist_factor=distance,
            angle_factor=angle,
            reduction="mean",
        )
        return lambda student: loss({"e": {"output": student}}, {"e": {"output": teacher}})

    @pytest.mark.parametrize("channels", [3, 8])
    @pytest.mark.parametrize("count", [2, 9])
    def test_distance(self, count: int, channels: int) -> None:
        student, teacher = draw(count, 5, seed=1), draw(count, channels, seed=2, scale=4.0)
        if count == 2:  # One distance over its own mean is 1 on both sides.
            assert float(relation_distance(student, teacher)) == pytest.approx(0.0, abs=1e-12)
            return
        oracle = self.oracle(teacher, distance=1.0, angle=0.0)
        assert_agree(
            partial(relation_distance, teacher=teacher), lambda s: oracle(s) * count**2 / (count * (count - 1)), student
        )

    @pytest.mark.parametrize("channels", [3, 8])
    @pytest.mark.parametrize("count", [3, 9])
    def test_angle(self, count: int, channels: int) -> None:
        student, teacher = draw(count, 5, seed=1), draw(count, channels, seed=2, scale=4.0)
        oracle = self.oracle(teacher, distance=0.0, angle=1.0)
        share = count**3 / (count * (count - 1) * (count - 2))
        assert_agree(partial(relation_angle, teacher=teacher), lambda s: oracle(s) * share, student)


@pytest.mark.parametrize("name", LOSSES)
class TestEveryRelation:
    def test_is_zero_at_equality(self, name: str) -> None:
        embeddings = draw(6, 5, seed=1)
        assert float(LOSSES[name](embeddings, embeddings)) == pytest.approx(0.0, abs=1e-12)
        assert float(LOSSES[name](draw(6, 5, seed=2), embeddings)) > 0.01

    def test_sees_no_shift_turn_or_scale(self, name: str) -> None:
        student, teacher = draw(6, 5, seed=1), draw(6, 5, seed=2)
        turn, _ = torch.linalg.qr(draw(5, 5, seed=3))
        wanted = float(LOSSES[name](student, teacher))
        moved = 7.0 * student @ turn + draw(5, seed=4)
        assert float(LOSSES[name](moved, 0.1 * teacher @ turn)) == pytest.approx(wanted, abs=1e-12)
        assert float(LOSSES[name](moved, student)) == pytest.approx(0.0, abs=1e-12)

    def test_does_not_see_the_order_of_objects(self, name: str) -> None:
        student, teacher = draw(6, 5, seed=1), draw(6, 4, seed=2)
        order = torch.tensor([3, 1, 5, 0, 2, 4])
        wanted = float(LOSSES[name](student, teacher))
        assert float(LOSSES[name](student[order], teacher[order])) == pytest.approx(wanted, abs=1e-12)

    @pytest.mark.parametrize("count", [0, 1, 2])
    def test_has_nothing_to_say_of_few_objects(self, name: str, count: int) -> None:
        teacher = draw(count, 4, seed=2)
        assert assert_finite(partial(LOSSES[name], teacher=teacher), draw(count, 5, seed=1)) == pytest.approx(0.0)

    def test_is_finite_where_embeddings_coincide(self, name: str) -> None:
        teacher = draw(6, 4, seed=2)
        student = draw(6, 5, seed=1)
        twins = student[[0, 0, 2, 3, 4, 4]]
        for one, other in (
            (twins, teacher),
            (student, teacher[[1, 1, 1, 3, 4, 5]]),
            (torch.zeros_like(student), teacher),
        ):
            value, gradient = value_and_gradient(partial(LOSSES[name], teacher=other), one)
            assert bool(torch.isfinite(value))
            assert float(gradient.abs().max()) < 10.0

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    def test_is_finite_at_extreme_embeddings(self, name: str, dtype: torch.dtype) -> None:
        student, teacher = draw(6, 5, seed=1, scale=1e4), draw(6, 4, seed=2, scale=1e-4)
        assert_finite(partial(LOSSES[name], teacher=teacher.to(dtype)), student.to(dtype))

    def test_takes_16_bits(self, name: str) -> None:
        student, teacher = draw(16, 5, seed=1), draw(16, 4, seed=2)
        rough = LOSSES[name](student.bfloat16(), teacher.bfloat16())
        assert rough.dtype == torch.float32
        assert float(rough) == pytest.approx(float(LOSSES[name](student, teacher)), rel=0.01)


def with_peaks(output: FusionOutput, *, logit: float = 2.0) -> FusionOutput:
    """The output with objects at PLACES, in both frames; in the second a little weaker."""
    heatmap = torch.full_like(output.heatmap, -9.0)
    step = round(GRID.cell_m / output.grid.cell_m)
    for index, (row, column) in enumerate(PLACES):
        heatmap[:, index, row * step, column * step] = logit - 0.1 * index
    heatmap[1] -= 0.05
    return replace(output, heatmap=heatmap)


def with_planes(output: FusionOutput, slopes: Tensor) -> FusionOutput:
    """The output with BEV features that are linear in x and y, the same ground on any grid."""

    def centres(grid: BevGrid) -> tuple[Tensor, Tensor]:
        cells = (torch.arange(grid.columns) + 0.5) * grid.cell_m
        return cells + grid.x_min_m, cells + grid.y_min_m

    x_m, y_m = centres(output.grid)
    bev = slopes[:, 0, None, None] * x_m[None, None, :] + slopes[:, 1, None, None] * y_m[None, :, None]
    return replace(output, bev=bev.expand(2, -1, -1, -1))


@pytest.mark.parametrize("name", TERMS)
class TestTheTerms:
    def test_compare_features_where_the_teachers_objects_are(self, name: str) -> None:
        student, teacher = make_output(seed=1), with_peaks(make_output(seed=2, channels=5))
        rows, columns = zip(*PLACES)
        here = student.bev[:, :, rows, columns].mT.flatten(0, 1)
        there = teacher.bev[:, :, rows, columns].mT.flatten(0, 1)
        found = TERMS[name]("t")(student, {"t": teacher}, make_batch())
        assert float(found) == pytest.approx(float(LOSSES[name](here, there)), rel=1e-5)

    def test_take_the_strongest_of_the_batch(self, name: str) -> None:
        student, teacher = make_output(seed=1), with_peaks(make_output(seed=2))
        rows, columns = zip(*PLACES[:2])
        here, there = (output.bev[:, :, rows, columns].mT.flatten(0, 1) for output in (student, teacher))
        found = TERMS[name]("t", max_objects=4)(student, {"t": teacher}, make_batch())
        assert float(found) == pytest.approx(float(LOSSES[name](here, there)), rel=1e-5)

    def test_find_the_same_ground_on_another_grid(self, name: str) -> None:
        slopes = torch.randn(8, 2, generator=torch.Generator().manual_seed(5))
        student = with_planes(make_output(seed=1), slopes)
        teacher = with_peaks(with_planes(make_output(FINE, seed=2), slopes))
        assert float(TERMS[name]("t")(student, {"t": teacher}, make_batch())) == pytest.approx(0.0, abs=1e-6)

    def test_leave_out_objects_beyond_the_students_grid(self, name: str) -> None:
        small = BevGrid(-6.4, 6.4, -6.4, 6.4, 0.8)
        student, teacher = make_output(small, seed=1), with_peaks(make_output(seed=2))
        rows, columns = torch.tensor([PLACES[1], PLACES[4]]).T  # the small grid begins at the cell (8, 8)
        here = student.bev[:, :, rows - 8, columns - 8].mT.flatten(0, 1)
        there = teacher.bev[:, :, rows, columns].mT.flatten(0, 1)
        found = TERMS[name]("t")(student, {"t": teacher}, make_batch())
        assert float(found) == pytest.approx(float(LOSSES[name](here, there)), rel=1e-5)

    def test_use_annotated_centres_of_labelled_frames(self, name: str) -> None:
        batch = make_batch(boxes=4, labelled=(True, True))
        student = make_output(seed=1, requires_grad=True)
        TERMS[name]("t", at="ground_truth")(student, {"t": make_output(seed=2)}, batch).backward()
        assert student.bev.grad is not None
        gradient = student.bev.grad.abs().sum(dim=1)
        touched = gradient > 1e-4 * gradient.max()  # a cell's centre is hit up to rounding
        cells = torch.floor((batch.gt_boxes[..., [1, 0]] + 12.8) / 0.8).long()
        wanted = torch.zeros_like(touched)
        wanted[torch.arange(2)[:, None], cells[..., 0], cells[..., 1]] = True
        assert bool(wanted[touched].all())
        assert int(touched.sum()) == int(wanted.sum())

    def test_refuse_a_tap_without_features(self, name: str) -> None:
        with pytest.raises(UserError, match=f"{TERMS[name].__name__}'s student_tap must be one of bev, .*'heatmap'"):
            TERMS[name]("t", student_tap="heatmap")

    def test_refuse_to_look_at_no_objects(self, name: str) -> None:
        with pytest.raises(UserError, match="max_objects must be above 0, found 0"):
            TERMS[name]("t", max_objects=0)
