"""Cascades: stage after stage, what is refused, what is never done twice."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from fusionkd.cli import cascade as command
from fusionkd.cli import guarded, train
from fusionkd.cli.cascade_plan import flat, read_plan
from fusionkd.cli.cascade_record import read_record, weights_digest
from fusionkd.errors import UserError
from fusionkd.teachers import load_student
from tests.cli.cascades import Launched, write_cascade

MEANS = {"mAP", "NDS", "mATE", "mASE", "mAOE", "mAVE", "mAAE"}


@pytest.fixture
def cascade(config: Path, tmp_path: Path) -> Path:
    return write_cascade(config, tmp_path)


def run(cascade: Path, *options: str, launch: command.Launch | None = None) -> int:
    return command.main(["--config", str(cascade), *options], launch=launch or Launched())


def refused(cascade: Path, capsys: pytest.CaptureFixture[str], *options: str) -> str:
    """What is said; nothing is trained."""
    launched = Launched()
    assert guarded(lambda given: command.main(given, launch=launched), ["--config", str(cascade), *options]) == 2
    assert launched.stages == []
    return capsys.readouterr().err


def test_students_teach_the_next_and_end_in_one_table(cascade: Path, capsys: pytest.CaptureFixture[str]) -> None:
    launched = Launched()
    assert run(cascade, launch=launched) == 0
    assert launched.stages == ["first", "second"]
    folder = cascade.parent / "cascade"
    second = yaml.safe_load((folder / "second" / "config.yaml").read_text())
    assert second["model"]["teachers"]["before"]["init_args"]["checkpoint"] == str(folder / "first" / "student.ckpt")
    assert "teacher before" in capsys.readouterr().out
    content = json.loads((folder / "cascade.json").read_text())
    assert [row["name"] for row in content["rows"]] == ["first", "second", "ensemble of first, second"]
    assert all(set(row["figures"]) == MEANS for row in content["rows"])
    assert content["simulated"] is False
    record = read_record(folder / "second")
    assert record is not None
    assert record.finished
    assert record.student == weights_digest(folder / "second" / "student.ckpt")
    reported = json.loads((folder / "second" / "report.json").read_text())["rows"][-1]["figures"]
    assert {key: record.figures[key] for key in MEANS} == {key: reported[key] for key in MEANS}

    again = Launched()
    assert run(cascade, launch=again) == 0
    assert again.stages == [], "what is finished is never trained again"
    assert "finished already" in capsys.readouterr().out


def test_ensemble_of_one_student_twice_is_that_student(cascade: Path) -> None:
    """Box fusion of a set with itself is that set, so the figures must be the student's own."""
    content = yaml.safe_load(cascade.read_text())
    content["stages"]["second"] = content["stages"]["first"]
    cascade.write_text(yaml.safe_dump(content, sort_keys=False))
    assert run(cascade, "--", "--trainer.max_steps", "12", "--model.optimizer.lr", "0.02") == 0
    rows = json.loads((cascade.parent / "cascade" / "cascade.json").read_text())["rows"]
    for key in MEANS:
        assert rows[2]["figures"][key] == pytest.approx(rows[0]["figures"][key], abs=1e-6), key
    one, other = (load_student(cascade.parent / "cascade" / name / "student.ckpt") for name in ("first", "second"))
    assert all(torch.equal(other.state_dict()[name], value) for name, value in one.state_dict().items())


def test_stage_that_failed_goes_on_from_its_checkpoint(cascade: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Fails(Launched):
        def __call__(self, arguments: list[str]) -> None:
            super().__call__([*arguments, "--trainer.max_steps", "1"] if not self.stages else arguments)
            if self.stages == ["first"]:
                (Path(arguments[arguments.index("--trainer.default_root_dir") + 1]) / "student.ckpt").unlink()

    said = refused_after_training(cascade, Fails(), capsys)
    assert "left no student.ckpt" in said
    launched = Launched()
    assert run(cascade, launch=launched) == 0
    assert launched.resumed == ["first"]
    assert launched.stages == ["first", "second"]


def refused_after_training(cascade: Path, launch: command.Launch, capsys: pytest.CaptureFixture[str]) -> str:
    assert guarded(lambda given: command.main(given, launch=launch), ["--config", str(cascade)]) == 2
    return capsys.readouterr().err


def test_changed_settings_are_refused_and_named(
    cascade: Path, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(cascade) == 0
    capsys.readouterr()
    folder = cascade.parent / "cascade"
    said = refused(cascade, capsys, "--", "--trainer.max_steps", "3")
    assert "Stage 'first' was trained with other settings" in said
    assert "options.0 was nothing, now --trainer.max_steps" in said
    assert str(folder / "first") in said
    text = config.read_text()
    config.write_text("# A comment changes nothing.\n" + text)
    assert run(cascade) == 0
    content = yaml.safe_load(text)
    content["data"]["init_args"]["batch_size"] = 1
    config.write_text(yaml.safe_dump(content))
    assert "configs.0.data.init_args.batch_size was 2, now 1" in refused(cascade, capsys)
    config.write_text(text)
    assert run(cascade) == 0


def test_student_of_another_training_is_refused(cascade: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(cascade) == 0
    capsys.readouterr()
    folder = cascade.parent / "cascade"
    (folder / "first" / "student.ckpt").write_bytes((folder / "second" / "student.ckpt").read_bytes())
    assert "isn't the student that stage 'first' left" in refused(cascade, capsys)
    (folder / "first" / "student.ckpt").write_bytes(b"cut off")
    assert "student.ckpt can't be read" in refused(cascade, capsys)


DAMAGES: dict[str, Callable[[str], str]] = {
    "cut off": lambda text: text[: len(text) // 2],
    "empty": lambda text: "",
    "no record": lambda text: "[1, 2]",
    "other keys": lambda text: '{"fingerprint": "1", "colour": 2}',
    "edited settings": lambda text: text.replace('"batch_size": 2', '"batch_size": 7'),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_record_is_an_error(damage: str, cascade: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = cascade.parent / "cascade" / "first" / "stage.json"
    record.parent.mkdir(parents=True)
    plan = read_plan(cascade)
    command.write_record(command.begun(plan.settings(plan.stages[0], {})), record.parent)
    text = record.read_text()
    record.write_text(DAMAGES[damage](text))
    assert record.read_text() != text
    said = refused(cascade, capsys)
    assert str(record) in said
    assert "is damaged" in said
    assert "delete the folder" in said


def test_folder_of_another_run_is_refused(cascade: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (cascade.parent / "cascade" / "first" / "checkpoints").mkdir(parents=True)
    assert "no stage.json" in refused(cascade, capsys)


def test_second_cascade_in_a_folder_is_refused(cascade: Path) -> None:
    folder = cascade.parent / "cascade"
    with command._alone(folder):  # noqa: SIM117 - one inside of the other is what is tested
        with pytest.raises(UserError, match="at work"), command._alone(folder, patience_s=0.1):
            pass
    with command._alone(folder, patience_s=0.1):
        pass


def test_every_process_of_torchrun_is_refused(
    cascade: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert "trainer.devices" in refused(cascade, capsys)


def change(content: dict[str, Any], path: str, value: Any) -> None:
    *parents, last = path.split("/")
    for key in parents:
        content = content[key]
    if value is None:
        del content[last]
    else:
        content[last] = value


MISTAKES: dict[str, tuple[str, Any, str]] = {
    "no stages": ("stages", None, "names no stages"),
    "no folder": ("folder", None, "'folder'"),
    "unknown key": ("stage", {}, "unknown key stage"),
    "unknown key of a stage": ("stages/first/override", {}, "unknown key override"),
    "no configs": ("stages/first/configs", None, "stage 'first' needs 'configs'"),
    "absent config": ("stages/first/configs", ["absent.yaml"], "absent.yaml"),
    "name with a slash": ("stages/a\\b", {"configs": ["x"]}, "letters, digits"),
    "later stage": ("stages/first/overrides", {"model": {"teachers": {"x": "stage:second"}}}, "'stage:second'"),
    "unknown stage": ("stages/second/overrides", {"model": {"teachers": {"x": "stage:third"}}}, "those are: first"),
    "ensemble of a stranger": ("ensemble", ["first", "third"], "'ensemble'"),
    "ensemble of one": ("ensemble", ["first"], "at least two"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_wrong_cascade_ends_in_one_message(mistake: str, cascade: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, value, words = MISTAKES[mistake]
    content = yaml.safe_load(cascade.read_text())
    change(content, path, value)
    cascade.write_text(yaml.safe_dump(content, sort_keys=False))
    said = refused(cascade, capsys)
    assert words in said
    assert str(cascade) in said
    assert "Traceback" not in said


def test_absent_and_malformed_cascades(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "absent.yaml" in refused(tmp_path / "absent.yaml", capsys)
    (tmp_path / "broken.yaml").write_text("stages: [1\n")
    assert "is no YAML" in refused(tmp_path / "broken.yaml", capsys)
    (tmp_path / "list.yaml").write_text("- 1\n")
    assert "holds a list" in refused(tmp_path / "list.yaml", capsys)


def test_settings_are_compared_leaf_by_leaf() -> None:
    assert flat({"a": {"b": [1, {"c": 2}], "d": {}}, "e": None}) == {"a.b.0": 1, "a.b.1.c": 2, "a.d": {}, "e": None}


@pytest.mark.parametrize("name", ["progressive", "born_again"])
def test_shipped_cascade_is_parsed_stage_by_stage(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    repository = Path(__file__).resolve().parents[2]
    monkeypatch.chdir(repository)
    path = repository / "configs" / "distill" / f"{name}.yaml"
    plan = read_plan(path, folder=tmp_path)
    assert f"python tools/cascade.py --config configs/distill/{name}.yaml" in path.read_text()
    for stage in plan.stages:
        plan.home(stage.name).mkdir()
        with pytest.raises(SystemExit) as stop:
            train([*command.stage_command(plan, stage), "--print_config"])
        assert stop.value.code in (0, None)
        printed = yaml.safe_load(capsys.readouterr().out)
        teachers = {teacher["init_args"]["checkpoint"] for teacher in printed["model"]["teachers"].values()}
        assert teachers >= {str(plan.student(before)) for before in stage.before()}
        assert printed["trainer"]["default_root_dir"] == str(plan.home(stage.name))
        assert printed["trainer"]["logger"]["init_args"]["save_dir"].endswith(f"{name}/{stage.name}")
    assert plan.stages[0].before() == []
    assert all(stage.before() for stage in plan.stages[1:])
