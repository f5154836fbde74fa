"""LiDAR branches: pillars through PointPillars and SECOND, or a raster through a light 2D network."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from itertools import accumulate
from operator import mul

import torch
from torch import Tensor, nn

from fusionkd.errors import UserError
from fusionkd.geometry import BevGrid
from fusionkd.models.layers import conv_bn_relu
from fusionkd.models.second import MMDET3D_NORM, Second, SecondFpn


class LidarEncoder(nn.Module, ABC):
    """One LiDAR view to features on the model's grid.

    Attributes:
        view: Name of the batch's LiDAR view that is read.
        out_channels: Of the features.
    """

    view: str
    out_channels: int

    @abstractmethod
    def forward(self, tensors: Mapping[str, Tensor], *, batch_size: int, grid: BevGrid) -> Tensor:
        """Features (B, out_channels, rows, columns) on the model's grid."""

    @abstractmethod
    def example(self, grid: BevGrid, generator: torch.Generator) -> dict[str, Tensor]:
        """The view of one made-up frame."""


class PillarFeatureNet(nn.Module):
    """One feature vector per pillar (Lang et al., PointPillars, CVPR 2019, section 2.1).

    The layout is mmdetection3d's: each point is (x, y, z, intensity, age), its offset to the mean of
    the pillar's points (3) and to the pillar's centre (3); empty slots are zeros that take part in
    the maximum, since the public weights were trained so.

    Args:
        channels: Features per pillar.
    """

    def __init__(self, channels: int = 64) -> None:
        super().__init__()
        self.linear = nn.Linear(11, channels, bias=False)
        self.norm = nn.BatchNorm1d(channels, **MMDET3D_NORM)

    @staticmethod
    def decorate(points: Tensor, count: Tensor, coords: Tensor, *, grid: BevGrid) -> Tensor:
        """The 11 inputs of every slot.

        Args:
            points: (P, K, 5), zero beyond ``count``.
            count: (P,) points held.
            coords: (P, 3) batch, row, column.
            grid: The pillars' footprints.

        Returns:
            (P, K, 11), zero in empty slots.
        """
        xyz = points[..., :3]
        mean = xyz.sum(dim=1, keepdim=True) / count.to(points.dtype)[:, None, None]
        half = 0.5 * grid.cell_m
        cell = coords.to(points.dtype)
        x = cell[:, 2] * grid.cell_m + (grid.x_min_m + half)
        y = cell[:, 1] * grid.cell_m + (grid.y_min_m + half)
        z = torch.full_like(x, 0.5 * (grid.z_min_m + grid.z_max_m))
        centre = torch.stack([x, y, z], dim=-1)[:, None]  # (P, 1, 3)
        features = torch.cat([points, xyz - mean, xyz - centre], dim=-1)  # (P, K, 11)
        held = torch.arange(points.shape[1], device=points.device) < count[:, None]  # (P, K)
        return features * held[..., None].to(points.dtype)

    def forward(self, points: Tensor, count: Tensor, coords: Tensor, *, grid: BevGrid) -> Tensor:
        """Features, (P, channels)."""
        slots = self.decorate(points, count, coords, grid=grid)
        if slots.shape[0] == 0:  # batch statistics of nothing don't exist
            return slots.new_zeros(0, self.linear.out_features)
        x = self.norm(self.linear(slots.flatten(0, 1)))  # (P * K, C)
        return torch.relu(x.unflatten(0, slots.shape[:2]).max(dim=1).values)  # (P, C)


def scatter_pillars(features: Tensor, coords: Tensor, *, batch_size: int, shape: tuple[int, int]) -> Tensor:
    """Pillars put on a canvas of zeros.

    Args:
        features: (P, C).
        coords: (P, 3) batch, row, column; each cell at most once.
        batch_size: B.
        shape: (rows, columns).

    Returns:
        (B, C, rows, columns), channels last in memory.
    """
    rows, columns = shape
    canvas = features.new_zeros(batch_size * rows * columns, features.shape[1])
    index = (coords[:, 0] * rows + coords[:, 1]) * columns + coords[:, 2]
    canvas = canvas.index_copy(0, index, features)
    return canvas.reshape(batch_size, rows, columns, -1).permute(0, 3, 1, 2)  # (B, C, rows, columns)


class PillarEncoder(LidarEncoder):
    """PointPillars, SECOND and its neck: LiDAR points to BEV features.

    The defaults are mmdetection3d's CenterPoint-pillar at 0.2 m (Yin et al., CVPR 2021) for a head
    with cells of 0.8 m.

    Args:
        view: Name of the batch's pillar view.
        pillars_per_cell: Pillars per cell of the model's grid, along each axis; the view's grid must have
            cells smaller than the model's by this factor.
        pillar_channels: Features per pillar.
        channels: Per block of the backbone.
        layers: Convolutions per block after its first.
        strides: Of each block.
        neck_channels: Per map of the neck.
    """

    def __init__(
        self,
        view: str = "pillars",
        *,
        pillars_per_cell: int = 4,
        pillar_channels: int = 64,
        channels: Sequence[int] = (64, 128, 256),
        layers: Sequence[int] = (3, 5, 5),
        strides: Sequence[int] = (2, 2, 2),
        neck_channels: int = 128,
    ) -> None:
        super().__init__()
        if not len(channels) == len(layers) == len(strides):
            raise UserError(
                f"PillarEncoder needs one number per block in channels, layers and strides, found {len(channels)}, "
                f"{len(layers)} and {len(strides)}."
            )
        self.view = view
        self.pillars_per_cell = pillars_per_cell
        self.pillars = PillarFeatureNet(pillar_channels)
        self.backbone = Second(pillar_channels, channels, layers=layers, strides=strides)
        upsample = [reached / pillars_per_cell for reached in accumulate(strides, mul)]
        self.neck = SecondFpn(channels, neck_channels, upsample=upsample)
        self.out_channels = neck_channels * len(channels)

    def pillar_grid(self, grid: BevGrid) -> BevGrid:
        """The pillars' grid for a model's grid."""
        return grid.with_cell(grid.cell_m / self.pillars_per_cell)

    def canvas(self, tensors: Mapping[str, Tensor], *, batch_size: int, grid: BevGrid) -> Tensor:
        """Pillar features on the pillars' grid, (B, pillar_channels, rows, columns)."""
        fine = self.pillar_grid(grid)
        features = self.pillars(tensors["points"], tensors["count"], tensors["coords"], grid=fine)
        return scatter_pillars(features, tensors["coords"], batch_size=batch_size, shape=fine.shape)

    def forward(self, tensors: Mapping[str, Tensor], *, batch_size: int, grid: BevGrid) -> Tensor:
        """Features of a pillar view: ``points`` (P, K, 5), ``count`` (P,) and ``coords`` (P, 3)."""
        maps = self.backbone(self.canvas(tensors, batch_size=batch_size, grid=grid))
        return torch.as_tensor(self.neck(maps))

    def example(self, grid: BevGrid, generator: torch.Generator) -> dict[str, Tensor]:
        """2000 pillars at random places."""
        fine, slots = self.pillar_grid(grid), 20
        cell = torch.randperm(fine.rows * fine.columns, generator=generator)[:2000]
        coords = torch.stack([torch.zeros_like(cell), cell // fine.columns, cell % fine.columns], dim=1)
        count = torch.randint(1, slots + 1, (len(cell),), generator=generator)
        low = torch.tensor([fine.x_min_m, fine.y_min_m, fine.z_min_m, 0.0, 0.0])
        scale = torch.tensor([fine.cell_m, fine.cell_m, fine.z_max_m - fine.z_min_m, 255.0, 0.45])
        points = torch.rand(len(cell), slots, 5, generator=generator) * scale + low
        points[..., :2] += (coords[:, [2, 1]] * fine.cell_m)[:, None]
        held = torch.arange(slots) < count[:, None]  # (P, K)
        return {"points": points * held[..., None], "count": count, "coords": coords}


class RasterEncoder(LidarEncoder):
    """A light convolutional network on a BEV raster: plain layers that every runtime knows.

    Args:
        view: Name of the batch's raster view.
        in_channels: Channels of the raster, ``fusionkd.preprocess.raster_channels`` of its height slices.
        channels: Width.
        depth: 3x3 convolutions after the first.
        stride: Of the first: cells of the raster per cell of the model's grid, along each axis.
    """

    def __init__(
        self, view: str = "raster", *, in_channels: int = 12, channels: int = 32, depth: int = 1, stride: int = 1
    ) -> None:
        super().__init__()
        self.view = view
        self.in_channels = in_channels
        self.stride = stride
        parts = conv_bn_relu(in_channels, channels, stride=stride)
        for _ in range(depth):
            parts += conv_bn_relu(channels, channels)
        self.layers = nn.Sequential(*parts)
        self.out_channels = channels

    def forward(self, tensors: Mapping[str, Tensor], *, batch_size: int, grid: BevGrid) -> Tensor:
        """Features of a raster view: ``raster`` (B, in_channels, rows * stride, columns * stride)."""
        raster = tensors["raster"]
        wanted = (batch_size, self.in_channels, grid.rows * self.stride, grid.columns * self.stride)
        if raster.shape != wanted:
            raise UserError(
                f"The LiDAR view {self.view!r} has shape {tuple(raster.shape)}, the model reads {wanted}: the raster's "
                f"grid must cover the model's with cells of {grid.cell_m / self.stride:g} m, and its z_slices + 4 must "
                f"be the encoder's in_channels."
            )
        return torch.as_tensor(self.layers(raster.contiguous(memory_format=torch.channels_last)))

    def example(self, grid: BevGrid, generator: torch.Generator) -> dict[str, Tensor]:
        """A raster of noise."""
        rows, columns = grid.rows * self.stride, grid.columns * self.stride
        return {"raster": torch.rand(1, self.in_channels, rows, columns, generator=generator)}
