"""The command line: composition, and mistakes that end in one sentence."""

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from fusionkd.cli import build_cli, guarded, main, message_for_user, train
from fusionkd.errors import UserError
from fusionkd.tasks import DistillationTask, load_student
from tests.data.tiny_world import TinyWorld
from tests.tasks.conftest import make_data, make_student, make_trainer, student_spec

TERMS = "fusionkd.distillation"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return TinyWorld(tmp_path_factory.mktemp("cli")).root


@pytest.fixture(scope="module")
def teacher(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("teacher") / "student.ckpt"
    trainer = make_trainer(path.parent, steps=1, limit_val_batches=0)
    trainer.fit(DistillationTask(make_student()), make_data(world))
    trainer.save_checkpoint(path)
    return path


@pytest.fixture
def config(world: Path, teacher: Path, tmp_path: Path) -> Path:
    """A small run with a teacher, as a file."""
    spec = student_spec()
    grid = spec["init_args"].pop("grid")
    content: dict[str, Any] = {
        "trainer": {
            "accelerator": "cpu",
            "max_steps": 2,
            "logger": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "num_sanity_val_steps": 0,
            "default_root_dir": str(tmp_path / "run"),
            "callbacks": [{"class_path": "fusionkd.tasks.EndReport"}],
        },
        "data": {
            "class_path": "fusionkd.data.NuScenesDataModule",
            "init_args": {
                "root": str(world),
                "train_split": ["scene-0061", "scene-0103"],
                "val_split": ["scene-0103"],
                "grid": grid,
                "lidar_views": {"raster": {"class_path": "fusionkd.data.RasterView", "init_args": {"grid": grid}}},
                "image_size_px": [32, 64],
                "num_sweeps": 1,
                "batch_size": 2,
                "num_workers": 0,
                "cache_images_gb": 0,
            },
        },
        "model": {
            "student": spec,
            "teachers": {
                "lidar": {"class_path": "fusionkd.teachers.FrozenTeacher", "init_args": {"checkpoint": str(teacher)}}
            },
            "terms": {
                "heatmap": {"class_path": f"{TERMS}.HeatmapResponse", "init_args": {"teacher": "lidar"}},
                "bev": {"class_path": f"{TERMS}.FeatureMimic", "init_args": {"teacher": "lidar"}},
            },
        },
    }
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def test_fit_leaves_a_student_that_stands_alone(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert guarded(train, ["fit", "--config", str(config)]) == 0
    output = capsys.readouterr().out
    assert "teacher lidar" in output
    assert "distilled student" in output
    folder = config.parent / "run"
    assert {"student.ckpt", "report.json", "config.yaml"} <= {path.name for path in folder.iterdir()}
    model = load_student(folder / "student.ckpt")
    assert model.grid.shape == (32, 32), "the data's grid is the student's"


def test_saved_config_runs_again(config: Path) -> None:
    assert guarded(train, ["fit", "--config", str(config), "--trainer.max_steps", "1"]) == 0
    again = config.parent / "run" / "config.yaml"
    assert guarded(train, ["fit", "--config", str(again), "--trainer.fast_dev_run", "true"]) == 0


def test_test_takes_the_checkpoint_and_writes_a_submission(
    config: Path, teacher: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert guarded(train, ["test", "--config", str(config), "--ckpt_path", str(teacher)]) == 0
    assert "NDS" in capsys.readouterr().out
    assert (config.parent / "run" / "submission.json").is_file()


def test_one_option_of_one_term(config: Path) -> None:
    cli = build_cli(["--config", str(config), "--model.terms.heatmap.init_args.weight=0.1"], run=False)
    assert cli.model.terms["heatmap"].weight == 0.1
    assert cli.model.terms["bev"].weight == 1.0


def test_tools_get_the_student_of_a_training_config(config: Path) -> None:
    cli = build_cli(["--config", str(config)], run=False)
    assert cli.model.student.spec["class_path"] == "fusionkd.models.FusionModel"
    assert cli.model.student.spec["init_args"]["grid"]["cell_m"] == 3.2


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


def test_console_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert "train-teachers" in capsys.readouterr().out
    assert main(["fly"]) == 2
    assert "fly" in capsys.readouterr().err
    assert main(["train", "fit", "--config", "absent.yaml"]) == 2


def test_other_errors_keep_their_traceback() -> None:
    assert message_for_user(ZeroDivisionError("1/0")) is None

    def broken(arguments: object) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        guarded(broken, [])


def test_a_wrapped_user_error_is_told_as_its_sentence() -> None:
    outer = ValueError("noise")
    outer.__cause__ = UserError("Mend this.")
    assert message_for_user(outer) == "Mend this."


def test_resumes_from_a_checkpoint(config: Path) -> None:
    options = ["fit", "--config", str(config)]
    options += ["--trainer.callbacks+=fusionkd.tasks.RunCheckpoint"]
    options += [
        "--trainer.callbacks.init_args.every_n_train_steps=1",
        "--trainer.callbacks+=fusionkd.tasks.StudentAverage",
    ]
    assert guarded(train, options) == 0
    last = config.parent / "run" / "checkpoints" / "last.ckpt"
    assert guarded(train, [*options, "--trainer.max_steps", "3", "--ckpt_path", str(last)]) == 0
    assert torch.load(last, weights_only=True)["global_step"] == 3
