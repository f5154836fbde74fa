"""Masked generation, focal and global distillation and footprints against loops that restate the papers."""

import math

import numpy as np
import pytest
import torch
from shapely import Point, Polygon
from torch import Tensor, nn

from fusionkd.distillation import (
    ContextBlock,
    attention_difference,
    channel_attention,
    focal_feature,
    focal_global,
    footprint_scale,
    masked_generative,
    spatial_attention,
)
from fusionkd.geometry import Boxes3D
from tests.distillation.conftest import FINE, GRID
from tests.distillation.oracles import agree, draw

FRAMES, CHANNELS, ROWS, COLUMNS = 2, 8, 5, 3


@pytest.fixture
def maps() -> tuple[Tensor, Tensor]:
    return draw(FRAMES, CHANNELS, ROWS, COLUMNS, seed=1), draw(FRAMES, CHANNELS, ROWS, COLUMNS, seed=2)


@pytest.fixture
def areas() -> tuple[Tensor, Tensor]:
    """Foreground of several weights, background; one column in neither."""
    draws = torch.rand(FRAMES, 1, ROWS, COLUMNS, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    known = torch.ones_like(draws)
    known[..., 0] = 0
    foreground = draws * (draws > 0.6) * known
    return foreground, (foreground == 0).double() * known


def loops_spatial(features: Tensor) -> Tensor:
    out = []
    for frame in features:
        values = [sum(frame[c, i, j].abs() for c in range(CHANNELS)) / CHANNELS for i, j in np.ndindex(ROWS, COLUMNS)]
        powers = [(value / 0.5).exp() for value in values]
        out.append(torch.stack([ROWS * COLUMNS * power / sum(powers) for power in powers]).reshape(1, ROWS, COLUMNS))
    return torch.stack(out)


def loops_channel(features: Tensor) -> Tensor:
    out = []
    for frame in features:
        powers = [(frame[c].abs().sum() / (ROWS * COLUMNS) / 0.5).exp() for c in range(CHANNELS)]
        out.append(torch.stack([CHANNELS * power / sum(powers) for power in powers]).reshape(CHANNELS, 1, 1))
    return torch.stack(out)


def loops_focal(student: Tensor, teacher: Tensor, foreground: Tensor, background: Tensor) -> Tensor:
    total = torch.zeros((), dtype=torch.float64)
    spatial, channel = loops_spatial(teacher), loops_channel(teacher)
    for b, i, j in np.ndindex(FRAMES, ROWS, COLUMNS):
        scale = foreground[b, 0, i, j] / foreground[b].sum() + 0.5 * background[b, 0, i, j] / background[b].sum()
        for c in range(CHANNELS):
            square = (teacher[b, c, i, j] - student[b, c, i, j]) ** 2
            total = total + scale * spatial[b, 0, i, j] * channel[b, c, 0, 0] * square / CHANNELS
    return total / FRAMES / (teacher.detach() ** 2).mean()


def loops_context(block: ContextBlock, features: Tensor) -> Tensor:
    first, norm, _, last = block.transform
    out = []
    for frame in features:
        cells = [frame[:, i, j] for i, j in np.ndindex(ROWS, COLUMNS)]
        powers = [(block.attention.weight[0, :, 0, 0] @ cell + block.attention.bias[0]).exp() for cell in cells]
        context = sum(power / sum(powers) * cell for power, cell in zip(powers, cells))
        hidden = first.weight @ context + first.bias
        centred = hidden - hidden.mean()
        hidden = centred / ((centred**2).mean() + norm.eps).sqrt() * norm.weight + norm.bias
        out.append(frame + (last.weight @ hidden.clamp(min=0) + last.bias)[:, None, None])
    return torch.stack(out)


def stirred_context() -> ContextBlock:
    """A block that has learned something; a fresh one is the identity."""
    torch.manual_seed(0)
    block = ContextBlock(CHANNELS).double()
    for parameter in block.parameters():
        nn.init.normal_(parameter, std=0.5)
    return block


def test_attentions_restate_the_paper(maps: tuple[Tensor, Tensor]) -> None:
    agree(spatial_attention, loops_spatial, maps[0])
    agree(channel_attention, loops_channel, maps[0])
    agree(
        attention_difference,
        lambda student, teacher: (
            (loops_spatial(student) - loops_spatial(teacher)).abs().mean()
            + (loops_channel(student) - loops_channel(teacher)).abs().mean()
        ),
        *maps,
    )


def test_focal_feature_restates_the_paper(maps: tuple[Tensor, Tensor], areas: tuple[Tensor, Tensor]) -> None:
    foreground, background = areas
    agree(
        lambda student, teacher: focal_feature(student, teacher, foreground, background=background),
        lambda student, teacher: loops_focal(student, teacher, foreground, background),
        maps[0],
        maps[1],
    )


def test_context_block_restates_the_paper_and_starts_as_the_identity(maps: tuple[Tensor, Tensor]) -> None:
    block = stirred_context()
    agree(block, lambda features: loops_context(block, features), maps[0])
    torch.testing.assert_close(ContextBlock(CHANNELS).double()(maps[0]), maps[0], atol=0, rtol=0)


def test_focal_global_adds_its_three_parts(maps: tuple[Tensor, Tensor], areas: tuple[Tensor, Tensor]) -> None:
    foreground, background = areas
    block = stirred_context()
    anywhere = ((foreground + background) > 0).double()

    def restated(student: Tensor, teacher: Tensor) -> Tensor:
        student, teacher = student * anywhere, teacher * anywhere
        spatial = (loops_spatial(student) - loops_spatial(teacher)).abs().mean()
        channel = (loops_channel(student) - loops_channel(teacher)).abs().mean()
        here, there = loops_context(block, student), loops_context(block, teacher)
        scale = (there**2 * anywhere).sum().detach()
        relation = ((here - there) ** 2 * anywhere).sum() / scale
        return loops_focal(student, teacher, foreground, background) + 2 * (spatial + channel) + 3 * relation

    agree(
        lambda student, teacher: focal_global(
            student,
            teacher,
            foreground,
            background=background,
            context=block,
            attention_weight=2.0,
            relation_weight=3.0,
        ),
        restated,
        *maps,
    )


def test_masked_generative_restates_the_paper(maps: tuple[Tensor, Tensor], areas: tuple[Tensor, Tensor]) -> None:
    torch.manual_seed(1)
    generator = nn.Sequential(
        nn.Conv2d(CHANNELS, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, CHANNELS, 3, padding=1)
    ).double()
    cells = areas[0]

    def ours(student: Tensor, teacher: Tensor) -> Tensor:
        torch.manual_seed(11)
        return masked_generative(student, teacher, cells, generator=generator, hidden_share=0.4)

    def convolve(features: Tensor, layer: nn.Conv2d) -> Tensor:
        padded = nn.functional.pad(features, (1, 1, 1, 1))
        out = layer.bias[None, :, None, None]
        for i, j in np.ndindex(3, 3):
            shifted = padded[:, :, i : i + ROWS, j : j + COLUMNS]
            out = out + torch.einsum("oc,bchw->bohw", layer.weight[:, :, i, j], shifted)
        return out

    def restated(student: Tensor, teacher: Tensor) -> Tensor:
        torch.manual_seed(11)
        kept = (torch.rand(FRAMES, 1, ROWS, COLUMNS, dtype=torch.float64) >= 0.4).double()
        made = convolve(convolve(student * kept, generator[0]).clamp(min=0), generator[2])
        scale = (teacher.detach() ** 2 * cells).sum()
        return ((teacher - made) ** 2 * cells).sum() / scale

    agree(ours, restated, *maps)


def test_holes_are_as_many_as_asked_and_repeat_with_the_seed() -> None:
    student = torch.ones(2, 3, 100, 100)
    seen = []

    def generator(features: Tensor) -> Tensor:
        seen.append(features)
        return features

    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        masked_generative(student, student, torch.ones(2, 1, 100, 100), generator=generator, hidden_share=0.65)
    assert float((seen[0] == 0).float().mean()) == pytest.approx(0.65, abs=0.01)
    assert bool((seen[0] == seen[0][:, :1]).all()), "a cell is hidden with all its channels"
    assert torch.equal(seen[0], seen[1])
    assert not torch.equal(seen[0], seen[2])


@pytest.mark.parametrize("yaw", [0.0, 0.7, -2.4])
def test_footprint_holds_the_cells_inside_the_box(yaw: float) -> None:
    rows = np.array([[2.1, -5.3, 0, 7.5, 2.6, 1.6, yaw, 0, 0]], np.float32)
    polygon = Polygon(Boxes3D.from_array(rows, np.zeros(1, np.int64)).corners()[0, :4, :2])
    scale = footprint_scale(torch.tensor(rows)[None], torch.zeros(1, 1).long(), FINE)[0, 0].numpy()
    for row, column in np.ndindex(FINE.rows, FINE.columns):
        centre = Point(FINE.metre_from_cell([column + 0.5, row + 0.5]))
        if polygon.exterior.distance(centre) > 1e-3:
            assert (scale[row, column] > 0) == polygon.contains(centre)
    assert float(scale.sum()) == pytest.approx(1.0, abs=1e-5)


def test_footprint_of_small_overlapping_and_padded_boxes() -> None:
    boxes = torch.zeros(1, 3, 9)
    boxes[0, 0, :5] = torch.tensor([2.1, -5.3, 0.0, 6.0, 3.0])
    boxes[0, 1, :5] = torch.tensor([2.3, -5.0, 0.0, 0.3, 0.3])
    boxes[0, 2, :5] = torch.tensor([-8.0, 8.0, 0.0, 4.0, 4.0])
    scale = footprint_scale(boxes, torch.tensor([[0, 1, -1]]), GRID)[0, 0]
    column, row = (math.floor(value) for value in GRID.cell_from_metre([2.3, -5.0]))
    assert float(scale[row, column]) == 1.0, "a pedestrian holds its own cell, also in front of a bus"
    assert float(scale[row, column + 1]) == pytest.approx(1 / int((scale > 0).sum()))
    assert float(scale[20:].sum()) == 0.0, "a padded box leaves no trace"
    assert float(footprint_scale(torch.zeros(1, 0, 9), torch.zeros(1, 0).long(), GRID).sum()) == 0.0
