"""Cached answers, moved to where the student's augmentation moved its frame."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fusionkd.geometry import BevGrid
from fusionkd.models.values import REGRESSION_CHANNELS, FusionOutput
from fusionkd.teachers.cache_codec import decode_features, decode_heatmap, decode_mask
from fusionkd.teachers.cache_pack import FEATURES, LEVELS, Form

_CHANNEL = {name: row for row, name in enumerate(REGRESSION_CHANNELS)}
_UNKNOWN_LOGIT = -12.0
_ALIGNED = 1e-3
"""Of a cell: maps that fall on cells so closely are moved without interpolation."""

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class ReplayedOutput(FusionOutput):
    """An answer that was given about the frame before it was augmented.

    The teacher never saw what was pasted into the frame since, nor the ground beyond its grid that a turn brought in.

    Attributes:
        seen: (B, 1, rows, columns) bool, the cells of which it knew anything; one for all frames where none moved.
    """

    seen: Tensor = field(default_factory=lambda: torch.ones(1, 1, 1, 1, dtype=torch.bool))


@dataclass(frozen=True)
class Placement:
    """Where cells of a grid lie in the same grid of the frame before its augmentation.

    Attributes:
        grid: The grid.
        ego_from_augmented: (4, 4) affine map whose linear part is a turn about z times a scale times mirrors.
    """

    grid: BevGrid
    ego_from_augmented: NDArray[np.float64]

    @cached_property
    def is_identity(self) -> bool:
        """Whether nothing moved."""
        return bool(np.array_equal(self.ego_from_augmented, np.eye(4)))

    @cached_property
    def augmented_from_ego(self) -> NDArray[np.float64]:
        """(4, 4)."""
        return np.asarray(np.linalg.inv(self.ego_from_augmented))

    @cached_property
    def source(self) -> NDArray[np.float64]:
        """Continuous (column, row) of each cell's centre in the cells of before, whole at their centres, (2, cells)."""
        rows, columns = np.indices(self.grid.shape).reshape(2, -1)
        xy_m = self.grid.metre_from_cell(np.stack([columns + 0.5, rows + 0.5], axis=1))
        moved = xy_m @ self.ego_from_augmented[:2, :2].T + self.ego_from_augmented[:2, 3]
        return np.asarray(self.grid.cell_from_metre(moved) - 0.5).T

    @cached_property
    def nearest(self) -> NDArray[np.int64]:
        """Per cell the flat index of the nearest cell of before, -1 beyond the grid, (cells,)."""
        column, row = np.floor(self.source + 0.5).astype(np.int64)
        return _flat(row, column, self.grid)

    @cached_property
    def is_aligned(self) -> bool:
        """Whether each cell lies on one cell of before."""
        return bool(np.abs(self.source - np.round(self.source)).max() < _ALIGNED)

    @cached_property
    def corners(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """The four cells of before around each cell, flat indices (4, cells), -1 beyond the grid; and their weights."""
        low = np.floor(self.source).astype(np.int64)
        part = self.source - low
        index, weight = [], []
        for right in (0, 1):
            for up in (0, 1):
                index.append(_flat(low[1] + up, low[0] + right, self.grid))
                weight.append(np.abs(1 - right - part[0]) * np.abs(1 - up - part[1]))
        return np.stack(index), np.stack(weight)


def replay(
    frames: Sequence[Arrays], form: Form, *, ego_from_augmented: NDArray[np.float64], fields: Sequence[str]
) -> ReplayedOutput:
    """Answers about B frames, as maps of the augmented frames.

    Mirrors and quarter turns about the middle of the grid move cells onto cells and are exact. Otherwise
    probabilities and features are interpolated between the cells that are kept, while peaks keep their score in the
    cell that holds them, and boxes move as geometry says.

    Args:
        frames: What ``cache_pack.pack`` made of each.
        form: Of the teacher's answers.
        ego_from_augmented: (B, 4, 4).
        fields: Which features are filled in; others are there without numbers.

    Returns:
        Maps in float32 on the CPU. Boxes are zero where there is no object, features where they aren't kept.
    """
    count, (rows, columns) = len(frames), form.grid.shape
    heatmap = torch.empty(count, len(form.classes), rows, columns)
    boxes = torch.zeros(count, form.tasks, len(REGRESSION_CHANNELS), rows, columns)
    axis = torch.zeros(count, form.tasks, 2, rows, columns) if form.heading_axis else None
    features = {name: torch.zeros(count, form.channels[name], rows, columns) for name in fields}
    placements = [Placement(form.grid, moved) for moved in ego_from_augmented]
    still = all(placement.is_identity for placement in placements)
    seen = torch.ones(1 if still else count, 1, rows, columns, dtype=torch.bool)
    for number, (arrays, placement) in enumerate(zip(frames, placements)):
        heatmap[number] = torch.from_numpy(replay_heatmap(arrays, placement))
        replay_boxes(
            arrays, placement, boxes=boxes[number].numpy(), axis=None if axis is None else axis[number].numpy()
        )
        for name, maps in features.items():
            replay_features(arrays, placement, name=name, maps=maps[number].numpy())
        if not placement.is_identity:
            seen[number, 0] = torch.from_numpy(placement.nearest >= 0).reshape(rows, columns)
    without = {name: torch.zeros(0) for name in FEATURES if name in form.channels and name not in features}
    present: dict[str, Any] = dict.fromkeys(FEATURES) | without | features
    return ReplayedOutput(
        heatmap=heatmap,
        box_regression=boxes,
        heading_axis=axis,
        **present,
        depth_logits=None,
        grid=form.grid,
        classes=form.classes,
        task_of_class=form.task_of_class,
        frame=form.frame,
        seen=seen,
    )


def replay_heatmap(arrays: Arrays, placement: Placement) -> NDArray[np.float32]:
    """Logits (classes, rows, columns) of the moved frame."""
    logits = decode_heatmap(_part(arrays, "heatmap"))
    if placement.is_identity:
        return logits
    flat = logits.reshape(len(logits), -1)
    if placement.is_aligned:
        known = np.where(placement.nearest >= 0, flat[:, placement.nearest], np.float32(_UNKNOWN_LOGIT))
        return np.asarray(known.reshape(logits.shape), np.float32)
    index, weight = placement.corners
    probability = 1 / (1 + np.exp(-flat))
    mean = sum(np.where(i >= 0, probability[:, i], 0) * w for i, w in zip(index, weight))
    mean = np.clip(np.asarray(mean), 1 / (1 + np.exp(-_UNKNOWN_LOGIT)), 1 - 1e-6)
    moved = np.log(mean / (1 - mean)).astype(np.float32)
    # Between cells a peak would be lower than the teacher saw it.
    kind, cell = np.divmod(np.cumsum(arrays["heatmap.peak"]), flat.shape[1])
    target = _moved_cells(cell, placement)
    inside = target >= 0
    np.maximum.at(moved, (kind[inside], target[inside]), arrays["heatmap.peak_logit"][inside].astype(np.float32))
    return np.asarray(moved.reshape(logits.shape), np.float32)


def replay_boxes(
    arrays: Arrays, placement: Placement, *, boxes: NDArray[np.float32], axis: NDArray[np.float32] | None
) -> None:
    """Write the moved boxes' regression.

    Args:
        arrays: Of the frame.
        placement: Where it moved.
        boxes: (tasks, 10, rows, columns) to write to.
        axis: (tasks, 2, rows, columns) to write to, or None where the teacher has none.
    """
    cells = placement.grid.rows * placement.grid.columns
    task, cell = np.divmod(np.cumsum(arrays["boxes.place"]), cells)
    values = arrays["boxes.values"].astype(np.float64)
    turned = arrays["boxes.axis"].astype(np.float64) if axis is not None else None
    target = cell
    if not placement.is_identity:
        values, xy = move_boxes(values, cell, placement)
        turned = None if turned is None else move_axis(turned, placement.augmented_from_ego)
        # Where cells don't fall on cells, a reader may look right beside the object.
        reach = 0 if placement.is_aligned else 1
        order, target = _around(_moved_centres(cell, placement), placement.grid, reach=reach)
        task, values = task[order], values[:, order]
        values[_CHANNEL["offset_x"]] = xy[0, order] - target % placement.grid.columns
        values[_CHANNEL["offset_y"]] = xy[1, order] - target // placement.grid.columns
        turned = None if turned is None else turned[:, order]
    boxes.reshape(*boxes.shape[:2], cells)[task, :, target] = values.T
    if axis is not None and turned is not None:
        axis.reshape(*axis.shape[:2], cells)[task, :, target] = turned.T


def replay_features(arrays: Arrays, placement: Placement, *, name: str, maps: NDArray[np.float32]) -> None:
    """Write a field of features (channels, rows, columns) where they are known."""
    flat = maps.reshape(len(maps), -1)
    kinds = [f"{name}.{kind}" for kind in LEVELS if f"{name}.{kind}.cells" in arrays]
    known = np.concatenate([decode_mask(arrays[f"{kind}.cells"], flat.shape[1]) for kind in kinds])
    values = np.concatenate([decode_features(_part(arrays, kind)) for kind in kinds], axis=1)
    if placement.is_identity:
        flat[:, known] = values
        return
    slot = np.full(flat.shape[1] + 1, -1)  # the last one is what lies beyond the grid
    slot[known] = np.arange(len(known))
    if placement.is_aligned:
        found = slot[placement.nearest]
        flat[:, found >= 0] = values[:, found[found >= 0]]
        return
    index, weight = placement.corners
    found = slot[index]  # (4, cells)
    weight = weight * (found >= 0)
    total = weight.sum(axis=0)
    target = np.flatnonzero(total >= 0.25)
    share = (weight[:, target] / total[target]).astype(np.float32)
    for i, w in zip(found[:, target], share):
        flat[:, target] += values[:, i] * w


def move_boxes(
    values: NDArray[np.float64], cell: NDArray[np.int64], placement: Placement
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Regression of boxes as the augmentation moves them, offsets left as they were.

    Args:
        values: (10, N), channels of ``REGRESSION_CHANNELS``.
        cell: (N,) flat index of the cell that each belongs to.
        placement: Where the frame moved.

    Returns:
        (10, N), and the moved centres as continuous (column, row), whole numbers at cell borders, (2, N).
    """
    grid, affine = placement.grid, placement.augmented_from_ego
    linear = affine[:2, :2]
    scale = np.sqrt(abs(np.linalg.det(linear)))
    out = values.copy()
    offset = values[[_CHANNEL["offset_x"], _CHANNEL["offset_y"]]]
    xy_m = grid.metre_from_cell((np.stack([cell % grid.columns, cell // grid.columns]) + offset).T)
    moved = grid.cell_from_metre(xy_m @ linear.T + affine[:2, 3]).T
    out[_CHANNEL["z_m"]] = affine[2, 2] * values[_CHANNEL["z_m"]] + affine[2, 3]
    out[_CHANNEL["log_l"] : _CHANNEL["log_h"] + 1] += np.log(scale)
    heading = values[[_CHANNEL["cos_yaw"], _CHANNEL["sin_yaw"]]]
    out[_CHANNEL["cos_yaw"]], out[_CHANNEL["sin_yaw"]] = linear / scale @ heading
    velocity = [_CHANNEL["vx_mps"], _CHANNEL["vy_mps"]]
    out[velocity] = linear @ values[velocity]
    return out, moved


def move_axis(axis: NDArray[np.float64], augmented_from_ego: NDArray[np.float64]) -> NDArray[np.float64]:
    """(sin 2 yaw, cos 2 yaw), (2, N), as the augmentation turns them: a mirror turns the other way round."""
    linear = augmented_from_ego[:2, :2]
    double = 2 * np.arctan2(linear[1, 0], linear[0, 0])
    way = np.sign(np.linalg.det(linear))
    sin, cos = way * axis[0], axis[1]
    return np.stack([sin * np.cos(double) + cos * np.sin(double), cos * np.cos(double) - sin * np.sin(double)])


def _moved_centres(cell: NDArray[np.int64], placement: Placement) -> NDArray[np.float64]:
    """Where the centres of cells went, continuous (column, row), (2, N)."""
    grid, affine = placement.grid, placement.augmented_from_ego
    xy_m = grid.metre_from_cell(np.stack([cell % grid.columns + 0.5, cell // grid.columns + 0.5], axis=1))
    return np.asarray(grid.cell_from_metre(xy_m @ affine[:2, :2].T + affine[:2, 3])).T


def _moved_cells(cell: NDArray[np.int64], placement: Placement) -> NDArray[np.int64]:
    column, row = np.floor(_moved_centres(cell, placement)).astype(np.int64)
    return _flat(row, column, placement.grid)


def _around(centres: NDArray[np.float64], grid: BevGrid, *, reach: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Cells near some centres: which centre, and the cell's flat index; those farther from theirs come first."""
    steps = np.arange(-reach, reach + 1)
    number = np.arange(centres.shape[1])
    near_column, near_row = np.meshgrid(steps, steps)
    column = np.floor(centres[0]).astype(np.int64)[:, None] + near_column.reshape(-1)
    row = np.floor(centres[1]).astype(np.int64)[:, None] + near_row.reshape(-1)
    away = np.hypot(column + 0.5 - centres[0][:, None], row + 0.5 - centres[1][:, None]).reshape(-1)
    flat = _flat(row, column, grid).reshape(-1)
    order = np.argsort(-away, kind="stable")
    order = order[flat[order] >= 0]
    return number.repeat(len(steps) ** 2)[order], flat[order]


def _flat(row: NDArray[np.int64], column: NDArray[np.int64], grid: BevGrid) -> NDArray[np.int64]:
    inside = (row >= 0) & (row < grid.rows) & (column >= 0) & (column < grid.columns)
    return np.where(inside, row * grid.columns + column, -1)


def _part(arrays: Arrays, prefix: str) -> dict[str, NDArray[Any]]:
    return {name[len(prefix) + 1 :]: array for name, array in arrays.items() if name.startswith(f"{prefix}.")}
