"""Random changes of training frames that keep points, boxes, images and cameras in agreement."""

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fusionkd.data.collate import Sample
from fusionkd.data.dataset import NuScenesDataset
from fusionkd.data.frames import Frame
from fusionkd.data.sampling import Draw
from fusionkd.errors import UserError
from fusionkd.geometry import CAMERAS, Boxes3D, CameraRig, invert_affine, transform_points
from fusionkd.preprocess.clouds import moved_points
from fusionkd.preprocess.images import crop_top, recolour


class Paster(Protocol):
    """Adds objects to the LiDAR of a sample; ``gt_database.GtPaster`` does."""

    def paste(self, sample: Sample, generator: np.random.Generator) -> Sample:
        """The sample with more objects."""


@dataclass(frozen=True)
class BevAugmentation:
    """Mirrors, turns, scales and shifts the ego frame.

    Attributes:
        flip_x: Chance of x -> -x (front and back swapped).
        flip_y: Chance of y -> -y (left and right swapped).
        max_rotation_rad: Turns about z are drawn from +- this.
        scale: Scales are drawn from this range.
        shift_std_m: Deviation of normal shifts along x, y, z.
    """

    flip_x: float = 0.5
    flip_y: float = 0.5
    max_rotation_rad: float = 0.3925
    scale: tuple[float, float] = (0.95, 1.05)
    shift_std_m: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def __post_init__(self) -> None:
        for name in ("flip_x", "flip_y"):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"BevAugmentation.{name} is a chance between 0 and 1, found {getattr(self, name)}.")
        _check_range("BevAugmentation.scale", self.scale)

    def draw(self, generator: np.random.Generator) -> NDArray[np.float64]:
        """A random ``augmented_from_ego``, (4, 4): an affine map without shear."""
        mirror = np.where(generator.random(2) < (self.flip_x, self.flip_y), -1.0, 1.0)
        angle = generator.uniform(-self.max_rotation_rad, self.max_rotation_rad)
        scale = generator.uniform(*self.scale)
        cos, sin = np.cos(angle), np.sin(angle)
        out = np.eye(4)
        out[:2, :2] = np.array([[cos, -sin], [sin, cos]]) * mirror
        out[:3, :3] *= scale
        out[:3, 3] = generator.normal(size=3) * self.shift_std_m
        return out


@dataclass(frozen=True)
class ImageAugmentation:
    """Scales, shifts, turns, mirrors and recolours each camera image.

    Attributes:
        scale: Scales about the image's centre are drawn from this range.
        max_shift: Shifts are drawn from +- this share of the width and height.
        max_rotation_rad: Turns are drawn from +- this.
        flip: Chance of a left-right mirror.
        brightness: Factors are drawn from 1 +- this, as of the next two.
        contrast: About the middle grey.
        saturation: About each pixel's own grey.
    """

    scale: tuple[float, float] = (0.94, 1.11)
    max_shift: float = 0.05
    max_rotation_rad: float = 0.0942
    flip: float = 0.5
    brightness: float = 0.2
    contrast: float = 0.2
    saturation: float = 0.2

    def __post_init__(self) -> None:
        _check_range("ImageAugmentation.scale", self.scale)
        for name in ("flip", "max_shift", "brightness", "contrast", "saturation"):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"ImageAugmentation.{name} must lie between 0 and 1, found {getattr(self, name)}.")

    def draw_map(
        self, generator: np.random.Generator, base_px: tuple[int, int], size_px: tuple[int, int]
    ) -> NDArray[np.float64]:
        """A random (3, 3) map of pixels from the scaled whole image to the network's."""
        scale = generator.uniform(*self.scale)
        angle = generator.uniform(-self.max_rotation_rad, self.max_rotation_rad)
        mirror = -1.0 if generator.random() < self.flip else 1.0
        shift = generator.uniform(-self.max_shift, self.max_shift, size=2) * (size_px[1], size_px[0])
        centre = np.array([size_px[1] / 2, size_px[0] / 2])
        cos, sin = np.cos(angle), np.sin(angle)
        about = np.eye(3)
        about[:2, :2] = scale * np.array([[cos, -sin], [sin, cos]]) * (mirror, 1.0)
        about[:2, 2] = centre + shift - about[:2, :2] @ centre
        return np.asarray(about @ crop_top(base_px, size_px))

    def draw_colour(self, generator: np.random.Generator) -> NDArray[np.float64]:
        """A random (3, 4) map of (r, g, b, 1), values 0..255."""
        brightness, contrast, saturation = (
            1 + generator.uniform(-limit, limit) for limit in (self.brightness, self.contrast, self.saturation)
        )
        grey = np.tile([0.299, 0.587, 0.114], (3, 1))
        linear = contrast * brightness * (saturation * np.eye(3) + (1 - saturation) * grey)
        offset = np.full((3, 1), (1 - contrast) * 127.5)
        return np.concatenate([linear, offset], axis=1)


@dataclass(frozen=True)
class LidarAugmentation:
    """Makes LiDAR frames poorer: fewer sweeps, fewer points, other intensities.

    What a network should not count on where it meets another sensor, other weather, or the beginning of a recording.

    Attributes:
        fewer_sweeps: Chance that only a drawn number of a frame's newest sweeps is left, from one to all but one.
        kept_points: The share of points that is left is drawn from this range, per frame.
        intensity: The factor on all intensities is drawn from this range, per frame; they stay below 255.
    """

    fewer_sweeps: float = 0.3
    kept_points: tuple[float, float] = (1.0, 1.0)
    intensity: tuple[float, float] = (1.0, 1.0)

    def __post_init__(self) -> None:
        if not 0 <= self.fewer_sweeps <= 1:
            raise UserError(f"LidarAugmentation.fewer_sweeps is a chance between 0 and 1, found {self.fewer_sweeps}.")
        _check_range("LidarAugmentation.kept_points", self.kept_points)
        _check_range("LidarAugmentation.intensity", self.intensity)
        if self.kept_points[1] > 1:
            raise UserError(f"LidarAugmentation.kept_points are shares up to 1, found {list(self.kept_points)}.")

    def change(self, points: NDArray[np.float32], generator: np.random.Generator) -> NDArray[np.float32]:
        """Points (P, 5) with sweeps and points taken away and intensities changed.

        Args:
            points: Sweep after sweep, the newest first; the last column is each point's age.
            generator: Of chance.
        """
        points = self.thin(points, generator)
        share, factor = generator.uniform(*self.kept_points), generator.uniform(*self.intensity)
        if share < 1:
            points = points[generator.random(len(points)) < share]
        if factor != 1:
            points = points.copy()
            points[:, 3] = np.minimum(points[:, 3] * np.float32(factor), 255)
        return points

    def thin(self, points: NDArray[np.float32], generator: np.random.Generator) -> NDArray[np.float32]:
        """Points (P, 5) of a random number of their newest sweeps.

        Args:
            points: Sweep after sweep, the newest first; the last column is each point's age.
            generator: Of chance.
        """
        chance, share = generator.random(2)
        begins = np.flatnonzero(np.diff(points[:, 4])) + 1  # of each sweep but the first
        if chance >= self.fewer_sweeps or len(begins) == 0:
            return points
        return points[: begins[int(share * len(begins))]]


@dataclass(frozen=True)
class AugmentationPlan:
    """All augmentation of a training run; the same draw gives the same sample in any process.

    Attributes:
        seed: Of all chance.
        bev: Or None for none.
        image: Or None for none.
        paster: Pastes objects into the LiDAR, or None.
        lidar: Or None for none.
    """

    seed: int = 0
    bev: BevAugmentation | None = None
    image: ImageAugmentation | None = None
    paster: Paster | None = None
    lidar: LidarAugmentation | None = None

    def read(self, frames: NuScenesDataset, draw: Draw) -> Frame:
        """Read a draw's frame with its images augmented.

        Raises:
            UserError: If a file is missing or malformed.
        """
        record = frames.records[draw.item]
        if self.image is None:
            return frames.load(record)
        generator = self._generator(draw, stage=0)
        maps, colours = [], []
        for camera in range(len(CAMERAS)):
            base_px = frames.base_size_px(record, camera)
            maps.append(self.image.draw_map(generator, base_px, frames.image_size_px))
            colours.append(self.image.draw_colour(generator))
        frame = frames.load(record, np.stack(maps))
        images = np.stack([recolour(image, colour) for image, colour in zip(frame.images, colours)])
        return replace(frame, images=images)

    def change(self, frame: Frame, draw: Draw) -> Sample:
        """A frame with its LiDAR made poorer, objects pasted and its ego frame augmented."""
        generator = self._generator(draw, stage=1)
        if self.lidar is not None:
            frame = replace(frame, points=self.lidar.change(frame.points, self._generator(draw, stage=2)))
        sample = Sample.plain(frame)
        if self.paster is not None:
            sample = self.paster.paste(sample, generator)
        if self.bev is not None:
            sample = augment_bev(sample, self.bev.draw(generator))
        return sample

    def _generator(self, draw: Draw, *, stage: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, draw.epoch, draw.position, draw.item, stage])


def augment_bev(sample: Sample, augmented_from_ego: NDArray[np.float64]) -> Sample:
    """A sample in a mirrored, turned, scaled or shifted ego frame.

    Images stay as they are: ``rig.ego_from_camera`` becomes the augmented ego frame from the camera, so that
    every box centre still falls on the same pixel. Depths stay those of the camera, in true metres.

    Args:
        sample: In any ego frame.
        augmented_from_ego: (4, 4) affine map whose linear part is a rotation about z times a uniform
            scale times mirrors of x and y.
    """
    frame = sample.frame
    rig = frame.rig
    augmented = replace(
        frame,
        points=moved_points(frame.points, augmented_from_ego),
        boxes=None if frame.boxes is None else _augment_boxes(frame.boxes, augmented_from_ego),
        rig=CameraRig(rig.intrinsics, augmented_from_ego @ rig.ego_from_camera, rig.image_aug, rig.size_px),
    )
    return replace(
        sample, frame=augmented, ego_from_augmented=sample.ego_from_augmented @ invert_affine(augmented_from_ego)
    )


def _augment_boxes(boxes: Boxes3D, augmented_from_ego: NDArray[np.float64]) -> Boxes3D:
    linear = augmented_from_ego[:2, :2]
    scale = np.sqrt(abs(np.linalg.det(linear)))
    heading = np.stack([np.cos(boxes.yaw_rad), np.sin(boxes.yaw_rad)], axis=1) @ linear.T
    return Boxes3D(
        transform_points(augmented_from_ego, boxes.xyz_m).astype(np.float32),
        (boxes.lwh_m * scale).astype(np.float32),
        np.arctan2(heading[:, 1], heading[:, 0]).astype(np.float32),
        (boxes.velocity_mps @ linear.T).astype(np.float32),
        boxes.label,
        boxes.score,
    )


def _check_range(name: str, limits: tuple[float, float]) -> None:
    if not 0 < limits[0] <= limits[1]:
        raise UserError(f"{name} must be a positive range [low, high], found {list(limits)}.")
