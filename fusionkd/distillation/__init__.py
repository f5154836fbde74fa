"""Terms that compare a student with its teachers."""

from fusionkd.distillation.adapters import Adapters
from fusionkd.distillation.attention import AttentionTransfer, attention_transfer
from fusionkd.distillation.base import TAPS, Term, TermBatch, module_taps
from fusionkd.distillation.box import BoxResponse, weighted_smooth_l1
from fusionkd.distillation.channelwise import ChannelWise, channel_wise
from fusionkd.distillation.contrast import Contrastive, contrastive
from fusionkd.distillation.feature import FeatureMimic, masked_mimic
from fusionkd.distillation.feature_term import AlignedMaps, FeatureTerm
from fusionkd.distillation.flow import FlowOfSolution, flow_matrix, flow_of_solution
from fusionkd.distillation.focal import (
    ContextBlock,
    FocalGlobal,
    attention_difference,
    channel_attention,
    focal_feature,
    focal_global,
    spatial_attention,
)
from fusionkd.distillation.generative import MaskedGenerative, masked_generative
from fusionkd.distillation.gradients import gradient_attention, jacobian_match
from fusionkd.distillation.hooks import check_modules, recording
from fusionkd.distillation.logit_terms import CorrelationKD, DecoupledKD, LogitKL, StandardizedLogitKL
from fusionkd.distillation.logits import correlation_kd, decoupled_kd, logit_kl, standardized_logit_kl
from fusionkd.distillation.masks import MaskKind, footprint_scale, gaussian_foreground, teacher_foreground
from fusionkd.distillation.pairs import RelationAngle, RelationDistance, relation_angle, relation_distance
from fusionkd.distillation.pearson import PearsonFeature, pearson_feature
from fusionkd.distillation.pseudo_label import DetectionPseudoLabel
from fusionkd.distillation.ranking import Ranking, list_mle, list_net
from fusionkd.distillation.relation import ObjectRelation, cosine_matrix, nine_points, object_relation
from fusionkd.distillation.response import HeatmapResponse, quality_focal
from fusionkd.distillation.scene import Affinity, affinity
from fusionkd.distillation.schedules import Constant, Cosine, LinearRamp, Schedule, Step, StopAfter
from fusionkd.distillation.several import SeveralTeachers
from fusionkd.distillation.similarity import SimilarityPreserving, similarity_preserving
from fusionkd.distillation.variational import VariationalInformation, variational_information
from fusionkd.distillation.weighting import (
    Confidence,
    DynamicAverage,
    Entropy,
    GradientAgreement,
    LearnedUncertainty,
    Recorded,
    Static,
    Uniform,
    Weighting,
)
from fusionkd.distillation.weights import (
    confidence_weights,
    disagreement,
    dynamic_average_weights,
    entropy_weights,
    min_norm_weights,
)

__all__ = [
    "TAPS",
    "Adapters",
    "Affinity",
    "AlignedMaps",
    "AttentionTransfer",
    "BoxResponse",
    "ChannelWise",
    "Confidence",
    "Constant",
    "ContextBlock",
    "Contrastive",
    "CorrelationKD",
    "Cosine",
    "DecoupledKD",
    "DetectionPseudoLabel",
    "DynamicAverage",
    "Entropy",
    "FeatureMimic",
    "FeatureTerm",
    "FlowOfSolution",
    "FocalGlobal",
    "GradientAgreement",
    "HeatmapResponse",
    "LearnedUncertainty",
    "LinearRamp",
    "LogitKL",
    "MaskKind",
    "MaskedGenerative",
    "ObjectRelation",
    "PearsonFeature",
    "Ranking",
    "Recorded",
    "RelationAngle",
    "RelationDistance",
    "Schedule",
    "SeveralTeachers",
    "SimilarityPreserving",
    "StandardizedLogitKL",
    "Static",
    "Step",
    "StopAfter",
    "Term",
    "TermBatch",
    "Uniform",
    "VariationalInformation",
    "Weighting",
    "affinity",
    "attention_difference",
    "attention_transfer",
    "channel_attention",
    "channel_wise",
    "check_modules",
    "confidence_weights",
    "contrastive",
    "correlation_kd",
    "cosine_matrix",
    "decoupled_kd",
    "disagreement",
    "dynamic_average_weights",
    "entropy_weights",
    "flow_matrix",
    "flow_of_solution",
    "focal_feature",
    "focal_global",
    "footprint_scale",
    "gaussian_foreground",
    "gradient_attention",
    "jacobian_match",
    "list_mle",
    "list_net",
    "logit_kl",
    "masked_generative",
    "masked_mimic",
    "min_norm_weights",
    "module_taps",
    "nine_points",
    "object_relation",
    "pearson_feature",
    "quality_focal",
    "recording",
    "relation_angle",
    "relation_distance",
    "similarity_preserving",
    "spatial_attention",
    "standardized_logit_kl",
    "teacher_foreground",
    "variational_information",
    "weighted_smooth_l1",
]
