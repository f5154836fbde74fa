"""The building blocks that all BEV networks share."""

from typing import Any

import torch
from torch import Tensor, nn


def conv_bn_relu(
    in_channels: int, out_channels: int, *, kernel: int = 3, stride: int = 1, **norm: Any
) -> list[nn.Module]:
    """Convolution without bias, batch normalisation and ReLU, as a list for ``nn.Sequential``.

    Args:
        in_channels: Of the input.
        out_channels: Of the output.
        kernel: Side of the kernel; the padding keeps the resolution at stride 1.
        stride: Of the convolution.
        **norm: Passed on to ``nn.BatchNorm2d``.
    """
    return [
        nn.Conv2d(in_channels, out_channels, kernel, stride=stride, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(out_channels, **norm),
        nn.ReLU(inplace=True),
    ]


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions around which the input also passes (He et al., CVPR 2016)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *conv_bn_relu(channels, channels),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, rows, columns); shape stays."""
        return torch.relu(x + self.layers(x))
