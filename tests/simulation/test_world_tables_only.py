"""Tables without sensor files: the devkit reads them, and they are those of a whole world but for what sensors say."""

import json
from pathlib import Path

import numpy as np
import pytest
from nuscenes import NuScenes

from fusionkd.simulation import WorldSettings, write_world


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("bare") / "world"
    settings = WorldSettings(scenes=2, seed=3, keyframes_per_scene=3, image_width_px=160, tables_only=True)
    write_world(root, settings, workers=1, progress=False)
    return root


def test_there_is_no_sensor_file_and_the_readme_says_so(bare: Path) -> None:
    kinds = {path.suffix for path in bare.rglob("*") if path.is_file()}
    assert kinds == {".json", ".md", ".png"}
    assert "tables alone" in (bare / "README.md").read_text()
    assert json.loads((bare / "simulated.json").read_text())["settings"]["tables_only"] is True


def test_the_devkit_reads_the_same_scenes_as_in_the_whole_world(bare: Path, devkit: NuScenes) -> None:
    tables = NuScenes("v1.0-mini", str(bare), verbose=False)
    assert [row["token"] for row in tables.sample] == [row["token"] for row in devkit.sample]
    assert tables.ego_pose[0] == devkit.ego_pose[0]
    key = [row for row in tables.sample_data if row["is_key_frame"]]
    assert len(key) == 7 * len(tables.sample)
    whole = {row["token"]: row for row in devkit.sample_annotation}
    common = [row for row in tables.sample_annotation if row["token"] in whole]
    assert len(common) > 0.8 * len(whole)
    for row in common:
        assert row["translation"] == whole[row["token"]]["translation"]
        assert row["attribute_tokens"] == whole[row["token"]]["attribute_tokens"]


def test_modelled_points_fall_with_distance_as_counted_ones(bare: Path, devkit: NuScenes) -> None:
    tables = NuScenes("v1.0-mini", str(bare), verbose=False)
    whole = {row["token"]: row["num_lidar_pts"] for row in devkit.sample_annotation}
    pairs = np.array([(row["num_lidar_pts"], whole.get(row["token"], 0)) for row in tables.sample_annotation])
    assert np.corrcoef(np.log1p(pairs[:, 0]), np.log1p(pairs[:, 1]))[0, 1] > 0.6
