"""Scenes of a data set as streams, and the truth at every sweep."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fusionkd.data import FrameRecord, NuScenesIndex
from fusionkd.data.index_build import DETECTION_CLASS_OF_CATEGORY
from fusionkd.data.reading import read_sweep
from fusionkd.data.streams import stream_records
from fusionkd.errors import UserError
from fusionkd.geometry import DETECTION_CLASSES
from fusionkd.metrics import DetectionTruth
from fusionkd.metrics.attributes import attribute_index
from fusionkd.metrics.interpolation import interpolated_truth
from fusionkd.metrics.streaming import Stream
from fusionkd.metrics.truth import BICYCLE_RACK
from fusionkd.simulation.exact_truth import ExactBoxes, WorldTruth


@dataclass(frozen=True, eq=False)
class StreamedScenes:
    """Drives, and what was really there at each sweep between a scene's first and last keyframe.

    Attributes:
        streams: One per scene; times count from the scene's first frame.
        records: Frames by token.
        keyframes: Tokens of the keyframes that are evaluated offline too.
        truth: Annotations at the evaluation times.
        exact: Whether they are a simulated world's own, and not interpolated between keyframes.
    """

    streams: tuple[Stream, ...]
    records: Mapping[str, FrameRecord]
    keyframes: tuple[str, ...]
    truth: DetectionTruth
    exact: bool

    @property
    def rate_hz(self) -> float:
        """Median rate of the frames, NaN if no scene has two."""
        gaps_ns = np.concatenate([np.diff(stream.arrival_ns) for stream in self.streams])
        return float(1e9 / np.median(gaps_ns)) if len(gaps_ns) else float("nan")


def stream_scenes(index: NuScenesIndex, scenes: Sequence[str]) -> StreamedScenes:
    """Streams and truth of some scenes.

    Args:
        index: The data. Where its root holds a simulated world of this very version, the truth is exact.
        scenes: Scene names.

    Raises:
        UserError: If a scene is unknown, or has no two keyframes that could be streamed.
    """
    records = {scene: stream_records(index, scene) for scene in scenes}
    judged = {scene: _between_keyframes(scene, frames) for scene, frames in records.items()}
    flat = [record for scene in scenes for record in judged[scene]]
    world = WorldTruth.of(index.root)
    return StreamedScenes(
        streams=tuple(_stream(records[scene], judged[scene]) for scene in scenes),
        records={record.token: record for scene in scenes for record in records[scene]},
        keyframes=tuple(record.token for record in flat if record.sample >= 0),
        truth=interpolated_truth(index, flat) if world is None else exact_truth(index, flat, world),
        exact=world is not None,
    )


def exact_truth(index: NuScenesIndex, records: Sequence[FrameRecord], world: WorldTruth) -> DetectionTruth:
    """Truth of a simulated world at some frames: where each thing was when the sweep passed it.

    Args:
        index: The world's tables.
        records: Keyframes or sweeps.
        world: What it was drawn from.
    """
    found = [_exact_boxes(index, record, world) for record in records]
    category = [name for boxes in found for name in boxes.category]
    classes = [DETECTION_CLASS_OF_CATEGORY.get(name, "") for name in category]
    return DetectionTruth.from_annotations(
        tokens=[record.token for record in records],
        ego_xyz_m=index.sweeps.ego_xyz_m[[record.sweep for record in records]].reshape(-1, 3),
        sample=np.repeat(np.arange(len(found)), [len(boxes.category) for boxes in found]),
        xyz_m=np.concatenate([np.zeros((0, 3)), *(boxes.xyz_m for boxes in found)]),
        lwh_m=np.concatenate([np.zeros((0, 3)), *(boxes.lwh_m for boxes in found)]),
        wxyz=np.concatenate([np.zeros((0, 4)), *(boxes.wxyz for boxes in found)]),
        velocity_mps=np.concatenate([np.zeros((0, 2)), *(boxes.velocity_mps for boxes in found)]),
        label=np.array([DETECTION_CLASSES.index(name) if name else -1 for name in classes], dtype=np.int64),
        attribute=np.array([attribute_index(name) for boxes in found for name in boxes.attribute], dtype=np.int64),
        num_points=np.concatenate([np.zeros(0, np.int64), *(boxes.num_points for boxes in found)]),
        is_rack=np.array([name == BICYCLE_RACK for name in category], dtype=np.bool_),
    )


def _exact_boxes(index: NuScenesIndex, record: FrameRecord, world: WorldTruth) -> ExactBoxes:
    sweeps = index.sweeps
    ego_from_lidar = index.calibrations.ego_from_sensor(int(sweeps.calibration[record.sweep]))
    return world.boxes(
        record.scene,
        record.timestamp_us,
        points=read_sweep(index.root / sweeps.path(record.sweep)),
        global_from_lidar=sweeps.global_from_ego(record.sweep) @ ego_from_lidar,
    )


def _between_keyframes(scene: str, records: Sequence[FrameRecord]) -> list[FrameRecord]:
    keyframes = [number for number, record in enumerate(records) if record.sample >= 0]
    if len(keyframes) < 2:
        raise UserError(f"Scene {scene} has {len(keyframes)} keyframes; streaming is judged between two at least.")
    return list(records[keyframes[0] : keyframes[-1] + 1])


def _stream(records: Sequence[FrameRecord], judged: Sequence[FrameRecord]) -> Stream:
    first_us = records[0].timestamp_us
    return Stream(
        frames=tuple(record.token for record in records),
        arrival_ns=np.array([1000 * (record.timestamp_us - first_us) for record in records], dtype=np.int64),
        samples=tuple(record.token for record in judged),
        sample_ns=np.array([1000 * (record.timestamp_us - first_us) for record in judged], dtype=np.int64),
    )
