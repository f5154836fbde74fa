"""What a CenterHead should answer for given boxes (Yin et al., CenterPoint, CVPR 2021, section 4)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from fusionkd.geometry import BevGrid


@dataclass(frozen=True)
class CenterTargets:
    """Targets of B frames with up to M boxes each.

    Attributes:
        heatmap: (B, classes, rows, columns), a Gaussian of peak 1 at every centre.
        scored_heatmap: The same with the box's score as the peak: ``heatmap`` itself for annotations.
        cell: (B, M) int64, row * columns + column of each centre.
        label: (B, M) int64, 0 where there is no box.
        regression: (B, M, 10), channels of ``REGRESSION_CHANNELS``; velocity 0 where unknown.
        axis: (B, M, 2), (sin 2 yaw, cos 2 yaw).
        mask: (B, M) bool, boxes with their centre on the grid.
        score: (B, M), how sure a box is, 0 outside the mask; 1 for annotations.
        velocity_known: (B, M) bool.
    """

    heatmap: Tensor
    scored_heatmap: Tensor
    cell: Tensor
    label: Tensor
    regression: Tensor
    axis: Tensor
    mask: Tensor
    score: Tensor
    velocity_known: Tensor


def gaussian_radius(length: Tensor, width: Tensor, *, overlap: float) -> Tensor:
    """Radius in cells within which a shifted box still overlaps its original by ``overlap`` (IoU).

    The smallest of CornerNet's three cases (Law & Deng, ECCV 2018), in the form that CenterPoint uses.

    Args:
        length: In cells.
        width: In cells.
        overlap: Least IoU, in (0, 1).
    """
    total, product = length + width, length * width
    c1 = product * (1 - overlap) / (1 + overlap)
    r1 = (total + (total**2 - 4 * c1).sqrt()) / 2
    c2 = (1 - overlap) * product
    r2 = (2 * total + (4 * total**2 - 16 * c2).sqrt()) / 2
    c3 = (overlap - 1) * product
    b3 = -2 * overlap * total
    r3 = (b3 + (b3**2 - 16 * overlap * c3).sqrt()) / 2
    return torch.minimum(torch.minimum(r1, r2), r3)


def center_targets(
    gt_boxes: Tensor,
    gt_label: Tensor,
    *,
    grid: BevGrid,
    classes: int,
    score: Tensor | None = None,
    overlap: float = 0.1,
    min_radius: int = 2,
) -> CenterTargets:
    """Targets of a batch.

    Args:
        gt_boxes: (B, M, 9) rows (x, y, z, l, w, h, yaw, vx, vy); velocity NaN where unknown.
        gt_label: (B, M), -1 where there is no box.
        grid: Of the head.
        classes: Number of classes.
        score: (B, M) in [0, 1], how sure each box is; None for annotations, which are.
        overlap: See ``gaussian_radius``.
        min_radius: Smallest radius in cells.
    """
    boxes = gt_boxes.float()
    x = (boxes[..., 0] - grid.x_min_m) / grid.cell_m
    y = (boxes[..., 1] - grid.y_min_m) / grid.cell_m
    column, row = x.floor(), y.floor()
    mask = (gt_label >= 0) & (column >= 0) & (column < grid.columns) & (row >= 0) & (row < grid.rows)
    column, row = column.clamp(0, grid.columns - 1), row.clamp(0, grid.rows - 1)
    size = boxes[..., 3:6].clamp(min=1e-2)
    radius = gaussian_radius(size[..., 0] / grid.cell_m, size[..., 1] / grid.cell_m, overlap=overlap)
    radius = radius.floor().clamp(min=min_radius)
    velocity_known = mask & torch.isfinite(boxes[..., 7:9]).all(dim=-1)
    yaw = boxes[..., 6:7]
    regression = torch.cat(
        [
            (x - column)[..., None],
            (y - row)[..., None],
            boxes[..., 2:3],
            size.log(),
            yaw.sin(),
            yaw.cos(),
            torch.nan_to_num(boxes[..., 7:9]),
        ],
        dim=-1,
    )
    certain = mask.float()
    heatmap = _draw(column, row, radius, certain, gt_label, grid=grid, classes=classes)
    scored = heatmap
    if score is not None:
        certain = certain * score
        scored = _draw(column, row, radius, certain, gt_label, grid=grid, classes=classes)
    return CenterTargets(
        heatmap=heatmap,
        scored_heatmap=scored,
        cell=(row * grid.columns + column).long(),
        label=gt_label.clamp(min=0),
        regression=regression,
        axis=torch.cat([(2 * yaw).sin(), (2 * yaw).cos()], dim=-1),
        mask=mask,
        score=certain,
        velocity_known=velocity_known,
    )


def _draw(
    column: Tensor, row: Tensor, radius: Tensor, peak: Tensor, label: Tensor, *, grid: BevGrid, classes: int
) -> Tensor:
    """Gaussians of standard deviation diameter / 6, cut at the radius; the larger one wins where two meet.

    Boxes whose peak is 0 aren't drawn.
    """
    mask = peak > 0
    batch = len(column)
    flat = column.new_zeros(batch * classes, grid.rows * grid.columns)
    reach = int(radius[mask].max()) if bool(mask.any()) else 0
    step = torch.arange(-reach, reach + 1, device=column.device, dtype=column.dtype)
    dy, dx = torch.meshgrid(step, step, indexing="ij")
    dy, dx = dy.flatten(), dx.flatten()  # (S,)
    sigma = (2 * radius + 1) / 6
    value = peak[..., None] * torch.exp(-(dx**2 + dy**2) / (2 * sigma[..., None] ** 2))  # (B, M, S)
    rows, columns = row[..., None] + dy, column[..., None] + dx  # (B, M, S)
    near = (dx.abs() <= radius[..., None]) & (dy.abs() <= radius[..., None])
    inside = (rows >= 0) & (rows < grid.rows) & (columns >= 0) & (columns < grid.columns)
    keep = near & inside & mask[..., None]
    frame = torch.arange(batch, device=column.device)[:, None]
    channel = (frame * classes + label.clamp(min=0))[..., None]
    index = channel * (grid.rows * grid.columns) + (rows * grid.columns + columns).long()
    flat.view(-1).scatter_reduce_(0, index[keep], value[keep], reduce="amax")
    return flat.reshape(batch, classes, grid.rows, grid.columns)  # (B, classes, rows, columns)
