"""Places on the BEV grid where a term looks: a teacher's peaks or annotated centres."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fusionkd.geometry import BevGrid
from fusionkd.models.values import REGRESSION_CHANNELS, FusionOutput

_CHANNEL = {name: index for index, name in enumerate(REGRESSION_CHANNELS)}


@dataclass(frozen=True)
class Locations:
    """K places in each of B frames; those with weight 0 don't count.

    Attributes:
        label: Class index in some model's class list, (B, K) int64.
        row: (B, K) int64.
        column: (B, K) int64.
        weight: (B, K) float32, 0 where there is no object.
    """

    label: Tensor
    row: Tensor
    column: Tensor
    weight: Tensor


@torch.no_grad()
def highest_around(maps: Tensor) -> Tensor:
    """The highest value of each cell and its eight neighbours, without gradient.

    What ``max_pool2d`` with a kernel of 3 gives; maxima of shifted maps take a CPU a tenth of its time.

    Args:
        maps: (..., rows, columns).
    """
    upright = maps.clone()
    torch.maximum(maps[..., 1:, :], maps[..., :-1, :], out=upright[..., 1:, :])
    upright[..., :-1, :] = torch.maximum(upright[..., :-1, :], maps[..., 1:, :])
    highest = upright.clone()
    torch.maximum(upright[..., 1:], upright[..., :-1], out=highest[..., 1:])
    highest[..., :-1] = torch.maximum(highest[..., :-1], upright[..., 1:])
    return highest


def heatmap_peaks(logits: Tensor, *, threshold: float, count: int) -> Locations:
    """The strongest local maxima of a heatmap over all classes.

    Args:
        logits: (B, classes, rows, columns).
        threshold: Peaks with a lower probability get weight 0.
        count: Peaks per frame.

    Returns:
        Locations whose weight is the probability.
    """
    probability = logits.float().sigmoid()
    # A cell is a peak if no neighbour of its class is higher.
    peaks = torch.where(highest_around(probability) == probability, probability, 0.0)
    _, _, rows, columns = peaks.shape
    flat = peaks.flatten(1)  # (B, classes * rows * columns)
    score, index = flat.topk(min(count, flat.shape[1]), dim=1)
    return Locations(
        label=index // (rows * columns),
        row=index // columns % rows,
        column=index % columns,
        weight=torch.where(score >= threshold, score, 0.0),
    )


def annotated_centres(gt_boxes: Tensor, gt_label: Tensor, grid: BevGrid) -> Locations:
    """The cells of annotated centres, weight 1 for each box on the grid.

    Args:
        gt_boxes: (B, M, 9) rows (x, y, z, l, w, h, yaw, vx, vy).
        gt_label: (B, M), -1 where there is no box.
        grid: The grid whose cells are meant.
    """
    column = torch.floor((gt_boxes[..., 0] - grid.x_min_m) / grid.cell_m).long()
    row = torch.floor((gt_boxes[..., 1] - grid.y_min_m) / grid.cell_m).long()
    inside = (column >= 0) & (column < grid.columns) & (row >= 0) & (row < grid.rows) & (gt_label >= 0)
    return Locations(
        label=gt_label.clamp(min=0),
        row=row.clamp(0, grid.rows - 1),
        column=column.clamp(0, grid.columns - 1),
        weight=inside.float(),
    )


def choose(frames: Tensor, first: Locations, second: Locations) -> Locations:
    """``first`` in the frames of a (B,) mask, ``second`` in the others; K is that of both together."""

    def join(name: str) -> Tensor:
        return torch.cat([getattr(first, name), getattr(second, name)], dim=1)

    weight = torch.cat([first.weight * frames[:, None], second.weight * ~frames[:, None]], dim=1)
    return Locations(join("label"), join("row"), join("column"), weight)


def relabel(locations: Locations, mapping: Tensor) -> Locations:
    """Labels looked up in ``mapping`` (old classes,); those mapped to -1 get weight 0."""
    label = mapping[locations.label]
    return replace(locations, label=label.clamp(min=0), weight=locations.weight * (label >= 0))


def on_grid(locations: Locations, *, source: BevGrid, target: BevGrid) -> Locations:
    """The target cells that hold the centres of source cells; weight 0 where the target has none."""
    x_m = source.x_min_m + (locations.column.double() + 0.5) * source.cell_m
    y_m = source.y_min_m + (locations.row.double() + 0.5) * source.cell_m
    column = torch.floor((x_m - target.x_min_m) / target.cell_m).long()
    row = torch.floor((y_m - target.y_min_m) / target.cell_m).long()
    inside = (column >= 0) & (column < target.columns) & (row >= 0) & (row < target.rows)
    return Locations(
        locations.label,
        row.clamp(0, target.rows - 1),
        column.clamp(0, target.columns - 1),
        locations.weight * inside,
    )


def gather_tasks(maps: Tensor, locations: Locations, task_of_class: tuple[int, ...]) -> Tensor:
    """Values of per-task maps at each location, from the task that its class belongs to.

    Args:
        maps: (B, tasks, C, rows, columns).
        locations: K places per frame.
        task_of_class: Task of each class that ``locations.label`` counts.

    Returns:
        (B, K, C) float32.
    """
    task = torch.tensor(task_of_class, device=maps.device)[locations.label]
    frame = torch.arange(len(maps), device=maps.device)[:, None]
    # Gathered first and cast then: the maps are large, the places few.
    return maps[frame, task, :, locations.row, locations.column].float()


def boxes_at(output: FusionOutput, locations: Locations) -> Tensor:
    """Boxes on the ground that an output's regression gives at some cells.

    Returns:
        (B, K, 5): x, y, l, w in metres and the heading's axis in radians (its direction is left open).
    """
    values = gather_tasks(output.box_regression, locations, output.task_of_class)  # (B, K, 10)
    grid = output.grid
    x_m = grid.x_min_m + (locations.column + values[..., _CHANNEL["offset_x"]]) * grid.cell_m
    y_m = grid.y_min_m + (locations.row + values[..., _CHANNEL["offset_y"]]) * grid.cell_m
    length_m = values[..., _CHANNEL["log_l"]].clamp(-5, 5).exp()
    width_m = values[..., _CHANNEL["log_w"]].clamp(-5, 5).exp()
    if output.heading_axis is not None:
        axis = gather_tasks(output.heading_axis, locations, output.task_of_class)  # (B, K, 2)
        yaw_rad = 0.5 * torch.atan2(axis[..., 0], axis[..., 1])
    else:
        yaw_rad = torch.atan2(values[..., _CHANNEL["sin_yaw"]], values[..., _CHANNEL["cos_yaw"]])
    return torch.stack([x_m, y_m, length_m, width_m, yaw_rad], dim=-1)
