"""The network between fuser and head."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fusionkd.models.layers import conv_bn_relu


class BevBackbone(nn.Module):
    """A small U-shaped network: context from coarser maps, detail from the finest.

    Args:
        in_channels: Of the fused BEV features.
        channels: Width at full resolution; each coarser level is half as wide again.
        levels: Halvings of the resolution.
        depth: 3x3 convolutions per level after the first.
    """

    def __init__(self, in_channels: int, *, channels: int = 32, levels: int = 2, depth: int = 1) -> None:
        super().__init__()
        widths = [round(channels * 1.5**level) for level in range(levels + 1)]
        self.down = nn.ModuleList()
        self.up = nn.ModuleList()
        for level, width in enumerate(widths):
            parts = [*conv_bn_relu(in_channels, width, stride=1 if level == 0 else 2)]
            for _ in range(depth):
                parts += conv_bn_relu(width, width)
            self.down.append(nn.Sequential(*parts))
            in_channels = width
        for coarse, fine in zip(widths[:0:-1], widths[-2::-1]):
            self.up.append(nn.Sequential(*conv_bn_relu(coarse + fine, fine)))
        self.out_channels = channels

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, rows, columns); the resolution stays."""
        maps = []
        for layer in self.down:
            x = layer(x)
            maps.append(x)
        for layer, skip in zip(self.up, maps[-2::-1]):
            x = F.interpolate(x, size=skip.shape[-2:], mode="nearest")
            x = layer(torch.cat([x, skip], dim=1))
        return x
