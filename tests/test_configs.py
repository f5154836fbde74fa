"""Every shipped configuration is parsed; those of the simulated world also run."""

import json
import shutil
from pathlib import Path

import pytest
import yaml
from lightning.pytorch.loggers import WandbLogger

from fusionkd.cli import build_cli, cascade, guarded, train
from fusionkd.data import NuScenesDataModule
from fusionkd.models import FusionModel, build_model, save_model
from fusionkd.simulation import WorldSettings, write_world
from fusionkd.tasks import load_student
from fusionkd.teachers import FrozenTeacher

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
MINI = CONFIGS / "nuscenes_mini.yaml"
WITHOUT_TEACHERS = ("self", "ema", "mutual")
DELIVERIES = ("cached", "label_free", "pseudo_label", *WITHOUT_TEACHERS)
OVERLAYS = dict.fromkeys(
    ("control_mini.yaml", "shipped.yaml", "own_teacher.yaml", *(f"{name}.yaml" for name in DELIVERIES)), MINI
)
CASCADES = ("progressive", "born_again")
SIMULATED_TEACHERS = ("lidar", "camera", "fused")


def all_configs() -> list[Path]:
    """Those of tools/train.py."""
    found = sorted(CONFIGS.rglob("*.yaml"))
    return [path for path in found if "deadlines" not in path.parts and path.stem not in CASCADES]


def files_of(path: Path) -> list[str]:
    base = [OVERLAYS[path.name]] if path.name in OVERLAYS else []
    return [option for file in (*base, path) for option in ("--config", str(file))]


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Untrained teachers with the architecture of the shipped ones, as files."""
    folder = tmp_path_factory.mktemp("zoo")
    for name in SIMULATED_TEACHERS:
        content = yaml.safe_load((CONFIGS / "teachers" / f"{name}.yaml").read_text())
        spec = content["model"]["student"]
        spec["init_args"]["grid"] = content["data"]["init_args"]["grid"]
        save_model(
            build_model(spec),
            folder / f"{name}.safetensors",
            card={"figures": {"mAP": 0.0, "AP/car": 0.0}, "simulated": True},
        )
    return folder


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A simulated world of two short scenes."""
    root = tmp_path_factory.mktemp("world") / "simulated"
    write_world(root, WorldSettings(scenes=2, keyframes_per_scene=3, image_width_px=256, seed=5), progress=False)
    return root


def quick(root: Path, folder: Path) -> list[str]:
    return [
        *("--data.init_args.root", str(root), "--data.init_args.version", "v1.0-mini"),
        *("--data.init_args.batch_size", "2", "--data.init_args.num_workers", "0"),
        *("--trainer.fast_dev_run", "true", "--trainer.accelerator", "cpu", "--trainer.logger", "false"),
        *("--trainer.default_root_dir", str(folder)),
    ]


def teachers_from(zoo: Path) -> list[str]:
    options = []
    for name in SIMULATED_TEACHERS:
        options += [f"--model.teachers.{name}.init_args.checkpoint", str(zoo / f"{name}.safetensors")]
    return options


@pytest.mark.parametrize("path", all_configs(), ids=lambda path: str(path.relative_to(CONFIGS)))
def test_config_is_parsed(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        train(["fit", *files_of(path), "--print_config"])
    assert stop.value.code in (0, None)
    printed = yaml.safe_load(capsys.readouterr().out)
    assert printed["model"]["student"]["class_path"] == "fusionkd.models.FusionModel"
    assert printed["data"]["init_args"]["if_missing"] == (
        "simulate" if MINI in (path, OVERLAYS.get(path.name)) else "raise"
    )


@pytest.mark.parametrize("path", all_configs(), ids=lambda path: str(path.relative_to(CONFIGS)))
def test_config_tells_how_to_run_it(path: Path) -> None:
    head = path.read_text().split("\n\n")[0]
    assert head.startswith("# ")
    assert "python tools/" in path.read_text()


@pytest.mark.slow
def test_main_job_runs_on_a_simulated_world(zoo: Path, world: Path, tmp_path: Path) -> None:
    options = ["--data.init_args.unlabelled_scenes", "[scene-0103]", "--data.init_args.unlabelled_per_batch", "1"]
    options += ["--data.init_args.train_split", "[scene-0061, scene-0103]"]
    command = ["fit", "--config", str(MINI), *quick(world, tmp_path), *options, *teachers_from(zoo)]
    assert guarded(train, command) == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", DELIVERIES)
def test_delivery_runs_on_a_simulated_world(name: str, zoo: Path, world: Path, tmp_path: Path) -> None:
    options = ["--data.init_args.train_split", "[scene-0061, scene-0103]"]
    if name != "label_free":
        options += ["--data.init_args.unlabelled_per_batch", "1"]
    options += [] if name in WITHOUT_TEACHERS else teachers_from(zoo)
    files = files_of(CONFIGS / "distill" / f"{name}.yaml")
    assert guarded(train, ["fit", *files, *quick(world, tmp_path), *options]) == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", CASCADES)
def test_cascade_runs_on_a_simulated_world(
    name: str, zoo: Path, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(CONFIGS.parent)
    text = (CONFIGS / "distill" / f"{name}.yaml").read_text()
    path = tmp_path / f"{name}.yaml"
    path.write_text(text.replace("zoo:fused", str(zoo / "fused.safetensors")))
    options = [option for option in quick(world, tmp_path) if option not in ("--trainer.fast_dev_run", "true")]
    options = options[: options.index("--trainer.default_root_dir")]
    options += ["--trainer.max_steps", "1", "--data.init_args.unlabelled_per_batch", "1"]
    options += ["--data.init_args.train_split", "[scene-0061, scene-0103]"]
    folder = tmp_path / "stages"
    given = ["--config", str(path), "--folder", str(folder), "--", *options]
    assert cascade.main(given, launch=train) == 0
    rows = [row["name"] for row in json.loads((folder / "cascade.json").read_text())["rows"]]
    if name == "progressive":
        assert rows == ["assistant", "student"]
        assistant, student = (load_student(folder / row / "student.ckpt") for row in rows)
        assert count(assistant) > 1.3 * count(student), "between teacher and student"
    else:
        assert rows[:3] == ["generation_0", "generation_1", "generation_2"]
        assert rows[3].startswith("ensemble of")
        specs = [load_student(folder / row / "student.ckpt").spec for row in rows[:3]]
        assert specs[0] == specs[1] == specs[2], "of the same size"


def count(model: FusionModel) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("name", WITHOUT_TEACHERS)
def test_delivery_needs_no_trained_teacher(name: str) -> None:
    files = files_of(CONFIGS / "distill" / f"{name}.yaml")
    task = build_cli([*files, "--trainer.logger", "false"], run=False).model
    assert not any(teacher.fixed for teacher in task.faculty.teachers.values())
    assert task.lessons


def test_label_free_reads_no_annotation(world: Path) -> None:
    options = ["--data.init_args.root", str(world), "--data.init_args.train_split", "[scene-0061, scene-0103]"]
    files = files_of(CONFIGS / "distill" / "label_free.yaml")
    data = build_cli([*files, *options, "--trainer.logger", "false"], run=False).datamodule
    data.prepare_data()
    data.setup("fit")
    records = data.records("train")
    assert len(records) == 6
    assert not any(record.labelled for record in records)


def test_pseudo_labels_are_the_only_term() -> None:
    files = files_of(CONFIGS / "distill" / "pseudo_label.yaml")
    assert list(build_cli([*files, "--trainer.logger", "false"], run=False).model.terms) == ["labels"]


@pytest.mark.slow
def test_control_runs_with_the_same_student(zoo: Path, world: Path, tmp_path: Path) -> None:
    control = CONFIGS / "students" / "control_mini.yaml"
    assert guarded(train, ["fit", *files_of(control), *quick(world, tmp_path)]) == 0
    alone = build_cli([*files_of(control), "--trainer.logger", "false"], run=False)
    distilled = build_cli([*files_of(MINI), "--trainer.logger", "false", *teachers_from(zoo)], run=False)
    assert alone.model.student.spec == distilled.model.student.spec
    assert alone.trainer.max_steps == distilled.trainer.max_steps
    assert alone.model.optimizer == distilled.model.optimizer
    assert len(alone.model.terms) == 0


@pytest.mark.slow
def test_shipped_student_is_the_main_jobs_and_its_recipe_runs(zoo: Path, world: Path, tmp_path: Path) -> None:
    shipped = CONFIGS / "students" / "shipped.yaml"
    command = [*files_of(shipped), *quick(world, tmp_path), *teachers_from(zoo)]
    for name in SIMULATED_TEACHERS:
        command += [f"--model.teachers.{name}.init_args.cache", str(tmp_path / "cache")]
    assert guarded(train, ["fit", *command, "--data.init_args.train_split", "[scene-0061, scene-0103]"]) == 0
    ours, main = (
        build_cli([*files_of(path), "--trainer.logger", "false", *teachers_from(zoo)], run=False)
        for path in (shipped, MINI)
    )
    # But for what it is trained without at times.
    specs = [cli.model.student.spec for cli in (ours, main)]
    for spec in specs:
        spec["init_args"].pop("modality_dropout")
    assert specs[0] == specs[1]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lidar", "camera"])
def test_teacher_config_runs(name: str, world: Path, tmp_path: Path) -> None:
    path = CONFIGS / "teachers" / f"{name}.yaml"
    assert guarded(train, ["fit", "--config", str(path), *quick(world, tmp_path)]) == 0


@pytest.mark.slow
def test_fused_teacher_begins_with_the_others_branches(zoo: Path, world: Path, tmp_path: Path) -> None:
    command = ["fit", "--config", str(CONFIGS / "teachers" / "fused.yaml"), *quick(world, tmp_path)]
    parts = ("lidar", "camera.encoder", "camera.lift.net")
    sources = {part: str(zoo / f"{part.split('.')[0]}.safetensors") for part in parts}
    assert guarded(train, [*command, "--model.warm_start", json.dumps(sources)]) == 0


@pytest.mark.slow
def test_real_frames_need_no_other_option(zoo: Path, shared_data: Path, tmp_path: Path) -> None:
    """The main job on real keyframes: one labelled scene, no unlabelled one, one frame to judge."""
    root = tmp_path / "real"
    shutil.copytree(shared_data / "nuscenes-real", root)
    command = ["fit", "--config", str(MINI), "--data.init_args.root", str(root), "--data.init_args.num_workers", "0"]
    command += ["--trainer.max_steps", "1", "--trainer.logger", "false", "--trainer.default_root_dir", str(tmp_path)]
    assert guarded(train, [*command, "--trainer.accelerator", "cpu", *teachers_from(zoo)]) == 0
    assert load_student(tmp_path / "student.ckpt").camera is not None
    assert (tmp_path / "scene.png").is_file()


def test_shipped_objects_are_what_the_configs_say(zoo: Path) -> None:
    cli = build_cli(["--config", str(MINI), "--trainer.logger", "false", *teachers_from(zoo)], run=False)
    assert isinstance(cli.datamodule, NuScenesDataModule)
    assert all(isinstance(teacher, FrozenTeacher) for teacher in cli.model.faculty.teachers.values())
    assert not any(isinstance(logger, WandbLogger) for logger in cli.trainer.loggers)
