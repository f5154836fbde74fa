"""The command that makes the shipped teachers, on a world of two frames."""

import hashlib
import json
from pathlib import Path

import pytest

from fusionkd.cli import guarded
from fusionkd.cli import teachers as command
from fusionkd.models import load_model
from fusionkd.simulation import WorldSettings

QUICK = ["--trainer.max_steps", "1", "--trainer.logger", "false", "--trainer.accelerator", "cpu"]
QUICK += ["--data.init_args.batch_size", "1", "--data.init_args.num_workers", "0"]


@pytest.mark.slow
def test_teachers_from_nothing_to_the_zoo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    world = WorldSettings(scenes=2, keyframes_per_scene=1, image_width_px=256, seed=3, version="v1.0-trainval")
    monkeypatch.setattr(command, "WORLD", world)
    folders = ["--root", str(tmp_path / "world"), "--runs", str(tmp_path / "runs"), "--zoo", str(tmp_path / "zoo")]
    assert guarded(command.main, [*folders, "--", *QUICK]) == 0
    for name in command.TEACHERS:
        path = tmp_path / "zoo" / f"{name}.safetensors"
        model, card = load_model(path)
        assert card["simulated"]
        assert set(card["figures"]) >= {"mAP", "NDS", "AP/car"}
        assert card["data"]["world"]["settings"]["seed"] == 3
        assert path.stat().st_size < 10e6, "shipped weights stay below 10 MB"
        text = (tmp_path / "zoo" / f"{name}.md").read_text()
        assert hashlib.sha256(path.read_bytes()).hexdigest() in text
        assert "SIMULATED" in text
        assert json.loads((tmp_path / "zoo" / f"{name}_curve.json").read_text())[-1]["step"] == 1
        assert str(tmp_path) not in text
        assert (model.camera is None, model.lidar is None) == (name == "lidar", name == "camera")
    capsys.readouterr()
    assert guarded(command.main, [*folders, "--only", "lidar", "--", *QUICK]) == 0
    assert "trained already" in capsys.readouterr().out


def test_missing_configuration_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "world"
    (root / command.WORLD.version).mkdir(parents=True)
    given = ["--only", "lidar", "--root", str(root), "--configs", str(tmp_path / "absent"), "--runs", str(tmp_path)]
    assert guarded(command.main, given) == 2
    assert "absent" in capsys.readouterr().err


def test_exporting_nothing_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert guarded(command.main, ["--export", "absent.ckpt", "mine", "--zoo", str(tmp_path)]) == 2
    assert "absent.ckpt" in capsys.readouterr().err


def test_card_tells_how_a_model_was_made(tmp_path: Path) -> None:
    assert command.made_by(Path("runs/teachers/fused/student.ckpt"), "fused").endswith("--only fused`")
    run = tmp_path / "nuscenes_mini"
    run.mkdir()
    (run / "config.yaml").write_text("trainer: {max_steps: 900, val_check_interval: 300, devices: 1}\n")
    assert command.made_by(run / "student.ckpt", "student") == (
        "`python tools/train.py fit --config configs/nuscenes_mini.yaml --trainer.max_steps 900 "
        "--trainer.val_check_interval 300`, then "
        "`python tools/train_teachers.py --export runs/nuscenes_mini/student.ckpt student`"
    )


def test_card_of_an_overlays_run_names_both_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(command.__file__).parents[2])
    assert command.made_by(Path("runs/shipped/student.ckpt"), "student").startswith(
        "`python tools/train.py fit --config configs/nuscenes_mini.yaml --config configs/students/shipped.yaml`, then"
    )


def test_control_is_recorded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def report(name: str) -> Path:
        rows = [{"name": name, "figures": {"mAP": 0.1, "NDS": 0.2, "AP/car": 0.3}, "cost": None}]
        path = tmp_path / "report.json"
        path.write_text(json.dumps({"simulated": True, "conditions": {"steps": 3}, "rows": rows}))
        return path

    given = ["--zoo", str(tmp_path)]
    assert guarded(command.main, ["--control", str(report("student")), "mini", *given]) == 0
    control = json.loads((tmp_path / "control.json").read_text())["mini"]
    assert control["figures"] == {"mAP": 0.1, "NDS": 0.2}
    assert control["conditions"] == {"steps": 3}
    assert guarded(command.main, ["--control", str(report("teacher lidar")), "mini", *given]) == 2
    assert guarded(command.main, ["--control", str(tmp_path / "absent.json"), "mini", *given]) == 2
    assert "absent.json" in capsys.readouterr().err
    (tmp_path / "old.json").write_text(json.dumps({"simulated": True, "rows": []}))
    assert guarded(command.main, ["--control", str(tmp_path / "old.json"), "mini", *given]) == 2
    assert "older version" in capsys.readouterr().err
