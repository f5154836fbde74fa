"""The view transform of cameras that never move: its look-up becomes constants of the network."""

import copy

import torch
from torch import Tensor, nn

from fusionkd.geometry import BevGrid
from fusionkd.models import FusionModel
from fusionkd.models.view_transform import LiftSplat, splat_added


class ColumnSplat(nn.Module):
    """Sums of probability times feature per cell, image column by image column.

    The pixels of one column of a level camera lie, at one depth, mostly in the same cell. Their sum is a product of
    matrices, (bins, h) times (h, C) per camera and column, which leaves D rows per column to be added to the grid
    instead of D h of them. The pixels that lie elsewhere (the camera is tilted) are added one by one. The result
    differs from ``splat_added`` in the order of additions alone.

    Args:
        cells: (N, D, h, w) of the rig, ``count`` for points that are nowhere.
        count: Cells of the grid.
    """

    def __init__(self, cells: Tensor, count: int) -> None:
        super().__init__()
        self.count = count
        by_column = cells.permute(0, 3, 1, 2)  # (N, w, D, h)
        on_grid = by_column < count
        shared = _most_common(by_column, on_grid)
        together = on_grid & (by_column == shared[..., None])
        alone = (on_grid & ~together).nonzero()  # (L, 4)
        camera, column, depth, row = alone.unbind(dim=1)
        _, width, bins, height = by_column.shape
        self.register_buffer("together", together.float())
        self.register_buffer("place", torch.cat([shared.flatten(), by_column[tuple(alone.T)]]))
        self.register_buffer("lone_point", ((camera * width + column) * bins + depth) * height + row)
        self.register_buffer("lone_pixel", (camera * width + column) * height + row)

    def forward(self, features: Tensor, probability: Tensor) -> Tensor:
        """Splat one frame.

        Args:
            features: (1, N, C, h, w).
            probability: (1, N, D, h, w).

        Returns:
            (1, C, cells) float32.
        """
        together, place, point, pixel = self.together, self.place, self.lone_point, self.lone_pixel
        assert isinstance(together, Tensor)
        assert isinstance(place, Tensor)
        assert isinstance(point, Tensor)
        assert isinstance(pixel, Tensor)
        seen = features[0].permute(0, 3, 2, 1)  # (N, w, h, C)
        weight = probability[0].permute(0, 3, 1, 2)  # (N, w, D, h)
        sums = torch.matmul(weight * together, seen).flatten(0, 2)  # (N * w * D, C)
        lone = seen.flatten(0, 2)[pixel] * weight.flatten()[point][:, None]  # (L, C)
        canvas = sums.new_zeros(self.count + 1, sums.shape[1])
        return canvas.index_add(0, place, torch.cat([sums, lone]))[: self.count].T[None]  # (1, C, cells)


class FixedLift(nn.Module):
    """A ``LiftSplat`` whose cells are constants.

    Args:
        lift: With its trained weights.
        cells: (N, D, h, w) of the rig.
        grid: The grid.
    """

    def __init__(self, lift: LiftSplat, cells: Tensor, *, grid: BevGrid) -> None:
        super().__init__()
        self.lift = lift
        self.splat = ColumnSplat(cells, grid.rows * grid.columns)

    def forward(
        self, features: Tensor, cell: Tensor, measured: Tensor | None = None, *, present: Tensor, grid: BevGrid
    ) -> tuple[Tensor, Tensor]:
        """As ``LiftSplat.forward``; ``cell`` isn't read."""
        del cell
        count = grid.rows * grid.columns
        known = None if measured is None else measured < count
        context, probability, logits = self.lift.predict(features, known, present=present)
        bins = self.lift.bins.count
        bev = self.splat(context, probability[:, :, :bins])
        if measured is not None:
            bev = bev + splat_added(context, probability[:, :, bins:], measured[:, :, None], cells=count)
        return bev.reshape(*bev.shape[:2], *grid.shape), logits  # (1, C, rows, columns)


def with_fixed_rig(model: FusionModel, cells: Tensor) -> FusionModel:
    """A copy of a model with cameras, for one rig.

    Args:
        model: The model.
        cells: (N, D, h, w) of the rig.
    """
    fixed = copy.deepcopy(model)
    assert fixed.camera is not None
    fixed.camera.lift = FixedLift(fixed.camera.lift, cells, grid=fixed.grid)  # type: ignore[assignment]
    return fixed.eval()


def _most_common(cells: Tensor, counted: Tensor) -> Tensor:
    """Of each last axis, the value that is counted most often; any value where none is counted."""
    votes = torch.stack([((cells == cells[..., k, None]) & counted).sum(-1) for k in range(cells.shape[-1])], dim=-1)
    best = torch.where(counted, votes, -1).argmax(dim=-1, keepdim=True)
    return cells.gather(-1, best)[..., 0]
