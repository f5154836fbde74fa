"""Fixtures shared by all rooms' tests."""

from pathlib import Path

import pytest
from hypothesis import settings

# No time limit per example, since the first one may compile a kernel; the same examples on every
# run, so that a failure can be seen again.
settings.register_profile("fusionkd", deadline=None, derandomize=True)
settings.load_profile("fusionkd")

REPOSITORY = Path(__file__).resolve().parent.parent


def _shared(name: str) -> Path:
    path = REPOSITORY.parent / "shared" / name
    if not path.is_dir():
        pytest.skip(f"real data for tests is absent: no folder ../shared/{name} beside the repository")
    return path


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real nuScenes frames, annotations and results; skips where it is absent."""
    return _shared("data")


@pytest.fixture(scope="session")
def shared_parity() -> Path:
    """Folder of figures computed by public detectors' own code; skips where it is absent."""
    return _shared("parity")
