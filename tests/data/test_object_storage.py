"""What docs/scaling.md says about data on object storage, with fsspec's storage in memory."""

from collections.abc import Iterator
from pathlib import Path

import fsspec
import numpy as np
import pytest

from fusionkd.data import NuScenesDataset, NuScenesIndex
from fusionkd.data.index import FrameRecord
from fusionkd.preprocess import fuse_sweeps

BUCKET = "/bucket/nuscenes"


@pytest.fixture
def bucket(tiny_root: Path) -> Iterator[fsspec.AbstractFileSystem]:
    """A storage that holds the tiny world."""
    storage = fsspec.filesystem("memory")
    storage.put(str(tiny_root), BUCKET, recursive=True)
    yield storage
    storage.rm("/bucket", recursive=True)


def files_of(dataset: NuScenesDataset, record: FrameRecord) -> list[str]:
    """What a frame is read from, relative to the root."""
    index = dataset.index
    sweeps = [index.sweeps.path(row) for row in dataset.sweeps(record)[0]]
    return sweeps + [index.images.path(row) for row in record.images]


def test_a_frame_of_staged_files_is_the_frame(
    tiny_root: Path, bucket: fsspec.AbstractFileSystem, tmp_path: Path
) -> None:
    version = next(tiny_root.glob("v1.0-*")).name
    for table in bucket.ls(f"{BUCKET}/{version}", detail=False):
        bucket.get_file(table, str(tmp_path / version / Path(table).name))
    index = NuScenesIndex.load(tmp_path, version)
    record = index.records(index.scene_names[:1])[-1]
    names = files_of(NuScenesDataset(index, [record]), record)
    bucket.get([f"{BUCKET}/{name}" for name in names], [str(tmp_path / name) for name in names])
    staged = NuScenesDataset(index, [record])[0]
    original = NuScenesDataset(NuScenesIndex.load(tiny_root, version), [record])[0]
    np.testing.assert_array_equal(staged.points, original.points)
    np.testing.assert_array_equal(staged.images, original.images)


def test_a_cloud_of_bytes_is_the_cloud(tiny_root: Path, bucket: fsspec.AbstractFileSystem) -> None:
    index = NuScenesIndex.load(tiny_root, next(tiny_root.glob("v1.0-*")).name)
    record = index.records(index.scene_names[:1])[-1]
    dataset = NuScenesDataset(index, [record])
    rows, key_from_sweep, age_s = dataset.sweeps(record)
    names = [f"{BUCKET}/{index.sweeps.path(row)}" for row in rows]
    held = bucket.cat(names)
    contents = [held[name] for name in names] if isinstance(held, dict) else [held]
    sweeps = [np.frombuffer(content, np.float32).reshape(-1, 5) for content in contents]
    cloud = fuse_sweeps(sweeps, key_from_sweep=key_from_sweep, age_s=age_s)
    np.testing.assert_array_equal(cloud, dataset.points(record))
