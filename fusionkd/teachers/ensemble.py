"""Several detectors' boxes, made one set."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusionkd.geometry import Boxes3D, wrap_angle_rad
from fusionkd.models.nms import DEFAULT_RADIUS_M


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
    detector = np.repeat(np.arange(len(detections)), [len(found) for found in detections])
    trusted = boxes.score * weight[detector, boxes.label]  # (N,)
    fused = [
        _fused(boxes.select(members), weight[detector[members], label], total_trust=float(weight[:, label].sum()))
        for label in np.unique(boxes.label)
        for members in _clusters(boxes, trusted, np.flatnonzero(boxes.label == label), radius_m=radius_m[label])
    ]
    together = Boxes3D.concatenate(fused)
    return together.select(np.argsort(-together.score, kind="stable"))


def _clusters(
    boxes: Boxes3D, trusted: NDArray[np.float64], rows: NDArray[np.int64], *, radius_m: float
) -> list[NDArray[np.int64]]:
    """Indices of the boxes of each object, among ``rows``."""
    members: list[list[int]] = []
    fused_m = np.zeros((0, 2))
    xy_m = boxes.xyz_m[:, :2].astype(np.float64)
    for row in rows[np.argsort(-trusted[rows], kind="stable")]:
        if trusted[row] <= 0:
            break
        distance_m = np.hypot(*(fused_m - xy_m[row]).T)  # (objects so far,)
        if len(members) == 0 or distance_m.min() > radius_m:
            members.append([int(row)])
            fused_m = np.concatenate([fused_m, xy_m[row : row + 1]])
            continue
        nearest = int(distance_m.argmin())
        members[nearest].append(int(row))
        fused_m[nearest] = np.average(xy_m[members[nearest]], axis=0, weights=trusted[members[nearest]])
    return [np.array(rows) for rows in members]


def _fused(members: Boxes3D, weight: NDArray[np.float64], *, total_trust: float) -> Boxes3D:
    trusted = members.score * weight
    share = trusted / trusted.sum()
    known = np.isfinite(members.velocity_mps).all(axis=1)
    velocity = np.full(2, np.nan)
    if known.any():
        velocity = np.average(members.velocity_mps[known], axis=0, weights=trusted[known])
    row = np.concatenate(
        [share @ members.xyz_m, share @ members.lwh_m, [_mean_heading(members.yaw_rad, share)], velocity]
    )
    # Equation 5 with trust in place of numbers: the mean, times min(members, detectors) / detectors.
    mean = trusted.sum() / weight.sum()
    score = mean * min(float(weight.sum()), total_trust) / total_trust
    return Boxes3D.from_array(row[None], members.label[:1], np.array([score]))


def _mean_heading(yaw_rad: NDArray[np.float32], share: NDArray[np.float64]) -> float:
    axis_rad = 0.5 * np.arctan2(share @ np.sin(2 * yaw_rad), share @ np.cos(2 * yaw_rad))
    along = share @ np.sign(np.cos(yaw_rad - axis_rad))
    return float(wrap_angle_rad(np.array(axis_rad if along >= 0 else axis_rad + np.pi)))
