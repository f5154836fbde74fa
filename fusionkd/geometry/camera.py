"""The cameras of one frame: where each stands and how it maps the world to pixels."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusionkd.geometry.transforms import invert_affine, transform_points

CAMERAS: tuple[str, ...] = (
    "CAM_FRONT_LEFT",
    "CAM_FRONT",
    "CAM_FRONT_RIGHT",
    "CAM_BACK_LEFT",
    "CAM_BACK",
    "CAM_BACK_RIGHT",
)
"""Camera channels in the order of every camera axis in fusionkd."""


@dataclass(frozen=True)
class CameraRig:
    """N pinhole cameras seen from the ego frame at the LiDAR keyframe's time.

    ``ego_from_camera`` holds the mounting and the ego motion between the image and the LiDAR
    keyframe, so that nothing downstream handles time again. Camera frames are x right, y down,
    z forward.

    Attributes:
        intrinsics: Camera matrices for the image as stored, (N, 3, 3) float64.
        ego_from_camera: (N, 4, 4) float64; affine instead of rigid after a BEV augmentation.
        image_aug: Pixel of the network's image from pixel of the stored image, (N, 3, 3) float64.
        size_px: (height, width) of the network's images.
    """

    intrinsics: NDArray[np.float64]
    ego_from_camera: NDArray[np.float64]
    image_aug: NDArray[np.float64]
    size_px: tuple[int, int]

    def __post_init__(self) -> None:
        n = len(self.intrinsics)
        for name, shape in (("intrinsics", (n, 3, 3)), ("ego_from_camera", (n, 4, 4)), ("image_aug", (n, 3, 3))):
            array = np.asarray(getattr(self, name), dtype=np.float64)
            if array.shape != shape or not np.all(np.isfinite(array)):
                raise ValueError(f"CameraRig.{name} must be finite with shape {shape}, found shape {array.shape}.")
            object.__setattr__(self, name, array)

    def __len__(self) -> int:
        return len(self.intrinsics)

    @property
    def image_from_ego(self) -> NDArray[np.float64]:
        """(N, 4, 4): (u * d, v * d, d, 1) of the network's image from (x, y, z, 1) in ego."""
        pixel = np.zeros((len(self), 4, 4))
        pixel[:, 3, 3] = 1.0
        pixel[:, :3, :3] = self.image_aug @ self.intrinsics
        return np.asarray(pixel @ invert_affine(self.ego_from_camera))

    def project(self, camera: int, points_ego_m: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Pixels (N, 2) and depths (N,) in metres of ego points in one camera.

        Points at or behind the image plane have a depth <= 0; their pixels mean nothing.
        """
        homogeneous = transform_points(self.image_from_ego[camera], points_ego_m)
        depth = homogeneous[:, 2]
        safe = np.where(np.abs(depth) < 1e-9, 1e-9, depth)
        return homogeneous[:, :2] / safe[:, None], depth
