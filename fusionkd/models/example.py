"""A made-up frame in the shapes that a model reads."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from fusionkd.models.fusion import FusionModel


@dataclass(frozen=True)
class ExampleBatch:
    """A ``SensorBatch`` of one made-up frame, to compare numbers, to count operations, to export."""

    images: Tensor
    camera_present: Tensor
    image_from_ego: Tensor
    lidar: Mapping[str, Mapping[str, Tensor]]
    lidar_present: Tensor
    lidar_depth: Tensor


def example_batch(model: FusionModel, *, size_px: tuple[int, int] = (96, 256), seed: int = 0) -> ExampleBatch:
    """One made-up frame; the same numbers on every machine.

    Args:
        model: Who will read it.
        size_px: (height, width) of the images.
        seed: Of the numbers.
    """
    generator = torch.Generator().manual_seed(seed)
    height, width = size_px
    lidar = {} if model.lidar is None else {model.lidar.view: model.lidar.example(model.grid, generator)}
    images = torch.randn(1, 6, 3, height, width, generator=generator)
    return ExampleBatch(
        images=images,
        camera_present=torch.ones(1, 6, dtype=torch.bool),
        image_from_ego=_ring(focal_px=0.8 * width, centre_px=(width / 2, height / 2))[None],
        lidar=lidar,
        lidar_present=torch.ones(1, dtype=torch.bool),
        # Drawn last: the numbers before stay those that shipped weights were checked with. A third is unknown.
        lidar_depth=60 * (1.5 * torch.rand(1, 6, height // 8, width // 8, generator=generator) - 0.5).clamp(min=0),
    )


def _ring(*, focal_px: float, centre_px: tuple[float, float]) -> Tensor:
    """(6, 4, 4) image_from_ego of six level cameras, 1.5 m high, that look all around."""
    yaw = torch.arange(6) * (torch.pi / 3)
    zero, one = torch.zeros(6), torch.ones(6)
    camera_from_ego = torch.stack(
        [
            torch.stack([yaw.sin(), -yaw.cos(), zero, zero], dim=-1),
            torch.stack([zero, zero, -one, 1.5 * one], dim=-1),
            torch.stack([yaw.cos(), yaw.sin(), zero, zero], dim=-1),
            torch.stack([zero, zero, zero, one], dim=-1),
        ],
        dim=1,
    )  # (6, 4, 4)
    image_from_camera = torch.eye(4)
    image_from_camera[0, 0] = image_from_camera[1, 1] = focal_px
    image_from_camera[:2, 2] = torch.tensor(centre_px)
    return image_from_camera @ camera_from_ego
