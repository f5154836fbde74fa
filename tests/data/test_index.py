import json
import multiprocessing
from pathlib import Path

import numpy as np
import pytest
from nuscenes import NuScenes
from nuscenes.eval.detection.utils import category_to_detection_name
from tiny_world import KEYFRAME_US, START_US, THINGS, TinyWorld, global_from_ego, token

from fusionkd.data import NuScenesIndex
from fusionkd.data.index_build import DETECTION_CLASS_OF_CATEGORY
from fusionkd.errors import UserError
from fusionkd.geometry import CAMERAS, DETECTION_CLASSES

ROOTS = ["tiny_root", "real_root", "annotations_root"]


@pytest.fixture(params=ROOTS)
def pair(request: pytest.FixtureRequest) -> tuple[NuScenes, NuScenesIndex]:
    root = request.getfixturevalue(request.param)
    return NuScenes("v1.0-mini", str(root), verbose=False), NuScenesIndex.load(root)


def test_annotations_equal_the_devkit(pair: tuple[NuScenes, NuScenesIndex]) -> None:
    devkit, index = pair
    a = index.annotations
    assert index.sample_tokens == tuple(sample["token"] for sample in devkit.sample)
    assert len(a) == len(devkit.sample_annotation)
    instances = {record["token"]: row for row, record in enumerate(devkit.instance)}
    for row, sample in enumerate(devkit.sample):
        rows = a.rows(row)
        records = [devkit.get("sample_annotation", t) for t in sample["anns"]]
        assert [t.decode() for t in a.token[rows]] == sample["anns"]
        velocity = np.array([devkit.box_velocity(t)[:2] for t in sample["anns"]])
        assert np.array_equal(a.velocity_mps[rows], velocity, equal_nan=True)
        for i, record in zip(range(rows.start, rows.stop), records):
            box = devkit.get_box(record["token"])
            assert a.xyz_m[i].tolist() == record["translation"]
            assert a.lwh_m[i].tolist() == [record["size"][1], record["size"][0], record["size"][2]]
            assert a.wxyz[i].tolist() == record["rotation"]
            heading = box.orientation.rotation_matrix @ [1, 0, 0]
            assert a.yaw_rad[i] == pytest.approx(np.arctan2(heading[1], heading[0]), abs=1e-12)
            name = category_to_detection_name(record["category_name"])
            assert (DETECTION_CLASSES[a.label[i]] if a.label[i] >= 0 else None) == name
            assert index.category_names[a.category[i]] == record["category_name"]
            attributes = [devkit.get("attribute", t)["name"] for t in record["attribute_tokens"]]
            assert ([index.attribute_names[a.attribute[i]]] if a.attribute[i] >= 0 else []) == attributes
            assert (a.num_lidar_pts[i], a.num_radar_pts[i]) == (record["num_lidar_pts"], record["num_radar_pts"])
            assert str(a.visibility[i]) == (record["visibility_token"] or "0")
            assert a.instance[i] == instances[record["instance_token"]]


def test_detection_class_of_every_category_is_the_devkits() -> None:
    names = [*DETECTION_CLASS_OF_CATEGORY, "animal", "human.pedestrian.stroller", "vehicle.emergency.police"]
    for name in names:
        assert DETECTION_CLASS_OF_CATEGORY.get(name) == category_to_detection_name(name)


def test_records_name_the_devkits_files_in_its_order(pair: tuple[NuScenes, NuScenesIndex]) -> None:
    devkit, index = pair
    records = index.records(index.scene_names)
    assert [record.token for record in records] == [sample["token"] for sample in devkit.sample]
    for record, sample in zip(records, devkit.sample):
        lidar = devkit.get("sample_data", sample["data"]["LIDAR_TOP"])
        assert index.sweeps.path(record.sweep) == lidar["filename"]
        assert record.timestamp_us == lidar["timestamp"]
        assert record.scene == devkit.get("scene", sample["scene_token"])["name"]
        for camera, row in zip(CAMERAS, record.images):
            assert index.images.path(row) == devkit.get("sample_data", sample["data"][camera])["filename"]
        chain, current = [], lidar
        while len(chain) < 7:
            chain.append(current["filename"])
            if not current["prev"]:
                break
            current = devkit.get("sample_data", current["prev"])
        assert [index.sweeps.path(row) for row in index.sweeps.chain(record.sweep, 7)] == chain


def test_boxes_in_ego_equal_the_devkits(pair: tuple[NuScenes, NuScenesIndex]) -> None:
    devkit, index = pair
    for row, sample in enumerate(devkit.sample[:5]):
        lidar = devkit.get("sample_data", sample["data"]["LIDAR_TOP"])
        pose = devkit.get("ego_pose", lidar["ego_pose_token"])
        boxes = index.boxes(row)
        wanted = []
        for annotation in sample["anns"]:
            box = devkit.get_box(annotation)
            if category_to_detection_name(box.name) is not None:
                box.velocity = np.array([*devkit.box_velocity(annotation)[:2], 0.0])
                box.translate(-np.array(pose["translation"]))
                box.rotate(type(box.orientation)(pose["rotation"]).inverse)
                heading = box.orientation.rotation_matrix @ [1, 0, 0]
                wanted.append([*box.center, np.arctan2(heading[1], heading[0]), *box.velocity[:2]])
        found = np.column_stack([boxes.xyz_m, boxes.yaw_rad, boxes.velocity_mps])
        difference = found - np.array(wanted)
        difference[:, 3] = (difference[:, 3] + np.pi) % (2 * np.pi) - np.pi
        np.testing.assert_allclose(difference[:, :4], 0, atol=2e-4)
        np.testing.assert_allclose(found[:, 4:], np.array(wanted)[:, 4:], atol=1e-4)


def test_boxes_without_points_can_be_left_out(tiny_root: Path) -> None:
    index = NuScenesIndex.load(tiny_root)
    detected = [thing for thing in THINGS if thing.category != "animal"]
    assert len(index.boxes(0)) == len(detected)
    assert len(index.boxes(0, min_points=1)) == sum(thing.points > 0 for thing in detected)


def test_global_from_ego_is_the_pose_at_the_lidars_time(tiny_root: Path) -> None:
    index = NuScenesIndex.load(tiny_root)
    np.testing.assert_allclose(index.global_from_ego(1), global_from_ego(0, START_US + KEYFRAME_US), atol=1e-9)


@pytest.mark.parametrize("image_sweeps", [True, False])
def test_sweeps_between_keyframes_take_the_nearest_images(tmp_path: Path, image_sweeps: bool) -> None:
    index = NuScenesIndex.load(TinyWorld(tmp_path, image_sweeps=image_sweeps).root)
    records = index.sweep_records(["scene-0061", "scene-0103"])
    assert len(records) == 2 * 8
    assert all(not record.labelled and record.sample == -1 for record in records)
    assert len({record.token for record in records} - set(index.sample_tokens)) == 16
    for record in records:
        for camera, row in enumerate(record.images):
            same = (index.images.camera == camera) & (
                np.array([index.scene_names[s] for s in index.images.scene]) == record.scene
            )
            gaps = np.abs(index.images.timestamp_us[same] - record.timestamp_us)
            assert index.images.camera[row] == camera
            assert abs(index.images.timestamp_us[row] - record.timestamp_us) == gaps.min()
            assert index.scene_names[index.images.scene[row]] == record.scene
    assert len(index.sweep_records(["scene-0061"], stride=3)) == 3


def test_a_token_names_a_keyframe_or_a_sweep(tiny_root: Path) -> None:
    index = NuScenesIndex.load(tiny_root)
    assert index.record(token("scene-0061", "sample", 1)).sample == 1
    assert index.record(token("scene-0061", "LIDAR_TOP", 2)).token == token("scene-0061", "LIDAR_TOP", 2)
    with pytest.raises(UserError, match=r"No frame 'nonsense'.*first sample token"):
        index.record("nonsense")


def test_index_is_kept_and_rebuilt_when_a_table_changes(tiny_world: TinyWorld) -> None:
    first = NuScenesIndex.load(tiny_world.root)
    path = tiny_world.root / ".fusionkd" / "index-v1.0-mini.arrays"
    kept = path.stat().st_mtime_ns
    assert NuScenesIndex.load(tiny_world.root).fingerprint == first.fingerprint
    assert path.stat().st_mtime_ns == kept
    tiny_world.tables["sample_annotation"][0]["translation"][0] += 1.5
    tiny_world.write_tables()
    second = NuScenesIndex.load(tiny_world.root)
    assert second.fingerprint != first.fingerprint
    moved = second.annotations.xyz_m - first.annotations.xyz_m
    assert np.sum(moved) == pytest.approx(1.5)


@pytest.mark.parametrize("damage", [lambda data: data[: len(data) // 2], lambda data: b"nonsense", lambda data: b""])
def test_a_damaged_index_file_is_rebuilt(tiny_world: TinyWorld, damage, monkeypatch: pytest.MonkeyPatch) -> None:
    first = NuScenesIndex.load(tiny_world.root)
    path = tiny_world.root / ".fusionkd" / "index-v1.0-mini.arrays"
    path.write_bytes(damage(path.read_bytes()))
    assert np.array_equal(NuScenesIndex.load(tiny_world.root).annotations.xyz_m, first.annotations.xyz_m)
    # What was written is read the next time, without the tables.
    monkeypatch.setattr("fusionkd.data.index.build_arrays", None)
    assert np.array_equal(NuScenesIndex.load(tiny_world.root).annotations.xyz_m, first.annotations.xyz_m)


def test_index_of_read_only_data_goes_to_the_cache_folder(
    tiny_world: TinyWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    # A file in the folder's place stops even root, whom permissions don't.
    (tiny_world.root / ".fusionkd").write_text("")
    NuScenesIndex.load(tiny_world.root)
    assert len(list((tmp_path / "cache" / "fusionkd").glob("*/index-v1.0-mini.arrays"))) == 1


def _count_annotations(root: Path) -> int:
    return len(NuScenesIndex.load(root).annotations)


def test_several_processes_may_build_the_index_at_once(tiny_world: TinyWorld) -> None:
    with multiprocessing.get_context("fork").Pool(3) as pool:
        counts = pool.map(_count_annotations, [tiny_world.root] * 6)
    assert counts == [2 * 3 * len(THINGS)] * 6
    assert [path.name for path in (tiny_world.root / ".fusionkd").iterdir()] == ["index-v1.0-mini.arrays"]


def _edit(world: TinyWorld, table: str, change) -> None:
    path = world.root / world.version / f"{table}.json"
    records = json.loads(path.read_text())
    change(records)
    path.write_text(json.dumps(records))


@pytest.mark.parametrize(
    ("table", "change", "message"),
    [
        ("sample_data", lambda r: r[3].pop("filename"), r"Record 3 of table .*sample_data.json has no key 'filename'"),
        ("ego_pose", lambda r: r[2].update(translation=[1, 2]), r"Record 2 .*ego_pose.json.*expected 3 finite numbers"),
        ("ego_pose", lambda r: r[2].update(rotation=[0, 0, 0, 0]), r"Record 2 .*unit quaternion"),
        ("ego_pose", lambda r: r.pop(), r"no token of ego_pose.json"),
        ("sample_annotation", lambda r: r[1].update(size=[1, -1, 1]), r"Record 1 .*must be positive"),
        ("sample_annotation", lambda r: r[1].update(translation=[1, float("nan"), 1]), r"Record 1 .*finite numbers"),
        ("sample_annotation", lambda r: r[0].update(next="gone"), r"next='gone', which is no token of sample_annot"),
        ("sample_annotation", lambda r: r[0].update(visibility_token="far"), r"Record 0 .*visibility_token='far'"),
        ("sample_annotation", lambda r: r[5].update(attribute_tokens=["a", "b"]), r"2 attributes"),
        ("calibrated_sensor", lambda r: r[1].update(camera_intrinsic=[]), r"CAM_FRONT.*3x3"),
        ("calibrated_sensor", lambda r: r[1].update(camera_intrinsic=[[1, 0], [0, 1]]), r"CAM_FRONT.*3x3"),
        ("sample_data", lambda r: r.__delitem__(0), r"no LIDAR_TOP keyframe"),
        ("sample_data", lambda r: r[4].update(timestamp=0), r"Record 4 .*no later than the one its prev names"),
        ("sample_data", lambda r: r[11].update(width=0), r"Record 11 .*height or width isn't positive"),
    ],
)
def test_a_malformed_table_is_named_with_its_record(tiny_world: TinyWorld, table: str, change, message: str) -> None:
    _edit(tiny_world, table, change)
    with pytest.raises(UserError, match=message):
        NuScenesIndex.load(tiny_world.root).records(["scene-0061"])


def test_a_version_without_annotations_has_frames_without_boxes(tiny_world: TinyWorld) -> None:
    for table in ("sample_annotation", "instance"):
        tiny_world.tables[table] = []
    tiny_world.write_tables()
    index = NuScenesIndex.load(tiny_world.root)
    assert len(index.records(index.scene_names)) == 6
    assert len(index.annotations) == len(index.boxes(3)) == 0


def test_missing_root_version_and_table_are_named(tiny_world: TinyWorld, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no such folder.*nuscenes\.org.*samples/, sweeps/ and v1\.0-mini/"):
        NuScenesIndex.load(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"No nuScenes version 'v1\.0-trainval'.*found only v1\.0-mini"):
        NuScenesIndex.load(tiny_world.root, "v1.0-trainval")
    path = tiny_world.root / "v1.0-mini" / "ego_pose.json"
    path.write_text(path.read_text()[:-30])
    with pytest.raises(UserError, match=r"ego_pose\.json can't be read as JSON.*cut off"):
        NuScenesIndex.load(tiny_world.root)
    path.write_text('{"not": "a list"}')
    with pytest.raises(UserError, match=r"ego_pose\.json must hold a JSON list.*dict"):
        NuScenesIndex.load(tiny_world.root)
    path.unlink()
    with pytest.raises(UserError, match=r"Table .*ego_pose\.json is missing"):
        NuScenesIndex.load(tiny_world.root)
