"""Small models and batches that take milliseconds."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from fusionkd.geometry import BevGrid
from fusionkd.models import FusionModel, build_model, example_batch

SIZE_PX = (32, 64)
CELLS = {"x_min_m": -25.6, "x_max_m": 25.6, "y_min_m": -25.6, "y_max_m": 25.6, "cell_m": 1.6}
GRID = BevGrid(**CELLS)


@dataclass(frozen=True)
class LabelledExample:
    """What models and losses read."""

    images: Tensor
    camera_present: Tensor
    image_from_ego: Tensor
    lidar: Mapping[str, Mapping[str, Tensor]]
    lidar_present: Tensor
    gt_boxes: Tensor
    gt_label: Tensor
    labelled: Tensor
    lidar_depth: Tensor


CAMERA = {
    "class_path": "fusionkd.models.CameraBranch",
    "init_args": {
        "encoder": {
            "class_path": "fusionkd.models.PlainEncoder",
            "init_args": {"widths": [8, 8, 8], "channels": 8},
        },
        "channels": 8,
        "depth": {"min_m": 1.0, "max_m": 30.0, "count": 8},
    },
}
PILLARS = {
    "class_path": "fusionkd.models.PillarEncoder",
    "init_args": {
        "pillars_per_cell": 2,
        "pillar_channels": 8,
        "channels": [8, 8],
        "layers": [1, 1],
        "strides": [2, 2],
        "neck_channels": 4,
    },
}
RASTER = {"class_path": "fusionkd.models.RasterEncoder", "init_args": {"in_channels": 6, "channels": 8}}


def spec_of(camera: Any = None, lidar: Any = None, **more: Any) -> dict[str, Any]:
    """The description of a small model."""
    both = camera is not None and lidar is not None
    fuser = {"class_path": "fusionkd.models.SingleModality", "init_args": {"in_channels": 8}}
    if both:
        fuser = {
            "class_path": "fusionkd.models.GatedFuser",
            "init_args": {"in_channels": [8, 8], "channels": 8},
        }
    backbone = {
        "class_path": "fusionkd.models.BevBackbone",
        "init_args": {"in_channels": 8, "channels": 8, "levels": 2},
    }
    head = {"class_path": "fusionkd.models.CenterHead", "init_args": {"in_channels": 8, "shared_channels": 16}}
    init_args = {"grid": CELLS, "camera": camera, "lidar": lidar, "fuser": fuser, "backbone": backbone, "head": head}
    return {"class_path": "fusionkd.models.FusionModel", "init_args": init_args | more}


PAINTED = {
    "class_path": CAMERA["class_path"],
    "init_args": CAMERA["init_args"] | {"measured_depth": {"class_path": "fusionkd.models.MeasuredDepth"}},
}
"""A camera branch whose features stand where the LiDAR measured."""
CONV_FUSER = {"class_path": "fusionkd.models.ConvFuser", "init_args": {"in_channels": [8, 8], "channels": 8}}
SPECS = {
    "camera": spec_of(CAMERA),
    "pillars": spec_of(None, PILLARS),
    "raster": spec_of(None, RASTER),
    "camera+pillars": spec_of(CAMERA, PILLARS),
    "camera+raster": spec_of(CAMERA, RASTER),
    "painted+raster": spec_of(PAINTED, RASTER, fuser=CONV_FUSER),
}


@pytest.fixture(params=list(SPECS))
def model(request: pytest.FixtureRequest) -> FusionModel:
    torch.manual_seed(0)
    return build_model(SPECS[request.param])


@pytest.fixture
def fused() -> FusionModel:
    torch.manual_seed(0)
    return build_model(SPECS["camera+raster"])


def labelled_batch(model: FusionModel, *, frames: int = 2, boxes: int = 6, seed: int = 0) -> LabelledExample:
    """Made-up frames with boxes all over the grid."""
    examples = [example_batch(model, size_px=SIZE_PX, seed=seed + b) for b in range(frames)]
    lidar: dict[str, dict[str, Tensor]] = {}
    for view in examples[0].lidar:
        parts = [dict(example.lidar[view]) for example in examples]
        for b, part in enumerate(parts):
            if "coords" in part:
                part["coords"] = part["coords"] + torch.tensor([b, 0, 0])
        lidar[view] = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    generator = torch.Generator().manual_seed(seed)
    low = torch.tensor([-24.0, -24.0, -2.0, 0.5, 0.4, 0.5, -3.1, -5.0, -5.0])
    high = torch.tensor([24.0, 24.0, 1.0, 8.0, 3.0, 4.0, 3.1, 5.0, 5.0])
    return LabelledExample(
        images=torch.cat([example.images for example in examples]),
        camera_present=torch.ones(frames, 6, dtype=torch.bool),
        image_from_ego=torch.cat([example.image_from_ego for example in examples]),
        lidar=lidar,
        lidar_present=torch.ones(frames, dtype=torch.bool),
        gt_boxes=low + (high - low) * torch.rand(frames, boxes, 9, generator=generator),
        gt_label=torch.randint(0, 10, (frames, boxes), generator=generator),
        labelled=torch.ones(frames, dtype=torch.bool),
        lidar_depth=40 * torch.rand(frames, 6, SIZE_PX[0] // 4, SIZE_PX[1] // 4, generator=generator),
    )
