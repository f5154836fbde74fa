"""Masks, resampling, relation and schedules against plain restatements."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates

from fusionkd.distillation import (
    Constant,
    Cosine,
    LinearRamp,
    Schedule,
    Step,
    StopAfter,
    cosine_matrix,
    gaussian_foreground,
    masked_mimic,
    nine_points,
    object_relation,
    teacher_foreground,
)
from fusionkd.distillation.locations import highest_around
from fusionkd.distillation.masks import unseen_cells
from fusionkd.distillation.resample import covered_cells, resample_bev, sample_bev
from fusionkd.errors import UserError
from fusionkd.geometry import BevGrid, Boxes3D
from tests.distillation.conftest import FINE, GRID, make_batch


def test_sampling_reads_x_along_columns() -> None:
    generator = np.random.default_rng(0)
    grid = BevGrid(-4, 12, -6, 2, 0.5)
    values = generator.normal(size=(grid.rows, grid.columns)).astype(np.float32)
    xy_m = np.stack([generator.uniform(-3, 11, 50), generator.uniform(-5, 1, 50)], axis=-1)
    cells = grid.cell_from_metre(xy_m) - 0.5  # centres are whole numbers in here
    wanted = map_coordinates(values, [cells[:, 1], cells[:, 0]], order=1)
    found = sample_bev(torch.tensor(values)[None, None], torch.tensor(xy_m[None]).float(), grid)
    np.testing.assert_allclose(found[0, 0].numpy(), wanted, atol=1e-5)


def test_resampling_a_plane_keeps_the_plane() -> None:
    def plane(grid: BevGrid) -> torch.Tensor:
        rows, columns = np.mgrid[: grid.rows, : grid.columns]
        xy = grid.metre_from_cell(np.stack([columns + 0.5, rows + 0.5], axis=-1))
        return torch.tensor(2 * xy[..., 0] - 3 * xy[..., 1]).float()[None, None]

    target = BevGrid(-8, 4.8, -6.4, 9.6, 0.8)
    torch.testing.assert_close(resample_bev(plane(FINE), source=FINE, target=target), plane(target), atol=1e-4, rtol=0)
    same = plane(GRID)
    assert resample_bev(same, source=GRID, target=GRID) is same


def test_covered_cells_are_those_on_the_source() -> None:
    wide = BevGrid(-25.6, 25.6, -25.6, 25.6, 0.8)
    covered = covered_cells(source=GRID, target=wide, device=torch.device("cpu"))
    assert int(covered.sum()) == GRID.rows * GRID.columns
    assert bool(covered[wide.rows // 2, wide.columns // 2])


def test_gaussian_foreground_is_one_at_centres_and_empty_without_boxes() -> None:
    boxes = torch.zeros(1, 2, 9)
    boxes[0, :, 3:6] = 4.0
    boxes[0, 0, :2] = torch.tensor([2.0, -5.2])
    boxes[0, 1, :2] = torch.tensor([-8.0, 8.0])
    mask = gaussian_foreground(boxes, torch.tensor([[3, -1]]), GRID)[0, 0]
    row, column = (int(value) for value in GRID.cell_from_metre([2.0, -5.2])[::-1])
    centre = GRID.metre_from_cell([column + 0.5, row + 0.5])
    distance = np.hypot(*(centre - np.array([2.0, -5.2])))
    assert float(mask[row, column]) == pytest.approx(np.exp(-0.5 * (distance / 1.0) ** 2), abs=1e-5)
    assert float(mask[26, 6]) < 1e-6, "a padded box leaves no trace"
    assert float(gaussian_foreground(torch.zeros(1, 0, 9), torch.zeros(1, 0).long(), GRID).sum()) == 0


def test_teacher_foreground_drops_background() -> None:
    probability = torch.tensor([0.05, 0.6]).reshape(1, 1, 1, 2)
    assert teacher_foreground(probability).flatten().tolist() == pytest.approx([0.0, 0.6])


def test_unseen_cells_surround_pasted_boxes_only() -> None:
    batch = make_batch(boxes=1, pasted=True)
    cells = unseen_cells(batch.gt_boxes, batch.pasted, GRID)
    assert 9 <= int(cells[0].sum()) <= 100
    assert not bool(unseen_cells(batch.gt_boxes, ~batch.pasted, GRID).any())


def test_masked_mimic_is_one_for_a_silent_student() -> None:
    teacher = torch.randn(2, 6, 8, 8) * 13
    mask = torch.rand(2, 1, 8, 8)
    assert float(masked_mimic(torch.zeros_like(teacher), teacher, mask)) == pytest.approx(1.0)


def test_nine_points_hold_the_corners_of_the_box() -> None:
    box = Boxes3D.from_array(np.array([[3.0, -2.0, 0, 4.5, 1.9, 1.6, 0.7, 0, 0]], np.float32), np.zeros(1, np.int64))
    points = nine_points(torch.tensor([3.0, -2.0, 4.5, 1.9, 0.7]))
    np.testing.assert_allclose(points[:4].numpy(), box.corners()[0, :4, :2], atol=1e-5)
    np.testing.assert_allclose(points[4].numpy(), points[:2].mean(0).numpy(), atol=1e-5)
    np.testing.assert_allclose(points[8].numpy(), [3.0, -2.0], atol=1e-6)


def test_relation_ignores_the_scale_and_turn_of_features() -> None:
    features = torch.randn(1, 3, 9, 6)
    turn, _ = torch.linalg.qr(torch.randn(6, 6))
    assert float(object_relation(features @ turn * 5, features, torch.ones(1, 3))) == pytest.approx(0.0, abs=1e-5)
    numpy_features = features.numpy()
    unit = numpy_features / np.linalg.norm(numpy_features, axis=-1, keepdims=True)
    np.testing.assert_allclose(cosine_matrix(features).numpy(), unit @ unit.transpose(0, 1, 3, 2), atol=1e-5)


@pytest.mark.parametrize(
    ("schedule", "wanted"),
    [
        (Constant(), [1, 1, 1]),
        (LinearRamp(0.0, 0.5, 0.0, 2.0), [0, 2, 2]),
        (Cosine(), [1, 0.5, 0]),
        (Step([0.4, 0.9], [1.0, 0.3, 0.1]), [1, 0.3, 0.1]),
        (StopAfter(0.5), [1, 0, 0]),
    ],
)
def test_schedules(schedule: Schedule, wanted: list[float]) -> None:
    assert [schedule.factor(progress) for progress in (0.0, 0.5, 1.0)] == pytest.approx(wanted, abs=1e-9)


def test_schedules_refuse_nonsense() -> None:
    with pytest.raises(UserError, match="Step"):
        Step([0.5], [1.0])
    with pytest.raises(UserError, match="ascend"):
        Step([0.5, 0.4], [1.0, 1.0, 1.0])
    with pytest.raises(UserError, match="LinearRamp"):
        LinearRamp(0.5, 0.5)


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**16), rows=st.integers(1, 6), columns=st.integers(1, 6), levels=st.sampled_from([2, 1000]))
def test_highest_around_is_the_maximum_of_three_by_three(seed: int, rows: int, columns: int, levels: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    maps = torch.randint(0, levels, (2, 3, rows, columns), generator=generator).float()
    wanted = torch.nn.functional.max_pool2d(maps, 3, stride=1, padding=1)
    assert torch.equal(highest_around(maps), wanted)
    last = maps.contiguous(memory_format=torch.channels_last)
    assert torch.equal(highest_around(last), wanted)
    assert torch.equal(maps, last)  # the given maps stay
