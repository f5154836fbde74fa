"""Outputs of models that don't exist: what terms see."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from fusionkd.geometry import DETECTION_CLASSES, BevGrid
from fusionkd.models.values import FusionOutput

GRID = BevGrid(-12.8, 12.8, -12.8, 12.8, 0.8)
FINE = BevGrid(-12.8, 12.8, -12.8, 12.8, 0.4)


@dataclass(frozen=True)
class FakeBatch:
    gt_boxes: Tensor
    gt_label: Tensor
    labelled: Tensor
    pasted: Tensor


def make_output(
    grid: BevGrid = GRID,
    *,
    seed: int = 0,
    classes: tuple[str, ...] = DETECTION_CLASSES,
    tasks: tuple[int, ...] | None = None,
    channels: int = 8,
    lidar: bool = True,
    camera: bool = True,
    frames: int = 2,
    requires_grad: bool = False,
) -> FusionOutput:
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).requires_grad_(requires_grad)

    task_of_class = tasks or tuple(range(len(classes)))
    size = (grid.rows, grid.columns)
    count = max(task_of_class) + 1
    return FusionOutput(
        heatmap=draw(frames, len(classes), *size),
        box_regression=draw(frames, count, 10, *size),
        heading_axis=draw(frames, count, 2, *size),
        bev=draw(frames, channels, *size),
        camera_bev=draw(frames, channels, *size) if camera else None,
        lidar_bev=draw(frames, channels, *size) if lidar else None,
        depth_logits=None,
        grid=grid,
        classes=classes,
        task_of_class=task_of_class,
    )


def make_batch(*, boxes: int = 3, labelled: tuple[bool, bool] = (True, False), pasted: bool = False) -> FakeBatch:
    generator = torch.Generator().manual_seed(7)
    gt_boxes = torch.zeros(2, boxes, 9)
    gt_boxes[..., :2] = torch.rand(2, boxes, 2, generator=generator) * 20 - 10
    gt_boxes[..., 3:6] = torch.tensor([4.0, 2.0, 1.5])
    gt_boxes[..., 6] = torch.rand(2, boxes, generator=generator) * 6 - 3
    gt_boxes[..., 7:] = float("nan")
    return FakeBatch(
        gt_boxes,
        torch.randint(0, 10, (2, boxes), generator=generator),
        torch.tensor(labelled),
        torch.full((2, boxes), pasted),
    )


@pytest.fixture
def outputs() -> Callable[..., FusionOutput]:
    return make_output


@pytest.fixture
def batches() -> Callable[..., FakeBatch]:
    return make_batch
