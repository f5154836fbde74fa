"""Where on the grid a term counts."""

from typing import Literal

import torch
from torch import Tensor

from fusionkd.distillation.base import TermBatch
from fusionkd.geometry import BevGrid
from fusionkd.models.values import FusionOutput
from fusionkd.teachers.cache_replay import ReplayedOutput

LEAST_GAUSSIAN = 0.02
"""Where an annotated box's Gaussian falls below, the cell counts nothing: 2.8 deviations, 0.04 % of its square."""

MaskKind = Literal["none", "ground_truth", "teacher"]
"""Which cells count: all, Gaussians on annotated centres, or the teacher's own heatmap score."""


def gaussian_foreground(gt_boxes: Tensor, gt_label: Tensor, grid: BevGrid) -> Tensor:
    """1 at annotated centres, falling off with a Gaussian as wide as the box.

    Args:
        gt_boxes: (B, M, 9) rows (x, y, z, l, w, h, yaw, vx, vy) in the grid's frame.
        gt_label: (B, M), -1 where there is no box.
        grid: Where the mask lies.

    Returns:
        (B, 1, rows, columns) float32 in [0, 1]; the highest of the boxes where several overlap; 0 where it has fallen
        below ``LEAST_GAUSSIAN``, so that most cells need not be looked at.
    """
    frames, boxes = gt_label.shape
    if boxes == 0:
        return torch.zeros(frames, 1, grid.rows, grid.columns, device=gt_boxes.device)
    x_m, y_m = _cell_centres(grid, gt_boxes.device)
    # Two deviations reach the border of a box of this area, but at least one cell.
    sigma_m = ((gt_boxes[..., 3] * gt_boxes[..., 4]).clamp(min=0).sqrt() / 4).clamp(min=grid.cell_m)[..., None]
    along_x = torch.exp(-0.5 * ((x_m - gt_boxes[..., :1]) / sigma_m) ** 2)  # (B, M, columns)
    along_y = torch.exp(-0.5 * ((y_m - gt_boxes[..., 1:2]) / sigma_m) ** 2)  # (B, M, rows)
    along_y = along_y * (gt_label >= 0)[..., None]
    highest = torch.stack([(y[:, :, None] * x[:, None, :]).amax(dim=0) for y, x in zip(along_y, along_x)])[:, None]
    return torch.where(highest >= LEAST_GAUSSIAN, highest, 0.0)


def teacher_foreground(probability: Tensor, *, threshold: float = 0.1) -> Tensor:
    """The teacher's highest class probability per cell, 0 below the threshold.

    Args:
        probability: (B, classes, rows, columns) after the sigmoid.
        threshold: Below it a cell is background.

    Returns:
        (B, 1, rows, columns).
    """
    highest = probability.amax(dim=1, keepdim=True)
    return torch.where(highest >= threshold, highest, 0.0)


def unseen_cells(gt_boxes: Tensor, pasted: Tensor, grid: BevGrid) -> Tensor:
    """Cells of boxes that were pasted into the LiDAR alone, (B, 1, rows, columns) bool.

    A camera teacher never saw them, so it has nothing to teach there.
    """
    if pasted.shape[1] == 0 or not bool(pasted.any()):
        return torch.zeros(len(pasted), 1, grid.rows, grid.columns, dtype=torch.bool, device=pasted.device)
    x_m, y_m = _cell_centres(grid, gt_boxes.device)
    reach_m = (0.5 * torch.hypot(gt_boxes[..., 3], gt_boxes[..., 4]) + grid.cell_m)[..., None]
    near_x = ((x_m - gt_boxes[..., :1]).abs() <= reach_m) & pasted[..., None]  # (B, M, columns)
    near_y = (y_m - gt_boxes[..., 1:2]).abs() <= reach_m  # (B, M, rows)
    return torch.stack([(y[:, :, None] & x[:, None, :]).any(dim=0) for y, x in zip(near_y, near_x)])[:, None]


def unseen_by(teacher: FusionOutput, batch: TermBatch, grid: BevGrid) -> Tensor:
    """Cells about which a teacher has nothing to say although its grid may reach them, (B, 1, rows, columns) bool.

    What was pasted into the LiDAR, for a teacher without LiDAR and for one that answered before; and where the
    augmentation turned unknown ground onto the grid after it had answered.

    Args:
        teacher: Its answer.
        batch: The frames.
        grid: Whose cells.
    """
    unseen = unseen_cells(batch.gt_boxes, unseen_boxes(teacher, batch), grid)
    if isinstance(teacher, ReplayedOutput):
        unseen = unseen | ~resample_nearest(teacher.seen, source=teacher.grid, target=grid)
    return unseen


def unseen_boxes(teacher: FusionOutput, batch: TermBatch) -> Tensor:
    """Pasted boxes that a teacher never saw, (B, M) bool."""
    saw = teacher.lidar_bev is not None and not isinstance(teacher, ReplayedOutput)
    return torch.zeros_like(batch.pasted) if saw else batch.pasted


def knew_ground(teacher: FusionOutput, xy_m: Tensor) -> Tensor:
    """Whether a teacher knew the ground at positions (B, N, 2) in metres when it answered, (B, N) bool."""
    if not isinstance(teacher, ReplayedOutput):
        return torch.ones(xy_m.shape[:2], dtype=torch.bool, device=xy_m.device)
    grid, frame = teacher.grid, torch.arange(len(xy_m), device=xy_m.device)[:, None]
    column = torch.floor((xy_m[..., 0] - grid.x_min_m) / grid.cell_m).long()
    row = torch.floor((xy_m[..., 1] - grid.y_min_m) / grid.cell_m).long()
    inside = (column >= 0) & (column < grid.columns) & (row >= 0) & (row < grid.rows)
    return (
        inside
        & teacher.seen.expand(len(xy_m), -1, -1, -1)[
            frame, 0, row.clamp(0, grid.rows - 1), column.clamp(0, grid.columns - 1)
        ]
    )


def resample_nearest(mask: Tensor, *, source: BevGrid, target: BevGrid) -> Tensor:
    """A mask (B, 1, rows, columns) of one grid at the cells of another; False beyond the source."""
    x_m, y_m = _cell_centres(target, mask.device)
    column = torch.floor((x_m - source.x_min_m) / source.cell_m).long()
    row = torch.floor((y_m - source.y_min_m) / source.cell_m).long()
    inside = ((row >= 0) & (row < source.rows))[:, None] & ((column >= 0) & (column < source.columns))
    picked = mask[..., row.clamp(0, source.rows - 1)[:, None], column.clamp(0, source.columns - 1)]
    return picked & inside


def footprint_scale(gt_boxes: Tensor, gt_label: Tensor, grid: BevGrid) -> Tensor:
    """On each annotated box's footprint one over its number of cells (scale mask of Yang et al., FGD, CVPR 2022).

    So a bus counts no more than a pedestrian. The cell at the centre always belongs to the box, however small; where
    boxes overlap the smallest one holds.

    Args:
        gt_boxes: (B, M, 9) rows (x, y, z, l, w, h, yaw, vx, vy) in the grid's frame.
        gt_label: (B, M), -1 where there is no box.
        grid: Where the mask lies.

    Returns:
        (B, 1, rows, columns) float32 in [0, 1]; 0 outside all boxes.
    """
    frames, boxes = gt_label.shape
    if boxes == 0:
        return torch.zeros(frames, 1, grid.rows, grid.columns, device=gt_boxes.device)
    x_m, y_m = _cell_centres(grid, gt_boxes.device)
    masks = []
    for box, label in zip(gt_boxes, gt_label):
        dx, dy = x_m - box[:, 0, None, None], y_m[:, None] - box[:, 1, None, None]  # (M, 1, columns), (M, rows, 1)
        cos, sin = box[:, 6, None, None].cos(), box[:, 6, None, None].sin()
        along, across = dx * cos + dy * sin, dy * cos - dx * sin  # (M, rows, columns)
        inside = (along.abs() <= box[:, 3, None, None] / 2) & (across.abs() <= box[:, 4, None, None] / 2)
        centre = (dx.abs() <= grid.cell_m / 2) & (dy.abs() <= grid.cell_m / 2)
        inside = (inside | centre) & (label >= 0)[:, None, None]
        cells = inside.sum(dim=(1, 2), keepdim=True).clamp(min=1)
        masks.append((inside / cells).amax(dim=0))
    return torch.stack(masks)[:, None]


def _cell_centres(grid: BevGrid, device: torch.device) -> tuple[Tensor, Tensor]:
    x_m = grid.x_min_m + (torch.arange(grid.columns, device=device, dtype=torch.float32) + 0.5) * grid.cell_m
    y_m = grid.y_min_m + (torch.arange(grid.rows, device=device, dtype=torch.float32) + 0.5) * grid.cell_m
    return x_m, y_m
