"""A cascade of two tiny stages, trained in this process."""

from pathlib import Path
from typing import Any

import yaml

from fusionkd.cli import train

CALLBACKS = [
    {"class_path": "fusionkd.tasks.StudentAverage", "init_args": {"decay": 0.8}},
    {"class_path": "fusionkd.tasks.RunCheckpoint", "init_args": {"every_n_train_steps": 1}},
    {"class_path": "fusionkd.tasks.EndReport"},
]


def write_cascade(config: Path, folder: Path, *, steps: int = 2) -> Path:
    """Two generations and their ensemble, as a file; the second one also drops sensors at random.

    Args:
        config: Of a small run, which gets checkpoints and an average.
        folder: Where to.
        steps: Of each stage.
    """
    content = yaml.safe_load(config.read_text())
    content["trainer"]["callbacks"] = CALLBACKS
    content["trainer"]["max_steps"] = steps
    config.write_text(yaml.safe_dump(content))
    teacher = {"class_path": "fusionkd.teachers.FrozenTeacher", "init_args": {"checkpoint": "stage:first"}}
    answers = {"class_path": "fusionkd.distillation.HeatmapResponse", "init_args": {"teacher": "before"}}
    second: dict[str, Any] = {
        "student": {"init_args": {"modality_dropout": {"lidar": 0.3}}},
        "teachers": {"before": teacher},
        "terms": {"answers": answers},
        "remember_teachers": True,
    }
    cascade = {
        "folder": str(folder / "cascade"),
        "ensemble": ["first", "second"],
        "stages": {
            "first": {
                "configs": [str(config)],
                "overrides": {"seed_everything": 1, "model": {"teachers": {}, "terms": {}}},
            },
            "second": {"configs": [str(config)], "overrides": {"seed_everything": 2, "model": second}},
        },
    }
    path = folder / "cascade.yaml"
    path.write_text(yaml.safe_dump(cascade, sort_keys=False))
    return path


class Launched:
    """Trains in this process and remembers what."""

    def __init__(self) -> None:
        self.stages: list[str] = []
        self.resumed: list[str] = []

    def __call__(self, arguments: list[str]) -> None:
        stage = Path(arguments[arguments.index("--trainer.default_root_dir") + 1]).name
        self.stages.append(stage)
        if "--ckpt_path" in arguments:
            self.resumed.append(stage)
        train(arguments)
