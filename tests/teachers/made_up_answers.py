"""Answers of a teacher that never was: blobs on heatmaps, boxes below them, features everywhere."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fusionkd.geometry import BevGrid
from fusionkd.models.values import FusionOutput

GRID = BevGrid(-25.6, 25.6, -25.6, 25.6, 0.8)
CLASSES = ("car", "truck", "pedestrian")
TASKS = (0, 0, 1)


@dataclass(frozen=True)
class OneFrame:
    """What terms and the cache read of a batch of one frame."""

    gt_boxes: Tensor
    gt_label: Tensor
    labelled: Tensor
    pasted: Tensor


def answer(seed: int = 0, *, objects: int = 12, grid: BevGrid = GRID, channels: int = 6) -> FusionOutput:
    """One frame's maps with peaks at random cells, at least two cells apart in each class."""
    generator = np.random.default_rng(seed)
    rows, columns = grid.shape
    logits = generator.normal(-5.0, 0.7, (len(CLASSES), rows, columns))
    v, u = np.indices((rows, columns))
    for _ in range(objects):
        kind, row, column = (int(generator.integers(n)) for n in (len(CLASSES), rows, columns))
        width = generator.uniform(0.7, 1.6)
        blob = np.exp(-((u - column) ** 2 + (v - row) ** 2) / (2 * width**2))
        top = generator.uniform(-1.0, 3.0)
        logits[kind] = np.maximum(logits[kind], -6 + (top + 6) * blob)
    regression = generator.normal(0, 0.4, (1, max(TASKS) + 1, 10, rows, columns))
    regression[:, :, :2] = generator.uniform(0, 1, (1, max(TASKS) + 1, 2, rows, columns))
    yaw = generator.uniform(-np.pi, np.pi, (1, max(TASKS) + 1, rows, columns))
    regression[:, :, 6], regression[:, :, 7] = np.sin(yaw), np.cos(yaw)
    regression[:, :, 8:] *= 10
    axis = np.stack([np.sin(2 * yaw), np.cos(2 * yaw)], axis=2)
    bev = np.maximum(generator.normal(0, 1, (1, channels, rows, columns)), 0)
    return FusionOutput(
        heatmap=_tensor(logits[None]),
        box_regression=_tensor(regression),
        heading_axis=_tensor(axis),
        bev=_tensor(bev),
        camera_bev=None,
        lidar_bev=_tensor(bev[:, :2]),
        depth_logits=None,
        grid=grid,
        classes=CLASSES,
        task_of_class=TASKS,
    )


def frame(seed: int = 0, *, boxes: int = 6, labelled: bool = True) -> OneFrame:
    """One frame's annotations."""
    generator = np.random.default_rng(seed + 1000)
    rows = generator.uniform(-20, 20, (boxes, 9))
    rows[:, 3:6] = generator.uniform(0.6, 6.0, (boxes, 3))
    rows[:, 6] = generator.uniform(-np.pi, np.pi, boxes)
    label = generator.integers(0, len(CLASSES), boxes)
    return OneFrame(
        gt_boxes=_tensor(rows[None]),
        gt_label=torch.from_numpy(label[None] if labelled else np.full((1, boxes), -1)),
        labelled=torch.tensor([labelled]),
        pasted=torch.zeros(1, boxes, dtype=torch.bool),
    )


def affine(*, turn_rad: float = 0.0, mirror: tuple[int, int] = (1, 1), scale: float = 1.0) -> NDArray[np.float64]:
    """``augmented_from_ego``, (4, 4), as ``BevAugmentation`` draws it."""
    cos, sin = np.cos(turn_rad), np.sin(turn_rad)
    out = np.eye(4)
    out[:2, :2] = np.array([[cos, -sin], [sin, cos]]) * mirror
    out[:3, :3] *= scale
    return out


def _tensor(values: NDArray[np.float64]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, np.float32))
