"""Camera, LiDAR and fused detectors on a BEV grid."""

from fusionkd.geometry.nms import CircleNms, NoNms, RotatedNms, circle_nms, rotated_nms
from fusionkd.models.backbone import BevBackbone
from fusionkd.models.camera import CameraBranch
from fusionkd.models.decode import Decoder
from fusionkd.models.example import ExampleBatch, example_batch
from fusionkd.models.fuser import ConvFuser, GatedFuser, ModalityDropout, SingleModality
from fusionkd.models.fusion import FusionModel
from fusionkd.models.head import NUSCENES_TASKS, CenterHead
from fusionkd.models.image import ImageEncoder, PlainEncoder, PyramidEncoder
from fusionkd.models.lidar import LidarEncoder, PillarEncoder, RasterEncoder
from fusionkd.models.losses import CenterLoss, LabelledBatch, LossWeights
from fusionkd.models.storage import build_model, load_model, save_model
from fusionkd.models.targets import CenterTargets, center_targets
from fusionkd.models.values import REGRESSION_CHANNELS, FusionOutput, SensorBatch
from fusionkd.models.view_transform import DepthBins, MeasuredDepth

__all__ = [
    "NUSCENES_TASKS",
    "REGRESSION_CHANNELS",
    "BevBackbone",
    "CameraBranch",
    "CenterHead",
    "CenterLoss",
    "CenterTargets",
    "CircleNms",
    "ConvFuser",
    "Decoder",
    "DepthBins",
    "ExampleBatch",
    "FusionModel",
    "FusionOutput",
    "GatedFuser",
    "ImageEncoder",
    "LabelledBatch",
    "LidarEncoder",
    "LossWeights",
    "MeasuredDepth",
    "ModalityDropout",
    "NoNms",
    "PillarEncoder",
    "PlainEncoder",
    "PyramidEncoder",
    "RasterEncoder",
    "RotatedNms",
    "SensorBatch",
    "SingleModality",
    "build_model",
    "center_targets",
    "circle_nms",
    "example_batch",
    "load_model",
    "rotated_nms",
    "save_model",
]
