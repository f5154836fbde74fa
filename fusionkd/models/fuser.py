"""Joining the modalities' BEV features, whichever of them are there."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fusionkd.errors import UserError
from fusionkd.models.layers import conv_bn_relu


class GatedFuser(nn.Module):
    """A weighted sum of the modalities with weights per cell, which the features themselves decide.

    Each modality's features are mapped to a common width; a 3x3 convolution on both gives one logit per
    modality and cell; a softmax over those that are present weighs them. A lost modality has weight zero and
    the other one weight one, so that what the lost one's branch answers to its empty input doesn't matter.

    Args:
        in_channels: Of the two modalities, camera first.
        channels: Of the result.
        kernel: Side of the kernels that map each modality to the common width.
    """

    def __init__(self, in_channels: Sequence[int], channels: int, *, kernel: int = 1) -> None:
        super().__init__()
        self.maps = nn.ModuleList(nn.Sequential(*conv_bn_relu(width, channels, kernel=kernel)) for width in in_channels)
        # One convolution per modality and a sum are one convolution on all of them, without the copy.
        self.gates = nn.ModuleList(nn.Conv2d(channels, len(in_channels), 3, padding=1) for _ in in_channels)
        self.out_channels = channels

    def forward(self, features: Sequence[Tensor], present: Tensor) -> Tensor:
        """The joined features.

        Args:
            features: Per modality (B, C_m, rows, columns).
            present: (B, modalities) bool.

        Returns:
            (B, channels, rows, columns); zero where no modality is present.
        """
        there = present[:, :, None, None]  # (B, M, 1, 1)
        mapped = [layer(x) for layer, x in zip(self.maps, features)]
        votes = [gate(x).float() for gate, x in zip(self.gates, mapped)]
        logits = torch.stack(votes).sum(dim=0)  # (B, M, rows, columns)
        # A finite penalty: a softmax over nothing but minus infinities would be NaN.
        weight = (logits.masked_fill(~there, -1e4).softmax(dim=1) * there).to(mapped[0].dtype)
        fused: Tensor = mapped[0] * weight[:, :1]
        for m, x in enumerate(mapped[1:], start=1):
            fused = torch.addcmul(fused, x, weight[:, m : m + 1])
        return fused


class ConvFuser(nn.Module):
    """One convolution on the features of both modalities side by side (Liu et al., BEVFusion, ICRA 2023).

    Unlike gates, which take from one modality what they give to the other, it can add what the cameras know to what
    the LiDAR knows. A lost modality is zeros; how to do without it is learned, see ``ModalityDropout``.

    Args:
        in_channels: Of the two modalities, camera first.
        channels: Of the result.
        kernel: Side of the kernels.
    """

    def __init__(self, in_channels: Sequence[int], channels: int, *, kernel: int = 3) -> None:
        super().__init__()
        self.layers = nn.Sequential(*conv_bn_relu(sum(in_channels), channels, kernel=kernel))
        self.out_channels = channels

    def forward(self, features: Sequence[Tensor], present: Tensor) -> Tensor:
        """The joined features.

        Args:
            features: Per modality (B, C_m, rows, columns).
            present: (B, modalities) bool.

        Returns:
            (B, channels, rows, columns).
        """
        there = [x * present[:, m, None, None, None] for m, x in enumerate(features)]
        return torch.as_tensor(self.layers(torch.cat(there, dim=1)))  # (B, sum of C_m, rows, columns) inside


class SingleModality(nn.Module):
    """The fuser of a model with one modality: its features, zero where it was lost.

    Args:
        in_channels: Of the modality, which are also those of the result.
    """

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.out_channels = in_channels

    def forward(self, features: Sequence[Tensor], present: Tensor) -> Tensor:
        """(B, in_channels, rows, columns)."""
        return features[0] * present[:, :1, None, None]


class ModalityDropout(nn.Module):
    """Loses a whole modality now and then in training, so that the model learns to do without.

    Args:
        camera: Probability that a frame loses its cameras.
        lidar: Probability that a frame loses its LiDAR; never both at once.
    """

    def __init__(self, camera: float = 0.0, lidar: float = 0.0) -> None:
        super().__init__()
        if camera < 0 or lidar < 0 or camera + lidar > 1:
            raise UserError(
                f"ModalityDropout's probabilities must be 0 or more and at most 1 together, found {camera} and {lidar}."
            )
        self.camera = camera
        self.lidar = lidar

    def forward(self, present: Tensor) -> Tensor:
        """``present`` (B, 2) of camera and LiDAR, with some set to False in training."""
        if not self.training or self.camera + self.lidar == 0:
            return present
        chance = torch.rand(len(present), device=present.device)
        # What is alone is kept: a frame without any sensor teaches nothing.
        lost_camera = (chance < self.camera) & present[:, 1]
        lost_lidar = (chance >= 1 - self.lidar) & present[:, 0]
        return present & ~torch.stack([lost_camera, lost_lidar], dim=1)
