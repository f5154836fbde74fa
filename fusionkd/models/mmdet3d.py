"""Public CenterPoint-pillar weights of mmdetection3d, loaded strictly by their own key names."""

import math
from collections.abc import Mapping

from torch import Tensor, nn

from fusionkd.errors import UserError
from fusionkd.geometry import BevGrid
from fusionkd.geometry.nms import CircleNms
from fusionkd.models.decode import Decoder
from fusionkd.models.fuser import SingleModality
from fusionkd.models.fusion import FusionModel
from fusionkd.models.head import NUSCENES_TASKS, CenterHead
from fusionkd.models.lidar import PillarEncoder

_PREFIXES = {
    "pts_voxel_encoder.pfn_layers.0.": "lidar.pillars.",
    "pts_backbone.": "lidar.backbone.",
    "pts_neck.": "lidar.neck.",
    "pts_bbox_head.": "head.",
}

_MIN_RADIUS_M2 = (4, 12, 10, 1, 0.85, 0.175)
"""The peer's ``min_radius`` per task; it compares them with squared distances."""


def centerpoint_pillar() -> FusionModel:
    """CenterPoint-PointPillars at 0.2 m as mmdetection3d builds it.

    Its grid lies in the LiDAR's frame (nuScenes: x right, y forward), its pillar view is made there too, with
    cells of 0.2 m, 20 points per pillar and 40000 pillars.
    """
    lidar = PillarEncoder("pillars")
    head = CenterHead(lidar.out_channels, tasks=NUSCENES_TASKS, branch_channels=64, heading_axis=False)
    return FusionModel(
        BevGrid(),
        lidar=lidar,
        fuser=SingleModality(lidar.out_channels),
        backbone=nn.Identity(),
        head=head,
        frame="lidar",
    )


def centerpoint_pillar_decoder() -> Decoder:
    """The peer's post-processing: 500 candidates and 83 boxes per task, circle NMS over a task's classes."""
    return Decoder(
        0.1,
        candidates=500,
        max_boxes=500,
        peaks=False,
        nms=CircleNms([math.sqrt(squared) for squared in _MIN_RADIUS_M2], per_task=True),
        max_boxes_per_task=83,
        range_m=(-61.2, -61.2, -10.0, 61.2, 61.2, 10.0),
    )


def load_centerpoint_pillar(state_dict: Mapping[str, Tensor]) -> FusionModel:
    """The model with a public checkpoint's weights, in eval mode.

    Args:
        state_dict: By mmdetection3d's names.

    Raises:
        UserError: If a key is missing, unexpected or of another shape.
    """
    model = centerpoint_pillar()
    wanted = {_peer_name(name): value for name, value in model.state_dict().items()}
    problems = {
        "missing": [key for key in wanted if key not in state_dict],
        "unexpected": [key for key in state_dict if key not in wanted],
        "of another shape": [
            f"{key} {tuple(state_dict[key].shape)} instead of {tuple(wanted[key].shape)}"
            for key in wanted
            if key in state_dict and wanted[key].shape != state_dict[key].shape
        ],
    }
    found = [f"{len(keys)} {what} ({', '.join(keys[:3])})" for what, keys in problems.items() if keys]
    if found:
        raise UserError(
            f"These are not the weights of mmdetection3d's CenterPoint-pillar at 0.2 m without deformable "
            f"convolutions: {'; '.join(found)}."
        )
    model.load_state_dict({name: state_dict[_peer_name(name)] for name in model.state_dict()})
    return model.eval()


def _peer_name(name: str) -> str:
    for theirs, ours in _PREFIXES.items():
        if name.startswith(ours):
            return theirs + name[len(ours) :]
    raise AssertionError(f"{name} belongs to no part that the peer has.")
