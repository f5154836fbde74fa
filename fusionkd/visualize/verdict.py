"""Which predictions of one frame are right, by the rule of the nuScenes metric."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fusionkd.geometry import DETECTION_CLASSES, Boxes3D
from fusionkd.metrics import DETECTION_CVPR_2019
from fusionkd.metrics.matching import match

MATCH_DISTANCE_M = 2.0
"""Centres nearer than this match, seen from above; the distance at which nuScenes takes its errors."""


@dataclass(frozen=True)
class Verdict:
    """What became of each box.

    Attributes:
        found: Whether each annotation was predicted, (A,) bool.
        matched: Whether each prediction has an annotation of its own, (P,) bool.
    """

    found: NDArray[np.bool_]
    matched: NDArray[np.bool_]


def within_range(boxes: Boxes3D) -> NDArray[np.bool_]:
    """Whether each box (N,) is near enough to the car for nuScenes to judge its class."""
    range_m = np.array(DETECTION_CVPR_2019.class_range_m)[boxes.label]
    return np.asarray(np.hypot(boxes.xyz_m[:, 0], boxes.xyz_m[:, 1]) < range_m, dtype=np.bool_)


def judge(predictions: Boxes3D, annotations: Boxes3D) -> Verdict:
    """Match predictions, best first, with the nearest free annotation of their class.

    Args:
        predictions: In the ego frame.
        annotations: In the same.
    """
    best_first = np.argsort(-predictions.score, kind="stable")
    by_class = np.argsort(annotations.label, kind="stable")
    partner = match(
        predictions.xyz_m[best_first, :2].astype(np.float64),
        predictions.label[best_first],
        annotations.xyz_m[by_class, :2].astype(np.float64),
        np.searchsorted(annotations.label[by_class], np.arange(len(DETECTION_CLASSES) + 1)),
        np.array([MATCH_DISTANCE_M]),
    )[0]
    found, matched = np.zeros(len(annotations), np.bool_), np.zeros(len(predictions), np.bool_)
    found[by_class[partner[partner >= 0]]] = True
    matched[best_first[partner >= 0]] = True
    return Verdict(found, matched)
