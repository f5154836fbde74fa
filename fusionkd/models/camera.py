"""Camera branch: image features lifted by predicted depth and splatted onto the BEV grid.

Philion & Fidler, "Lift, Splat, Shoot", ECCV 2020; the depth net is supervised by LiDAR as in BEVDepth
(Li et al., AAAI 2023).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn
from torchvision.models.feature_extraction import create_feature_extractor

from fusionkd.errors import UserError
from fusionkd.geometry import BevGrid
from fusionkd.models.layers import conv_bn_relu


@dataclass(frozen=True)
class DepthBins:
    """Depth along the optical axis cut into bins of equal width.

    Attributes:
        min_m: Nearest depth.
        max_m: Farthest depth.
        count: Number of bins.
    """

    min_m: float = 1.0
    max_m: float = 61.0
    count: int = 40

    def __post_init__(self) -> None:
        if not (0 < self.min_m < self.max_m and self.count > 1):
            raise UserError(f"DepthBins needs 0 < min_m < max_m and at least 2 bins, found {self}.")

    @property
    def edges_m(self) -> tuple[float, ...]:
        """The ``count + 1`` borders."""
        step = (self.max_m - self.min_m) / self.count
        return tuple(self.min_m + step * index for index in range(self.count + 1))

    @property
    def centres_m(self) -> tuple[float, ...]:
        """The ``count`` depths at which features are placed."""
        edges = self.edges_m
        return tuple(0.5 * (low + high) for low, high in pairwise(edges))


class ImageEncoder(nn.Module):
    """A torchvision backbone cut after some layers, and a light feature pyramid on top.

    Args:
        backbone: Name of a torchvision classification model, such as ``resnet18``.
        layers: Names of the layers whose maps are used, from fine to coarse, such as ``layer2``.
        channels: Width of the result, at the resolution of the first layer.
        weights: A ``.pth`` file of the backbone's weights, or None to start from chance.

    Raises:
        UserError: If there is no such backbone, layer or file.
    """

    def __init__(
        self, backbone: str = "resnet18", layers: Sequence[str] = ("layer2", "layer3"), *, channels: int = 64,
        weights: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        try:
            network = torchvision.models.get_model(backbone, weights=None)
            if weights is not None:
                network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
            self.body = create_feature_extractor(network, {name: str(index) for index, name in enumerate(layers)})
        except (ValueError, FileNotFoundError, RuntimeError) as error:
            raise UserError(
                f"ImageEncoder can't be built from backbone {backbone!r}, layers {list(layers)}, "
                f"weights {weights}: {error}"
            ) from None
        with torch.no_grad():
            maps = list(self.body.eval()(torch.zeros(1, 3, 64, 64)).values())
        self.stride = 64 // maps[0].shape[-1]
        self.lateral = nn.ModuleList(nn.Conv2d(x.shape[1], channels, 1) for x in maps)
        self.smooth = nn.Sequential(*conv_bn_relu(channels, channels))
        self.train()

    def forward(self, images: Tensor) -> Tensor:
        """Features (M, channels, H / stride, W / stride) of images (M, 3, H, W)."""
        maps = [layer(x) for layer, x in zip(self.lateral, self.body(images).values())]
        top = maps[-1]
        for finer in maps[-2::-1]:
            top = finer + F.interpolate(top, size=finer.shape[-2:], mode="nearest")
        return torch.as_tensor(self.smooth(top))


class CameraBranch(nn.Module):
    """Six images to BEV features.

    Args:
        grid: The grid to splat on.
        encoder: Image features.
        channels: Of the BEV features.
        depth: Depth bins.
        image_scale: Factor from the batch's images to those that this branch works on.
    """

    def __init__(
        self,
        grid: BevGrid,
        encoder: ImageEncoder,
        *,
        channels: int = 64,
        depth: DepthBins | None = None,
        image_scale: float = 1.0,
    ) -> None:
        super().__init__()
        self.grid = grid
        self.encoder = encoder
        self.depth = depth or DepthBins()
        self.image_scale = image_scale
        features = encoder.smooth[0].out_channels
        assert isinstance(features, int)
        self.depth_net = nn.Sequential(
            *conv_bn_relu(features, features), nn.Conv2d(features, self.depth.count + channels, 1)
        )
        self.out_channels = channels

    def cell_index(self, image_from_ego: Tensor, size_px: tuple[int, int]) -> Tensor:
        """The BEV cell of every frustum point; a fixed rig needs it once.

        Args:
            image_from_ego: (B, N, 4, 4).
            size_px: (height, width) of the batch's images.

        Returns:
            (B, N, bins, h, w) int64: row * columns + column, or rows * columns where a point lies off the grid.
        """
        height, width = (round(side * self.image_scale) // self.encoder.stride for side in size_px)
        step = self.encoder.stride / self.image_scale
        # Doubles: an inverse in half or single precision moves far points by cells.
        u = (torch.arange(width, device=image_from_ego.device, dtype=torch.float64) + 0.5) * step
        v = (torch.arange(height, device=image_from_ego.device, dtype=torch.float64) + 0.5) * step
        d = torch.tensor(self.depth.centres_m, device=image_from_ego.device, dtype=torch.float64)
        depth, row, column = torch.meshgrid(d, v, u, indexing="ij")  # (bins, h, w)
        image = torch.stack([column * depth, row * depth, depth, torch.ones_like(depth)], dim=-1)  # (bins, h, w, 4)
        ego_from_image = torch.linalg.inv(image_from_ego.to(torch.float64))
        ego = torch.einsum("bnij,dhwj->bndhwi", ego_from_image, image)  # (B, N, bins, h, w, 4)
        grid = self.grid
        columns = torch.floor((ego[..., 0] - grid.x_min_m) / grid.cell_m)
        rows = torch.floor((ego[..., 1] - grid.y_min_m) / grid.cell_m)
        inside = (columns >= 0) & (columns < grid.columns) & (rows >= 0) & (rows < grid.rows)
        inside &= (ego[..., 2] >= grid.z_min_m) & (ego[..., 2] < grid.z_max_m)
        outside = float(grid.rows * grid.columns)
        return torch.where(inside, rows * grid.columns + columns, outside).long()

    def forward(self, images: Tensor, cell_index: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        """Lift and splat.

        Args:
            images: (B, N, 3, H, W) normalised.
            cell_index: Of ``cell_index``.
            present: (B, N) bool; absent cameras leave nothing on the grid.

        Returns:
            BEV features (B, channels, rows, columns) and depth logits (B, N, bins, h, w).
        """
        batch, cameras = images.shape[:2]
        flat = images.flatten(0, 1)  # (B * N, 3, H, W)
        if self.image_scale != 1.0:
            flat = F.interpolate(flat, scale_factor=self.image_scale, mode="area")
        answer = self.depth_net(self.encoder(flat)).unflatten(0, (batch, cameras))  # (B, N, bins + C, h, w)
        logits, context = answer.split([self.depth.count, self.out_channels], dim=2)
        probability = logits.float().softmax(dim=2) * present[:, :, None, None, None]
        lifted = torch.einsum("bndhw,bnchw->bndhwc", probability, context.float())  # (B, N, bins, h, w, C)
        cells = self.grid.rows * self.grid.columns + 1
        offset = torch.arange(batch, device=images.device)[:, None, None, None, None] * cells
        bev = lifted.new_zeros(batch * cells, self.out_channels)
        bev = bev.index_add(0, (cell_index + offset).flatten(), lifted.flatten(0, -2))
        bev = bev.reshape(batch, cells, -1)[:, :-1].transpose(1, 2)  # (B, C, cells)
        return bev.reshape(batch, -1, *self.grid.shape).contiguous(), logits  # (B, C, rows, columns)
