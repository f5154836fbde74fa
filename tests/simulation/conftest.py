"""A small simulated world, written once and read by many tests."""

from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from nuscenes import NuScenes
from small_world import SETTINGS

from fusionkd import simulation
from fusionkd.preprocess.compiled import forget_stale_kernels
from fusionkd.simulation import write_world
from fusionkd.simulation.recording import SceneRecorder
from fusionkd.simulation.scene import Scene, build_scene
from fusionkd.simulation.sensing import Film

mpl.use("Agg")


SEED_OF_A_DRY_DAY = 4


@pytest.fixture(scope="session", autouse=True)
def _kernels_of_these_sources() -> None:
    forget_stale_kernels(Path(simulation.__file__).parent)


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Root of a world of two scenes with three keyframes each."""
    root = tmp_path_factory.mktemp("simulated") / "world"
    write_world(root, SETTINGS, workers=1, progress=False)
    return root


@pytest.fixture(scope="session")
def devkit(world: Path) -> NuScenes:
    """The world as the official devkit sees it."""
    return NuScenes(SETTINGS.version, str(world), verbose=False)


@pytest.fixture(scope="session")
def recorders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, SceneRecorder]:
    """The truth behind each scene of the world, by name."""
    empty = tmp_path_factory.mktemp("nothing")
    found = [SceneRecorder(empty, SETTINGS, number, lambda: None) for number in range(SETTINGS.scenes)]
    return {recorder.name: recorder for recorder in found}


@pytest.fixture(scope="session")
def scene() -> Scene:
    """A scene of dry weather that is in no world."""
    found = build_scene(np.random.default_rng(SEED_OF_A_DRY_DAY), duration_s=4.0, mix="flat")
    assert found.weather.wetness == 0.0
    return found


@pytest.fixture(scope="session")
def film() -> Film:
    return Film.drawn(np.random.default_rng(0))
