"""Frames of a nuScenes root as the sensors would hand them over."""

from dataclasses import replace

from fusionkd.data import FrameRecord, NuScenesDataset
from fusionkd.deploy import RawFrame
from fusionkd.errors import UserError
from fusionkd.geometry import CAMERAS


def raw_frame(dataset: NuScenesDataset, record: FrameRecord) -> RawFrame:
    """The sensor bytes of a record, and where the sensors were.

    Args:
        dataset: Whose index and number of sweeps are used.
        record: One of its index's frames.

    Raises:
        UserError: If a file is missing, or the cameras' images differ in size.
    """
    index = dataset.index
    rows, key_from_sweep, age_s = dataset.sweeps(record)
    intrinsics, ego_from_camera = dataset.cameras(record)
    sizes = {dataset.stored_px(record, camera) for camera in range(len(CAMERAS))}
    if len(sizes) > 1:
        raise UserError(f"Frame {record.token} has images of several sizes, {sorted(sizes)}; a RawFrame has one size.")
    return RawFrame(
        token=record.token,
        sweeps=tuple(_read(dataset, index.sweeps.path(row)) for row in rows),
        key_from_sweep=key_from_sweep,
        age_s=age_s,
        images=tuple(_read(dataset, index.images.path(row)) for row in record.images),
        intrinsics=intrinsics,
        ego_from_camera=ego_from_camera,
        stored_px=sizes.pop(),
    )


def parked(dataset: NuScenesDataset, record: FrameRecord) -> RawFrame:
    """The frame of a record as if the car had stood still: its cameras are where they are mounted."""
    table, calibrations = dataset.index.images, dataset.index.calibrations
    mounted = calibrations.ego_from_sensor(table.calibration[list(record.images)])  # (N, 4, 4)
    return replace(raw_frame(dataset, record), ego_from_camera=mounted)


def _read(dataset: NuScenesDataset, path: str) -> bytes:
    try:
        return (dataset.index.root / path).read_bytes()
    except OSError as error:
        raise UserError(f"Sensor file {dataset.index.root / path} can't be read: {error}.") from None
