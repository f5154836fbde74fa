"""Real annotations and results of mini_val."""

import json
from pathlib import Path
from typing import Any

import pytest
from nuscenes import NuScenes

from fusionkd.metrics import DetectionTruth

RESULTS = {
    "fastbev_camera_mini_val": "devkit_metrics_summary.json",
    "trelpy_lidar_mini_val": "metrics_summary.json",
}


@pytest.fixture(scope="session")
def minival_root(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The annotations of mini_val under a folder in which an index may be written."""
    root = tmp_path_factory.mktemp("minival")
    for path in (shared_data / "nuscenes-minival-annotations").iterdir():
        if not path.name.startswith("."):
            (root / path.name).symlink_to(path)
    return root


@pytest.fixture(scope="session")
def minival_truth(minival_root: Path) -> DetectionTruth:
    """Truth of mini_val."""
    return DetectionTruth.from_tables(minival_root, "v1.0-mini", "mini_val")


@pytest.fixture(scope="session")
def minival_nusc(minival_root: Path) -> NuScenes:
    """The devkit's view of mini_val."""
    return NuScenes("v1.0-mini", str(minival_root), verbose=False)


@pytest.fixture(scope="session", params=RESULTS)
def real_results(request: pytest.FixtureRequest, shared_data: Path) -> tuple[Path, dict[str, Any]]:
    """A real detector's results file and the devkit's figures for it."""
    folder = shared_data / "nuscenes-minival-results" / request.param
    return folder / "results_nusc.json", json.loads((folder / RESULTS[request.param]).read_text())
