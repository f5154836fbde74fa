"""LiDAR branches: pillars through PointPillars and SECOND, or a raster through a light 2D network."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from fusionkd.errors import UserError
from fusionkd.geometry import BevGrid
from fusionkd.models.layers import conv_bn_relu

_EPS = 1e-3


class PillarFeatureNet(nn.Module):
    """One feature vector per pillar (Lang et al., PointPillars, CVPR 2019, section 2.1).

    The layout is mmdetection3d's: each point is (x, y, z, intensity, age), its offset to the mean of
    the pillar's points (3) and to the pillar's centre (3); empty slots are zeros that take part in
    the maximum, since the public weights were trained so.

    Args:
        grid: The pillars' footprints.
        channels: Features per pillar.
    """

    def __init__(self, grid: BevGrid, channels: int = 64) -> None:
        super().__init__()
        self.grid = grid
        linear = nn.Linear(11, channels, bias=False)
        norm = nn.BatchNorm1d(channels, eps=_EPS, momentum=0.01)
        self.pfn_layers = nn.ModuleList([nn.ModuleDict({"linear": linear, "norm": norm})])

    def decorate(self, points: Tensor, count: Tensor, coords: Tensor) -> Tensor:
        """The 11 inputs of every slot.

        Args:
            points: (P, K, 5).
            count: (P,) points held.
            coords: (P, 3) batch, row, column.

        Returns:
            (P, K, 11), zero in empty slots.
        """
        grid = self.grid
        xyz = points[..., :3]
        mean = xyz.sum(dim=1, keepdim=True) / count.to(points.dtype)[:, None, None]
        half = 0.5 * grid.cell_m
        centre = torch.stack(
            [
                coords[:, 2].to(points.dtype) * grid.cell_m + (grid.x_min_m + half),
                coords[:, 1].to(points.dtype) * grid.cell_m + (grid.y_min_m + half),
                torch.full_like(coords[:, 0], 1, dtype=points.dtype) * (0.5 * (grid.z_min_m + grid.z_max_m)),
            ],
            dim=-1,
        )
        features = torch.cat([points, xyz - mean, xyz - centre[:, None]], dim=-1)  # (P, K, 11)
        held = torch.arange(points.shape[1], device=points.device) < count[:, None]  # (P, K)
        return features * held[..., None].to(points.dtype)

    def forward(self, points: Tensor, count: Tensor, coords: Tensor) -> Tensor:
        """Features, (P, channels)."""
        x = self.decorate(points, count, coords)
        for layer in self.pfn_layers:
            assert isinstance(layer, nn.ModuleDict)
            x = layer["linear"](x)  # (P, K, C)
            x = torch.relu(layer["norm"](x.flatten(0, 1)).reshape(x.shape))  # (P, K, C)
        return x.amax(dim=1)


def scatter_pillars(features: Tensor, coords: Tensor, *, batch_size: int, shape: tuple[int, int]) -> Tensor:
    """Pillars put on a canvas of zeros.

    Args:
        features: (P, C).
        coords: (P, 3) batch, row, column; each cell at most once.
        batch_size: B.
        shape: (rows, columns).

    Returns:
        (B, C, rows, columns).
    """
    rows, columns = shape
    canvas = features.new_zeros(batch_size * rows * columns, features.shape[1])
    index = (coords[:, 0] * rows + coords[:, 1]) * columns + coords[:, 2]
    canvas = canvas.index_copy(0, index, features)
    return canvas.reshape(batch_size, rows, columns, -1).permute(0, 3, 1, 2).contiguous()  # (B, C, rows, columns)


class Second(nn.Module):
    """SECOND's 2D backbone (Yan et al., Sensors 2018): blocks of 3x3 convolutions, one map each.

    Args:
        in_channels: Channels of the canvas.
        channels: Per block.
        layers: Convolutions per block after its first.
        strides: Of each block's first convolution.
    """

    def __init__(
        self, in_channels: int, channels: Sequence[int], *, layers: Sequence[int], strides: Sequence[int]
    ) -> None:
        super().__init__()
        blocks = []
        for width, depth, stride in zip(channels, layers, strides):
            parts: list[nn.Module] = [*conv_bn_relu(in_channels, width, stride=stride, eps=_EPS)]
            for _ in range(depth):
                parts += conv_bn_relu(width, width, eps=_EPS)
            blocks.append(nn.Sequential(*parts))
            in_channels = width
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x: Tensor) -> list[Tensor]:
        """The map after each block."""
        maps = []
        for block in self.blocks:
            x = block(x)
            maps.append(x)
        return maps


class SecondFpn(nn.Module):
    """SECOND's neck: every map brought to one resolution and concatenated.

    Args:
        in_channels: Of each map.
        channels: Of each map afterwards.
        upsample: Factor per map; below 1 is a strided convolution.
    """

    def __init__(self, in_channels: Sequence[int], channels: int, *, upsample: Sequence[float]) -> None:
        super().__init__()
        deblocks = []
        for width, factor in zip(in_channels, upsample):
            step = round(factor) if factor >= 1 else round(1 / factor)
            resize: nn.Module
            if factor > 1:
                resize = nn.ConvTranspose2d(width, channels, step, stride=step, bias=False)
            else:
                resize = nn.Conv2d(width, channels, step, stride=step, bias=False)
            norm = nn.BatchNorm2d(channels, eps=_EPS, momentum=0.01)
            deblocks.append(nn.Sequential(resize, norm, nn.ReLU(inplace=True)))
        self.deblocks = nn.ModuleList(deblocks)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """(B, maps * channels, rows, columns)."""
        return torch.cat([block(x) for block, x in zip(self.deblocks, maps)], dim=1)


class PillarEncoder(nn.Module):
    """PointPillars, SECOND and its neck: LiDAR points to BEV features.

    The defaults are mmdetection3d's CenterPoint-pillar at 0.2 m (Yin et al., CVPR 2021).

    Args:
        view: Name of the batch's pillar view.
        grid: The pillars' footprints; the same as the view's.
        pillar_channels: Features per pillar.
        channels: Per block of the backbone.
        layers: Convolutions per block after its first.
        strides: Of each block.
        neck_channels: Per map of the neck.
        out_stride: Cells of the pillars' grid per cell of the result, along each axis.
    """

    def __init__(
        self,
        view: str,
        grid: BevGrid,
        *,
        pillar_channels: int = 64,
        channels: Sequence[int] = (64, 128, 256),
        layers: Sequence[int] = (3, 5, 5),
        strides: Sequence[int] = (2, 2, 2),
        neck_channels: int = 128,
        out_stride: int = 4,
    ) -> None:
        super().__init__()
        if not len(channels) == len(layers) == len(strides):
            raise UserError(
                f"PillarEncoder needs one number per block in channels, layers and strides, found {len(channels)}, "
                f"{len(layers)} and {len(strides)}."
            )
        self.view = view
        self.grid = grid
        self.pillars = PillarFeatureNet(grid, pillar_channels)
        self.backbone = Second(pillar_channels, channels, layers=layers, strides=strides)
        reached = [1]
        for stride in strides:
            reached.append(reached[-1] * stride)
        self.neck = SecondFpn(channels, neck_channels, upsample=[total / out_stride for total in reached[1:]])
        self.out_channels = neck_channels * len(channels)

    def forward(self, tensors: Mapping[str, Tensor], batch_size: int) -> Tensor:
        """BEV features, (B, out_channels, rows, columns)."""
        features = self.pillars(tensors["points"], tensors["count"], tensors["coords"])
        canvas = scatter_pillars(features, tensors["coords"], batch_size=batch_size, shape=self.grid.shape)
        return torch.as_tensor(self.neck(self.backbone(canvas)))

    def example(self, grid: BevGrid, generator: torch.Generator) -> dict[str, Tensor]:
        """Tensors of one made-up frame."""
        del grid  # the pillars have their own
        pillars, slots = 2000, 20
        cell = torch.randperm(self.grid.rows * self.grid.columns, generator=generator)[:pillars]
        coords = torch.stack([torch.zeros_like(cell), cell // self.grid.columns, cell % self.grid.columns], dim=1)
        count = torch.randint(1, slots + 1, (pillars,), generator=generator)
        points = torch.rand(pillars, slots, 5, generator=generator)
        held = torch.arange(slots) < count[:, None]  # (P, K)
        return {"points": points * held[..., None], "count": count, "coords": coords}


class RasterEncoder(nn.Module):
    """A light convolutional network on a BEV raster: plain layers that every runtime knows.

    Args:
        view: Name of the batch's raster view.
        in_channels: Channels of the raster (its height slices and four more).
        channels: Width.
        depth: 3x3 convolutions after the first.
        stride: Of the first: cells of the raster per cell of the result.
    """

    def __init__(self, view: str, in_channels: int, *, channels: int = 32, depth: int = 2, stride: int = 1) -> None:
        super().__init__()
        self.view = view
        parts = [*conv_bn_relu(in_channels, channels, stride=stride)]
        for _ in range(depth):
            parts += conv_bn_relu(channels, channels)
        self.layers = nn.Sequential(*parts)
        self.out_channels = channels

    def forward(self, tensors: Mapping[str, Tensor], batch_size: int) -> Tensor:
        """BEV features, (B, channels, rows, columns)."""
        return torch.as_tensor(self.layers(tensors["raster"]))

    def example(self, grid: BevGrid, generator: torch.Generator) -> dict[str, Tensor]:
        """Tensors of one made-up frame."""
        first = self.layers[0]
        assert isinstance(first, nn.Conv2d)
        stride = first.stride[0]
        return {
            "raster": torch.rand(1, first.in_channels, stride * grid.rows, stride * grid.columns, generator=generator)
        }
