"""The one building block that all BEV networks share."""

from torch import nn


def conv_bn_relu(
    in_channels: int, out_channels: int, *, kernel: int = 3, stride: int = 1, eps: float = 1e-5
) -> list[nn.Module]:
    """Convolution without bias, batch normalisation and ReLU, as a list for ``nn.Sequential``."""
    return [
        nn.Conv2d(in_channels, out_channels, kernel, stride=stride, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(out_channels, eps=eps, momentum=0.01 if eps > 1e-4 else 0.1),
        nn.ReLU(inplace=True),
    ]
