"""Public CenterPoint-pillar weights of mmdetection3d, loaded strictly by their own key names."""

from collections.abc import Mapping

from torch import Tensor, nn

from fusionkd.errors import UserError
from fusionkd.geometry import BevGrid
from fusionkd.models.fuser import SingleModality
from fusionkd.models.fusion import FusionModel
from fusionkd.models.head import NUSCENES_TASKS, CenterHead
from fusionkd.models.lidar import PillarEncoder

_PREFIXES = {
    "pts_voxel_encoder.": "lidar.pillars.",
    "pts_backbone.": "lidar.backbone.",
    "pts_neck.": "lidar.neck.",
    "pts_bbox_head.": "head.",
}

PILLAR_GRID = BevGrid(cell_m=0.2)
"""The grid of the pillars, in the LiDAR's frame."""


def centerpoint_pillar() -> FusionModel:
    """CenterPoint-PointPillars at 0.2 m as mmdetection3d builds it; its grid lies in the LiDAR's frame."""
    lidar = PillarEncoder("pillars", PILLAR_GRID)
    head = CenterHead(lidar.out_channels, tasks=NUSCENES_TASKS, heading_axis=False)
    return FusionModel(
        PILLAR_GRID.with_cell(0.8),
        lidar=lidar,
        fuser=SingleModality(lidar.out_channels),
        backbone=nn.Identity(),
        head=head,
        frame="lidar",
    )


def load_centerpoint_pillar(state_dict: Mapping[str, Tensor]) -> FusionModel:
    """The model with a public checkpoint's weights.

    Args:
        state_dict: By mmdetection3d's names.

    Raises:
        UserError: If a key is missing, unexpected or of another shape.
    """
    model = centerpoint_pillar()
    renamed = {_rename(key): value for key, value in state_dict.items()}
    wanted = model.state_dict()
    missing = [key for key in wanted if key not in renamed]
    unexpected = [key for key in renamed if key not in wanted]
    shapes = [key for key in wanted if key in renamed and wanted[key].shape != renamed[key].shape]
    if missing or unexpected or shapes:
        raise UserError(
            f"These are not the weights of CenterPoint-pillar: {len(missing)} missing {missing[:3]}, "
            f"{len(unexpected)} unexpected {unexpected[:3]}, {len(shapes)} of another shape {shapes[:3]}."
        )
    model.load_state_dict(renamed)
    return model.eval()


def _rename(key: str) -> str:
    for theirs, ours in _PREFIXES.items():
        if key.startswith(theirs):
            return ours + key[len(theirs) :]
    return key
