"""Camera branch: image encoder and view transform."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fusionkd.errors import UserError
from fusionkd.geometry import BevGrid
from fusionkd.models.image import PyramidEncoder
from fusionkd.models.view_transform import (
    DepthBins,
    LiftSplat,
    MeasuredDepth,
    frustum_cells,
    measured_cells,
    nearest_depth,
)


class CameraBranch(nn.Module):
    """Images of N cameras to BEV features.

    Args:
        encoder: Image features.
        channels: Of the BEV features.
        depth: Depth bins of the view transform.
        image_scale: Factor from the batch's images to those that this branch works on.
        measured_depth: Lets the LiDAR say where image features stand; None lifts by the images alone.
    """

    def __init__(
        self,
        encoder: PyramidEncoder,
        *,
        channels: int = 64,
        depth: DepthBins | None = None,
        image_scale: float = 1.0,
        measured_depth: MeasuredDepth | None = None,
    ) -> None:
        super().__init__()
        if not 0 < image_scale <= 1:
            raise UserError(f"CameraBranch.image_scale must be above 0 and at most 1, found {image_scale}.")
        self.encoder = encoder
        self.lift = LiftSplat(encoder.out_channels, channels, depth=depth or DepthBins(), measured=measured_depth)
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

    def measured(self, image_from_ego: Tensor, depth_m: Tensor, *, grid: BevGrid, size_px: tuple[int, int]) -> Tensor:
        """``measured_cells`` of a frame's LiDAR depth maps (B, N, k h, k w).

        Raises:
            UserError: If the depth maps don't fit the features.
        """
        nearest_m = nearest_depth(depth_m, size=self.feature_size(size_px))
        return measured_cells(image_from_ego, nearest_m, grid=grid, size_px=size_px)

    def forward(
        self, images: Tensor, cells: Tensor, measured: Tensor | None = None, *, present: Tensor, grid: BevGrid
    ) -> tuple[Tensor, Tensor]:
        """See the world from above.

        Args:
            images: (B, N, 3, H, W) normalised.
            cells: Of ``cells``.
            measured: Of ``measured``.
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
        bev, logits = self.lift(features, cells, measured, present=present, grid=grid)
        return bev, logits
