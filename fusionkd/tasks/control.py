"""The recorded control: a student without teachers, for runs under the same conditions."""

import json
from pathlib import Path
from typing import Any

import lightning.pytorch as pl

from fusionkd.data.datamodule import SIMULATED_MARK
from fusionkd.tasks.supervised import SupervisedTask
from fusionkd.teachers import zoo_folder

CONTROLS = "control.json"
"""Recorded controls by name, in the zoo."""


def conditions(trainer: pl.Trainer, task: SupervisedTask) -> dict[str, Any]:
    """What must be equal for two students' figures to be compared: world, labels, validation scenes, steps."""
    mark = task.data.root / SIMULATED_MARK
    world = json.loads(mark.read_text()) if mark.is_file() else {}
    labelled = {record.scene for record in task.data.records("train") if record.labelled}
    return {
        "world": {key: world[key] for key in ("world_revision", "settings") if key in world},
        "labelled_scenes": sorted(labelled),
        "validation_scenes": sorted(task.data.scenes("val")),
        "steps": trainer.global_step,
    }


def recorded_control(name: str, here: dict[str, Any]) -> tuple[dict[str, float] | None, str]:
    """Figures of a control that ships with the zoo, if it was trained under the conditions of this run.

    Args:
        name: The control's.
        here: ``conditions`` of this run.

    Returns:
        The figures, or None and a sentence that says why.
    """
    path = zoo_folder() / CONTROLS
    controls = json.loads(path.read_text()) if path.is_file() else {}
    if name not in controls:
        return None, f"There is no recorded control '{name}', so that row is left out."
    there = controls[name]["conditions"]
    differences = [_words(key) for key in here if here[key] != there.get(key)]
    if differences:
        return None, f"The recorded control '{name}' had other {', '.join(differences)}, so that row is left out."
    return dict(controls[name]["figures"]), ""


def record_control(report: dict[str, Any], name: str, *, date: str, folder: Path) -> Path:
    """Keep the figures of a run without teachers, and its conditions.

    Args:
        report: Content of its ``report.json``.
        name: What ``EndReport.control`` calls it.
        date: Today, ISO.
        folder: Of ``control.json``.

    Returns:
        The file.
    """
    path = folder / CONTROLS
    controls = json.loads(path.read_text()) if path.is_file() else {}
    figures = {key: value for key, value in report["rows"][-1]["figures"].items() if "/" not in key}
    kept = {"simulated": report["simulated"], "date": date, "conditions": report["conditions"]}
    controls[name] = {"figures": figures, **kept}
    path.write_text(json.dumps(controls, indent=2) + "\n")
    return path


def _words(key: str) -> str:
    return key.replace("_", " ")
