"""The network between fuser and head."""

import torch.nn.functional as F
from torch import Tensor, nn

from fusionkd.models.layers import ResidualBlock, conv_bn_relu


class BevBackbone(nn.Module):
    """A small U-shaped residual network: context from coarse maps, detail from the input.

    Each level halves the resolution of the one before; on the way back each coarser map is brought to the finer
    one's width and added to it. With ``stride`` 2 the first level already works at half of the grid's resolution,
    where a convolution costs a quarter.

    Args:
        in_channels: Of the fused BEV features.
        channels: Width of the first level.
        levels: Number of levels.
        depth: Residual blocks per level.
        stride: Of the first level, 1 or 2.
        growth: Factor from a level's width to the next one's.
        out_channels: Of the result; None for ``channels``.
    """

    def __init__(
        self,
        in_channels: int,
        *,
        channels: int = 32,
        levels: int = 3,
        depth: int = 1,
        stride: int = 1,
        growth: float = 1.5,
        out_channels: int | None = None,
    ) -> None:
        super().__init__()
        widths = [8 * round(channels * growth**level / 8) for level in range(levels)]
        before = [in_channels, *widths[:-1]]
        strides = [stride] + [2] * (levels - 1)
        self.down = nn.ModuleList(
            nn.Sequential(*conv_bn_relu(narrow, width, stride=step), *(ResidualBlock(width) for _ in range(depth)))
            for narrow, width, step in zip(before, widths, strides)
        )
        self.out_channels = channels if out_channels is None else out_channels
        self.lateral = nn.Sequential(*conv_bn_relu(in_channels, self.out_channels, kernel=1))
        self.up = nn.ModuleList(
            nn.Sequential(*conv_bn_relu(width, fine, kernel=1))
            for width, fine in zip(widths, [self.out_channels, *widths])
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, out_channels, rows, columns); the resolution stays."""
        maps = [self.lateral(x)]
        for layer in self.down:
            x = layer(x)
            maps.append(x)
        for layer, finer in zip(reversed(self.up), maps[-2::-1]):
            x = finer + F.interpolate(layer(x), size=finer.shape[-2:], mode="nearest")
        return x
