"""The world through the eyes of the official devkit."""

import json
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
from nuscenes import NuScenes
from nuscenes.utils.data_classes import LidarPointCloud
from nuscenes.utils.geometry_utils import points_in_box
from nuscenes.utils.splits import mini_train, mini_val
from small_world import SETTINGS

from fusionkd.geometry import CAMERAS, DETECTION_CLASSES
from fusionkd.simulation.catalogue import CATEGORY_OF
from fusionkd.simulation.recording import SceneRecorder
from fusionkd.simulation.records import TABLES
from fusionkd.simulation.rig import BEAMS, COLUMNS

KEYFRAMES = SETTINGS.scenes * SETTINGS.keyframes_per_scene


def test_points_in_every_box_are_counted_as_the_devkit_counts_them(devkit: NuScenes) -> None:
    boxes_with_points = 0
    for sample in devkit.sample:
        path, boxes, _ = devkit.get_sample_data(sample["data"]["LIDAR_TOP"])
        points = LidarPointCloud.from_file(path).points[:3]
        for box in boxes:
            stored = devkit.get("sample_annotation", box.token)["num_lidar_pts"]
            assert int(points_in_box(box, points).sum()) == stored
            boxes_with_points += stored > 0
    assert boxes_with_points > 20 * KEYFRAMES / 2


def test_there_are_as_many_frames_as_asked_for(devkit: NuScenes) -> None:
    assert [scene["name"] for scene in devkit.scene] == [mini_train[0], mini_val[0]]
    assert len(devkit.sample) == KEYFRAMES
    for sample in devkit.sample:
        assert set(sample["data"]) == {*CAMERAS, "LIDAR_TOP"}
        assert 10 <= len(sample["anns"]) <= 90


def test_every_keyframe_has_nine_older_sweeps(devkit: NuScenes) -> None:
    for sample in devkit.sample:
        row = devkit.get("sample_data", sample["data"]["LIDAR_TOP"])
        for _ in range(9):
            newer, row = row, devkit.get("sample_data", row["prev"])
            assert newer["timestamp"] - row["timestamp"] == 50_000


def test_camera_sweeps_fill_the_time_between_keyframes(devkit: NuScenes) -> None:
    row = devkit.get("sample_data", devkit.sample[0]["data"]["CAM_BACK"])
    chain = [row]
    while row["next"]:
        row = devkit.get("sample_data", row["next"])
        chain.append(row)
    keys = [number for number, row in enumerate(chain) if row["is_key_frame"]]
    assert keys == [0, 6, 12]
    steps = np.diff([row["timestamp"] for row in chain])
    np.testing.assert_allclose(steps, 500_000 / 6, atol=1)


@pytest.mark.parametrize("table", ["sample", "sample_data", "sample_annotation"])
def test_links_are_closed(devkit: NuScenes, table: str) -> None:
    rows = getattr(devkit, table)
    firsts = 0
    for row in rows:
        if row["next"]:
            assert devkit.get(table, row["next"])["prev"] == row["token"]
        if row["prev"]:
            assert devkit.get(table, row["prev"])["next"] == row["token"]
        firsts += not row["prev"]
    channels = len(CAMERAS) + 1
    chains = {"sample": SETTINGS.scenes, "sample_data": SETTINGS.scenes * channels}
    assert firsts == chains.get(table, len(devkit.instance))


def test_tokens_are_unique_and_lead_somewhere(devkit: NuScenes) -> None:
    for table in TABLES:
        tokens = [row["token"] for row in getattr(devkit, table)]
        assert len(set(tokens)) == len(tokens)
        if table != "visibility":
            assert all(len(token) == 32 and int(token, 16) >= 0 for token in tokens)
        for row in getattr(devkit, table):
            for key, value in row.items():
                other = key.removesuffix("_token").removeprefix("first_").removeprefix("last_")
                if key.endswith("_token") and other in TABLES and key != "map_token":
                    assert devkit.get(other, value)["token"] == value
                if key == "first_annotation_token":
                    assert devkit.get("sample_annotation", value)["prev"] == ""
    for instance in devkit.instance:
        row = devkit.get("sample_annotation", instance["first_annotation_token"])
        length = 1
        while row["next"]:
            row, length = devkit.get("sample_annotation", row["next"]), length + 1
        assert (row["token"], length) == (instance["last_annotation_token"], instance["nbr_annotations"])


def test_sensor_files_are_what_their_rows_say(devkit: NuScenes, world: Path) -> None:
    named = {row["filename"] for row in devkit.sample_data} | {row["filename"] for row in devkit.map}
    found = {
        path.relative_to(world).as_posix() for path in world.rglob("*.*") if path.suffix in (".jpg", ".bin", ".png")
    }
    assert named == found
    for row in devkit.sample_data:
        path = world / row["filename"]
        if row["channel"] == "LIDAR_TOP":
            points = np.fromfile(path, "<f4").reshape(-1, 5)
            assert len(points) == COLUMNS * BEAMS
            assert np.isfinite(points).all()
            np.testing.assert_array_equal(points[:, 4], np.tile(np.arange(BEAMS), COLUMNS))
            assert points[:, 3].min() >= 0
            assert points[:, 3].max() <= 255
            far = np.linalg.norm(points[:, :3], axis=1) > 1.5
            assert 0.3 < far.mean() < 0.95
        elif row["is_key_frame"]:
            image = cv2.imread(str(path))
            assert image.shape == (row["height"], row["width"], 3) == (90, 160, 3)
            assert image.std() > 4


def test_velocities_through_the_instance_chain_are_true(devkit: NuScenes, recorders: dict[str, SceneRecorder]) -> None:
    errors, movers = [], 0
    for scene in devkit.scene:
        recorder = recorders[scene["name"]]
        index_of = {recorder.instance_token(i): i for i in range(len(recorder.scene.things))}
        for annotation in devkit.sample_annotation:
            if annotation["instance_token"] not in index_of or not (annotation["prev"] and annotation["next"]):
                continue
            time_us = devkit.get("sample", annotation["sample_token"])["timestamp"]
            index = index_of[annotation["instance_token"]]
            in_scene = recorder.scene.tracks.velocity_at((time_us - recorder.first_us) * 1e-6)[index]
            truth = recorder.scene.global_from_scene[:2, :2] @ in_scene
            found = devkit.box_velocity(annotation["token"])[:2]
            errors.append(np.linalg.norm(found - truth))
            movers += bool(np.linalg.norm(truth) > 1.0)
    assert movers > 10
    # The devkit's mean over a second is not the speed of a moment for whoever brakes or turns.
    assert np.median(errors) < 0.05
    assert np.quantile(errors, 0.95) < 0.7


def test_attributes_fit_the_class_and_the_speed(devkit: NuScenes) -> None:
    families = {"vehicle": "vehicle.", "human": "pedestrian.", "movable_object": ""}
    for annotation in devkit.sample_annotation:
        names = [devkit.get("attribute", token)["name"] for token in annotation["attribute_tokens"]]
        category = annotation["category_name"]
        if category.startswith("movable_object"):
            assert names == []
            continue
        assert len(names) == 1
        cycle = category in ("vehicle.bicycle", "vehicle.motorcycle")
        assert names[0].startswith("cycle." if cycle else families[category.split(".")[0]])
        speed = np.linalg.norm(devkit.box_velocity(annotation["token"])[:2])
        if names[0] in ("vehicle.parked", "cycle.without_rider"):
            assert np.isnan(speed) or speed < 1e-6
        if names[0] in ("vehicle.moving", "pedestrian.moving") and annotation["prev"] and annotation["next"]:
            assert speed > 0.05


def test_boxes_stand_on_the_ground_upright_and_of_their_class_size(devkit: NuScenes) -> None:
    for annotation in devkit.sample_annotation:
        width, length, height = annotation["size"]
        assert annotation["translation"][2] == pytest.approx(height / 2)
        assert annotation["rotation"][1:3] == [0.0, 0.0]
        if annotation["category_name"] == "vehicle.car":
            assert 3.5 < length < 5.7
            assert 1.6 < width < 2.3
            assert 1.2 < height < 2.3
        if annotation["category_name"] == "movable_object.barrier":
            assert width > length


def test_the_world_says_that_it_is_simulated(devkit: NuScenes, world: Path) -> None:
    mark = json.loads((world / "simulated.json").read_text())
    assert mark["simulated"] is True
    assert mark["settings"]["seed"] == SETTINGS.seed
    assert "simulated" in (world / "README.md").read_text()
    assert all("imulated" in scene["description"] for scene in devkit.scene)
    assert all(log["vehicle"] == "simulated" for log in devkit.log)
    assert all("imulated" in category["description"] for category in devkit.category)


def test_categories_and_attributes_are_those_of_nuscenes(devkit: NuScenes, shared_data: Path) -> None:
    for table in ("category", "attribute", "visibility"):
        key = "level" if table == "visibility" else "name"
        real = json.loads((shared_data / "nuscenes-real" / "v1.0-mini" / f"{table}.json").read_text())
        assert [row[key] for row in getattr(devkit, table)] == [row[key] for row in real]


def test_most_classes_occur_even_in_a_small_world(devkit: NuScenes) -> None:
    names = Counter(annotation["category_name"] for annotation in devkit.sample_annotation)
    assert sum(CATEGORY_OF[name] in names for name in DETECTION_CLASSES) >= 9


@pytest.mark.slow
def test_the_devkit_draws_it(devkit: NuScenes, tmp_path: Path) -> None:
    devkit.render_sample(devkit.sample[1]["token"], out_path=str(tmp_path / "sample.png"), verbose=False)
    lidar = devkit.sample[1]["data"]["LIDAR_TOP"]
    devkit.render_sample_data(lidar, nsweeps=5, underlay_map=True, out_path=str(tmp_path / "lidar.png"), verbose=False)
    drawn = cv2.imread(str(tmp_path / "lidar.png"))
    assert drawn.std() > 5
    assert (tmp_path / "sample.png").stat().st_size > 50_000


def test_the_car_drives_on_the_road_of_its_map(devkit: NuScenes) -> None:
    for sample in devkit.sample:
        scene = devkit.get("scene", sample["scene_token"])
        mask = devkit.get("map", devkit.get("log", scene["log_token"])["map_token"])["mask"]
        pose = devkit.get("ego_pose", sample["data"]["LIDAR_TOP"])["translation"]
        assert mask.is_on_mask(pose[0], pose[1]).all()
        inside = mask.mask()[2500:2510, 2500:2510]
        assert set(np.unique(mask.mask())) == {0, 255}
        assert inside.shape == (10, 10)
