"""A tiny nuScenes, and the real one under a folder in which an index may be written."""

from pathlib import Path

import pytest
from tiny_world import TinyWorld


@pytest.fixture(scope="session")
def tiny_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Root of a tiny world that no test changes."""
    return TinyWorld(tmp_path_factory.mktemp("tiny")).root


@pytest.fixture
def tiny_world(tmp_path: Path) -> TinyWorld:
    """A tiny world of one test's own."""
    return TinyWorld(tmp_path / "world")


def _linked(source: Path, folder: Path) -> Path:
    for path in source.iterdir():
        if not path.name.startswith("."):
            (folder / path.name).symlink_to(path)
    return folder


@pytest.fixture(scope="session")
def real_root(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two real keyframes."""
    return _linked(shared_data / "nuscenes-real", tmp_path_factory.mktemp("real"))


@pytest.fixture(scope="session")
def annotations_root(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real annotations of mini_val, without sensor files."""
    return _linked(shared_data / "nuscenes-minival-annotations", tmp_path_factory.mktemp("annotations"))
