"""Terms that compare a student with its teachers."""

from fusionkd.distillation.adapters import Adapters
from fusionkd.distillation.base import TAPS, Term, TermBatch, module_taps
from fusionkd.distillation.box import BoxResponse, weighted_smooth_l1
from fusionkd.distillation.feature import FeatureMimic, masked_mimic
from fusionkd.distillation.hooks import check_modules, recording
from fusionkd.distillation.logit_terms import CorrelationKD, DecoupledKD, LogitKL, StandardizedLogitKL
from fusionkd.distillation.logits import correlation_kd, decoupled_kd, logit_kl, standardized_logit_kl
from fusionkd.distillation.masks import MaskKind, gaussian_foreground, teacher_foreground
from fusionkd.distillation.pairs import RelationAngle, RelationDistance, relation_angle, relation_distance
from fusionkd.distillation.pseudo_label import DetectionPseudoLabel
from fusionkd.distillation.ranking import Ranking, list_mle, list_net
from fusionkd.distillation.relation import ObjectRelation, cosine_matrix, nine_points, object_relation
from fusionkd.distillation.response import HeatmapResponse, quality_focal
from fusionkd.distillation.scene import Affinity, affinity
from fusionkd.distillation.schedules import Constant, Cosine, LinearRamp, Schedule, Step, StopAfter

__all__ = [
    "TAPS",
    "Adapters",
    "Affinity",
    "BoxResponse",
    "Constant",
    "CorrelationKD",
    "Cosine",
    "DecoupledKD",
    "DetectionPseudoLabel",
    "FeatureMimic",
    "HeatmapResponse",
    "LinearRamp",
    "LogitKL",
    "MaskKind",
    "ObjectRelation",
    "Ranking",
    "RelationAngle",
    "RelationDistance",
    "Schedule",
    "StandardizedLogitKL",
    "Step",
    "StopAfter",
    "Term",
    "TermBatch",
    "affinity",
    "check_modules",
    "correlation_kd",
    "cosine_matrix",
    "decoupled_kd",
    "gaussian_foreground",
    "list_mle",
    "list_net",
    "logit_kl",
    "masked_mimic",
    "module_taps",
    "nine_points",
    "object_relation",
    "quality_focal",
    "recording",
    "relation_angle",
    "relation_distance",
    "standardized_logit_kl",
    "teacher_foreground",
    "weighted_smooth_l1",
]
