"""A training that is killed at random moments ends with the weights of an undisturbed one, bit for bit."""

from functools import partial
from pathlib import Path

import pytest
import yaml

from fusionkd.cli import train
from fusionkd.cli.cascade_record import weights_digest
from fusionkd.teachers.checkpoints import read_checkpoint, record_of
from tests.cli.cascades import CALLBACKS
from tests.cli.kills import Work, check


def run(config: Path, folder: Path) -> int:
    """The training as its user begins it, and goes on where there is a checkpoint."""
    options = ["fit", "--config", str(config), "--trainer.default_root_dir", str(folder)]
    last = folder / "checkpoints" / "last.ckpt"
    train([*options, "--ckpt_path", str(last)] if last.exists() else options)
    return 0


def student(folder: Path) -> str:
    """Its weights and figures."""
    path = folder / "student.ckpt"
    return f"{weights_digest(path)} {record_of(read_checkpoint(path)).figures}"


class Torn:
    """Reads the files that a kill may have torn, which would raise, and looks for steps that were lost."""

    def __init__(self) -> None:
        self.steps = 0

    def __call__(self, folder: Path) -> list[str]:
        for path in (folder / "checkpoints" / "last.ckpt", folder / "student.ckpt"):
            if path.exists():
                steps = read_checkpoint(path).get("global_step", self.steps)
                if steps < self.steps:
                    return [f"{path} has {steps} steps, fewer than the {self.steps} that were kept before"]
                self.steps = steps
        return []


def kill(config: Path, tmp_path: Path, *, kills: int, steps: int) -> None:
    content = yaml.safe_load(config.read_text())
    content["trainer"] |= {"callbacks": CALLBACKS, "max_steps": steps}
    config.write_text(yaml.safe_dump(content))
    check(Work(partial(run, config), student, Torn), tmp_path / "runs", kills=kills)


def test_killed_at_a_few_moments(config: Path, tmp_path: Path) -> None:
    kill(config, tmp_path, kills=4, steps=4)


@pytest.mark.slow
def test_killed_at_fifty_moments(config: Path, tmp_path: Path) -> None:
    kill(config, tmp_path, kills=50, steps=6)
