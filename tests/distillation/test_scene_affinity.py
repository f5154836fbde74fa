"""Affinity of the parts of a scene against loops over cells, and which cells the term compares."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor

from fusionkd.distillation import Affinity, affinity
from fusionkd.errors import UserError
from fusionkd.geometry import BevGrid
from tests.distillation.conftest import FINE, make_batch, make_output
from tests.distillation.oracles import assert_agree, assert_finite, draw


def looped_affinity(student: Tensor, teacher: Tensor, *, scales: tuple[int, ...]) -> Tensor:
    """Means of blocks, cosines of pairs and their differences, one at a time."""

    def blocks(maps: Tensor, side: int) -> list[Tensor]:
        rows, columns = maps.shape[1] // side, maps.shape[2] // side
        return [
            maps[:, i * rows : (i + 1) * rows, j * columns : (j + 1) * columns].mean(dim=(1, 2))
            for i in range(side)
            for j in range(side)
        ]

    losses = []
    for side in scales:
        for here, there in zip(student, teacher):
            one, other = blocks(here, side), blocks(there, side)
            for i in range(side**2):
                for j in range(side**2):
                    mine = (one[i] @ one[j]) / (one[i].norm() * one[j].norm())
                    its = (other[i] @ other[j]) / (other[i].norm() * other[j].norm())
                    losses.append((mine - its).abs() / (side**4 * len(scales) * len(student)))
    return torch.stack(losses).sum()


@pytest.mark.parametrize("scales", [(4,), (2, 4)])
def test_affinity_is_its_formula(scales: tuple[int, ...]) -> None:
    student, teacher = draw(2, 5, 8, 16, seed=1), draw(2, 3, 8, 16, seed=2)
    assert_agree(
        partial(affinity, teacher=teacher, scales=scales),
        partial(looped_affinity, teacher=teacher, scales=scales),
        student,
    )


def test_affinity_is_zero_at_equality_and_sees_no_turn_or_scale() -> None:
    student, teacher = draw(2, 5, 8, 8, seed=1), draw(2, 5, 8, 8, seed=2)
    turn, _ = torch.linalg.qr(draw(5, 5, seed=3))
    turned = 7.0 * torch.einsum("bchw,cd->bdhw", student, turn)
    assert float(affinity(turned, student)) == pytest.approx(0.0, abs=1e-12)
    wanted = float(affinity(student, teacher))
    assert float(affinity(turned, 0.1 * teacher)) == pytest.approx(wanted, abs=1e-12)
    assert 0.1 < wanted < 2.0


def test_affinity_takes_cells_that_count_only() -> None:
    student, teacher = draw(2, 5, 16, 16, seed=1), draw(2, 3, 16, 16, seed=2)
    cells = torch.zeros(2, 1, 16, 16, dtype=torch.float64)
    cells[..., :8, :8] = 1.0
    # Of a quarter that counts, half the cells per side are left.
    wanted = float(affinity(student[..., :8, :8], teacher[..., :8, :8], scales=(4,)))
    assert float(affinity(student, teacher, scales=(8,), cells=cells)) == pytest.approx(wanted, abs=1e-12)
    assert assert_finite(partial(affinity, teacher=teacher, cells=0 * cells), student) == 0.0


@pytest.mark.parametrize("scale", [1e4, 0.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_affinity_is_finite_at_extreme_features(scale: float, dtype: torch.dtype) -> None:
    student, teacher = draw(2, 5, 8, 8, seed=1, scale=scale), draw(2, 3, 8, 8, seed=2)
    assert_finite(partial(affinity, teacher=teacher.to(dtype), scales=(4, 2)), student.to(dtype))


def test_affinity_takes_16_bits() -> None:
    student, teacher = draw(2, 5, 16, 16, seed=1), draw(2, 3, 16, 16, seed=2)
    rough = affinity(student.bfloat16(), teacher.bfloat16())
    assert rough.dtype == torch.float32
    assert float(rough) == pytest.approx(float(affinity(student, teacher)), rel=0.01)


def test_term_finds_the_same_ground_on_another_grid() -> None:
    """A finer map that repeats each cell of the coarse one is equal to it."""
    student = make_output(seed=1)
    finer = replace(make_output(FINE, seed=2), bev=student.bev.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3))
    assert float(Affinity("t")(student, {"t": finer}, make_batch())) == pytest.approx(0.0, abs=1e-5)


def test_term_leaves_out_ground_that_the_teacher_does_not_reach() -> None:
    left = BevGrid(-12.8, 0.0, -12.8, 12.8, 0.8)
    student = make_output(seed=1, requires_grad=True)
    Affinity("t")(student, {"t": make_output(left, seed=2)}, make_batch()).backward()
    assert student.bev.grad is not None
    assert bool((student.bev.grad[..., :16] != 0).all())
    assert not bool((student.bev.grad[..., 16:] != 0).any())


def test_camera_teachers_teach_nothing_about_pasted_objects() -> None:
    batch = make_batch(boxes=1, pasted=True)
    row, column = (int((float(batch.gt_boxes[0, 0, axis]) + 12.8) / 0.8) for axis in (1, 0))
    for lidar in (True, False):
        student = make_output(seed=1, requires_grad=True)
        Affinity("t")(student, {"t": make_output(seed=2, lidar=lidar)}, batch).backward()
        assert student.bev.grad is not None
        assert bool((student.bev.grad[0, :, row, column] != 0).any()) == lidar


@pytest.mark.parametrize(("scales", "found"), [((), "none"), ((8, 1), "8, 1")])
def test_term_refuses_scales_without_pairs(scales: tuple[int, ...], found: str) -> None:
    with pytest.raises(UserError, match=f"Affinity's scales .* found {found}"):
        Affinity("t", scales=scales)


def test_term_refuses_a_tap_without_features() -> None:
    with pytest.raises(UserError, match="Affinity's teacher_tap must be one of bev"):
        Affinity("t", teacher_tap="box_regression")
