"""Settings, their mistakes, and the command line."""

from pathlib import Path
from typing import Any

import pytest
from nuscenes.utils.splits import mini_train, mini_val, train, val

from fusionkd.cli import main as console
from fusionkd.errors import UserError
from fusionkd.simulation import WorldSettings
from fusionkd.simulation.command import main


def test_ten_scenes_bear_the_names_of_mini() -> None:
    assert WorldSettings().scene_names() == [*mini_train, *mini_val]
    assert WorldSettings().version == "v1.0-mini"
    assert WorldSettings(version="v1.0-mini") == WorldSettings()


def test_larger_worlds_bear_the_names_of_trainval() -> None:
    names = WorldSettings(scenes=46, val_scenes=6).scene_names()
    assert len(set(names)) == 46
    assert set(names[:40]) <= set(train)
    assert set(names[40:]) <= set(val)
    assert WorldSettings(scenes=100).val_scenes == 15
    assert WorldSettings(scenes=46).version == "v1.0-trainval"


def test_a_small_trainval_can_be_asked_for() -> None:
    settings = WorldSettings(scenes=1, version="v1.0-trainval")
    assert settings.scene_names() == [train[0]]


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"scenes": 0}, "scenes must be a whole number from 1 to 850, found 0"),
        ({"scenes": 2.0}, "scenes must be a whole number"),
        ({"scenes": True}, "scenes must be a whole number"),
        ({"scenes": 20, "version": "v1.0-mini"}, "v1.0-mini has names for 10 scenes, found scenes=20"),
        ({"seed": -1}, "seed must be a whole number from 0"),
        ({"keyframes_per_scene": 0}, "keyframes_per_scene must be a whole number from 1"),
        ({"image_width_px": 500}, "The nearest is 496"),
        ({"image_width_px": 3200}, "image_width_px must be a whole number from 64 to 1600"),
        ({"version": "v2"}, "version must be one of auto, v1.0-mini, v1.0-trainval, found 'v2'"),
        ({"class_mix": "even"}, "class_mix must be one of flat, nuscenes, found 'even'"),
        ({"look_alike": 1.5}, "look_alike must be a number from 0 to 1, found 1.5"),
        ({"tables_only": "yes"}, "tables_only must be true or false, found 'yes'"),
        ({"val_scenes": 11}, "val_scenes must be from 0 to scenes=10, found 11"),
        ({"val_scenes": 5}, "The validation split of v1.0-mini has 2 names, found 5 wanted"),
        ({"scenes": 850, "val_scenes": 0}, "The training split of v1.0-trainval has 700 names"),
    ],
)
def test_mistakes_are_named_with_what_to_do(values: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError) as caught:
        WorldSettings(**values)
    assert says in str(caught.value)


def test_the_command_writes_a_world(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "deep" / "world"
    given = ["--out", str(out), "--scenes", "1", "--keyframes", "1", "--image-width", "64", "--workers", "1"]
    assert main(given) == 0
    assert "A simulated v1.0-mini of 1 scenes, 1 keyframes" in capsys.readouterr().out
    assert (out / "v1.0-mini" / "sample.json").is_file()


def test_the_command_explains_a_mistake_in_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert console(["simulate", "--out", str(tmp_path / "world"), "--image-width", "500"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: image_width_px must be a multiple of 16")
    assert "Traceback" not in error
    assert not (tmp_path / "world").exists()
