"""Mistakes a newcomer makes: each ends in one message that names the thing, with exit status 2 and no traceback."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fusionkd.cli import guarded, main, train
from tests.cli.conftest import TERMS

MISTAKES: dict[str, tuple[list[str], str]] = {
    "no such config": (["--config", "absent.yaml"], "absent.yaml"),
    "misspelled option": (["--trainer.max_stps", "3"], "max_stps"),
    "misspelled argument of a term": (["--model.terms.heatmap.init_args.weigt", "3"], "weigt"),
    "unknown term class": (["--model.terms.bev.class_path", f"{TERMS}.Nope"], "Nope"),
    "unknown shipped teacher": (["--model.teachers.lidar.init_args.checkpoint", "zoo:absent"], "zoo:absent"),
    "no such teacher file": (["--model.teachers.lidar.init_args.checkpoint", "absent.ckpt"], "absent.ckpt"),
    "unknown teacher of a term": (["--model.terms.bev.init_args.teacher", "[lidar, radar]"], "radar"),
    "tap of an absent branch": (["--model.terms.bev.init_args.teacher_tap", "camera_bev"], "camera_bev"),
    "unknown mask": (["--model.terms.bev.init_args.mask", "circle"], "circle"),
    "negative weight": (["--model.terms.bev.init_args.weight", "-1"], "negative"),
    "no such data": (["--data.init_args.root", "absent-folder"], "absent-folder"),
    "unknown version": (["--data.init_args.version", "v9.9-mini"], "v9.9-mini"),
    "unknown scene": (["--data.init_args.train_split", "[scene-9999]"], "scene-9999"),
    "view that the data doesn't make": (
        ["--model.student.init_args.lidar.init_args.view", "absent_view"],
        "absent_view",
    ),
    "channels that don't fit": (["--model.student.init_args.head.init_args.in_channels", "5"], "channels"),
    "impossible learning rate": (["--model.optimizer.lr", "-1"], "optimizer.lr"),
    "no such checkpoint to resume": (["--ckpt_path", "absent-run.ckpt"], "absent-run.ckpt"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistake_ends_in_one_message(mistake: str, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options, named = MISTAKES[mistake]
    base = [] if options[0] == "--config" else ["--config", str(config)]
    assert guarded(train, ["fit", *base, *options]) == 2
    error = capsys.readouterr().err
    assert named in error
    assert "Traceback" not in error
    assert "error: " in error


def test_malformed_yaml(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config.write_text("trainer:\n  max_steps: [1\nmodel: }")
    assert guarded(train, ["fit", "--config", str(config)]) == 2
    error = capsys.readouterr().err
    assert "Traceback" not in error
    assert "config" in error


def test_half_matching_checkpoint(config: Path, teacher: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint = torch.load(teacher, weights_only=True)
    del checkpoint["state_dict"]["student.head.shared_conv.conv.weight"]
    broken = config.parent / "half.ckpt"
    torch.save(checkpoint, broken)
    options = ["fit", "--config", str(config), "--model.teachers.lidar.init_args.checkpoint", str(broken)]
    assert guarded(train, options) == 2
    assert "1 missing (head.shared_conv.conv.weight)" in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 cut off"])
def test_truncated_checkpoint(content: bytes, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = config.parent / "broken.ckpt"
    broken.write_bytes(content)
    options = ["fit", "--config", str(config), "--model.teachers.lidar.init_args.checkpoint", str(broken)]
    assert guarded(train, options) == 2
    assert "broken.ckpt" in capsys.readouterr().err


def edit_table(root: Path, name: str, change: Callable[[list[dict[str, Any]]], object]) -> None:
    path = root / "v1.0-mini" / f"{name}.json"
    records = json.loads(path.read_text())
    change(records)
    path.write_text(json.dumps(records))


def every(root: Path, pattern: str, change: Callable[[Path], object]) -> None:
    paths = sorted(root.glob(pattern))
    assert paths
    for path in paths:
        change(path)


def with_nan(path: Path) -> None:
    points = np.fromfile(path, np.float32)
    points[7] = np.nan
    points.tofile(path)


def four_columns(path: Path) -> None:
    points = np.fromfile(path, np.float32).reshape(-1, 5)[:, :4]  # (P, 4)
    points[: len(points) // 5 * 5].tofile(path)


def without_camera(records: list[dict[str, Any]]) -> None:
    records[:] = [record for record in records if "/CAM_BACK/" not in record["filename"]]


SAMPLES = "samples/LIDAR_TOP/*.bin"
# What was done to a copy of the world, and what the message must name.
DAMAGES: dict[str, tuple[Callable[[Path], object], tuple[str, ...]]] = {
    "no tables": (lambda root: shutil.rmtree(root / "v1.0-mini"), ("v1.0-mini",)),
    "a table is missing": (lambda root: (root / "v1.0-mini" / "ego_pose.json").unlink(), ("ego_pose.json", "missing")),
    "a table is cut off": (
        lambda root: (root / "v1.0-mini" / "sample.json").write_text('[{"token": "1'),
        ("sample.json", "cut off"),
    ),
    "a table is no list": (lambda root: (root / "v1.0-mini" / "scene.json").write_text("{}"), ("scene.json", "list")),
    "a key is missing": (
        lambda root: edit_table(root, "sample_annotation", lambda records: records[3].pop("translation")),
        ("sample_annotation.json", "translation"),
    ),
    "a token leads nowhere": (
        lambda root: edit_table(root, "sample_data", lambda records: records[0].update(ego_pose_token="gone")),
        ("sample_data.json", "gone"),
    ),
    "a box of no size": (
        lambda root: edit_table(root, "sample_annotation", lambda records: records[0].update(size=[0.0, 4.0, 1.5])),
        ("sample_annotation.json", "size"),
    ),
    "a camera is missing": (lambda root: edit_table(root, "sample_data", without_camera), ("CAM_BACK",)),
    "LiDAR files are missing": (lambda root: every(root, SAMPLES, Path.unlink), ("LIDAR_TOP", "is missing")),
    "LiDAR files are cut off": (
        lambda root: every(root, SAMPLES, lambda path: path.write_bytes(path.read_bytes()[:-7])),
        ("LIDAR_TOP", "bytes"),
    ),
    "LiDAR files have four columns": (lambda root: every(root, SAMPLES, four_columns), ("LIDAR_TOP", "column")),
    "points are NaN": (lambda root: every(root, SAMPLES, with_nan), ("LIDAR_TOP", "NaN")),
    "images are missing": (lambda root: every(root, "samples/CAM_FRONT/*.jpg", Path.unlink), ("CAM_FRONT", "missing")),
    "images are cut off": (
        lambda root: every(root, "samples/CAM_FRONT/*.jpg", lambda path: path.write_bytes(path.read_bytes()[:400])),
        ("CAM_FRONT", "cut off"),
    ),
    "images are no JPEG": (
        lambda root: every(root, "samples/CAM_FRONT/*.jpg", lambda path: path.write_text("<html>not found</html>")),
        ("CAM_FRONT", "JPEG"),
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_data_is_named(
    damage: str, config: Path, world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    harm, named = DAMAGES[damage]
    copy = tmp_path / "damaged"
    shutil.copytree(world, copy, ignore=shutil.ignore_patterns(".fusionkd"))
    harm(copy)
    assert guarded(train, ["fit", "--config", str(config), "--data.init_args.root", str(copy)]) == 2
    error = capsys.readouterr().err
    assert "Traceback" not in error
    for thing in named:
        assert thing in error


COMMANDS: dict[str, tuple[list[str], str]] = {
    "simulating nothing": (["simulate", "--out", "nowhere", "--scenes", "0"], "scenes"),
    "picture of no such checkpoint": (["visualize", "--checkpoint", "absent.ckpt", "--save", "scene.png"], "absent"),
    "recording no such report": (["train-teachers", "--control", "absent.json", "mini"], "absent.json"),
    "teachers without configurations": (["train-teachers", "--root", ".", "--configs", "absent"], "absent"),
}


@pytest.mark.parametrize("mistake", COMMANDS)
def test_other_commands(
    mistake: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "v1.0-trainval").mkdir()
    options, named = COMMANDS[mistake]
    assert main(options) == 2
    error = capsys.readouterr().err
    assert named in error
    assert "Traceback" not in error
