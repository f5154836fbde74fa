"""What-if detections: one attribute of every detection that means an annotation is replaced by the truth.

The gain over the unchanged detections says what a perfect answer to one question would be worth (Hoiem et al., ECCV
2012, do so for two-dimensional boxes).
"""

from dataclasses import replace
from typing import Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from fusionkd.errors import UserError
from fusionkd.metrics.detections import Detections
from fusionkd.metrics.truth import DetectionTruth

Question = Literal["class", "centre", "velocity", "heading"]
QUESTIONS: Final = get_args(Question)
REACH_M: Final = 4.0
"""A detection means an annotation no farther than nuScenes' largest match distance."""


def meant(
    truth: DetectionTruth, detections: Detections, *, of_same_class: bool, reach_m: float = REACH_M
) -> NDArray[np.int64]:
    """Row of the annotation that each detection means, -1 for none, (P,).

    Detections choose in the order of their scores, each the nearest annotation of its sample that is still free.

    Args:
        truth: Annotations.
        detections: Their samples must be among the truth's.
        of_same_class: Whether only annotations of the detection's own class may be meant.
        reach_m: Largest distance seen from above.

    Raises:
        UserError: If the truth lacks a sample.
    """
    out = np.full(len(detections), -1, np.int64)
    for number, token in enumerate(detections.tokens):
        if token not in truth.row_of:
            raise UserError(f"The truth has no sample {token}, for which there are detections.")
        sample = truth.row_of[token]
        there = np.arange(truth.start[sample], truth.start[sample + 1])
        free = np.ones(len(there), np.bool_)
        own = np.arange(detections.start[number], detections.start[number + 1])
        for row in own[np.argsort(-detections.score[own], kind="stable")]:
            away = np.linalg.norm(truth.xyz_m[there, :2] - detections.xyz_m[row, :2], axis=1)
            allowed = free & (away < reach_m)
            if of_same_class:
                allowed &= truth.label[there] == detections.label[row]
            if allowed.any():
                best = int(np.argmin(np.where(allowed, away, np.inf)))
                free[best] = False
                out[row] = there[best]
    return out


def with_truth(truth: DetectionTruth, detections: Detections, question: Question) -> Detections:
    """Detections whose answer to one question is the truth's, where they mean an annotation.

    Args:
        truth: Annotations.
        detections: Of some of its samples.
        question: ``class`` (meaning is then judged without the class), ``centre``, ``velocity`` or ``heading``.

    Raises:
        UserError: If the question is unknown or the truth lacks a sample.
    """
    if question not in QUESTIONS:
        raise UserError(f"The question must be one of {', '.join(QUESTIONS)}, found {question!r}.")
    row = meant(truth, detections, of_same_class=question != "class")
    known = row >= 0
    if question == "class":
        return replace(detections, label=np.where(known, truth.label[row], detections.label))
    if question == "centre":
        return replace(detections, xyz_m=np.where(known[:, None], truth.xyz_m[row], detections.xyz_m))
    if question == "heading":
        return replace(detections, yaw_rad=np.where(known, truth.yaw_rad[row], detections.yaw_rad))
    known &= np.isfinite(truth.velocity_mps[row]).all(axis=1)
    return replace(detections, velocity_mps=np.where(known[:, None], truth.velocity_mps[row], detections.velocity_mps))
