"""The world's own truth: at keyframes the tables', between them continuous."""

import json
import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
from nuscenes import NuScenes
from small_world import SETTINGS

from fusionkd.data import NuScenesIndex
from fusionkd.data.reading import read_sweep
from fusionkd.data.streams import stream_records
from fusionkd.simulation.exact_truth import ExactBoxes, WorldTruth


def _boxes(index: NuScenesIndex, truth: WorldTruth, scene: str, row: int) -> ExactBoxes:
    sweeps = index.sweeps
    pose = sweeps.global_from_ego(row) @ index.calibrations.ego_from_sensor(int(sweeps.calibration[row]))
    points = read_sweep(index.root / sweeps.path(row))
    return truth.boxes(scene, int(sweeps.timestamp_us[row]), points=points, global_from_lidar=pose)


def test_at_keyframes_it_is_what_the_tables_say(world: Path, devkit: NuScenes) -> None:
    index, truth = NuScenesIndex.load(world, SETTINGS.version), WorldTruth.of(world)
    assert truth is not None
    compared = 0
    for record in index.records(index.scene_names):
        found = _boxes(index, truth, record.scene, record.sweep)
        rows = {token: row for row, token in enumerate(found.instance)}
        notes = [devkit.get("sample_annotation", token) for token in devkit.get("sample", record.token)["anns"]]
        notes = [note for note in notes if note["num_lidar_pts"] > 0]
        assert set(rows) == {note["instance_token"] for note in notes}
        for note in notes:
            row = rows[note["instance_token"]]
            np.testing.assert_allclose(found.xyz_m[row], note["translation"], atol=1e-9)
            np.testing.assert_allclose(found.wxyz[row], note["rotation"], atol=1e-9)
            np.testing.assert_allclose(found.lwh_m[row], np.array(note["size"])[[1, 0, 2]])
            assert found.category[row] == note["category_name"]
            assert found.num_points[row] == note["num_lidar_pts"]
            names = [devkit.get("attribute", token)["name"] for token in note["attribute_tokens"]]
            assert found.attribute[row] == (names[0] if names else "")
            compared += 1
    assert compared > 50


def test_between_keyframes_things_go_where_their_velocity_says(world: Path) -> None:
    index, truth = NuScenesIndex.load(world, SETTINGS.version), WorldTruth.of(world)
    assert truth is not None
    scene = index.scene_names[0]
    frames = stream_records(index, scene)
    moved = 0
    for first, second in pairwise(frames[:13]):
        one, two = (_boxes(index, truth, scene, record.sweep) for record in (first, second))
        place = {token: row for row, token in enumerate(two.instance)}
        for row, token in enumerate(one.instance):
            if token in place:
                step = two.xyz_m[place[token]] - one.xyz_m[row]
                # 50 ms of up to 3 m/s^2 more or less than at their begin, and the sweep may pass a few ms off.
                np.testing.assert_allclose(step[:2], 0.05 * one.velocity_mps[row], atol=0.1)
                moved += np.hypot(*step[:2]) > 0.1
    assert moved > 10


def test_only_this_versions_worlds_have_one(world: Path, tmp_path: Path) -> None:
    assert WorldTruth.of(tmp_path) is None
    mark = json.loads((world / "simulated.json").read_text())
    for change in ({"world_revision": mark["world_revision"] + 1}, {"settings": {"scenes": -1}}, {"by": "another"}):
        (tmp_path / "simulated.json").write_text(json.dumps({**mark, **change}))
        assert WorldTruth.of(tmp_path) is None
    (tmp_path / "simulated.json").write_text(json.dumps({**mark, "fusionkd_version": "0.0.1"}))
    assert WorldTruth.of(tmp_path) is not None
    shutil.copy(world / "README.md", tmp_path / "simulated.json")
    assert WorldTruth.of(tmp_path) is None
