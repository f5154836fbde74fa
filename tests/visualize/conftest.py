"""Data sets for pictures: a tiny world that every machine can write, and real frames where they are."""

import sys
from pathlib import Path

import pytest

# The tiny world belongs to the data room's tests.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "data"))

from tiny_world import TinyWorld


@pytest.fixture(scope="session")
def picture_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Root of a tiny world with two scenes of three keyframes."""
    return TinyWorld(tmp_path_factory.mktemp("tiny_for_pictures")).root


@pytest.fixture(scope="session")
def real_picture_root(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two real keyframes in a folder in which an index may be written."""
    folder = tmp_path_factory.mktemp("real_for_pictures")
    for path in (shared_data / "nuscenes-real").iterdir():
        if not path.name.startswith("."):
            (folder / path.name).symlink_to(path)
    return folder
