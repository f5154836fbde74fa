"""Camera branch: a torchvision backbone, a light feature pyramid and the view transform."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn
from torchvision.models.feature_extraction import create_feature_extractor

from fusionkd.errors import UserError
from fusionkd.geometry import BevGrid
from fusionkd.models.layers import conv_bn_relu
from fusionkd.models.view_transform import DepthBins, LiftSplat, frustum_cells


class ImageEncoder(nn.Module):
    """A torchvision backbone cut after some layers, and a light feature pyramid on top (Lin et al., CVPR 2017).

    Args:
        backbone: Name of a torchvision classification model, such as ``resnet18``.
        layers: Names of the layers whose maps are used, from fine to coarse, such as ``layer2``.
        channels: Width of the result, at the resolution of the first layer.
        weights: A ``.pth`` file of the backbone's weights, or None to start from chance.

    Raises:
        UserError: If there is no such backbone, layer or file.
    """

    def __init__(
        self,
        backbone: str = "resnet18",
        layers: Sequence[str] = ("layer2", "layer3"),
        *,
        channels: int = 64,
        weights: str | None = None,
    ) -> None:
        super().__init__()
        self.body = _cut_backbone(backbone, layers, weights=weights)
        with torch.no_grad():
            maps = list(self.body.eval()(torch.zeros(1, 3, 64, 64)).values())
        self.body.train()
        self.stride = 64 // maps[0].shape[-1]
        self.out_channels = channels
        self.lateral = nn.ModuleList(nn.Conv2d(x.shape[1], channels, 1) for x in maps)
        self.smooth = nn.Sequential(*conv_bn_relu(channels, channels))

    def forward(self, images: Tensor) -> Tensor:
        """Features (M, channels, H / stride, W / stride) of images (M, 3, H, W)."""
        maps = [layer(x) for layer, x in zip(self.lateral, self.body(images).values())]
        top = maps[-1]
        for finer in maps[-2::-1]:
            top = finer + F.interpolate(top, size=finer.shape[-2:], mode="nearest")
        return torch.as_tensor(self.smooth(top))


def _cut_backbone(backbone: str, layers: Sequence[str], *, weights: str | None) -> nn.Module:
    try:
        network = torchvision.models.get_model(backbone, weights=None)
        if weights is not None:
            network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
        cut: nn.Module = create_feature_extractor(network, {name: str(index) for index, name in enumerate(layers)})
    except (ValueError, OSError, RuntimeError) as error:
        raise UserError(
            f"ImageEncoder can't be built from backbone {backbone!r}, layers {list(layers)} and weights {weights}: "
            f"{error}"
        ) from None
    return cut


class CameraBranch(nn.Module):
    """Images of N cameras to BEV features.

    Args:
        encoder: Image features.
        channels: Of the BEV features.
        depth: Depth bins of the view transform.
        image_scale: Factor from the batch's images to those that this branch works on.
    """

    def __init__(
        self,
        encoder: ImageEncoder,
        *,
        channels: int = 64,
        depth: DepthBins | None = None,
        image_scale: float = 1.0,
    ) -> None:
        super().__init__()
        if not 0 < image_scale <= 1:
            raise UserError(f"CameraBranch.image_scale must be above 0 and at most 1, found {image_scale}.")
        self.encoder = encoder
        self.lift = LiftSplat(encoder.out_channels, channels, depth=depth or DepthBins())
        self.image_scale = image_scale
        self.out_channels = channels

    def feature_size(self, size_px: tuple[int, int]) -> tuple[int, int]:
        """(h, w) of the feature maps for the batch's images.

        Raises:
            UserError: If the images aren't whole multiples of the stride.
        """
        height, width = (side * self.image_scale / self.encoder.stride for side in size_px)
        if not (height.is_integer() and width.is_integer()):
            raise UserError(
                f"Images of {size_px[0]} x {size_px[1]} pixels times image_scale {self.image_scale:g} aren't whole "
                f"multiples of the image encoder's stride {self.encoder.stride}. Change data.image_size_px."
            )
        return int(height), int(width)

    def cells(self, image_from_ego: Tensor, *, grid: BevGrid, size_px: tuple[int, int]) -> Tensor:
        """``frustum_cells`` of a rig: (B, N, bins, h, w); for a fixed rig they are computed once."""
        centres_m = self.lift.centres_m
        assert isinstance(centres_m, Tensor)
        size = self.feature_size(size_px)
        return frustum_cells(image_from_ego, centres_m, grid=grid, size_px=size_px, size=size)

    def forward(self, images: Tensor, cells: Tensor, *, present: Tensor, grid: BevGrid) -> tuple[Tensor, Tensor]:
        """See the world from above.

        Args:
            images: (B, N, 3, H, W) normalised.
            cells: Of ``cells``.
            present: (B, N) bool; absent cameras leave nothing on the grid.
            grid: The grid to splat on.

        Returns:
            BEV features (B, channels, rows, columns) and depth logits (B, N, bins, h, w).
        """
        flat = images.flatten(0, 1).contiguous(memory_format=torch.channels_last)  # (B * N, 3, H, W)
        if self.image_scale != 1.0:
            size = tuple(round(side * self.image_scale) for side in images.shape[-2:])
            flat = F.interpolate(flat, size=size, mode="bilinear", antialias=True)
        features = self.encoder(flat).unflatten(0, images.shape[:2])  # (B, N, C, h, w)
        bev, logits = self.lift(features, cells, present=present, grid=grid)
        return bev, logits
