"""Frames of a tiny world, of a simulated one and of the real streets, as data sets and as raw bytes."""

from pathlib import Path

import pytest

from fusionkd.data import NuScenesDataset, NuScenesIndex
from fusionkd.simulation import write_world
from tests.data.tiny_world import TinyWorld
from tests.simulation.small_world import SETTINGS

SIZE_PX = (64, 128)


def _dataset(root: Path, version: str = "v1.0-mini") -> NuScenesDataset:
    index = NuScenesIndex.load(root, version)
    records = index.records(index.scene_names)
    return NuScenesDataset(index, records[1::2] or records, image_size_px=SIZE_PX, num_sweeps=5)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> NuScenesDataset:
    return _dataset(TinyWorld(tmp_path_factory.mktemp("deploy")).root)


@pytest.fixture(scope="session")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> NuScenesDataset:
    root = tmp_path_factory.mktemp("simulated") / "world"
    write_world(root, SETTINGS, workers=1, progress=False)
    return _dataset(root, SETTINGS.version)


@pytest.fixture(scope="session")
def real(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> NuScenesDataset:
    folder = tmp_path_factory.mktemp("real")
    for path in (shared_data / "nuscenes-real").iterdir():
        if not path.name.startswith("."):
            (folder / path.name).symlink_to(path)
    return _dataset(folder)
