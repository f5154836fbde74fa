"""From frames to the one batch that every model and loss reads."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fusionkd.data.frames import Batch, Frame
from fusionkd.geometry import Boxes3D
from fusionkd.preprocess import lidar_depth_maps
from fusionkd.preprocess.clouds import younger
from fusionkd.preprocess.images import normalise_images
from fusionkd.preprocess.views import Arrays, LidarView


@dataclass(frozen=True)
class Sample:
    """A frame on its way into a batch, perhaps augmented.

    Attributes:
        frame: The frame; after a BEV augmentation everything in it but ``global_from_ego`` and
            ``ego_from_lidar`` is in the augmented ego frame.
        ego_from_augmented: (4, 4); the identity without augmentation.
        pasted: Which boxes were pasted from other frames, (M,) bool.
    """

    frame: Frame
    ego_from_augmented: NDArray[np.float64]
    pasted: NDArray[np.bool_]

    @classmethod
    def plain(cls, frame: Frame) -> "Sample":
        """A frame as it is."""
        return cls(frame, np.eye(4), np.zeros(0 if frame.boxes is None else len(frame.boxes), np.bool_))


@dataclass(frozen=True)
class PreparedSample:
    """A sample with everything computed that a batch stacks."""

    sample: Sample
    lidar: Mapping[str, Arrays]
    lidar_depth: NDArray[np.float32]


@dataclass(frozen=True)
class Collator:
    """Makes LiDAR views and depth maps of samples, and batches of those.

    Attributes:
        views: The LiDAR views by name.
        depth_stride: Pixels per cell of the depth maps, along both axes.
        depth_max_age_s: Points older than this give no depth: what moves has left them behind.
    """

    views: Mapping[str, LidarView]
    depth_stride: int = 8
    depth_max_age_s: float = 0.0

    def depth(self, frame: Frame) -> NDArray[np.float32]:
        """LiDAR depth maps of a frame's cameras, (N, H / stride, W / stride)."""
        return lidar_depth_maps(
            younger(frame.points, self.depth_max_age_s),
            image_from_ego=frame.rig.image_from_ego,
            size_px=frame.rig.size_px,
            stride=self.depth_stride,
        )

    def prepare(self, sample: Sample, lidar_depth: NDArray[np.float32]) -> PreparedSample:
        """The LiDAR views of a sample, beside the depth maps of its frame before objects were pasted into it."""
        views = {name: view.make(sample.frame.points) for name, view in self.views.items()}
        return PreparedSample(sample, views, lidar_depth)

    def collate(self, samples: Sequence[PreparedSample]) -> Batch:
        """One batch of prepared samples."""
        frames = [prepared.sample.frame for prepared in samples]
        boxes, label, pasted = _pad_boxes([prepared.sample for prepared in samples])
        augmented = np.stack([prepared.sample.ego_from_augmented for prepared in samples])
        return Batch(
            token=tuple(frame.token for frame in frames),
            images=normalised_images([frame.images for frame in frames]),
            camera_present=torch.ones(len(frames), len(frames[0].rig), dtype=torch.bool),
            image_from_ego=torch.from_numpy(np.stack([f.rig.image_from_ego for f in frames]).astype(np.float32)),
            lidar={
                name: _tensors(view.collate([prepared.lidar[name] for prepared in samples]))
                for name, view in self.views.items()
            },
            lidar_present=torch.ones(len(frames), dtype=torch.bool),
            lidar_depth=torch.from_numpy(np.stack([prepared.lidar_depth for prepared in samples])),
            gt_boxes=boxes,
            gt_label=label,
            labelled=torch.tensor([frame.boxes is not None for frame in frames]),
            pasted=pasted,
            ego_from_augmented=torch.from_numpy(augmented.astype(np.float32)),
            global_from_ego=torch.from_numpy(np.stack([frame.global_from_ego for frame in frames])),
        )

    def batch(self, frames: Sequence[Frame]) -> Batch:
        """One batch of plain frames."""
        return self.collate([self.prepare(Sample.plain(frame), self.depth(frame)) for frame in frames])


def normalised_images(images: Sequence[NDArray[np.uint8]]) -> Tensor:
    """Images (N, H, W, 3) uint8 of B frames as (B, N, 3, H, W) float32 with ImageNet's mean and deviation."""
    out = np.empty((len(images), len(images[0]), 3, *images[0].shape[1:3]), np.float32)  # (B, N, 3, H, W)
    for frame, normalised in zip(images, out):
        normalise_images(frame, out=normalised)
    return torch.from_numpy(out)


def _tensors(arrays: Mapping[str, NDArray[Any]]) -> dict[str, Tensor]:
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def _pad_boxes(samples: Sequence[Sample]) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes (B, M, 9), labels (B, M) and pasted flags (B, M), padded with zeros, -1 and False; M is at least 1."""
    boxes = [Boxes3D.empty() if s.frame.boxes is None else s.frame.boxes for s in samples]
    most = max(1, *(len(b) for b in boxes))
    rows = torch.zeros(len(samples), most, 9)
    label = torch.full((len(samples), most), -1, dtype=torch.int64)
    pasted = torch.zeros(len(samples), most, dtype=torch.bool)
    for i, (sample, b) in enumerate(zip(samples, boxes)):
        rows[i, : len(b)] = torch.from_numpy(b.to_array())
        label[i, : len(b)] = torch.from_numpy(b.label)
        pasted[i, : len(b)] = torch.from_numpy(sample.pasted)
    return rows, label, pasted
