"""Terms that compare a student with its teachers."""

from fusionkd.distillation.adapters import Adapters
from fusionkd.distillation.attention import AttentionTransfer, attention_transfer
from fusionkd.distillation.base import TAPS, Term, TermBatch
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
from fusionkd.distillation.masks import MaskKind, footprint_scale, gaussian_foreground, teacher_foreground
from fusionkd.distillation.pearson import PearsonFeature, pearson_feature
from fusionkd.distillation.pseudo_label import DetectionPseudoLabel
from fusionkd.distillation.relation import ObjectRelation, cosine_matrix, nine_points, object_relation
from fusionkd.distillation.response import HeatmapResponse, quality_focal
from fusionkd.distillation.schedules import Constant, Cosine, LinearRamp, Schedule, Step, StopAfter
from fusionkd.distillation.similarity import SimilarityPreserving, similarity_preserving
from fusionkd.distillation.variational import VariationalInformation, variational_information

__all__ = [
    "TAPS",
    "Adapters",
    "AlignedMaps",
    "AttentionTransfer",
    "BoxResponse",
    "ChannelWise",
    "Constant",
    "ContextBlock",
    "Contrastive",
    "Cosine",
    "DetectionPseudoLabel",
    "FeatureMimic",
    "FeatureTerm",
    "FlowOfSolution",
    "FocalGlobal",
    "HeatmapResponse",
    "LinearRamp",
    "MaskKind",
    "MaskedGenerative",
    "ObjectRelation",
    "PearsonFeature",
    "Schedule",
    "SimilarityPreserving",
    "Step",
    "StopAfter",
    "Term",
    "TermBatch",
    "VariationalInformation",
    "attention_difference",
    "attention_transfer",
    "channel_attention",
    "channel_wise",
    "contrastive",
    "cosine_matrix",
    "flow_matrix",
    "flow_of_solution",
    "focal_feature",
    "focal_global",
    "footprint_scale",
    "gaussian_foreground",
    "gradient_attention",
    "jacobian_match",
    "masked_generative",
    "masked_mimic",
    "nine_points",
    "object_relation",
    "pearson_feature",
    "quality_focal",
    "similarity_preserving",
    "spatial_attention",
    "teacher_foreground",
    "variational_information",
    "weighted_smooth_l1",
]
