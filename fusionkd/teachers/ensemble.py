"""Several detectors' boxes, made one set."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusionkd.geometry import Boxes3D, wrap_angle_rad
from fusionkd.geometry.nms import DEFAULT_RADIUS_M


def weighted_box_fusion(
    detections: Sequence[Boxes3D],
    *,
    radius_m: Sequence[float] = DEFAULT_RADIUS_M,
    trust: NDArray[Any] | None = None,
) -> Boxes3D:
    """Weighted box fusion (Solovyev et al., Image and Vision Computing 2021, section 3.1) of boxes in BEV.

    Boxes of a class are gathered, most trusted first: one joins the nearest object whose fused centre lies within
    the class's radius (the paper takes the overlap of images' rectangles), else it founds an object of its own. A
    fused box is the mean of its members, weighted by their score times their detector's trust. Its score is the
    members' mean, times the share of the detectors' trust that found it (equation 5): what one of three detectors
    sees alone keeps a third of its score. The heading's axis is averaged apart from its direction, which
    the members vote on.

    Args:
        detections: One set of boxes per detector, in one frame and with one class list, without doubles.
        radius_m: Per class, how far a box may lie from the object that it joins.
        trust: (detectors, classes) how much a detector's word counts about a class; 0 where it doesn't know the
            class. None trusts all alike.

    Returns:
        Fused boxes, best first; a velocity is the mean of those that are known.

    Raises:
        ValueError: If trust has another shape or is negative.
    """
    weight = np.ones((len(detections), len(radius_m))) if trust is None else np.asarray(trust, np.float64)
    if weight.shape != (len(detections), len(radius_m)) or (weight < 0).any():
        raise ValueError(
            f"trust must be ({len(detections)} detectors, {len(radius_m)} classes) of at least 0, found "
            f"{weight.shape} from {weight.min(initial=0.0)}."
        )
    boxes = Boxes3D.concatenate(list(detections))
    weight_of_box = weight[np.repeat(np.arange(len(detections)), [len(found) for found in detections]), boxes.label]
    counts = boxes.score * weight_of_box > 0
    boxes, weight_of_box = boxes.select(counts), weight_of_box[counts]
    cluster = _clusters(boxes, boxes.score * weight_of_box, radius_m=np.asarray(radius_m, np.float64)[boxes.label])
    fused = _means(boxes, weight_of_box, cluster, total_trust=weight.sum(axis=0))
    return fused.select(np.argsort(-fused.score, kind="stable"))


def _clusters(boxes: Boxes3D, trusted: NDArray[np.float64], *, radius_m: NDArray[np.float64]) -> NDArray[np.int64]:
    """Which object each box belongs to, (N,): numbers from 0 without gaps."""
    cluster = np.full(len(boxes), -1, np.int64)
    xy_m = boxes.xyz_m[:, :2].astype(np.float64)
    label = np.full(len(boxes), -1, np.int64)  # of each object, as all below
    total, fused_m = np.zeros(len(boxes)), np.zeros((len(boxes), 2))
    objects = 0
    for row in np.argsort(-trusted, kind="stable"):
        away_m = fused_m[:objects] - xy_m[row]
        squared = np.where(label[:objects] == boxes.label[row], (away_m**2).sum(axis=1), np.inf)
        number = int(squared.argmin()) if objects else 0
        if objects == 0 or squared[number] > radius_m[row] ** 2:
            number = objects
            objects += 1
        cluster[row], label[number] = number, boxes.label[row]
        total[number] += trusted[row]
        fused_m[number] += (xy_m[row] - fused_m[number]) * (trusted[row] / total[number])
    return cluster


def _means(
    boxes: Boxes3D, weight: NDArray[np.float64], cluster: NDArray[np.int64], *, total_trust: NDArray[np.float64]
) -> Boxes3D:
    """One box per cluster."""
    objects = int(cluster.max(initial=-1)) + 1
    trusted = boxes.score * weight

    def added(values: NDArray[Any]) -> NDArray[np.float64]:
        return np.bincount(cluster, values, minlength=objects).astype(np.float64)

    def mean(values: NDArray[Any], counts: NDArray[Any]) -> NDArray[np.float64]:
        with np.errstate(invalid="ignore"):
            return np.stack([added(counts * column) for column in values.T], axis=1) / added(counts)[:, None]

    known = np.isfinite(boxes.velocity_mps).all(axis=1)
    velocity_mps = mean(np.nan_to_num(boxes.velocity_mps), trusted * known)  # NaN where nobody knows
    yaw_rad = boxes.yaw_rad.astype(np.float64)
    axis_rad = 0.5 * np.arctan2(added(trusted * np.sin(2 * yaw_rad)), added(trusted * np.cos(2 * yaw_rad)))
    along = added(trusted * np.sign(np.cos(yaw_rad - axis_rad[cluster])))
    heading_rad = wrap_angle_rad(axis_rad + np.pi * (along < 0))
    label = np.zeros(objects, np.int64)
    label[cluster] = boxes.label
    # Equation 5 with trust in place of numbers: the mean, times min(members, detectors) / detectors.
    trust = total_trust[label]
    score = added(trusted) / added(weight) * np.minimum(added(weight), trust) / trust
    rows = [mean(boxes.xyz_m, trusted), mean(boxes.lwh_m, trusted), heading_rad[:, None], velocity_mps]
    return Boxes3D.from_array(np.concatenate(rows, axis=1), label, score)
