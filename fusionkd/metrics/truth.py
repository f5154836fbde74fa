"""Annotations of many samples in the global frame, and what nuScenes filters them with."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fusionkd.errors import UserError
from fusionkd.geometry import DETECTION_CLASSES, rotation_from_quaternion
from fusionkd.metrics.attributes import ATTRIBUTES, attribute_index

if TYPE_CHECKING:
    from fusionkd.data import NuScenesIndex

BICYCLE_RACK = "static_object.bicycle_rack"
"""Category of the annotations in which nuScenes doesn't judge bicycles and motorcycles."""


@dataclass(frozen=True, eq=False)
class DetectionTruth:
    """A boxes of the ten detection classes of N samples in the GLOBAL frame, sample by sample.

    Attributes:
        tokens: Sample tokens.
        ego_xyz_m: Where the car was at the LiDAR keyframe's time, (N, 3) float64.
        start: Rows of sample ``i`` are ``start[i]`` up to, without, ``start[i + 1]``; (N + 1,) int64.
        xyz_m: Geometric centres, (A, 3) float64, in the order of the devkit's ``sample["anns"]``.
        lwh_m: Length, width, height, (A, 3) float64.
        yaw_rad: Heading seen from above, (A,) float64.
        velocity_mps: (A, 2) float64, NaN where unknown.
        label: Index into ``DETECTION_CLASSES``, (A,) int64.
        attribute: Index into ``ATTRIBUTES``, -1 for none, (A,) int64.
        num_points: LiDAR and radar points inside, (A,) int64.
        rack_sample: Sample index of each bicycle rack, rising, (R,) int64.
        rack_corners_m: A corner of each rack and the three next to it along length, width and height,
            (R, 4, 3) float64.
    """

    tokens: tuple[str, ...]
    ego_xyz_m: NDArray[np.float64]
    start: NDArray[np.int64]
    xyz_m: NDArray[np.float64]
    lwh_m: NDArray[np.float64]
    yaw_rad: NDArray[np.float64]
    velocity_mps: NDArray[np.float64]
    label: NDArray[np.int64]
    attribute: NDArray[np.int64]
    num_points: NDArray[np.int64]
    rack_sample: NDArray[np.int64]
    rack_corners_m: NDArray[np.float64]

    def __post_init__(self) -> None:
        n, a, r = len(self.tokens), len(self.label), len(self.rack_sample)
        shapes: dict[str, tuple[int, ...]] = {"ego_xyz_m": (n, 3), "start": (n + 1,), "xyz_m": (a, 3), "lwh_m": (a, 3)}
        shapes |= {"yaw_rad": (a,), "velocity_mps": (a, 2), "label": (a,), "attribute": (a,), "num_points": (a,)}
        shapes |= {"rack_sample": (r,), "rack_corners_m": (r, 4, 3)}
        whole = ("start", "label", "attribute", "num_points", "rack_sample")
        for name, shape in shapes.items():
            array = np.ascontiguousarray(getattr(self, name), dtype=np.int64 if name in whole else np.float64)
            if array.shape != shape:
                raise UserError(f"DetectionTruth.{name} must have shape {shape}, found {array.shape}.")
            if name != "velocity_mps" and not np.all(np.isfinite(array)):
                raise UserError(f"DetectionTruth.{name} must be finite.")
            array = array.view()
            array.flags.writeable = False
            object.__setattr__(self, name, array)
        if self.start[0] != 0 or self.start[-1] != a or np.any(np.diff(self.start) < 0):
            raise UserError(f"DetectionTruth.start must rise from 0 to the number of boxes, {a}; found {self.start}.")
        if len(self.row_of) != n:
            raise UserError("DetectionTruth.tokens must name each sample once; some sample occurs twice.")
        if np.any(np.diff(self.rack_sample) < 0) or np.any((self.rack_sample < 0) | (self.rack_sample >= n)):
            raise UserError("DetectionTruth.rack_sample must rise and hold indices of samples.")
        if np.any((self.label < 0) | (self.label >= len(DETECTION_CLASSES))):
            raise UserError(
                f"DetectionTruth.label must hold indices of the {len(DETECTION_CLASSES)} detection classes."
            )
        if np.any((self.attribute < -1) | (self.attribute >= len(ATTRIBUTES))):
            raise UserError("DetectionTruth.attribute must hold -1 or indices of ATTRIBUTES.")

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.tokens)

    @cached_property
    def row_of(self) -> dict[str, int]:
        """Place of each sample token in ``tokens``."""
        return {token: row for row, token in enumerate(self.tokens)}

    @cached_property
    def sample(self) -> NDArray[np.int64]:
        """Sample index of each box, (A,)."""
        return np.repeat(np.arange(len(self)), np.diff(self.start))

    @cached_property
    def rack_start(self) -> NDArray[np.int64]:
        """Racks of sample ``i`` are ``rack_start[i]`` up to, without, ``rack_start[i + 1]``; (N + 1,)."""
        return np.searchsorted(self.rack_sample, np.arange(len(self) + 1))

    @classmethod
    def from_annotations(
        cls,
        *,
        tokens: Sequence[str],
        ego_xyz_m: NDArray[Any],
        sample: NDArray[Any],
        xyz_m: NDArray[Any],
        lwh_m: NDArray[Any],
        wxyz: NDArray[Any],
        velocity_mps: NDArray[Any],
        label: NDArray[Any],
        attribute: NDArray[Any],
        num_points: NDArray[Any],
        is_rack: NDArray[Any],
    ) -> "DetectionTruth":
        """Truth from all annotations, also those that are no detection class.

        Args:
            tokens: N sample tokens.
            ego_xyz_m: (N, 3).
            sample: Sample index per annotation, in any order, (M,); within a sample the order is kept.
            xyz_m: (M, 3).
            lwh_m: (M, 3).
            wxyz: Orientation quaternions, scalar first, (M, 4).
            velocity_mps: (M, 2).
            label: Index into ``DETECTION_CLASSES``, or -1 for none, (M,).
            attribute: Index into ``ATTRIBUTES``, or -1 for none, (M,).
            num_points: LiDAR and radar points inside, (M,).
            is_rack: Whether the category is a bicycle rack, (M,).
        """
        order = np.argsort(sample, kind="stable")
        boxes = order[np.asarray(label)[order] >= 0]
        racks = order[np.asarray(is_rack, dtype=np.bool_)[order]]
        axes = rotation_from_quaternion(wxyz)
        return cls(
            tokens=tuple(tokens),
            ego_xyz_m=ego_xyz_m,
            start=np.searchsorted(np.asarray(sample)[boxes], np.arange(len(tokens) + 1)),
            xyz_m=xyz_m[boxes],
            lwh_m=lwh_m[boxes],
            yaw_rad=np.arctan2(axes[boxes, 1, 0], axes[boxes, 0, 0]),
            velocity_mps=velocity_mps[boxes],
            label=label[boxes],
            attribute=attribute[boxes],
            num_points=num_points[boxes],
            rack_sample=sample[racks],
            rack_corners_m=_edge_corners(xyz_m[racks], lwh_m=lwh_m[racks], axes=axes[racks]),
        )

    @classmethod
    def from_index(cls, index: "NuScenesIndex", scenes: Sequence[str]) -> "DetectionTruth":
        """The annotated keyframes of some scenes of an index, in the sample table's order.

        Raises:
            UserError: If a scene isn't in the index, or a keyframe has no LiDAR sweep.
        """
        boxes = index.annotations
        records = index.records(scenes)
        rows = np.array([record.sample for record in records], dtype=np.int64)
        place = np.full(len(index), -1, dtype=np.int64)
        place[rows] = np.arange(len(rows))
        sample = place[np.repeat(np.arange(len(index)), np.diff(boxes.start))]
        here = np.flatnonzero(sample >= 0)
        return cls.from_annotations(
            tokens=[record.token for record in records],
            ego_xyz_m=index.sweeps.ego_xyz_m[[record.sweep for record in records]],
            sample=sample[here],
            **annotation_columns(index, here),
        )

    @classmethod
    def from_tables(cls, root: str | Path, version: str, scenes: str | Sequence[str]) -> "DetectionTruth":
        """The annotated keyframes of a split or of some scenes, from the JSON tables.

        Args:
            root: Folder of the data set.
            version: For example ``v1.0-mini``.
            scenes: A split (``mini_val``, or one of ``splits.json``), or scene names.

        Raises:
            UserError: If a table is missing or malformed, or there is no such split or scene.
        """
        # Imported here because the metric itself needs no data set on disk.
        from fusionkd.data import NuScenesIndex
        from fusionkd.data.splits import scenes_of

        index = NuScenesIndex.load(root, version)
        return cls.from_index(index, scenes_of(index, scenes))


def annotation_columns(index: "NuScenesIndex", rows: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
    """Annotations of an index as ``from_annotations`` takes them, without their samples.

    Args:
        index: The index.
        rows: Which of its annotations, (M,).

    Raises:
        UserError: If a detected object has an attribute that nuScenes doesn't know.
    """
    boxes = index.annotations
    # The extra last entry answers for -1. Attributes of categories that aren't detected may be unknown names.
    attribute = np.full(len(index.attribute_names) + 1, -1, dtype=np.int64)
    for row in np.unique(boxes.attribute[(boxes.label >= 0) & (boxes.attribute >= 0)]):
        attribute[row] = attribute_index(index.attribute_names[row])
    return {
        "xyz_m": boxes.xyz_m[rows],
        "lwh_m": boxes.lwh_m[rows],
        "wxyz": boxes.wxyz[rows],
        "velocity_mps": boxes.velocity_mps[rows],
        "label": boxes.label[rows],
        "attribute": attribute[boxes.attribute[rows]],
        "num_points": (boxes.num_lidar_pts + boxes.num_radar_pts)[rows],
        "is_rack": np.array([name == BICYCLE_RACK for name in index.category_names])[boxes.category[rows]],
    }


def _edge_corners(xyz_m: NDArray[Any], *, lwh_m: NDArray[Any], axes: NDArray[np.float64]) -> NDArray[np.float64]:
    """The corner at plus length, width and height, and its neighbour along each of them, (R, 4, 3)."""
    signs = np.array([[1, 1, 1], [-1, 1, 1], [1, -1, 1], [1, 1, -1]])
    local = 0.5 * lwh_m[:, None] * signs  # (R, 4, 3)
    return np.asarray(np.einsum("rij,rcj->rci", axes, local) + xyz_m[:, None])
