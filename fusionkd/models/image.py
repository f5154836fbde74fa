"""Image encoders: a cut torchvision backbone or a plain light network, with a feature pyramid on top."""

import itertools
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn
from torchvision.models.feature_extraction import create_feature_extractor

from fusionkd.errors import UserError
from fusionkd.models.layers import ResidualBlock, conv_bn_relu


class PyramidEncoder(nn.Module):
    """Image features at one resolution: a body's maps joined by a light feature pyramid (Lin et al., CVPR 2017).

    Args:
        body: Gives maps by name, from fine to coarse.
        channels: Width of the result, at the resolution of the first map.

    Attributes:
        stride: Pixels per feature along each axis.
        out_channels: Width of the result.
    """

    def __init__(self, body: nn.Module, channels: int) -> None:
        super().__init__()
        self.body = body
        with torch.no_grad():
            maps = list(self._maps(body.eval(), torch.zeros(1, 3, 64, 64)).values())
        body.train()
        self.stride = 64 // maps[0].shape[-1]
        self.out_channels = channels
        self.lateral = nn.ModuleList(nn.Conv2d(x.shape[1], channels, 1) for x in maps)
        self.smooth = nn.Sequential(*conv_bn_relu(channels, channels))

    def forward(self, images: Tensor) -> Tensor:
        """Features (M, channels, H / stride, W / stride) of images (M, 3, H, W)."""
        maps = [layer(x) for layer, x in zip(self.lateral, self._maps(self.body, images).values())]
        top = maps[-1]
        for finer in maps[-2::-1]:
            top = finer + F.interpolate(top, size=finer.shape[-2:], mode="nearest")
        return torch.as_tensor(self.smooth(top))

    @staticmethod
    def _maps(body: nn.Module, images: Tensor) -> Mapping[str, Tensor]:
        maps: Mapping[str, Tensor] = body(images)
        return maps


class ImageEncoder(PyramidEncoder):
    """A torchvision classification network, cut after some of its layers.

    Args:
        backbone: Name of the network, such as ``resnet18``.
        layers: Names of the layers whose maps are used, from fine to coarse, such as ``layer2``.
        channels: Width of the result, at the resolution of the first layer.
        weights: A ``.pth`` file of the whole network's weights, or None to start from chance.

    Raises:
        UserError: If there is no such network, layer or file.
    """

    def __init__(
        self,
        backbone: str = "resnet18",
        layers: Sequence[str] = ("layer2", "layer3"),
        *,
        channels: int = 64,
        weights: str | None = None,
    ) -> None:
        try:
            network = torchvision.models.get_model(backbone, weights=None)
            if weights is not None:
                network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
            body = create_feature_extractor(network, {name: str(index) for index, name in enumerate(layers)})
        except (ValueError, OSError, RuntimeError) as error:
            raise UserError(
                f"ImageEncoder can't be built from backbone {backbone!r}, layers {list(layers)} and weights "
                f"{weights}: {error}"
            ) from None
        super().__init__(body, channels)


class PlainEncoder(PyramidEncoder):
    """A small network of plain convolutions, faster on a CPU than any with depthwise ones.

    Args:
        widths: Of the levels, at strides 4, 8, 16 and so on; the pyramid starts at stride 8.
        depth: Residual blocks per level after the first.
        channels: Width of the result, at stride 8.
    """

    def __init__(self, widths: Sequence[int] = (24, 40, 64), *, depth: int = 1, channels: int = 32) -> None:
        super().__init__(_PlainBody(widths, depth=depth), channels)


class _PlainBody(nn.Module):
    def __init__(self, widths: Sequence[int], *, depth: int) -> None:
        super().__init__()
        if len(widths) < 2:
            raise UserError(f"PlainEncoder.widths needs at least two levels, found {list(widths)}.")
        self.stem = nn.Sequential(*conv_bn_relu(3, widths[0], kernel=7, stride=4))
        self.levels = nn.ModuleList(
            nn.Sequential(*conv_bn_relu(narrow, width, stride=2), *(ResidualBlock(width) for _ in range(depth)))
            for narrow, width in itertools.pairwise(widths)
        )

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        x = self.stem(images)
        maps = {}
        for index, level in enumerate(self.levels):
            x = level(x)
            maps[str(index)] = x
        return maps
