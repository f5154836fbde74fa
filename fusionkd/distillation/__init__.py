"""Terms that compare a student with its teachers."""

from fusionkd.distillation.adapters import Adapters
from fusionkd.distillation.base import TAPS, Term, TermBatch, module_taps
from fusionkd.distillation.box import BoxResponse, weighted_smooth_l1
from fusionkd.distillation.feature import FeatureMimic, masked_mimic
from fusionkd.distillation.hooks import check_modules, recording
from fusionkd.distillation.masks import MaskKind, gaussian_foreground, teacher_foreground
from fusionkd.distillation.pseudo_label import DetectionPseudoLabel
from fusionkd.distillation.relation import ObjectRelation, cosine_matrix, nine_points, object_relation
from fusionkd.distillation.response import HeatmapResponse, quality_focal
from fusionkd.distillation.schedules import Constant, Cosine, LinearRamp, Schedule, Step, StopAfter

__all__ = [
    "TAPS",
    "Adapters",
    "BoxResponse",
    "Constant",
    "Cosine",
    "DetectionPseudoLabel",
    "FeatureMimic",
    "HeatmapResponse",
    "LinearRamp",
    "MaskKind",
    "ObjectRelation",
    "Schedule",
    "Step",
    "StopAfter",
    "Term",
    "TermBatch",
    "check_modules",
    "cosine_matrix",
    "gaussian_foreground",
    "masked_mimic",
    "module_taps",
    "nine_points",
    "object_relation",
    "quality_focal",
    "recording",
    "teacher_foreground",
    "weighted_smooth_l1",
]
