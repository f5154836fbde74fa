"""The nuScenes detection metric: truth, detections, figures, results files."""

from fusionkd.metrics.attributes import ATTRIBUTES, attribute_for
from fusionkd.metrics.detection import detection_curves, evaluate, figures_by_distance
from fusionkd.metrics.detections import Detections
from fusionkd.metrics.figures import DetectionCurves, NuScenesFigures, format_table
from fusionkd.metrics.metric import NuScenesDetection
from fusionkd.metrics.privacy import (
    MembershipLeak,
    likelihood_ratio_scores,
    logit_confidence,
    loss_scores,
    membership_leak,
)
from fusionkd.metrics.resampling import scene_bootstrap
from fusionkd.metrics.settings import DETECTION_CVPR_2019, TP_ERRORS, DetectionSettings
from fusionkd.metrics.submission import Submission, read_submission, write_submission
from fusionkd.metrics.truth import DetectionTruth

__all__ = [
    "ATTRIBUTES",
    "DETECTION_CVPR_2019",
    "TP_ERRORS",
    "DetectionCurves",
    "DetectionSettings",
    "DetectionTruth",
    "Detections",
    "MembershipLeak",
    "NuScenesDetection",
    "NuScenesFigures",
    "Submission",
    "attribute_for",
    "detection_curves",
    "evaluate",
    "figures_by_distance",
    "format_table",
    "likelihood_ratio_scores",
    "logit_confidence",
    "loss_scores",
    "membership_leak",
    "read_submission",
    "scene_bootstrap",
    "write_submission",
]
