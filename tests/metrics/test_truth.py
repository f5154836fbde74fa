"""Truth from tables, against what the devkit loads."""

from pathlib import Path

import numpy as np
import pytest
from metric_oracle import random_world
from nuscenes import NuScenes
from nuscenes.eval.common.loaders import load_gt
from nuscenes.eval.common.utils import quaternion_yaw
from nuscenes.eval.detection.constants import ATTRIBUTE_NAMES
from nuscenes.eval.detection.data_classes import DetectionBox
from nuscenes.utils.data_classes import Box
from pyquaternion import Quaternion

from fusionkd.data import NuScenesIndex
from fusionkd.errors import UserError
from fusionkd.geometry import DETECTION_CLASSES
from fusionkd.metrics import ATTRIBUTES, DetectionTruth


def test_equal_to_the_devkits_annotations(minival_truth: DetectionTruth, minival_nusc: NuScenes) -> None:
    theirs = load_gt(minival_nusc, "mini_val", DetectionBox)
    truth = minival_truth
    assert list(truth.tokens) == theirs.sample_tokens
    boxes = theirs.all
    assert len(boxes) == len(truth.label) == 4441
    assert [truth.tokens[s] for s in truth.sample] == [box.sample_token for box in boxes]
    np.testing.assert_array_equal(truth.xyz_m, [box.translation for box in boxes])
    np.testing.assert_array_equal(truth.lwh_m[:, [1, 0, 2]], [box.size for box in boxes])
    np.testing.assert_array_equal(truth.velocity_mps, [box.velocity for box in boxes])
    np.testing.assert_array_equal(truth.num_points, [box.num_pts for box in boxes])
    assert [DETECTION_CLASSES[label] for label in truth.label] == [box.detection_name for box in boxes]
    names = [ATTRIBUTES[a] if a >= 0 else "" for a in truth.attribute]
    assert names == [box.attribute_name for box in boxes]
    yaw = np.array([quaternion_yaw(Quaternion(box.rotation)) for box in boxes])
    np.testing.assert_allclose(truth.yaw_rad, yaw, rtol=0, atol=1e-14)


def test_car_and_racks_equal_the_tables(minival_truth: DetectionTruth, minival_nusc: NuScenes) -> None:
    racks = []
    for i, token in enumerate(minival_truth.tokens):
        sample = minival_nusc.get("sample", token)
        data = minival_nusc.get("sample_data", sample["data"]["LIDAR_TOP"])
        pose = minival_nusc.get("ego_pose", data["ego_pose_token"])
        np.testing.assert_array_equal(minival_truth.ego_xyz_m[i], pose["translation"])
        for note in (minival_nusc.get("sample_annotation", a) for a in sample["anns"]):
            if note["category_name"] == "static_object.bicycle_rack":
                box = Box(note["translation"], note["size"], Quaternion(note["rotation"]))
                racks.append((i, box.corners().T[[0, 4, 1, 3]]))
    assert len(racks) == 54
    np.testing.assert_array_equal(minival_truth.rack_sample, [i for i, _ in racks])
    np.testing.assert_allclose(minival_truth.rack_corners_m, [corners for _, corners in racks], rtol=0, atol=1e-9)


def test_of_some_scenes(minival_root: Path, minival_truth: DetectionTruth) -> None:
    index = NuScenesIndex.load(minival_root, "v1.0-mini")
    parts = [DetectionTruth.from_index(index, [scene]) for scene in index.scene_names]
    assert len(parts) == 2
    assert sum(map(len, parts)) == len(minival_truth)
    assert sorted(t for part in parts for t in part.tokens) == sorted(minival_truth.tokens)
    for part in parts:
        for token in part.tokens[::20]:
            here, there = part.row_of[token], minival_truth.row_of[token]
            ours, theirs = slice(*part.start[here : here + 2]), slice(*minival_truth.start[there : there + 2])
            np.testing.assert_array_equal(part.xyz_m[ours], minival_truth.xyz_m[theirs])
            np.testing.assert_array_equal(part.ego_xyz_m[here], minival_truth.ego_xyz_m[there])
        assert sum(len(p.rack_sample) for p in parts) == len(minival_truth.rack_sample)


def test_unknown_scenes_are_refused(minival_root: Path) -> None:
    with pytest.raises(UserError, match="scene-9999"):
        DetectionTruth.from_tables(minival_root, "v1.0-mini", ["scene-9999"])


def test_attributes_are_the_devkits() -> None:
    assert list(ATTRIBUTES) == ATTRIBUTE_NAMES


def test_arrays_are_frozen() -> None:
    truth = random_world(0, samples=2, annotations=9).truth()
    with pytest.raises(ValueError, match="read-only"):
        truth.xyz_m[0, 0] = 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label": 10}, "label must hold indices"),
        ({"label": -1}, "label must hold indices"),
        ({"attribute": 8}, "attribute must hold"),
        ({"xyz_m": np.nan}, "xyz_m must be finite"),
        ({"start": 1}, "start must rise from 0"),
        ({"ego_xyz_m": np.zeros((1, 3))}, r"ego_xyz_m must have shape \(2, 3\)"),
        ({"tokens": ("a", "a")}, "name each sample once"),
        ({"rack_sample": 7}, "rack_sample must rise and hold indices"),
    ],
)
def test_impossible_arrays_are_refused(change: dict[str, object], message: str) -> None:
    truth = random_world(2, samples=2, annotations=9).truth()
    assert len(truth.rack_sample) > 0
    fields = {**vars(truth)}
    for cached in ("row_of", "sample", "rack_start"):
        fields.pop(cached, None)
    (name, value), *_ = change.items()
    fields[name] = np.full_like(fields[name], value) if isinstance(value, int | float) else value
    with pytest.raises(UserError, match=message):
        DetectionTruth(**fields)
