"""What the data room hands on: one frame in numpy, one batch in torch."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fusionkd.geometry import Boxes3D, CameraRig


@dataclass(frozen=True)
class Frame:
    """Everything the sensors and the annotators say about one moment.

    The coordinate frame is ego at the LiDAR's timestamp: x forward, y left, z up.

    Attributes:
        token: nuScenes sample token of a keyframe, or sample_data token of an unlabelled sweep.
        scene: Scene name.
        timestamp_us: LiDAR timestamp.
        points: (P, 5) float32: x, y, z in metres, intensity 0..255, age in seconds (0 for the
            keyframe's own sweep, positive for older ones).
        images: (N, H, W, 3) uint8 RGB in the order of ``CAMERAS``.
        rig: The cameras that took the images.
        boxes: Annotations, or None for an unlabelled frame.
        global_from_ego: (4, 4) pose, to write results in the global frame.
        ego_from_lidar: (4, 4) mounting of the LiDAR.
    """

    token: str
    scene: str
    timestamp_us: int
    points: NDArray[np.float32]
    images: NDArray[np.uint8]
    rig: CameraRig
    boxes: Boxes3D | None
    global_from_ego: NDArray[np.float64]
    ego_from_lidar: NDArray[np.float64]

    def __post_init__(self) -> None:
        if self.points.ndim != 2 or self.points.shape[1] != 5:
            raise ValueError(f"Frame.points must be (P, 5), found {self.points.shape} in {self.token}.")
        if self.images.ndim != 4 or self.images.shape[0] != len(self.rig) or self.images.shape[3] != 3:
            raise ValueError(
                f"Frame.images must be ({len(self.rig)}, H, W, 3) to fit its rig, "
                f"found {self.images.shape} in {self.token}."
            )


@dataclass(frozen=True)
class Batch:
    """B frames as tensors: the only input of every model and loss.

    Attributes:
        token: Per frame, the token of ``Frame``.
        images: (B, N, 3, H, W) float32, normalised with ImageNet's mean and deviation.
        camera_present: (B, N) bool; a lost camera has False and zeros for an image.
        image_from_ego: (B, N, 4, 4) float32, see ``CameraRig.image_from_ego``.
        lidar: Per view name, that view's tensors: a raster view has ``raster`` (B, C, rows,
            columns); a pillar view has ``points`` (P, K, 5), ``count`` (P,), ``coords`` (P, 3) int64
            of batch, row, column.
        lidar_present: (B,) bool; False where the LiDAR was lost.
        lidar_depth: (B, N, H / stride, W / stride) float32, metres, 0 where no point fell; what the depth
            net is supervised with.
        gt_boxes: (B, M, 9) float32: x, y, z, l, w, h, yaw, vx, vy in ego; velocity NaN where unknown.
        gt_label: (B, M) int64, -1 where there is no box.
        labelled: (B,) bool; False for frames whose annotations may not be used.
        pasted: (B, M) bool; boxes pasted from other frames into the LiDAR alone (images and
            teachers' cached answers never saw them).
        ego_from_augmented: (B, 4, 4) float32; the true ego frame from this batch's (flipped, turned,
            scaled) one.
        global_from_ego: (B, 4, 4) float64, pose of the true ego frame.
    """

    token: tuple[str, ...]
    images: Tensor
    camera_present: Tensor
    image_from_ego: Tensor
    lidar: Mapping[str, Mapping[str, Tensor]]
    lidar_present: Tensor
    lidar_depth: Tensor
    gt_boxes: Tensor
    gt_label: Tensor
    labelled: Tensor
    pasted: Tensor
    ego_from_augmented: Tensor
    global_from_ego: Tensor

    def __len__(self) -> int:
        return len(self.token)

    @property
    def device(self) -> torch.device:
        """Where the tensors live."""
        return self.images.device

    def to(self, device: Any, non_blocking: bool = False) -> "Batch":
        """The batch on another device (Lightning moves a frozen dataclass only through this)."""
        return self.map(lambda t: t.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> "Batch":
        """The batch in page-locked memory, for copies to a GPU that overlap with its work."""
        return self.map(lambda t: t.pin_memory())

    def map(self, function: Callable[[Tensor], Tensor]) -> "Batch":
        """The batch with a function of each tensor in its place, always in the same order."""
        changed: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Tensor):
                changed[field.name] = function(value)
        changed["lidar"] = {
            view: {name: function(tensor) for name, tensor in tensors.items()} for view, tensors in self.lidar.items()
        }
        return replace(self, **changed)
