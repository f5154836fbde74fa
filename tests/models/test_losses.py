import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from fusionkd.errors import UserError
from fusionkd.models import CenterLoss, FusionModel, FusionOutput, LossWeights, center_targets
from fusionkd.models.losses import depth_loss, heatmap_losses
from tests.models.conftest import GRID, LabelledExample, labelled_batch

ONES = LossWeights(**dict.fromkeys(LossWeights.__dataclass_fields__, 1.0))


def _output(frames: int = 2, tasks: int = 1, seed: int = 0) -> FusionOutput:
    generator = torch.Generator().manual_seed(seed)

    def maps(*channels: int) -> torch.Tensor:
        return torch.randn(frames, *channels, *GRID.shape, generator=generator).requires_grad_()

    return FusionOutput(
        heatmap=maps(10),
        box_regression=maps(tasks, 10),
        heading_axis=maps(tasks, 2),
        bev=maps(4),
        camera_bev=None,
        lidar_bev=None,
        depth_logits=torch.randn(frames, 6, 8, 4, 8, generator=generator).requires_grad_(),
        grid=GRID,
        classes=tuple("abcdefghij"),
        task_of_class=tuple(min(c, tasks - 1) for c in range(10)),
        depth_edges_m=tuple(np.linspace(1, 33, 9)),
    )


@pytest.fixture
def batch(fused: FusionModel) -> LabelledExample:
    return labelled_batch(fused)


def _total(losses: dict[str, torch.Tensor]) -> torch.Tensor:
    return torch.stack(list(losses.values())).sum()


def test_heatmap_losses_against_their_formulas() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = 4 * torch.randn(2, 3, 8, 8, generator=generator, dtype=torch.float64)
    target = torch.rand(2, 3, 8, 8, generator=generator, dtype=torch.float64)
    target[0, 0, 2, 2] = target[1, 2, 7, 0] = 1.0
    scored = target * torch.rand(2, 3, 8, 8, generator=generator, dtype=torch.float64)
    logits.requires_grad_()
    gaussian = quality = 0.0
    for x, t, s in zip(logits.flatten(), target.flatten(), scored.flatten()):
        p = 1 / (1 + torch.exp(-x))
        centre = -s * ((1 - p) ** 2) * torch.log(p)
        gaussian = gaussian + (centre if t == 1 else -((1 - t) ** 4) * p**2 * torch.log(1 - p))
        quality = quality + (s - p) ** 2 * -(s * torch.log(p) + (1 - s) * torch.log(1 - p))
    ours = heatmap_losses(logits, target, scored)
    for mine, wanted in zip(ours, (gaussian, quality)):
        torch.testing.assert_close(mine, wanted)
        a, b = (torch.autograd.grad(value, logits, retain_graph=True)[0] for value in (mine, wanted))
        torch.testing.assert_close(a, b)


def test_heatmap_losses_survive_extreme_logits() -> None:
    logits = torch.tensor([[-1e4, 1e4, -1e4, 1e4]], requires_grad=True)
    target = torch.tensor([[1.0, 1.0, 0.0, 0.0]])
    losses = heatmap_losses(logits, target, target)
    sum(losses).backward()
    assert all(torch.isfinite(loss) for loss in losses)
    assert torch.isfinite(logits.grad).all()
    assert float(losses[0].detach()) == pytest.approx(2e4)


def test_box_terms_against_loops(batch: LabelledExample) -> None:
    output = _output(tasks=3)
    losses = CenterLoss(ONES, mover_weight=4.0, moving_from_mps=3.0, direction_sharpness=2.0)(output, batch)
    box, heading, axis, direction, moving, weights = [], [], [], [], 0.0, 0.0
    for b in range(2):
        for row, label in zip(batch.gt_boxes[b].numpy(), batch.gt_label[b].tolist()):
            column, line = GRID.cell_from_metre(row[:2])
            c, r, task = int(column), int(line), output.task_of_class[label]
            values = output.box_regression[b, task, :, r, c].detach().numpy()
            wanted = [column - c, line - r, row[2], *np.log(row[3:6])]
            box.append(np.abs(values[:6] - wanted).sum())
            sin, cos = math.sin(row[6]), math.cos(row[6])
            heading.append(abs(values[6] - sin) + abs(values[7] - cos))
            direction.append(math.log1p(math.exp(-2.0 * (values[6] * sin + values[7] * cos))))
            two = output.heading_axis[b, task, :, r, c].detach().numpy()
            axis.append(abs(two[0] - math.sin(2 * row[6])) + abs(two[1] - math.cos(2 * row[6])))
            weight = 4.0 if np.hypot(*row[7:9]) > 3.0 else 1.0
            moving += weight * np.abs(values[8:] - row[7:9]).sum()
            weights += weight
    assert losses["box"].item() == pytest.approx(np.mean(box), rel=1e-4)
    assert losses["heading"].item() == pytest.approx(np.mean(heading), rel=1e-4)
    assert losses["heading_axis"].item() == pytest.approx(np.mean(axis), rel=1e-4)
    assert losses["direction"].item() == pytest.approx(np.mean(direction), rel=1e-4)
    assert losses["velocity"].item() == pytest.approx(moving / weights, rel=1e-4)


def test_weights_scale_and_switch_off(batch: LabelledExample) -> None:
    output = _output()
    plain = CenterLoss(ONES)(output, batch)
    assert set(plain) == set(LossWeights.__dataclass_fields__)
    scaled = CenterLoss(replace(ONES, box=0.5, depth=0.0, heatmap_quality=0.0))(output, batch)
    assert set(plain) - set(scaled) == {"depth", "heatmap_quality"}
    assert float(scaled["box"]) == pytest.approx(0.5 * float(plain["box"]))


def test_unlabelled_frames_teach_depth_alone(batch: LabelledExample) -> None:
    half = replace(batch, labelled=torch.tensor([True, False]))
    first = replace(batch, gt_label=torch.stack([batch.gt_label[0], torch.full_like(batch.gt_label[1], -1)]))
    output = _output()
    losses = CenterLoss(ONES)(output, half)
    alone = CenterLoss(ONES)(output, first)
    for name in set(losses) - {"depth", "heatmap", "heatmap_quality"}:
        assert float(losses[name]) == pytest.approx(float(alone[name])), name
    gradient = torch.autograd.grad(losses["heatmap"] + losses["heatmap_quality"], output.heatmap)[0]
    assert float(gradient[0].abs().sum()) > 0
    assert float(gradient[1].abs().sum()) == 0
    for on_unlabelled in (True, False):
        depth = CenterLoss(ONES, depth_on_unlabelled=on_unlabelled)(output, half)["depth"]
        gradient = torch.autograd.grad(depth, output.depth_logits)[0]
        assert (float(gradient[1].abs().sum()) > 0) == on_unlabelled


def test_lost_cameras_teach_no_depth(batch: LabelledExample) -> None:
    present = torch.ones(2, 6, dtype=torch.bool)
    present[0, 3] = False
    output = _output()
    depth = CenterLoss(ONES)(output, replace(batch, camera_present=present))["depth"]
    gradient = torch.autograd.grad(depth, output.depth_logits)[0].abs().sum(dim=(2, 3, 4))
    assert float(gradient[0, 3]) == 0
    assert int((gradient > 0).sum()) == 11


@pytest.mark.parametrize("case", ["no box", "no label", "no velocity", "no depth"])
def test_finite_without(batch: LabelledExample, case: str) -> None:
    changed: dict[str, Any] = {
        "no box": {"gt_label": torch.full_like(batch.gt_label, -1)},
        "no label": {"labelled": torch.zeros(2, dtype=torch.bool)},
        "no velocity": {"gt_boxes": batch.gt_boxes.index_fill(2, torch.tensor([7, 8]), torch.nan)},
        "no depth": {"lidar_depth": torch.zeros_like(batch.lidar_depth)},
    }[case]
    output = _output()
    losses = CenterLoss(ONES)(output, replace(batch, **changed))
    _total(losses).backward()
    for tensor in (output.heatmap, output.box_regression, output.heading_axis, output.depth_logits):
        assert torch.isfinite(tensor.grad).all()
    zero = {
        "no box": ("box", "velocity", "heading"),
        "no label": ("heatmap", "box"),
        "no velocity": ("velocity",),
        "no depth": ("depth",),
    }[case]
    assert all(float(losses[name]) == 0 for name in zero)


def test_zero_is_not_the_best_velocity(batch: LabelledExample) -> None:
    """With 30 % movers the median is zero; the weighted loss must still reward a mover's speed."""
    boxes = torch.zeros(1, 10, 9)
    boxes[0, :, 3:6] = 1.0
    boxes[0, :, 0] = torch.arange(10) * 4.0 - 20
    boxes[0, :3, 7] = 6.0
    labels = torch.zeros(1, 10, dtype=torch.int64)
    one = replace(batch, gt_boxes=boxes, gt_label=labels, labelled=batch.labelled[:1])
    targets = center_targets(boxes, labels, grid=GRID, classes=10)
    assert bool(targets.mask.all())

    def best(mover_weight: float) -> float:
        speeds = torch.linspace(0, 8, 17)
        loss = CenterLoss(ONES, mover_weight=mover_weight)
        output = replace(_output(frames=1), depth_logits=None)
        values = []
        for speed in speeds:
            regression = torch.zeros_like(output.box_regression)
            regression[:, :, 8] = speed
            values.append(float(loss(replace(output, box_regression=regression), one)["velocity"]))
        return float(speeds[int(np.argmin(values))])

    assert best(1.0) == 0.0
    assert best(5.0) == 6.0


def test_depth_loss_against_loops() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(1, 2, 3, 2, 4, generator=generator)
    depth_m = 12 * torch.rand(1, 2, 4, 8, generator=generator) * (torch.rand(1, 2, 4, 8, generator=generator) > 0.6)
    depth_m[0, 0, :2, :2] = torch.tensor([[0.0, 2.0], [6.0, 5.0]])  # a border belongs to the farther bin
    edges = (1.0, 2.0, 5.0, 10.0)
    values = []
    for n, i, j in np.ndindex(2, 2, 4):
        cells = depth_m[0, n, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].flatten().numpy()
        hits = cells[cells > 0]
        if len(hits) and edges[0] <= hits.min() < edges[-1]:
            correct = int(np.searchsorted(edges, hits.min(), side="right")) - 1
            values.append(-float(logits[0, n, :, i, j].log_softmax(0)[correct]))
    assert 3 < len(values) < 16
    assert float(depth_loss(logits, depth_m, edges_m=edges)) == pytest.approx(np.mean(values), rel=1e-5)


def test_depth_maps_of_another_stride_are_refused() -> None:
    with pytest.raises(UserError, match=r"data\.depth_stride"):
        depth_loss(torch.zeros(1, 1, 3, 4, 8), torch.zeros(1, 1, 6, 12), edges_m=(1.0, 2.0, 3.0, 4.0))
