"""Numba kernels of the detection metric: which boxes count, which match, and the curves along recall.

All are serial and release the GIL. Where the order of operations decides a rounding, it is nuscenes-devkit's.
"""

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

RECALL = np.linspace(0, 1, 101)
"""Recalls at which every curve is sampled."""


class Boxes(NamedTuple):
    """Columns of predicted or annotated boxes, n rows, as the kernels take them.

    Attributes:
        sample: Sample index, (n,) int64.
        label: Class index, (n,) int64.
        xyz_m: (n, 3) float64.
        lwh_m: (n, 3) float64.
        yaw_rad: (n,) float64.
        velocity_mps: (n, 2) float64.
        attribute: (n,) int64.
    """

    sample: NDArray[np.int64]
    label: NDArray[np.int64]
    xyz_m: NDArray[np.float64]
    lwh_m: NDArray[np.float64]
    yaw_rad: NDArray[np.float64]
    velocity_mps: NDArray[np.float64]
    attribute: NDArray[np.int64]


class Surroundings(NamedTuple):
    """What boxes are filtered with.

    Attributes:
        evaluated: Whether a sample counts, (N,) bool.
        ego_xyz_m: Position of the car per sample, (N, 3) float64.
        rack_start: Racks per sample, (N + 1,) int64.
        rack_corners_m: See ``DetectionTruth``, (R, 4, 3) float64.
        class_range_m: Farthest distance per class, (C,) float64.
        min_range_m: Nearest distance.
        outside_racks: Whether a class only counts outside racks, (C,) bool.
    """

    evaluated: NDArray[np.bool_]
    ego_xyz_m: NDArray[np.float64]
    rack_start: NDArray[np.int64]
    rack_corners_m: NDArray[np.float64]
    class_range_m: NDArray[np.float64]
    min_range_m: float
    outside_racks: NDArray[np.bool_]


@njit(cache=True, nogil=True)
def boxes_that_count(boxes: Boxes, around: Surroundings) -> NDArray[np.bool_]:
    """Whether each box lies in an evaluated sample, within its class's range and not in a rack it may not be in."""
    keep = np.zeros(len(boxes.sample), np.bool_)
    for i in range(len(keep)):
        sample, label = boxes.sample[i], boxes.label[i]
        dx = boxes.xyz_m[i, 0] - around.ego_xyz_m[sample, 0]
        dy = boxes.xyz_m[i, 1] - around.ego_xyz_m[sample, 1]
        distance = np.sqrt(dx * dx + dy * dy)
        keep[i] = around.evaluated[sample] and distance < around.class_range_m[label] and distance >= around.min_range_m
        if keep[i] and around.outside_racks[label]:
            for rack in range(around.rack_start[sample], around.rack_start[sample + 1]):
                if _in_rack(boxes.xyz_m[i], around.rack_corners_m[rack]):
                    keep[i] = False
    return keep


@njit(cache=True, nogil=True)
def _in_rack(point_m: NDArray[np.float64], corners_m: NDArray[np.float64]) -> bool:
    """Whether a point lies in a box of ``rack_corners_m``, its faces included."""
    for axis in range(1, 4):
        along, length = 0.0, 0.0
        for k in range(3):
            edge = corners_m[axis, k] - corners_m[0, k]
            along += edge * (point_m[k] - corners_m[0, k])
            length += edge * edge
        if not 0 <= along <= length:
            return False
    return True


@njit(cache=True, nogil=True)
def match(
    predicted_xy_m: NDArray[np.float64],
    group: NDArray[np.int64],
    annotated_xy_m: NDArray[np.float64],
    group_start: NDArray[np.int64],
    limits_m: NDArray[np.float64],
) -> NDArray[np.int64]:
    """Give each prediction, in order, the nearest annotation of its group that is still free.

    A group is one class in one sample. Of annotations equally near, the first is taken.

    Args:
        predicted_xy_m: Centres of the predictions, each class's best first, (P, 2).
        group: Group of each prediction, (P,).
        annotated_xy_m: Centres of the annotations, group by group, (A, 2).
        group_start: Annotations of group ``g`` are ``group_start[g]`` up to, without, ``group_start[g + 1]``.
        limits_m: Distances below which a match holds, (T,).

    Returns:
        Row of the matched annotation or -1, (T, P).
    """
    matched = np.full((len(limits_m), len(group)), -1, np.int64)
    taken = np.zeros((len(annotated_xy_m), len(limits_m)), np.bool_)
    nearest_m = np.empty(len(limits_m))
    for i in range(len(group)):
        nearest_m[:] = np.inf
        for a in range(group_start[group[i]], group_start[group[i] + 1]):
            dx = predicted_xy_m[i, 0] - annotated_xy_m[a, 0]
            dy = predicted_xy_m[i, 1] - annotated_xy_m[a, 1]
            distance_m = np.sqrt(dx * dx + dy * dy)
            for t in range(len(limits_m)):
                if distance_m < nearest_m[t] and not taken[a, t]:
                    nearest_m[t] = distance_m
                    matched[t, i] = a
        for t in range(len(limits_m)):
            if nearest_m[t] < limits_m[t]:
                taken[matched[t, i], t] = True
            else:
                matched[t, i] = -1
    return matched


@njit(cache=True, nogil=True)
def match_errors(
    predicted: Boxes, annotated: Boxes, pairs: NDArray[np.int64], half_turn: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """The five errors of matched boxes in the order of ``TP_ERRORS``, NaN where one is unknown.

    Args:
        predicted: Predictions.
        annotated: Annotations.
        pairs: Rows of a prediction and an annotation, (M, 2).
        half_turn: Classes whose front can't be told from their back, (C,).

    Returns:
        (5, M).
    """
    errors = np.empty((5, len(pairs)))
    for m in range(len(pairs)):
        p, a = pairs[m, 0], pairs[m, 1]
        errors[0, m] = _distance(predicted.xyz_m[p], annotated.xyz_m[a])
        errors[1, m] = 1 - _aligned_iou(predicted.lwh_m[p], annotated.lwh_m[a])
        period = np.pi if half_turn[annotated.label[a]] else 2 * np.pi
        errors[2, m] = _turn(annotated.yaw_rad[a], predicted.yaw_rad[p], period)
        errors[3, m] = _distance(predicted.velocity_mps[p], annotated.velocity_mps[a])
        errors[4, m] = 1.0 - (predicted.attribute[p] == annotated.attribute[a])
        if annotated.attribute[a] < 0:
            errors[4, m] = np.nan
    return errors


@njit(cache=True, nogil=True)
def _distance(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Distance of the first two coordinates."""
    dx, dy = a[0] - b[0], a[1] - b[1]
    return float(np.sqrt(dx * dx + dy * dy))


@njit(cache=True, nogil=True)
def _aligned_iou(a_lwh_m: NDArray[np.float64], b_lwh_m: NDArray[np.float64]) -> float:
    """IoU of two boxes put on the same place and heading."""
    a, b, common = 1.0, 1.0, 1.0
    for k in range(3):
        a *= a_lwh_m[k]
        b *= b_lwh_m[k]
        common *= min(a_lwh_m[k], b_lwh_m[k])
    return common / (a + b - common)


@njit(cache=True, nogil=True)
def _turn(a_rad: float, b_rad: float, period_rad: float) -> float:
    """Smallest angle between two headings that are equal up to a period, at least 0."""
    return abs((a_rad - b_rad + period_rad / 2) % period_rad - period_rad / 2)


@njit(cache=True, nogil=True)
def precision_curve(
    hits: NDArray[np.bool_], score: NDArray[np.float64], positives: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Precision and score along recall, of one class.

    Args:
        hits: Whether each prediction matched, best first, (P,); at least one did.
        score: (P,).
        positives: Number of annotations.

    Returns:
        Both (101,), 0 beyond the recall that was reached.
    """
    recall, precision = np.empty(len(hits)), np.empty(len(hits))
    found = 0.0
    for i in range(len(hits)):
        found += hits[i]
        precision[i] = found / (i + 1)
        recall[i] = found / positives
    return interpolate(RECALL, recall, precision, 0.0), interpolate(RECALL, recall, score, 0.0)


@njit(cache=True, nogil=True)
def error_curve(
    error: NDArray[np.float64], score: NDArray[np.float64], confidence: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Mean error of all matches down to the score at each recall, of one class.

    Args:
        error: Error per match, best first, NaN where unknown, (M,).
        score: Score per match, falling, (M,).
        confidence: Score along recall, (101,).

    Returns:
        (101,); ones where no error is known.
    """
    mean = np.empty(len(error))
    total, known = 0.0, 0
    for i in range(len(error)):
        if not np.isnan(error[i]):
            total += error[i]
            known += 1
        mean[i] = total / max(known, 1)
    if known == 0:
        mean[:] = 1.0
    # np.interp's increasing order: lowest score first.
    return interpolate(confidence[::-1].copy(), score[::-1].copy(), mean[::-1].copy(), mean[0])[::-1].copy()


@njit(cache=True, nogil=True)
def interpolate(
    x: NDArray[np.float64], known_x: NDArray[np.float64], known_y: NDArray[np.float64], right: float
) -> NDArray[np.float64]:
    """``np.interp(x, known_x, known_y, right=right)``, bit for bit, in one pass for rising ``x``.

    Where ``known_x`` repeats a value, the last of them answers.
    """
    y = np.empty(len(x))
    last = len(known_x) - 1
    j = -1
    for i in range(len(x)):
        while j < last and known_x[j + 1] <= x[i]:
            j += 1
        while j >= 0 and known_x[j] > x[i]:
            j -= 1
        if j < 0:
            y[i] = known_y[0]
        elif x[i] > known_x[last]:
            y[i] = right
        elif known_x[j] == x[i]:
            y[i] = known_y[j]
        else:
            slope = (known_y[j + 1] - known_y[j]) / (known_x[j + 1] - known_x[j])
            y[i] = slope * (x[i] - known_x[j]) + known_y[j]
    return y
