"""Annotations at 20 Hz: between two keyframes, boxes are interpolated as the nuScenes devkit does."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fusionkd.errors import UserError
from fusionkd.metrics.truth import DetectionTruth, annotation_columns

if TYPE_CHECKING:
    from fusionkd.data import FrameRecord, NuScenesIndex

_NEARLY_PARALLEL = 0.9995
"""Quaternions nearer than this (their dot product) are interpolated linearly, as pyquaternion does."""


def interpolated_truth(index: "NuScenesIndex", records: Sequence["FrameRecord"]) -> DetectionTruth:
    """Truth at keyframes and at LiDAR sweeps between them.

    A keyframe has its own annotations. A sweep has the boxes of the devkit's ``NuScenes.get_boxes``: those of the next
    keyframe, each on the straight way between the two keyframes (position linearly, orientation spherically) if the
    object is annotated in both, else where the next keyframe has it. The devkit gives these boxes no velocity, no
    attribute and no number of points: the velocity is interpolated linearly, the others are those of the keyframe
    nearer in time.

    Args:
        index: The annotations.
        records: Frames; those of ``fusionkd.data.streams.stream_records`` for example.

    Raises:
        UserError: If a sweep lies after its scene's last keyframe or before the first one.
    """
    parts = [_at(index, record) for record in records]
    sample = np.repeat(np.arange(len(parts)), [len(rows) for rows, _, _ in parts])
    # The empty array keeps the types where there is no record at all.
    after = np.concatenate([np.zeros(0, np.int64), *(rows for rows, _, _ in parts)])
    before = np.concatenate([np.zeros(0, np.int64), *(rows for _, rows, _ in parts)])
    share = np.concatenate([np.zeros(0), *(np.full(len(rows), share) for rows, _, share in parts)])
    columns, earlier = annotation_columns(index, after), annotation_columns(index, before)
    for name in ("xyz_m", "velocity_mps"):
        columns[name] = _between(earlier[name], columns[name], share)
    columns["wxyz"] = slerp(earlier["wxyz"], columns["wxyz"], share)
    for name in ("attribute", "num_points"):
        columns[name] = np.where(share < 0.5, earlier[name], columns[name])
    return DetectionTruth.from_annotations(
        tokens=[record.token for record in records],
        ego_xyz_m=index.sweeps.ego_xyz_m[[record.sweep for record in records]].reshape(-1, 3),
        sample=sample,
        **columns,
    )


def slerp(first: NDArray[np.float64], last: NDArray[np.float64], share: NDArray[np.float64]) -> NDArray[np.float64]:
    """Spherical interpolation of unit quaternions along the shorter arc, as pyquaternion does it.

    Args:
        first: (M, 4).
        last: (M, 4).
        share: 0 at ``first``, 1 at ``last``, (M,).

    Returns:
        (M, 4), of unit length.
    """
    first = first / np.linalg.norm(first, axis=1, keepdims=True)
    last = last / np.linalg.norm(last, axis=1, keepdims=True)
    dot = np.sum(first * last, axis=1)
    first = np.where(dot[:, None] < 0, -first, first)
    dot = np.abs(dot)
    angle = np.arccos(np.minimum(dot, 1.0))
    sine = np.where(dot > _NEARLY_PARALLEL, 1.0, np.sin(angle))
    straight = dot > _NEARLY_PARALLEL
    weight = np.where(straight, 1 - share, np.sin((1 - share) * angle) / sine)
    weight_last = np.where(straight, share, np.sin(share * angle) / sine)
    mixed = weight[:, None] * first + weight_last[:, None] * last
    return np.asarray(mixed / np.linalg.norm(mixed, axis=1, keepdims=True))


def _at(index: "NuScenesIndex", record: "FrameRecord") -> tuple[NDArray[np.int64], NDArray[np.int64], float]:
    """Annotations of the next keyframe, their partners in the one before, and where between the two a frame lies."""
    if record.sample >= 0:
        rows = _rows(index, record.sample)
        return rows, rows, 1.0
    before, after = _keyframes_around(index, record)
    start_us, end_us = index.samples.timestamp_us[[before, after]].tolist()
    rows, others = _rows(index, after), _rows(index, before)
    instance = index.annotations.instance
    place = {int(thing): int(row) for thing, row in zip(instance[others], others)}
    partner = np.array([place.get(int(thing), int(row)) for thing, row in zip(instance[rows], rows)], dtype=np.int64)
    return rows, partner, (record.timestamp_us - start_us) / (end_us - start_us)


def _rows(index: "NuScenesIndex", sample: int) -> NDArray[np.int64]:
    rows = index.annotations.rows(sample)
    return np.arange(rows.start, rows.stop)


def _keyframes_around(index: "NuScenesIndex", record: "FrameRecord") -> tuple[int, int]:
    samples = np.flatnonzero(index.samples.scene == index.scene_names.index(record.scene))
    samples = samples[np.argsort(index.samples.timestamp_us[samples], kind="stable")]
    after = int(np.searchsorted(index.samples.timestamp_us[samples], record.timestamp_us))
    if not 0 < after < len(samples):
        raise UserError(
            f"Sweep {record.token} of {record.scene} doesn't lie between two keyframes, so nothing says where objects "
            f"were at its time."
        )
    return int(samples[after - 1]), int(samples[after])


def _between(first: NDArray[np.float64], last: NDArray[np.float64], share: NDArray[np.float64]) -> NDArray[np.float64]:
    # Exactly `last` at 1: a keyframe's numbers stay what they are.
    return np.where(share[:, None] == 1.0, last, first + share[:, None] * (last - first))
