"""Predicted boxes of many samples in the global frame: what is judged, written and read."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusionkd.errors import UserError
from fusionkd.geometry import DETECTION_CLASSES, Boxes3D, invert_rigid, transform_points, wrap_angle_rad
from fusionkd.metrics.attributes import ATTRIBUTES, attributes_for

BOX_RECORD = np.dtype(
    [
        ("xyz_m", "<f8", (3,)),
        ("yaw_rad", "<f8"),
        ("velocity_mps", "<f8", (2,)),
        ("lwh_m", "<f4", (3,)),
        ("score", "<f4"),
        ("label", "i1"),
        ("attribute", "i1"),
    ]
)
"""One global box without padding. Positions keep float64: at a nuScenes map's 2 km, float32 has steps of 0.1 mm."""


@dataclass(frozen=True, eq=False)
class Detections:
    """P predicted boxes of N samples in the GLOBAL frame, sample by sample.

    Where scores are equal, boxes that come later in this order are matched first, as the devkit does with the
    order of a results file.

    Attributes:
        tokens: Sample tokens, each once; also those of samples without boxes.
        start: Rows of sample ``i`` are ``start[i]`` up to, without, ``start[i + 1]``; (N + 1,) int64.
        xyz_m: Geometric centres, (P, 3) float64.
        lwh_m: Length, width, height, (P, 3) float64.
        yaw_rad: Heading seen from above, (P,) float64.
        velocity_mps: (P, 2) float64, NaN where unknown.
        label: Index into ``DETECTION_CLASSES``, (P,) int64.
        score: Confidence, not negative, (P,) float64.
        attribute: Index into ``ATTRIBUTES``, -1 for none, (P,) int64.

    Raises:
        UserError: If a value can't be judged: not finite, a size not positive, an unknown label. It names the sample.
    """

    tokens: tuple[str, ...]
    start: NDArray[np.int64]
    xyz_m: NDArray[np.float64]
    lwh_m: NDArray[np.float64]
    yaw_rad: NDArray[np.float64]
    velocity_mps: NDArray[np.float64]
    label: NDArray[np.int64]
    score: NDArray[np.float64]
    attribute: NDArray[np.int64]

    def __post_init__(self) -> None:
        n, p = len(self.tokens), len(self.label)
        shapes: dict[str, tuple[int, ...]] = {"start": (n + 1,), "xyz_m": (p, 3), "lwh_m": (p, 3), "yaw_rad": (p,)}
        shapes |= {"velocity_mps": (p, 2), "label": (p,), "score": (p,), "attribute": (p,)}
        for name, shape in shapes.items():
            dtype = np.int64 if name in ("start", "label", "attribute") else np.float64
            array = np.ascontiguousarray(getattr(self, name), dtype=dtype)
            if array.shape != shape:
                raise UserError(f"Detections.{name} must have shape {shape}, found {array.shape}.")
            object.__setattr__(self, name, array)
        if self.start[0] != 0 or self.start[-1] != p or np.any(np.diff(self.start) < 0):
            raise UserError(f"Detections.start must rise from 0 to the number of boxes, {p}; found {self.start}.")
        if len(self.row_of) != n:
            raise UserError("Detections.tokens must name each sample once; some sample occurs twice.")
        self._check_values()

    def __len__(self) -> int:
        return len(self.label)

    @cached_property
    def row_of(self) -> dict[str, int]:
        """Place of each sample token in ``tokens``."""
        return {token: row for row, token in enumerate(self.tokens)}

    @classmethod
    def from_records(cls, tokens: Sequence[str], start: NDArray[np.int64], records: NDArray[np.void]) -> "Detections":
        """Boxes of ``BOX_RECORD`` rows."""
        return cls(tokens=tuple(tokens), start=start, **{name: records[name] for name in records.dtype.names or ()})

    @classmethod
    def from_ego(cls, tokens: Sequence[str], boxes: Sequence[Boxes3D], global_from_ego: NDArray[Any]) -> "Detections":
        """Boxes in each sample's ego frame; attributes come from ``attribute_for``.

        Args:
            tokens: N sample tokens.
            boxes: N sets of boxes.
            global_from_ego: (N, 4, 4) poses.
        """
        records = [global_records(b, pose) for b, pose in zip(boxes, global_from_ego, strict=True)]
        start = np.cumsum([0, *map(len, records)])
        return cls.from_records(tokens, start, np.concatenate([np.empty(0, BOX_RECORD), *records]))

    def rows(self, token: str) -> slice:
        """Rows of one sample's boxes.

        Raises:
            UserError: If the sample isn't among ``tokens``.
        """
        if token not in self.row_of:
            raise UserError(f"No results for sample {token!r}; there are results for {len(self.tokens)} samples.")
        row = self.row_of[token]
        return slice(int(self.start[row]), int(self.start[row + 1]))

    def shown_at(self, tokens: Sequence[str], shown: Sequence[str | None]) -> "Detections":
        """The boxes of some samples under other tokens, in another order.

        Args:
            tokens: The new tokens.
            shown: Per new token whose boxes it gets; None for no boxes.

        Raises:
            UserError: If a sample isn't among the old tokens.
        """
        slices = [slice(0, 0) if token is None else self.rows(token) for token in shown]
        rows = np.concatenate([np.zeros(0, np.int64), *(np.arange(s.start, s.stop) for s in slices)])
        columns = {name: getattr(self, name)[rows] for name in BOX_RECORD.names or ()}
        return Detections(tokens=tuple(tokens), start=np.cumsum([0, *(s.stop - s.start for s in slices)]), **columns)

    def in_ego(self, token: str, global_from_ego: NDArray[Any]) -> Boxes3D:
        """One sample's boxes in its ego frame.

        Args:
            token: The sample.
            global_from_ego: (4, 4) pose of that frame.
        """
        rows = self.rows(token)
        ego_from_global = invert_rigid(global_from_ego)
        heading = np.stack([np.cos(self.yaw_rad[rows]), np.sin(self.yaw_rad[rows])], axis=1)
        return Boxes3D(
            transform_points(ego_from_global, self.xyz_m[rows]).astype(np.float32),
            self.lwh_m[rows].astype(np.float32),
            _direction_rad(heading @ ego_from_global[:2, :2].T).astype(np.float32),
            (self.velocity_mps[rows] @ ego_from_global[:2, :2].T).astype(np.float32),
            self.label[rows],
            self.score[rows].astype(np.float32),
        )

    def _check_values(self) -> None:
        finite = {name: np.isfinite(getattr(self, name)) for name in ("xyz_m", "lwh_m", "yaw_rad", "score")}
        good = {
            "xyz_m must be finite": finite["xyz_m"].all(axis=1),
            "lwh_m must be positive and finite": (finite["lwh_m"] & (self.lwh_m > 0)).all(axis=1),
            "yaw_rad must be finite": finite["yaw_rad"],
            "velocity_mps must be finite, or NaN where unknown": ~np.isinf(self.velocity_mps).any(axis=1),
            "label must be the index of a class": (self.label >= 0) & (self.label < len(DETECTION_CLASSES)),
            "score must be finite and not negative": finite["score"] & (self.score >= 0),
            "attribute must be -1 or an index": (self.attribute >= -1) & (self.attribute < len(ATTRIBUTES)),
        }
        for rule, kept in good.items():
            if not kept.all():
                row = int(np.flatnonzero(~kept)[0])
                sample = int(np.searchsorted(self.start, row, side="right")) - 1
                value = getattr(self, rule.split()[0])[row]
                raise UserError(
                    f"Detection {row - self.start[sample]} of sample {self.tokens[sample]} has "
                    f"{rule.split()[0]}={np.asarray(value).tolist()}: {rule}."
                )


def global_records(boxes: Boxes3D, global_from_ego: NDArray[Any]) -> NDArray[np.void]:
    """Boxes of an ego frame as ``BOX_RECORD`` rows in the global frame.

    Centres, headings and velocities are turned by the whole pose; of headings and velocities only the part
    seen from above is kept, so boxes stay upright although the car may stand on a slope.

    Args:
        boxes: In the ego frame.
        global_from_ego: (4, 4) pose.
    """
    pose = np.asarray(global_from_ego, dtype=np.float64)
    yaw = boxes.yaw_rad.astype(np.float64)
    records = np.empty(len(boxes), BOX_RECORD)
    records["xyz_m"] = transform_points(pose, boxes.xyz_m.astype(np.float64))
    records["yaw_rad"] = _direction_rad(np.stack([np.cos(yaw), np.sin(yaw)], axis=1) @ pose[:2, :2].T)
    records["velocity_mps"] = boxes.velocity_mps.astype(np.float64) @ pose[:2, :2].T
    records["lwh_m"] = boxes.lwh_m
    records["score"] = boxes.score
    records["label"] = boxes.label
    records["attribute"] = attributes_for(boxes.label, boxes.velocity_mps)
    return records


def _direction_rad(xy: NDArray[np.float64]) -> NDArray[np.float64]:
    return wrap_angle_rad(np.arctan2(xy[:, 1], xy[:, 0]))
