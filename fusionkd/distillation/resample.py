"""Maps carried from one BEV grid to another, by metres."""

import torch
import torch.nn.functional as F
from torch import Tensor

from fusionkd.distillation.base import tap
from fusionkd.errors import UserError
from fusionkd.geometry import BevGrid
from fusionkd.models.values import FusionOutput


def bev_tap(output: FusionOutput, name: str) -> Tensor:
    """BEV features at a tap, on the output's grid.

    A module inside of a backbone has larger cells, on the same ground: its map is resampled.

    Args:
        output: A model's.
        name: A field of features, or the path of a module that was recorded.

    Returns:
        (B, C, rows, columns) float32.

    Raises:
        UserError: If what stands there is no map of the grid's ground.
    """
    maps = tap(output, name)
    if not lies_on_ground(maps, output):
        raise UserError(
            f"The tap '{name}' gives {tuple(maps.shape)}, which is no map of the grid's {output.grid.rows} x "
            f"{output.grid.columns} cells for {len(output.heatmap)} frames; give the path of a module of the BEV part."
        )
    if maps.shape[-2:] == output.grid.shape:
        return maps
    # Other cells on the same ground; the border's values go on to the border.
    return F.interpolate(maps, size=output.grid.shape, mode="bilinear", align_corners=False, antialias=True)


def lies_on_ground(maps: Tensor, output: FusionOutput) -> bool:
    """Whether maps have one entry per frame and cells that divide the output's ground; images have neither."""
    if maps.ndim != 4 or len(maps) != len(output.heatmap):
        return False
    return maps.shape[-2] * output.grid.columns == maps.shape[-1] * output.grid.rows


def sample_bev(maps: Tensor, xy_m: Tensor, grid: BevGrid) -> Tensor:
    """Bilinear values of BEV maps at positions; zero outside the grid.

    Args:
        maps: (B, C, rows, columns) on ``grid``.
        xy_m: (B, N, 2) positions in the grid's frame, metres.
        grid: Where the maps lie.

    Returns:
        (B, C, N) values.
    """
    low = xy_m.new_tensor([grid.x_min_m, grid.y_min_m])
    size = xy_m.new_tensor([grid.x_max_m - grid.x_min_m, grid.y_max_m - grid.y_min_m])
    # grid_sample takes (x, y) in [-1, 1] over the borders, while maps are indexed [row(y), column(x)].
    where = (xy_m - low) / size * 2 - 1  # (B, N, 2)
    values = F.grid_sample(maps, where[:, None].to(maps.dtype), align_corners=False)  # (B, C, 1, N)
    return values[:, :, 0]


def resample_bev(maps: Tensor, *, source: BevGrid, target: BevGrid) -> Tensor:
    """BEV maps of one grid on another grid of the same frame; zero where the source doesn't reach.

    Args:
        maps: (B, C, source rows, source columns).
        source: Grid of ``maps``.
        target: Grid of the result.

    Returns:
        (B, C, target rows, target columns); ``maps`` itself where the grids cover the same cells.
    """
    if same_cells(source, target):
        return maps
    columns = torch.arange(target.columns, device=maps.device, dtype=torch.float32) + 0.5
    rows = torch.arange(target.rows, device=maps.device, dtype=torch.float32) + 0.5
    x_m = target.x_min_m + columns * target.cell_m
    y_m = target.y_min_m + rows * target.cell_m
    xy_m = torch.stack(torch.meshgrid(x_m, y_m, indexing="xy"), dim=-1)  # (rows, columns, 2)
    flat = xy_m.reshape(1, -1, 2).expand(len(maps), -1, -1)  # (B, rows * columns, 2)
    return sample_bev(maps, flat, source).reshape(len(maps), maps.shape[1], target.rows, target.columns)


def covered_cells(*, source: BevGrid, target: BevGrid, device: torch.device) -> Tensor:
    """Which target cells have their centre on the source grid, (target rows, target columns) bool."""
    columns = torch.arange(target.columns, device=device, dtype=torch.float64) + 0.5
    rows = torch.arange(target.rows, device=device, dtype=torch.float64) + 0.5
    x_m = target.x_min_m + columns * target.cell_m
    y_m = target.y_min_m + rows * target.cell_m
    in_x = (x_m >= source.x_min_m) & (x_m < source.x_max_m)
    in_y = (y_m >= source.y_min_m) & (y_m < source.y_max_m)
    return in_y[:, None] & in_x[None, :]


def same_cells(a: BevGrid, b: BevGrid) -> bool:
    """Whether two grids cut the ground into the same cells; their heights may differ."""
    return (a.x_min_m, a.y_min_m, a.cell_m, a.shape) == (b.x_min_m, b.y_min_m, b.cell_m, b.shape)
