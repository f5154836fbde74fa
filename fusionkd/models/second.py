"""SECOND's 2D backbone and neck (Yan et al., Sensors 2018), laid out as mmdetection3d has them."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from fusionkd.models.layers import conv_bn_relu

MMDET3D_NORM: dict[str, Any] = {"eps": 1e-3, "momentum": 0.01}
"""Batch normalisation of mmdetection3d's pillar encoder, backbone and neck; its heads have torch's defaults."""


class Second(nn.Module):
    """Blocks of 3x3 convolutions, one map each.

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
            parts = conv_bn_relu(in_channels, width, stride=stride, **MMDET3D_NORM)
            for _ in range(depth):
                parts += conv_bn_relu(width, width, **MMDET3D_NORM)
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
    """Every map brought to one resolution and concatenated.

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
            kind = nn.ConvTranspose2d if factor > 1 else nn.Conv2d
            resize = kind(width, channels, step, stride=step, bias=False)
            norm = nn.BatchNorm2d(channels, **MMDET3D_NORM)
            deblocks.append(nn.Sequential(resize, norm, nn.ReLU(inplace=True)))
        self.deblocks = nn.ModuleList(deblocks)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """(B, maps * channels, rows, columns)."""
        return torch.cat([block(x) for block, x in zip(self.deblocks, maps)], dim=1)
