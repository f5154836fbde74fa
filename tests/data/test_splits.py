import json
from pathlib import Path

import pytest
from nuscenes.utils.splits import create_splits_scenes
from tiny_world import TinyWorld

from fusionkd.data import NuScenesIndex
from fusionkd.data.splits import default_split, devkit_splits, scenes_of
from fusionkd.errors import UserError


def test_splits_are_the_devkits() -> None:
    assert devkit_splits() == create_splits_scenes()


def test_a_split_gives_those_of_its_scenes_that_are_there(tiny_root: Path) -> None:
    index = NuScenesIndex.load(tiny_root)
    assert scenes_of(index, "mini_train") == ["scene-0061"]
    assert scenes_of(index, "mini_val") == ["scene-0103"]
    assert scenes_of(index, ["scene-0103", "scene-0061"]) == ["scene-0061", "scene-0103"]


def test_own_splits_lie_beside_the_tables(tiny_world: TinyWorld) -> None:
    path = tiny_world.root / "v1.0-mini" / "splits.json"
    path.write_text(json.dumps({"mine": ["scene-0103"], "wrong": ["scene-9999"], "none": []}))
    index = NuScenesIndex.load(tiny_world.root)
    assert scenes_of(index, "mine") == ["scene-0103"]
    with pytest.raises(UserError, match=r"No scene scene-9999.*scenes: scene-0061, scene-0103"):
        scenes_of(index, "wrong")
    with pytest.raises(UserError, match=r"Split 'none' is empty"):
        scenes_of(index, "none")
    path.write_text("[1]")
    with pytest.raises(UserError, match=r"splits\.json must hold lists of scene names"):
        scenes_of(index, "mine")
    path.write_text("{")
    with pytest.raises(UserError, match=r"splits\.json can't be read as JSON"):
        scenes_of(index, "mine")


def test_mistakes_say_what_exists(tiny_world: TinyWorld, tmp_path: Path) -> None:
    index = NuScenesIndex.load(tiny_world.root)
    with pytest.raises(
        UserError, match=r"no split 'minitrain'.*splits are: mini_train, mini_val; its 2 scenes: scene-"
    ):
        scenes_of(index, "minitrain")
    with pytest.raises(UserError, match=r"'train' belongs to nuScenes versions that end in 'trainval'.*'v1\.0-mini'"):
        scenes_of(index, "train")
    with pytest.raises(UserError, match=r"No scene scene-61.*scene-0061, scene-0103"):
        scenes_of(index, ["scene-61"])
    only_train = NuScenesIndex.load(TinyWorld(tmp_path / "one", scenes=("scene-0061",), keyframes=1).root)
    with pytest.raises(UserError, match=r"Split 'mini_val' is empty: none of its 2 scenes.*scenes: scene-0061"):
        scenes_of(only_train, "mini_val")


def test_default_splits_fit_the_version() -> None:
    assert [default_split("v1.0-mini", stage) for stage in ("train", "val", "test")] == [
        "mini_train",
        "mini_val",
        "mini_val",
    ]
    assert [default_split("v1.0-trainval", stage) for stage in ("train", "val", "test")] == ["train", "val", "val"]
    assert default_split("v1.0-test", "test") == "test"
    with pytest.raises(UserError, match=r"no train split for version 'v1\.0-mine'.*train_split"):
        default_split("v1.0-mine", "train")
