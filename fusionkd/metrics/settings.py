"""What nuScenes' detection task fixes: ranges, thresholds, weights and names."""

from dataclasses import dataclass

from fusionkd.errors import UserError
from fusionkd.geometry import DETECTION_CLASSES

TP_ERRORS: tuple[str, ...] = ("ATE", "ASE", "AOE", "AVE", "AAE")
"""The five errors of true positives: translation (m), scale (1 - IoU), orientation (rad), velocity (m/s) and
attribute (1 - accuracy)."""

UNDEFINED_ERRORS: dict[str, tuple[str, ...]] = {"traffic_cone": ("AOE", "AVE", "AAE"), "barrier": ("AVE", "AAE")}
"""Errors that nuScenes doesn't define for a class; they are NaN and left out of the means."""

CYCLES: tuple[str, ...] = ("bicycle", "motorcycle")
"""Classes that don't count inside an annotated bicycle rack."""

_CLASS_RANGE_M = {
    "car": 50.0,
    "truck": 50.0,
    "construction_vehicle": 50.0,
    "bus": 50.0,
    "trailer": 50.0,
    "barrier": 30.0,
    "motorcycle": 40.0,
    "bicycle": 40.0,
    "pedestrian": 40.0,
    "traffic_cone": 30.0,
}


@dataclass(frozen=True)
class DetectionSettings:
    """How detections are judged; the defaults are nuScenes' ``detection_cvpr_2019``.

    Attributes:
        class_range_m: Per class of ``DETECTION_CLASSES``, boxes farther from the car than this don't count.
        min_range_m: Boxes nearer than this don't count; 0 in the official metric.
        min_points: Annotations with fewer LiDAR and radar points don't count; 1 in the official metric.
        match_distances_m: Centre distances below which a detection matches an annotation, increasing.
        tp_distance_m: The one of them at which the errors of true positives are taken.
        min_recall: Recalls up to this one are left out of every mean.
        min_precision: Precision below this counts as none.
        max_boxes_per_sample: Most boxes that a sample may have.
        mean_ap_weight: Weight of mAP against one TP error in the detection score.
    """

    class_range_m: tuple[float, ...] = tuple(_CLASS_RANGE_M[name] for name in DETECTION_CLASSES)
    min_range_m: float = 0.0
    min_points: int = 1
    match_distances_m: tuple[float, ...] = (0.5, 1.0, 2.0, 4.0)
    tp_distance_m: float = 2.0
    min_recall: float = 0.1
    min_precision: float = 0.1
    max_boxes_per_sample: int = 500
    mean_ap_weight: float = 5.0

    def __post_init__(self) -> None:
        if len(self.class_range_m) != len(DETECTION_CLASSES):
            raise UserError(
                f"DetectionSettings.class_range_m needs one range for each of {', '.join(DETECTION_CLASSES)}, "
                f"found {len(self.class_range_m)} numbers."
            )
        if self.tp_distance_m not in self.match_distances_m:
            raise UserError(
                f"DetectionSettings.tp_distance_m must be one of match_distances_m {self.match_distances_m}, "
                f"found {self.tp_distance_m}."
            )
        if not (0 <= self.min_recall < 1 and 0 <= self.min_precision < 1):
            raise UserError(
                f"DetectionSettings.min_recall and min_precision must lie in [0, 1), "
                f"found {self.min_recall} and {self.min_precision}."
            )
        if self.max_boxes_per_sample < 1:
            raise UserError(
                f"DetectionSettings.max_boxes_per_sample must be at least 1, found {self.max_boxes_per_sample}."
            )

    @property
    def tp_index(self) -> int:
        """Place of ``tp_distance_m`` in ``match_distances_m``."""
        return self.match_distances_m.index(self.tp_distance_m)


DETECTION_CVPR_2019 = DetectionSettings()
"""The settings of the official leaderboard."""
