"""Frames of a nuScenes index: sweeps fused, images scaled, cameras and boxes in one ego frame."""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

from fusionkd.data.frames import Frame
from fusionkd.data.image_cache import ImageCache
from fusionkd.data.index import FrameRecord, NuScenesIndex
from fusionkd.data.reading import SweepFiles, read_image
from fusionkd.errors import UserError
from fusionkd.geometry import CAMERAS, CameraRig, invert_rigid
from fusionkd.preprocess import fuse_sweeps
from fusionkd.preprocess.images import base_from_stored, base_size_px, crop_top, warp

# OpenCV's own threads would fight with the other loader processes for the cores.
cv2.setNumThreads(0)


class NuScenesDataset(Dataset[Frame]):
    """Frames of some records, read from the sensor files, without augmentation.

    Args:
        index: The index that the records point into.
        records: The frames, in order.
        image_size_px: (height, width) of the images: scaled to the width, then cropped at the top.
        num_sweeps: LiDAR sweeps to fuse, the frame's own included; fewer where a scene begins.
        min_box_points: Boxes with fewer LiDAR and radar points are left out.
        image_cache: Holds images already decoded and scaled, or None to decode each time.
    """

    def __init__(
        self,
        index: NuScenesIndex,
        records: Sequence[FrameRecord],
        *,
        image_size_px: tuple[int, int] = (96, 256),
        num_sweeps: int = 10,
        min_box_points: int = 1,
        image_cache: ImageCache | None = None,
    ) -> None:
        if num_sweeps < 1:
            raise UserError(f"num_sweeps must be at least 1 (the frame's own sweep), found {num_sweeps}.")
        self.index = index
        self.records = list(records)
        self.image_size_px = image_size_px
        self.num_sweeps = num_sweeps
        self.min_box_points = min_box_points
        self._image_cache = image_cache

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, item: int) -> Frame:
        """Frame ``item``.

        Raises:
            UserError: If one of its files is missing or malformed.
        """
        return self.load(self.records[item])

    def load(self, record: FrameRecord, network_from_base: NDArray[np.float64] | None = None) -> Frame:
        """The frame of a record.

        Args:
            record: Which recordings to read.
            network_from_base: (N, 3, 3) pixel maps from the scaled whole images to the network's, for
                an augmentation; None crops the top.

        Raises:
            UserError: If a file is missing or malformed.
        """
        images, rig = self._seen(record, network_from_base)
        sweeps, calibrations = self.index.sweeps, self.index.calibrations
        return Frame(
            token=record.token,
            scene=record.scene,
            timestamp_us=record.timestamp_us,
            points=self.points(record),
            images=images,
            rig=rig,
            boxes=self.index.boxes(record.sample, min_points=self.min_box_points) if record.labelled else None,
            global_from_ego=sweeps.global_from_ego(record.sweep),
            ego_from_lidar=calibrations.ego_from_sensor(int(sweeps.calibration[record.sweep])),
        )

    def points(self, record: FrameRecord) -> NDArray[np.float32]:
        """The fused sweeps of a record in its ego frame, (P, 5): x, y, z, intensity, age.

        Raises:
            UserError: If a file is missing or malformed.
        """
        rows, key_from_sweep, age_s = self.sweeps(record)
        paths = [self.index.root / self.index.sweeps.path(row) for row in rows]
        return fuse_sweeps(SweepFiles(paths), key_from_sweep=key_from_sweep, age_s=age_s)

    def sweeps(self, record: FrameRecord) -> tuple[list[int], NDArray[np.float64], NDArray[np.float64]]:
        """The sweeps that a record fuses, newest first.

        Returns:
            Rows in the index; (S, 4, 4) transforms from each sweep's sensor frame to the record's ego frame; (S,)
            ages in seconds.
        """
        sweeps = self.index.sweeps
        rows = sweeps.chain(record.sweep, self.num_sweeps)
        ego_from_global = invert_rigid(sweeps.global_from_ego(record.sweep))
        ego_from_sensor = self.index.calibrations.ego_from_sensor(sweeps.calibration[rows])  # (S, 4, 4)
        key_from_sweep = ego_from_global @ sweeps.global_from_ego(rows) @ ego_from_sensor
        return rows, key_from_sweep, (record.timestamp_us - sweeps.timestamp_us[rows]) * 1e-6

    def cameras(self, record: FrameRecord) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Intrinsics (N, 3, 3) of a record's stored images, and ``ego_from_camera`` (N, 4, 4) at the LiDAR's time."""
        rows = list(record.images)
        table, calibrations = self.index.images, self.index.calibrations
        ego_from_global = invert_rigid(self.index.sweeps.global_from_ego(record.sweep))
        ego_from_sensor = calibrations.ego_from_sensor(table.calibration[rows])  # (N, 4, 4)
        ego_from_camera = ego_from_global @ table.global_from_ego(rows) @ ego_from_sensor
        return calibrations.intrinsics[table.calibration[rows]], ego_from_camera

    def stored_px(self, record: FrameRecord, camera: int) -> tuple[int, int]:
        """(height, width) of a stored image.

        Raises:
            UserError: If the tables name no image for this camera.
        """
        row = record.images[camera]
        if row < 0:
            raise UserError(
                f"Frame {record.token} of {record.scene} has no image of {CAMERAS[camera]} in sample_data.json of "
                f"{self.index.version} at {self.index.root}; every frame needs the six cameras."
            )
        height, width = self.index.images.size_px[row]
        return (int(height), int(width))

    def base_size_px(self, record: FrameRecord, camera: int) -> tuple[int, int]:
        """(height, width) of a whole image scaled to the network's width."""
        return base_size_px(self.stored_px(record, camera), self.image_size_px)

    def _seen(
        self, record: FrameRecord, network_from_base: NDArray[np.float64] | None
    ) -> tuple[NDArray[np.uint8], CameraRig]:
        images = np.zeros((len(CAMERAS), *self.image_size_px, 3), dtype=np.uint8)
        image_aug = np.zeros((len(CAMERAS), 3, 3))
        for camera, row in enumerate(record.images):
            stored, base = self.stored_px(record, camera), self.base_size_px(record, camera)
            crop = crop_top(base, self.image_size_px) if network_from_base is None else network_from_base[camera]
            images[camera] = warp(self._base_image(row, stored, base), crop, self.image_size_px)
            image_aug[camera] = crop @ base_from_stored(stored, base)
        intrinsics, ego_from_camera = self.cameras(record)
        return images, CameraRig(intrinsics, ego_from_camera, image_aug, self.image_size_px)

    def _base_image(self, row: int, stored_px: tuple[int, int], base_px: tuple[int, int]) -> NDArray[np.uint8]:
        if self._image_cache is not None:
            cached = self._image_cache.get(row)
            if cached is not None:
                return cached
        path = self.index.root / self.index.images.path(row)
        image = read_image(path, stored_px=stored_px, base_px=base_px)
        if self._image_cache is not None:
            self._image_cache.put(row, image)
        return image
