"""The command line: composition, and mistakes that end in one sentence."""

from pathlib import Path

import pytest
import torch

from fusionkd.cli import build_cli, guarded, main, message_for_user, train
from fusionkd.errors import UserError
from fusionkd.tasks import load_student


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
