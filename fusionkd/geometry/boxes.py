"""Upright 3D boxes with velocity: annotations and detections alike."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusionkd.geometry.transforms import transform_points, wrap_angle_rad, yaw_of

DETECTION_CLASSES: tuple[str, ...] = (
    "car",
    "truck",
    "construction_vehicle",
    "bus",
    "trailer",
    "barrier",
    "motorcycle",
    "bicycle",
    "pedestrian",
    "traffic_cone",
)
"""The ten nuScenes detection classes, in the order of every label index in fusionkd."""


@dataclass(frozen=True)
class Boxes3D:
    """N upright boxes of one frame, in one coordinate frame.

    Attributes:
        xyz_m: Geometric centres, (N, 3) float32.
        lwh_m: Length (along the heading), width, height, (N, 3) float32.
        yaw_rad: Heading about +z, zero along +x, counter-clockwise, (N,) float32.
        velocity_mps: Velocity over ground in the frame's axes, (N, 2) float32; NaN where unknown.
        label: Index into the class list, (N,) int64.
        score: Confidence in [0, 1], (N,) float32; 1 for annotations.
    """

    xyz_m: NDArray[np.float32]
    lwh_m: NDArray[np.float32]
    yaw_rad: NDArray[np.float32]
    velocity_mps: NDArray[np.float32]
    label: NDArray[np.int64]
    score: NDArray[np.float32]

    def __post_init__(self) -> None:
        n = len(self.xyz_m)
        wanted = {
            "xyz_m": (n, 3),
            "lwh_m": (n, 3),
            "yaw_rad": (n,),
            "velocity_mps": (n, 2),
            "label": (n,),
            "score": (n,),
        }
        for name, shape in wanted.items():
            found = np.shape(getattr(self, name))
            if found != shape:
                raise ValueError(f"Boxes3D.{name} must have shape {shape} for {n} boxes, found {found}.")
            dtype = np.int64 if name == "label" else np.float32
            object.__setattr__(self, name, np.ascontiguousarray(getattr(self, name), dtype=dtype))

    def __len__(self) -> int:
        return len(self.label)

    @classmethod
    def empty(cls) -> "Boxes3D":
        """No boxes."""
        return cls.from_array(np.zeros((0, 9), np.float32), np.zeros(0, np.int64))

    @classmethod
    def from_array(cls, boxes: NDArray[Any], label: NDArray[Any], score: NDArray[Any] | None = None) -> "Boxes3D":
        """Boxes of rows (x, y, z, l, w, h, yaw, vx, vy); score 1 where none is given."""
        scores = np.ones(len(boxes), np.float32) if score is None else score
        return cls(boxes[:, :3], boxes[:, 3:6], boxes[:, 6], boxes[:, 7:9], label, scores)

    def to_array(self) -> NDArray[np.float32]:
        """Rows (x, y, z, l, w, h, yaw, vx, vy), (N, 9) float32."""
        return np.concatenate([self.xyz_m, self.lwh_m, self.yaw_rad[:, None], self.velocity_mps], axis=1)

    def select(self, keep: NDArray[Any]) -> "Boxes3D":
        """The boxes of a boolean mask or of indices, in that order."""
        return Boxes3D(
            self.xyz_m[keep],
            self.lwh_m[keep],
            self.yaw_rad[keep],
            self.velocity_mps[keep],
            self.label[keep],
            self.score[keep],
        )

    def transformed(self, a_from_b: NDArray[Any]) -> "Boxes3D":
        """The boxes in another frame; the transform's tilt moves centres but not the upright boxes."""
        rotation = np.asarray(a_from_b[:2, :2], dtype=np.float64)
        return Boxes3D(
            transform_points(a_from_b, self.xyz_m).astype(np.float32),
            self.lwh_m,
            wrap_angle_rad(self.yaw_rad + yaw_of(a_from_b)).astype(np.float32),
            (self.velocity_mps @ rotation.T).astype(np.float32),
            self.label,
            self.score,
        )

    def corners(self) -> NDArray[np.float32]:
        """Corners, (N, 8, 3): the bottom four counter-clockwise from front left, then the top four."""
        unit = np.array(
            [[1, 1, -1], [-1, 1, -1], [-1, -1, -1], [1, -1, -1], [1, 1, 1], [-1, 1, 1], [-1, -1, 1], [1, -1, 1]]
        )
        local = self.lwh_m[:, None] * unit * 0.5  # (N, 8, 3)
        cos, sin = np.cos(self.yaw_rad)[:, None], np.sin(self.yaw_rad)[:, None]
        x = local[..., 0] * cos - local[..., 1] * sin
        y = local[..., 0] * sin + local[..., 1] * cos
        corners = np.stack([x, y, local[..., 2]], axis=-1) + self.xyz_m[:, None]
        return np.asarray(corners, dtype=np.float32)

    @staticmethod
    def concatenate(parts: Sequence["Boxes3D"]) -> "Boxes3D":
        """All boxes of several sets, in order."""
        if not parts:
            return Boxes3D.empty()
        return Boxes3D.from_array(
            np.concatenate([p.to_array() for p in parts]),
            np.concatenate([p.label for p in parts]),
            np.concatenate([p.score for p in parts]),
        )
