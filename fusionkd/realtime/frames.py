"""Frames to measure with: real ones, a simulated world's, or a small world written on the spot."""

import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fusionkd.data import NuScenesDataset, NuScenesIndex
from fusionkd.data.datamodule import SIMULATED_MARK
from fusionkd.deploy import RawFrame
from fusionkd.errors import UserError
from fusionkd.export import raw_frame

DEFAULT_ROOT = Path("data/nuscenes-mini")
"""Where the main job looks for data, and leaves its simulated world."""

VERSIONS = ("v1.0-mini", "v1.0-trainval", "v1.0-test")

_MOST_WRITTEN = 4
"""Keyframes of a world that is made to measure with; each takes seconds."""


@dataclass(frozen=True)
class FrameSource:
    """Frames in memory, sensor bytes as a vehicle has them.

    Attributes:
        frames: In the order in which they are measured, again and again.
        simulated: Whether a simulation made them.
        about: Where they come from, in words.
    """

    frames: tuple[RawFrame, ...]
    simulated: bool
    about: str

    @property
    def held_mib(self) -> float:
        """Memory of the sensor bytes."""
        sizes = [len(part) for frame in self.frames for part in (*frame.sweeps, *frame.images) if part is not None]
        return sum(sizes) / 2**20


def open_frames(root: Path | None, *, num_sweeps: int, count: int = 10, version: str | None = None) -> FrameSource:
    """Frames of a data set, spread over its scenes.

    Args:
        root: Of nuScenes or of a simulated world. None takes ``DEFAULT_ROOT`` or, where nothing is there, a small
            simulated world that is forgotten afterwards.
        num_sweeps: LiDAR sweeps per frame; frames at the begin of a scene, which have fewer, are taken last.
        count: How many frames.
        version: Of nuScenes; None takes the one that is there.

    Raises:
        UserError: If there is no data at a given root, or a file of it is missing.
    """
    if root is None and not _version(DEFAULT_ROOT, version):
        return _written(num_sweeps=num_sweeps, count=count)
    root = root or DEFAULT_ROOT
    found = _version(root, version)
    if not found:
        raise UserError(
            f"There is no nuScenes {version or 'version'} at {root}: expected a folder such as {VERSIONS[0]} with "
            f"sample_data.json. Leave --root out to measure with simulated frames."
        )
    index = NuScenesIndex.load(root, found)
    simulated = (root / SIMULATED_MARK).is_file()
    frames = _frames(index, num_sweeps=num_sweeps, count=count)
    kind = "a simulated world" if simulated else "recorded data"
    return FrameSource(frames, simulated, f"{len(frames)} keyframes of {kind}, {found}")


def _version(root: Path, version: str | None) -> str | None:
    for name in (version,) if version else VERSIONS:
        if (root / name / "sample_data.json").is_file():
            return name
    return None


def _frames(index: NuScenesIndex, *, num_sweeps: int, count: int) -> tuple[RawFrame, ...]:
    records = [index.record(token) for token in index.sample_tokens]
    whole = [record for record in records if len(index.sweeps.chain(record.sweep, num_sweeps)) == num_sweeps]
    pool = whole or records
    if not pool:
        raise UserError(f"{index.version} at {index.root} has no frames.")
    dataset = NuScenesDataset(index, pool, num_sweeps=num_sweeps)
    rows = np.unique(np.linspace(0, len(pool) - 1, count).round().astype(int))
    return tuple(raw_frame(dataset, pool[row]) for row in rows)


def _written(*, num_sweeps: int, count: int) -> FrameSource:
    # Imported here because only a machine without data needs the simulation.
    from fusionkd.simulation import WorldSettings, write_world

    count = min(count, _MOST_WRITTEN)
    print("No data was given or found: a small SIMULATED world is made to measure with.", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "world"
        write_world(root, WorldSettings(scenes=1, keyframes_per_scene=count + 1))
        frames = _frames(NuScenesIndex.load(root, VERSIONS[0]), num_sweeps=num_sweeps, count=count)
    return FrameSource(frames, True, f"{len(frames)} keyframes of a small simulated world")
