"""The nuScenes detection metric on arrays: truth and detections to figures."""

from dataclasses import replace
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fusionkd.errors import UserError
from fusionkd.geometry import DETECTION_CLASSES
from fusionkd.metrics.detections import Detections
from fusionkd.metrics.figures import DetectionCurves, NuScenesFigures
from fusionkd.metrics.matching import (
    RECALL,
    Boxes,
    Surroundings,
    boxes_that_count,
    error_curve,
    match,
    match_errors,
    precision_curve,
)
from fusionkd.metrics.settings import CYCLES, DETECTION_CVPR_2019, TP_ERRORS, DetectionSettings
from fusionkd.metrics.truth import DetectionTruth

Missing = Literal["error", "empty", "ignore"]
"""What samples of the truth without results mean: a mistake, no detections there, or not to be judged."""

_OUTSIDE_RACKS = np.array([name in CYCLES for name in DETECTION_CLASSES])
_HALF_TURN = np.array([name == "barrier" for name in DETECTION_CLASSES])


def evaluate(
    truth: DetectionTruth,
    detections: Detections,
    *,
    settings: DetectionSettings = DETECTION_CVPR_2019,
    missing: Missing = "error",
) -> NuScenesFigures:
    """Figures of detections, equal to those of the devkit's ``DetectionEval``.

    Args:
        truth: Annotations.
        detections: Results, all of whose samples the truth must have.
        settings: Ranges, thresholds and weights.
        missing: What to do with samples of the truth that ``detections.tokens`` doesn't name: refuse them
            (``error``, as the devkit does), count them as samples without detections (``empty``) or leave
            them out (``ignore``).

    Raises:
        UserError: If samples don't fit together, a sample has too many boxes, or there is no sample at all.
    """
    return detection_curves(truth, detections, settings=settings, missing=missing).figures()


def figures_by_distance(
    truth: DetectionTruth,
    detections: Detections,
    *,
    edges_m: tuple[float, ...] = (0.0, 10.0, 20.0, 30.0, 40.0, 50.0),
    settings: DetectionSettings = DETECTION_CVPR_2019,
    missing: Missing = "error",
) -> dict[str, NuScenesFigures]:
    """Figures of the boxes within each range of distances from the car, by names like ``10-20 m``.

    A class never counts beyond its own range, so far bins hold no barriers: compare ``class_ap`` or
    ``mean_ap_present``, not ``mean_ap``. A detection on one side of an edge can't match an annotation on the other.

    Raises:
        UserError: As ``evaluate``.
    """
    bins = {}
    for low_m, high_m in pairwise(edges_m):
        ranges = tuple(min(range_m, high_m) for range_m in settings.class_range_m)
        within = replace(settings, min_range_m=low_m, class_range_m=ranges)
        bins[f"{low_m:g}-{high_m:g} m"] = evaluate(truth, detections, settings=within, missing=missing)
    return bins


def detection_curves(
    truth: DetectionTruth,
    detections: Detections,
    *,
    settings: DetectionSettings = DETECTION_CVPR_2019,
    missing: Missing = "error",
) -> DetectionCurves:
    """Precision, confidence and errors along recall; see ``evaluate``."""
    sample = _samples_in_truth(truth, detections, settings)
    around = _surroundings(truth, sample, settings=settings, missing=missing)
    predicted = Boxes(
        np.repeat(sample, np.diff(detections.start)),
        detections.label,
        detections.xyz_m,
        detections.lwh_m,
        detections.yaw_rad,
        detections.velocity_mps,
        detections.attribute,
    )
    annotated = Boxes(
        truth.sample, truth.label, truth.xyz_m, truth.lwh_m, truth.yaw_rad, truth.velocity_mps, truth.attribute
    )
    ranked = _ranked(predicted.label, detections.score, boxes_that_count(predicted, around))
    counting = boxes_that_count(annotated, around) & (truth.num_points >= settings.min_points)
    group = annotated.label * len(truth) + annotated.sample
    grouped = np.flatnonzero(counting)
    grouped = grouped[np.argsort(group[grouped], kind="stable")]
    group_count = np.bincount(group[grouped], minlength=len(DETECTION_CLASSES) * len(truth))
    matched = match(
        predicted.xyz_m[ranked, :2],
        predicted.label[ranked] * len(truth) + predicted.sample[ranked],
        annotated.xyz_m[grouped, :2],
        np.concatenate([[0], np.cumsum(group_count)]),
        np.array(settings.match_distances_m),
    )
    # Of the matches at tp_distance_m: place in `ranked`, and the two boxes' rows.
    hit = np.flatnonzero(matched[settings.tp_index] >= 0)
    pairs = np.stack([ranked[hit], grouped[matched[settings.tp_index, hit]]], axis=1)  # (M, 2)
    return _curves(
        matched >= 0,
        detections.score[ranked],
        hit=hit,
        errors=match_errors(predicted, annotated, pairs, _HALF_TURN),
        first=np.searchsorted(predicted.label[ranked], np.arange(len(DETECTION_CLASSES) + 1)),
        positives=group_count.reshape(len(DETECTION_CLASSES), -1).sum(axis=1),
        settings=settings,
    )


def _samples_in_truth(truth: DetectionTruth, detections: Detections, settings: DetectionSettings) -> NDArray[np.int64]:
    """Sample index in the truth of each sample with results, (N,)."""
    unknown = [token for token in detections.tokens if token not in truth.row_of]
    if unknown:
        raise UserError(
            f"There are results for {len(unknown)} samples that the truth doesn't have, for example {unknown[0]}. "
            f"Do the results belong to another split or version?"
        )
    count = np.diff(detections.start)
    if np.any(count > settings.max_boxes_per_sample):
        row = int(np.argmax(count))
        raise UserError(
            f"Sample {detections.tokens[row]} has {count[row]} detections; "
            f"at most {settings.max_boxes_per_sample} are allowed."
        )
    return np.array([truth.row_of[token] for token in detections.tokens], dtype=np.int64)


def _surroundings(
    truth: DetectionTruth, sample: NDArray[np.int64], *, settings: DetectionSettings, missing: Missing
) -> Surroundings:
    evaluated = np.full(len(truth), missing == "empty")
    evaluated[sample] = True
    if missing == "error" and not evaluated.all():
        absent = np.flatnonzero(~evaluated)
        raise UserError(
            f"There are no results for {len(absent)} of the {len(truth)} samples, for example "
            f"{truth.tokens[absent[0]]}. A sample without detections must be present with an empty list."
        )
    if not evaluated.any():
        raise UserError("There are no samples to evaluate: neither the truth nor the results name one.")
    return Surroundings(
        evaluated=evaluated,
        ego_xyz_m=truth.ego_xyz_m,
        rack_start=truth.rack_start,
        rack_corners_m=truth.rack_corners_m,
        class_range_m=np.array(settings.class_range_m),
        min_range_m=float(settings.min_range_m),
        outside_racks=_OUTSIDE_RACKS,
    )


def _ranked(label: NDArray[np.int64], score: NDArray[np.float64], keep: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Rows of the kept boxes, class by class, best first; of equal scores the later row first, as in the devkit."""
    rows = np.flatnonzero(keep)
    rows = rows[np.argsort(score[rows], kind="stable")[::-1]]
    return np.asarray(rows[np.argsort(label[rows].astype(np.int8), kind="stable")])


def _curves(
    hits: NDArray[np.bool_],
    score: NDArray[np.float64],
    *,
    hit: NDArray[np.int64],
    errors: NDArray[np.float64],
    first: NDArray[np.int64],
    positives: NDArray[np.int64],
    settings: DetectionSettings,
) -> DetectionCurves:
    """Curves of every class.

    Args:
        hits: Whether each ranked detection matched, (T, P).
        score: (P,).
        hit: Ranks that matched at ``tp_distance_m``, rising, (M,).
        errors: Their errors, (5, M).
        first: Ranks of class ``c`` are ``first[c]`` up to, without, ``first[c + 1]``.
        positives: Annotations per class.
        settings: Thresholds.
    """
    classes, distances = len(positives), len(hits)
    precision, confidence = np.zeros((2, classes, distances, len(RECALL)))
    error = np.ones((classes, len(TP_ERRORS), len(RECALL)))
    first_hit = np.searchsorted(hit, first)
    for c in range(classes):
        ranks, found = slice(first[c], first[c + 1]), slice(first_hit[c], first_hit[c + 1])
        for t in range(distances):
            if hits[t, ranks].any():
                precision[c, t], confidence[c, t] = precision_curve(hits[t, ranks], score[ranks], positives[c])
        if found.stop > found.start:
            for e in range(len(TP_ERRORS)):
                error[c, e] = error_curve(errors[e, found], score[hit[found]], confidence[c, settings.tp_index])
    return DetectionCurves(precision, confidence, error, positives, settings)
