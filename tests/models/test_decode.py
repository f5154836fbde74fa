import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from fusionkd.errors import UserError
from fusionkd.models import CircleNms, Decoder, FusionOutput, NoNms
from fusionkd.models.decode import best_cells, yaw_of
from tests.models.conftest import GRID


def _output(peaks: list[tuple[int, int, int, float]], *, classes: int = 3, tasks: tuple[int, ...] | None = None):  # type: ignore[no-untyped-def]
    """A map with logits at (class, row, column) and -9 elsewhere."""
    heatmap = torch.full((1, classes, *GRID.shape), -9.0)
    for label, row, column, logit in peaks:
        heatmap[0, label, row, column] = logit
    tasks = tasks or (0,) * classes
    regression = torch.zeros(1, max(tasks) + 1, 10, *GRID.shape)
    regression[:, :, :2] = 0.5
    return FusionOutput(
        heatmap=heatmap, box_regression=regression, heading_axis=None, bev=heatmap, camera_bev=None, lidar_bev=None,
        depth_logits=None, grid=GRID, classes=tuple("abcdef"[:classes]), task_of_class=tasks,
    )  # fmt: skip


def test_best_cells_are_local_maxima() -> None:
    output = _output([(1, 2, 3, 3.0), (1, 2, 2, 2.0), (0, 4, 0, 1.0)])
    score, label, cell = best_cells(output.heatmap, task_of_class=(0, 0, 0), count=3)
    assert label[0, :2].tolist() == [1, 0]
    assert cell[0, :2].tolist() == [2 * GRID.columns + 3, 4 * GRID.columns]
    torch.testing.assert_close(score[0, :2], torch.tensor([3.0, 1.0]).sigmoid())
    assert float(score[0, 2]) < 1e-3
    everything, _, _ = best_cells(output.heatmap, task_of_class=(0, 0, 0), count=3, peaks=False)
    torch.testing.assert_close(everything[0], torch.tensor([3.0, 2.0, 1.0]).sigmoid())


def test_every_task_has_its_candidates() -> None:
    output = _output([(0, 1, 1, 5.0), (0, 9, 9, 4.0), (2, 5, 5, 1.0)], tasks=(0, 1, 0))
    score, label, _ = best_cells(output.heatmap, task_of_class=output.task_of_class, count=2)
    assert label[0, :2].tolist() == [0, 0]
    assert label[0, 2:].tolist() == [1, 1]
    assert score.shape == (1, 4)


def test_regression_is_that_of_the_class_s_task() -> None:
    output = _output([(0, 3, 4, 2.0), (1, 20, 20, 1.0)], tasks=(1, 0, 0))
    output.box_regression[0, 1, 2] = 7.0
    (found,) = Decoder(0.5)(output)
    assert found.label.tolist() == [0, 1]
    assert found.xyz_m[:, 2].tolist() == [7.0, 0.0]
    np.testing.assert_allclose(found.xyz_m[0, :2], GRID.metre_from_cell([4.5, 3.5]), atol=1e-5)


def test_threshold_is_strict_and_boxes_are_best_first() -> None:
    output = _output([(0, 3, 4, 0.0), (1, 20, 20, 1.0), (2, 10, 10, 2.0)])
    assert Decoder(0.5)(output)[0].label.tolist() == [2, 1]
    assert Decoder(0.49)(output)[0].label.tolist() == [2, 1, 0]
    assert Decoder(0.49, max_boxes=2)(output)[0].label.tolist() == [2, 1]
    assert len(Decoder(0.99)(output)[0]) == 0


def test_limits_per_task_and_range() -> None:
    output = _output([(0, 3, 4, 1.0), (0, 20, 20, 2.0), (1, 10, 10, 3.0), (2, 8, 30, 1.5)], tasks=(0, 0, 1))
    assert Decoder(0.1, max_boxes_per_task=1)(output)[0].label.tolist() == [1, 2]
    limits = (-25.6, -25.6, -1.0, 10.0, 25.6, 1.0)
    assert Decoder(0.1, range_m=limits)(output)[0].label.tolist() == [1, 0, 0]


def test_doubles_are_suppressed() -> None:
    output = _output([(0, 3, 4, 1.0), (0, 5, 4, 2.0)])  # 3.2 m apart
    assert len(Decoder(0.1, nms=CircleNms([3.3, 1.0, 1.0]))(output)[0]) == 1
    assert len(Decoder(0.1, nms=CircleNms([3.1, 1.0, 1.0]))(output)[0]) == 2


def test_half_precision_maps_and_frames() -> None:
    one = _output([(0, 3, 4, 1.0)])
    two = replace(
        one,
        heatmap=torch.cat([one.heatmap, torch.full_like(one.heatmap, -9.0)]).bfloat16(),
        box_regression=one.box_regression.expand(2, -1, -1, -1, -1).bfloat16(),
    )
    first, second = Decoder(0.1, nms=NoNms())(two)
    assert (len(first), len(second)) == (1, 0)
    assert first.xyz_m.dtype == np.float32


def test_direction_turns_the_axis_and_nothing_else() -> None:
    yaw = torch.linspace(-math.pi, math.pi, 73)[1:]
    axis = torch.stack([(2 * yaw).sin(), (2 * yaw).cos()], dim=-1)
    doubtful = torch.stack([(yaw + 1.2).sin(), (yaw + 1.2).cos()], dim=-1) * 0.1  # wrong by less than a quarter turn
    turn = (yaw_of(doubtful, axis) - yaw + math.pi) % (2 * math.pi) - math.pi
    assert float(turn.abs().max()) < 1e-5
    assert float((yaw_of(doubtful, None) - yaw).abs().min()) > 1.0


@pytest.mark.parametrize("wrong", [{"score_threshold": 1.0}, {"score_threshold": -0.1}, {"max_boxes": 0}])
def test_wrong_settings(wrong: dict[str, float]) -> None:
    with pytest.raises(UserError, match="Decoder"):
        Decoder(**wrong)  # type: ignore[arg-type]
