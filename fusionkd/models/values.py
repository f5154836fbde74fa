"""What goes into a model and what comes out: the same for every teacher and student."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor

from fusionkd.geometry import BevGrid

REGRESSION_CHANNELS: tuple[str, ...] = (
    "offset_x",
    "offset_y",
    "z_m",
    "log_l",
    "log_w",
    "log_h",
    "sin_yaw",
    "cos_yaw",
    "vx_mps",
    "vy_mps",
)
"""Channels of ``FusionOutput.box_regression``, the layout of CenterPoint (Yin et al., CVPR 2021):
offsets in cells from the cell's lower border, z of the geometric centre."""


class SensorBatch(Protocol):
    """The part of a batch that a model reads; ``fusionkd.data.Batch`` is one."""

    @property
    def images(self) -> Tensor:
        """(B, N, 3, H, W) normalised images."""

    @property
    def camera_present(self) -> Tensor:
        """(B, N) bool."""

    @property
    def image_from_ego(self) -> Tensor:
        """(B, N, 4, 4) projection to the network's images."""

    @property
    def lidar(self) -> Mapping[str, Mapping[str, Tensor]]:
        """Per view name, that view's tensors."""

    @property
    def lidar_present(self) -> Tensor:
        """(B,) bool."""

    @property
    def lidar_depth(self) -> Tensor:
        """(B, N, h, w) metres, 0 where unknown; read by models whose cameras ask the LiDAR for depth."""


@dataclass(frozen=True)
class FusionOutput:
    """A model's maps on its BEV grid.

    Attributes:
        heatmap: Class logits before the sigmoid, (B, classes, rows, columns).
        box_regression: (B, tasks, 10, rows, columns), channels of ``REGRESSION_CHANNELS``. A task
            is a group of classes that share one regression.
        heading_axis: (sin 2 yaw, cos 2 yaw), (B, tasks, 2, rows, columns); the heading's axis
            without its direction, or None where the head has no such branch.
        bev: The BEV features that the head reads, (B, C, rows, columns).
        camera_bev: Camera branch's BEV features, or None where the model has no camera.
        lidar_bev: LiDAR branch's BEV features, or None where the model has no LiDAR.
        depth_logits: (B, N, bins, h, w) of the view transform, or None.
        grid: The grid of ``heatmap`` and ``bev``.
        classes: Class names, in the order of the heatmap's channels.
        task_of_class: Task index of each class.
        frame: Name of the coordinate frame the grid lies in.
        depth_edges_m: Borders of the depth bins, or None without ``depth_logits``.
        hooked: What modules inside of the model gave, by dotted path, where someone asked for it
            (``fusionkd.distillation.recording``).
    """

    heatmap: Tensor
    box_regression: Tensor
    heading_axis: Tensor | None
    bev: Tensor
    camera_bev: Tensor | None
    lidar_bev: Tensor | None
    depth_logits: Tensor | None
    grid: BevGrid
    classes: tuple[str, ...]
    task_of_class: tuple[int, ...]
    frame: str = "ego"
    depth_edges_m: tuple[float, ...] | None = None
    hooked: Mapping[str, Tensor] = field(default_factory=dict)
