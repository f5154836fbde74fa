"""tools/visualize.py: pictures from data, models and results files, and the mistakes that users make."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from fusionkd.data import NuScenesIndex
from fusionkd.errors import UserError
from fusionkd.geometry import Boxes3D
from fusionkd.metrics import Detections, write_submission
from fusionkd.models import build_model, save_model
from fusionkd.visualize.command import main
from fusionkd.visualize.sources import boxes_from_results, find_sample, frame_name, picture_frame

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def index(picture_root: Path) -> NuScenesIndex:
    return NuScenesIndex.load(picture_root)


@pytest.fixture(scope="module")
def results(picture_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results file that finds every object of the tiny world a little beside its place, and invents a bus."""
    index = NuScenesIndex.load(picture_root)
    tokens = index.sample_tokens
    found = []
    for row in range(len(tokens)):
        array = index.boxes(row, min_points=1).to_array()
        invented = np.array([[15, -15, 1.7, 11, 2.9, 3.4, 1.0, 0, 0]])
        label = np.append(index.boxes(row, min_points=1).label, 3)
        array[:, :2] += (0.4, 0.2)
        array = np.concatenate([array, invented])
        found.append(Boxes3D.from_array(array, label, np.full(len(label), 0.8)))
    poses = np.stack([index.global_from_ego(row) for row in range(len(tokens))])
    path = tmp_path_factory.mktemp("results") / "results.json"
    detections = Detections.from_ego(tokens, found, poses)
    write_submission(path, detections, samples=tokens, use_camera=True, use_lidar=True)
    return path


def _part(name: str, **arguments: Any) -> dict[str, Any]:
    return {"class_path": f"fusionkd.models.{name}", "init_args": arguments}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of a tiny untrained model on a coarse grid."""
    torch.manual_seed(0)
    spec = _part(
        "FusionModel",
        grid={"cell_m": 3.2},
        lidar=_part("RasterEncoder", view="raster", in_channels=12, channels=8, depth=1),
        fuser=_part("SingleModality", in_channels=8),
        backbone=_part("BevBackbone", in_channels=8, channels=8, levels=1),
        head=_part("CenterHead", in_channels=8, shared_channels=8, branch_channels=None),
    )
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    save_model(build_model(spec), path, card={})
    return path


def _run(root: Path, *arguments: object) -> int:
    return main(["--root", str(root), *map(str, arguments)])


def test_annotations_alone(picture_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(picture_root, "--sample", "scene-0103:2", "--bev", tmp_path / "bev.png") == 0
    said = capsys.readouterr().out
    assert "scene-0103, keyframe 2: 5 annotations." in said
    assert str(tmp_path / "bev.png") in said
    assert np.asarray(Image.open(tmp_path / "bev.png")).std() > 10


def test_a_results_file_is_brought_from_the_map_to_the_car(
    picture_root: Path, results: Path, index: NuScenesIndex, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    token = index.sample_tokens[4]
    ours = boxes_from_results(results, index, token)
    truth = index.boxes(4, min_points=1)
    shift = ours.xyz_m[: len(truth)] - truth.xyz_m
    np.testing.assert_allclose(shift, np.tile([0.4, 0.2, 0], (len(truth), 1)), atol=0.02)
    assert _run(picture_root, "--sample", token, "--results", results, "--bev", tmp_path / "bev.png") == 0
    said = capsys.readouterr().out
    assert f"results.json on {frame_name(index, token)}: found 5 of 5 objects, missed 0, invented 1." in said


def test_a_model_is_run_on_its_own_grid(
    picture_root: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("--checkpoint", checkpoint, "--bev", tmp_path / "bev.png", "--score-threshold", "0.05")
    assert _run(picture_root, *arguments) == 0
    assert "model.safetensors on " in capsys.readouterr().out
    assert (tmp_path / "bev.png").is_file()


def test_the_data_settings_come_from_the_models_run(picture_root: Path, checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    weights = tmp_path / "checkpoints" / "model.safetensors"
    weights.write_bytes(checkpoint.read_bytes())
    views = {"other": {"class_path": "fusionkd.data.RasterView", "init_args": {"grid": {"cell_m": 3.2}}}}
    settings = {"grid": {"cell_m": 3.2}, "root": "nowhere", "lidar_views": views}
    data = {"class_path": "fusionkd.data.NuScenesDataModule", "init_args": settings}
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump({"data": data, "trainer": {"max_steps": 3}}))
    # The view's name is another one, so the model can't be served: the file beside it was read.
    with pytest.raises(UserError, match="'raster', but the data makes other"):
        _run(picture_root, "--checkpoint", weights, "--bev", tmp_path / "bev.png")
    settings["lidar_views"] = {"raster": views["other"]}
    config.write_text(yaml.safe_dump({"data": data}))
    assert _run(picture_root, "--checkpoint", weights, "--bev", tmp_path / "bev.png") == 0


def test_samples_can_be_named_in_three_ways(index: NuScenesIndex) -> None:
    token = index.sample_tokens[4]
    scene, _, number = frame_name(index, token).partition(", keyframe ")
    assert find_sample(index, token) == token
    assert find_sample(index, "4") == token
    assert find_sample(index, f"{scene}:{number}") == token
    times = [index.record(find_sample(index, f"{scene}:{k}")).timestamp_us for k in range(3)]
    assert times == sorted(times)
    sweep = index.sweep_records([scene])[0].token
    assert find_sample(index, sweep) == sweep
    assert frame_name(index, sweep) == f"{scene}, sweep {sweep[:8]}"


@pytest.mark.parametrize(
    ("sample", "message"),
    [
        ("nothing", "No frame 'nothing'"),
        ("6", "no keyframe '6' in v1.0-mini .* it has 6, numbered 0 to 5"),
        ("scene-0103:3", "no keyframe '3' in scene scene-0103: it has 3, numbered 0 to 2"),
        ("scene-0103:-1", "no keyframe '-1'"),
        ("scene-0103:", "no keyframe ''"),
        ("scene-9999:0", "No scene scene-9999.*scene-0061, scene-0103"),
    ],
)
def test_an_unknown_sample_is_named(picture_root: Path, tmp_path: Path, sample: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        _run(picture_root, "--sample", sample, "--bev", tmp_path / "bev.png")


def test_results_of_another_data_set_are_refused(
    picture_root: Path, results: Path, index: NuScenesIndex, tmp_path: Path
) -> None:
    content = json.loads(results.read_text())
    first = index.sample_tokens[0]
    other = tmp_path / "other.json"
    other.write_text(json.dumps({**content, "results": {"0" * 32: []}}))
    with pytest.raises(UserError, match=r"names 1 samples, 0 of them in .* belongs to another data set"):
        _run(picture_root, "--results", other, "--bev", tmp_path / "bev.png")
    rest = {token: boxes for token, boxes in content["results"].items() if token != first}
    other.write_text(json.dumps({**content, "results": rest}))
    with pytest.raises(UserError, match=rf"Choose one of those, for example {index.sample_tokens[1]}"):
        _run(picture_root, "--sample", first, "--results", other, "--bev", tmp_path / "bev.png")
    sweep = index.sweep_records(["scene-0103"])[0].token
    with pytest.raises(UserError, match="is no keyframe"):
        _run(picture_root, "--sample", sweep, "--results", results, "--bev", tmp_path / "bev.png")


def test_no_display_and_nothing_to_write(picture_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    # Said at once, before anything is loaded.
    with pytest.raises(UserError, match=r"no display.*--save scene.png"):
        _run(picture_root / "nothing")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--bev", "bev.foo"], "--bev bev.foo: a picture's name must end in .png"),
        (["--save", "scene"], "--save scene: a picture's name must end in .png"),
        (["--bev", "x.png", "--score-threshold", "2"], "between 0 and 1, found 2.0"),
        (["--bev", "x.png", "--checkpoint", "nothing.ckpt"], "nothing.ckpt"),
        (["--bev", "x.png", "--checkpoint", "zoo:nothing"], "zoo:nothing"),
        (["--bev", "x.png", "--results", "nothing.json"], "no results file nothing.json"),
        (["--bev", "x.png", "--config", "nothing.yaml"], "no configuration nothing.yaml"),
        (["--bev", "x.png", "--version", "v9"], "v9"),
    ],
)
def test_other_mistakes_are_named(
    picture_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message):
        _run(picture_root, *arguments)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("data: [", "can't be read as YAML"),
        ("trainer: {}", "has no part 'data'"),
        ("data: {init_args: {grid: {cell: 3.2}}}", "data settings in .* can't be used"),
        ("data: {class_path: fusionkd.data.NuScenesDataModule, init_args: {batch: 3}}", "can't be used"),
    ],
)
def test_a_wrong_configuration_is_named(picture_root: Path, tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "config.yaml").write_text(content)
    with pytest.raises(UserError, match=message):
        _run(picture_root, "--config", tmp_path / "config.yaml", "--bev", tmp_path / "bev.png")


def test_the_picture_frame_has_whole_images_of_the_stored_shape(index: NuScenesIndex) -> None:
    frame = picture_frame(index, index.sample_tokens[0])
    assert frame.images.shape == (6, 90, 160, 3)
    np.testing.assert_allclose(frame.rig.image_aug, np.tile(np.eye(3), (6, 1, 1)))
    assert set(np.unique(frame.points[:, 4])) == {0}


@pytest.mark.slow
def test_the_tool_prints_mistakes_without_a_traceback(picture_root: Path, tmp_path: Path) -> None:
    command = [sys.executable, "tools/visualize.py", "--root", str(picture_root), "--sample", "99", "--bev"]
    result = subprocess.run(
        [*command, str(tmp_path / "bev.png")], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert result.returncode == 2
    assert result.stderr.startswith("error: There is no keyframe '99'")
    assert "Traceback" not in result.stderr


@pytest.mark.slow
def test_without_any_way_to_draw_the_packages_are_named(picture_root: Path, tmp_path: Path) -> None:
    hidden = {"DISPLAY", "WAYLAND_DISPLAY"}
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    environment["__EGL_VENDOR_LIBRARY_FILENAMES"] = str(tmp_path / "nothing")
    command = [sys.executable, "tools/visualize.py", "--root", str(picture_root), "--save", str(tmp_path / "scene.png")]
    result = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False, env=environment)
    if result.returncode == 0:
        pytest.skip("this machine's EGL doesn't choose its drivers by that variable")
    assert result.returncode == 2
    assert "apt-get install lib" in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "scene.png").exists()
