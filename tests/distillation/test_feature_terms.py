"""What single terms on features look at, and what their parts learn."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from fusionkd.distillation import (
    Contrastive,
    FeatureMimic,
    FlowOfSolution,
    FocalGlobal,
    MaskedGenerative,
    VariationalInformation,
    flow_of_solution,
    masked_mimic,
)
from fusionkd.distillation.masks import LEAST_GAUSSIAN, gaussian_foreground
from fusionkd.distillation.response import foreground
from fusionkd.geometry import BevGrid
from tests.distillation.conftest import GRID, make_batch, make_output


def test_contrastive_reads_both_models_at_the_annotated_centres() -> None:
    wide = BevGrid(-12.8, 12.8, -16.0, 9.6, 0.4)
    student, teacher = make_output(seed=1), make_output(wide, seed=2, channels=5)
    batch = make_batch(boxes=4, labelled=(True, True))
    term = Contrastive("t", temperature=0.5, embedding=6)
    term.prepare("mine", student, {"t": teacher})
    assert {key.split(".")[0] for key, _ in term.named_parameters()} == {"student_heads", "teacher_heads"}
    vectors, weights = [], []
    for frame, (boxes, labels) in enumerate(zip(batch.gt_boxes, batch.gt_label)):
        for box, label in zip(boxes.numpy(), labels.tolist()):
            column, row = np.floor(wide.cell_from_metre(box[:2])).astype(int)
            if not (0 <= row < wide.rows):
                continue
            # The student is read where the centre of the teacher's cell lies.
            centre = wide.metre_from_cell([column + 0.5, row + 0.5])
            here = np.floor(GRID.cell_from_metre(centre)).astype(int)
            found = term.student_heads["t"](student.bev[frame, :, here[1], here[0]])
            wanted = term.teacher_heads["t"](teacher.bev[frame, :, row, column])
            vectors.append((found / found.norm(), wanted / wanted.norm()))
            weights.append(float(teacher.heatmap[frame, label, row, column].sigmoid()))
    logits = torch.stack([torch.stack([found @ wanted for _, wanted in vectors]) for found, _ in vectors]) / 0.5
    losses = -logits.log_softmax(dim=1).diagonal()
    wanted_loss = float((losses * torch.tensor(weights)).sum().detach()) / sum(weights)
    assert len(weights) >= 4
    assert float(term(student, {"t": teacher}, batch).detach()) == pytest.approx(wanted_loss, rel=1e-4)


def test_contrastive_counts_one_cell_once() -> None:
    student, teacher = make_output(seed=1), make_output(seed=2)
    batch = make_batch(boxes=1, labelled=(True, True))
    batch.gt_boxes[1] = batch.gt_boxes[0]  # in the same cell of two frames
    twice = replace(batch, gt_boxes=batch.gt_boxes.repeat(1, 2, 1), gt_label=batch.gt_label.repeat(1, 2))
    twice = replace(twice, pasted=batch.pasted.repeat(1, 2))
    term = Contrastive("t", temperature=1.0)
    term.prepare("mine", student, {"t": teacher})
    once, doubled = (float(term(student, {"t": teacher}, each).detach()) for each in (batch, twice))
    # The other frame's object is a negative twice, but its own double none: with that the loss grew by log 2.
    assert once < doubled < once + np.log(2) - 0.01


def test_flow_goes_from_the_first_tap_to_the_second() -> None:
    student, teacher = make_output(seed=1), make_output(seed=2, channels=5)
    term = FlowOfSolution("t", student_first="camera_bev", teacher_first="lidar_bev")
    term.prepare("mine", student, {"t": teacher})
    assert term.adapters is not None
    assert term.first_adapters is not None
    here = term.first_adapters(student.camera_bev, "t"), term.adapters(student.bev, "t")
    assert teacher.lidar_bev is not None
    wanted = flow_of_solution(here, (teacher.lidar_bev, teacher.bev), torch.ones(2, 1, GRID.rows, GRID.columns))
    found = term(student, {"t": teacher}, make_batch())
    assert float(found.detach()) == pytest.approx(float(wanted.detach()), rel=1e-5)


def test_variance_learns_which_channels_the_student_cannot_tell() -> None:
    student = make_output(seed=1)
    noise = make_output(seed=2).bev
    sure = torch.arange(8) < 4
    teacher = replace(student, bev=torch.where(sure[:, None, None], student.bev, student.bev + 3 * noise))
    term = VariationalInformation("t")
    term.prepare("mine", student, {"t": teacher})
    assert term.variance("t").tolist() == pytest.approx([1.0] * 8, abs=1e-5)
    optimizer = torch.optim.Adam(term.parameters(), lr=0.1)
    for _ in range(150):
        optimizer.zero_grad()
        term(student, {"t": teacher}, make_batch()).backward()
        optimizer.step()
    variance = term.variance("t").detach()
    assert float(variance[sure].max()) < 0.1
    assert float(variance[~sure].min()) > 3.0


def test_generation_repeats_with_the_seed() -> None:
    student, teachers = make_output(seed=1), {"t": make_output(seed=2)}
    term = MaskedGenerative("t")
    term.prepare("mine", student, teachers)
    losses = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        losses.append(float(term(student, teachers, make_batch()).detach()))
    assert losses[0] == losses[1] != losses[2]


def test_focal_foreground_is_annotated_or_the_teachers() -> None:
    student, batch = make_output(seed=1), make_batch()
    term = FocalGlobal("t")
    probability = torch.full((2, 10, GRID.rows, GRID.columns), 0.01)
    probability[:, 3, 5, 6] = 0.8
    cells = term.foreground(probability, batch, student)
    assert float(cells[0].sum()) == pytest.approx(3.0, abs=0.5), "each annotated box counts once"
    assert float(cells[1, 0, 5, 6]) == pytest.approx(0.8)
    assert int((cells[1] > 0).sum()) == 1


@pytest.mark.parametrize("mask", ["none", "ground_truth", "teacher"])
def test_mimic_of_single_cells_is_that_of_whole_maps(mask: str) -> None:
    """Value and gradients, against the adapter's convolution on every cell."""
    student, teacher = make_output(seed=1, requires_grad=True), make_output(seed=2, channels=5)
    teacher = replace(teacher, heatmap=teacher.heatmap - 4)  # few objects
    batch = make_batch()
    term = FeatureMimic("t", mask=mask)  # type: ignore[arg-type]
    term.prepare("mimic", student, {"t": teacher})
    assert term.adapters is not None
    learn = [student.bev, *term.adapters.parameters()]
    found = term.loss(student, {"t": teacher}, batch)
    cells = foreground(mask, teacher.heatmap.sigmoid(), batch, student)  # type: ignore[arg-type]
    assert mask == "none" or 0.01 < float((cells > 0).float().mean()) < 0.99
    wanted = masked_mimic(term.adapters(student.bev, "t"), teacher.bev, cells)
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-6)
    for a, b in zip(torch.autograd.grad(found, learn), torch.autograd.grad(wanted, learn)):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_gaussians_end() -> None:
    box = torch.tensor([[[1.3, -2.1, 0.0, 4.0, 2.0, 1.5, 0.3, 0.0, 0.0]]])
    found = gaussian_foreground(box, torch.zeros(1, 1, dtype=torch.int64), GRID)[0, 0]
    x_m = GRID.x_min_m + (torch.arange(GRID.columns) + 0.5) * GRID.cell_m
    y_m = GRID.y_min_m + (torch.arange(GRID.rows) + 0.5) * GRID.cell_m
    away_m = torch.hypot(x_m - 1.3, y_m[:, None] + 2.1)
    sigma_m = max(8.0**0.5 / 4, GRID.cell_m)
    wanted = torch.exp(-0.5 * (away_m / sigma_m) ** 2)
    torch.testing.assert_close(found, torch.where(wanted >= LEAST_GAUSSIAN, wanted, 0.0))
    assert 20 < int((found > 0).sum()) < 60
