"""A scene as it reaches the vehicle: every sweep in time, never an image of the future."""

from pathlib import Path

import numpy as np
import pytest
from tiny_world import KEYFRAME_US, START_US, SWEEP_US, TinyWorld

from fusionkd.data import NuScenesIndex
from fusionkd.data.streams import stream_records
from fusionkd.errors import UserError


def test_every_sweep_is_a_frame_and_no_image_lies_ahead(tiny_root: Path) -> None:
    index = NuScenesIndex.load(tiny_root)
    frames = stream_records(index, "scene-0103")
    assert [frame.timestamp_us for frame in frames] == list(range(START_US, START_US + 2 * KEYFRAME_US + 1, SWEEP_US))
    assert [frame for frame in frames if frame.sample >= 0] == index.records(["scene-0103"])
    for frame in frames:
        taken = index.images.timestamp_us[list(frame.images)]
        assert np.all(taken <= frame.timestamp_us)
        assert index.images.camera[list(frame.images)].tolist() == list(range(6))
        for camera, row in enumerate(frame.images):
            of_camera = (index.images.camera == camera) & (index.images.scene == index.images.scene[row])
            earlier = index.images.timestamp_us[of_camera]
            assert index.images.timestamp_us[row] == earlier[earlier <= frame.timestamp_us].max()


def test_it_begins_where_every_camera_has_given_an_image(tmp_path: Path) -> None:
    world = TinyWorld(tmp_path / "world")
    for record in world.tables["sample_data"]:
        if "scene-0061__CAM_FRONT__" in record["filename"]:
            record["timestamp"] += 3 * SWEEP_US // 2
    world.write_tables()
    index = NuScenesIndex.load(world.root)
    frames = stream_records(index, "scene-0061")
    # The keyframe has its own images, however late; the sweep after it would have none of this camera.
    assert [frame.timestamp_us for frame in frames[:2]] == [START_US, START_US + 2 * SWEEP_US]
    assert min(min(frame.images) for frame in frames) >= 0
    with pytest.raises(UserError, match="No scene scene-9"):
        stream_records(index, "scene-9")
