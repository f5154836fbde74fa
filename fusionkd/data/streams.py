"""A scene as it reaches the vehicle: every LiDAR sweep a frame, with the images that are there by then."""

import numpy as np
from numpy.typing import NDArray

from fusionkd.data.index import FrameRecord, NuScenesIndex
from fusionkd.errors import UserError
from fusionkd.geometry import CAMERAS


def stream_records(index: NuScenesIndex, scene: str) -> list[FrameRecord]:
    """All LiDAR sweeps of a scene in time, keyframes among them, as frames.

    A keyframe has its own images. A sweep between keyframes has the newest image of each camera that was taken no later
    than the sweep (``NuScenesIndex.sweep_records`` takes the nearest, which may lie ahead). The stream begins where
    every camera that gives images at all has given one.

    Args:
        index: The index.
        scene: Name of the scene.

    Raises:
        UserError: If there is no such scene, or it has no such sweep.
    """
    keyframes = {record.sweep: record for record in index.records([scene])}
    own = np.flatnonzero(index.sweeps.scene == index.scene_names.index(scene))
    rows = own[np.argsort(index.sweeps.timestamp_us[own], kind="stable")]
    images, ready = _newest_images(index, scene, index.sweeps.timestamp_us[rows])
    records = [
        keyframes.get(int(row)) or _between(index, scene, int(row), tuple(there))
        for row, there, all_there in zip(rows, images.tolist(), ready)
        if all_there or int(row) in keyframes
    ]
    if not records:
        raise UserError(
            f"Scene {scene} of {index.version} at {index.root} has no LiDAR sweep at whose time every camera has given "
            f"an image; it can't be streamed."
        )
    return records


def _between(index: NuScenesIndex, scene: str, row: int, images: tuple[int, ...]) -> FrameRecord:
    return FrameRecord(
        token=index.sweeps.token[row].decode(),
        scene=scene,
        timestamp_us=int(index.sweeps.timestamp_us[row]),
        sweep=row,
        images=images,
        sample=-1,
        labelled=False,
    )


def _newest_images(
    index: NuScenesIndex, scene: str, time_us: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Newest image of each camera at each time, (T, 6) with -1 for none, and whether all that give images have one."""
    out = np.full((len(time_us), len(CAMERAS)), -1, dtype=np.int64)
    ready = np.ones(len(time_us), np.bool_)
    here = np.flatnonzero(index.images.scene == index.scene_names.index(scene))
    for camera in range(len(CAMERAS)):
        rows = here[index.images.camera[here] == camera]
        if len(rows) == 0:
            continue
        rows = rows[np.argsort(index.images.timestamp_us[rows], kind="stable")]
        newest = np.searchsorted(index.images.timestamp_us[rows], time_us, side="right") - 1
        out[:, camera] = np.append(rows, -1)[newest]  # -1 before the first image
        ready &= newest >= 0
    return out, ready
