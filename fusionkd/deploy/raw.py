"""One frame as the sensors hand it over."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

POINT_BYTES = 20
"""Bytes of a LiDAR point: float32 x, y, z, intensity, ring."""


@dataclass(frozen=True)
class RawFrame:
    """Sensor bytes of one moment, and where the sensors were.

    The ego frame is that of the LiDAR keyframe's timestamp: x forward, y left, z up.

    Attributes:
        token: Name of the frame, for reports.
        sweeps: Bytes of each LiDAR sweep, newest first: float32 x, y, z, intensity, ring per point, in the sensor's
            frame; empty where the LiDAR is lost.
        key_from_sweep: (S, 4, 4) from each sweep's sensor frame to the ego frame.
        age_s: (S,) age of each sweep in seconds, 0 for the newest.
        images: Per camera, in the order of ``CAMERAS``: bytes of a JPEG file, (H, W, 3) uint8 RGB, or None where
            the camera is lost.
        intrinsics: (N, 3, 3) of the stored images.
        ego_from_camera: (N, 4, 4) at the LiDAR's time.
        stored_px: (height, width) of the stored images.
    """

    token: str
    sweeps: tuple[bytes, ...]
    key_from_sweep: NDArray[np.float64]
    age_s: NDArray[np.float64]
    images: tuple[bytes | NDArray[np.uint8] | None, ...]
    intrinsics: NDArray[np.float64]
    ego_from_camera: NDArray[np.float64]
    stored_px: tuple[int, int]

    def __post_init__(self) -> None:
        sweeps, cameras = len(self.sweeps), len(self.images)
        self._check("key_from_sweep", self.key_from_sweep, (sweeps, 4, 4))
        self._check("age_s", self.age_s, (sweeps,))
        self._check("intrinsics", self.intrinsics, (cameras, 3, 3))
        self._check("ego_from_camera", self.ego_from_camera, (cameras, 4, 4))
        for number, sweep in enumerate(self.sweeps):
            if len(sweep) % POINT_BYTES:
                raise ValueError(
                    f"RawFrame.sweeps[{number}] of {self.token} has {len(sweep)} bytes; a point is {POINT_BYTES} "
                    f"(float32 x, y, z, intensity, ring)."
                )

    def _check(self, name: str, value: NDArray[Any], shape: tuple[int, ...]) -> None:
        if value.shape != shape:
            raise ValueError(f"RawFrame.{name} of {self.token} must be of shape {shape}, found {value.shape}.")
