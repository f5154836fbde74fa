"""A cascade that is killed at random moments ends with the weights of an undisturbed one."""

import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import torch
import yaml

from fusionkd.cli import cascade as command
from fusionkd.cli.cascade_record import read_record, weights_digest
from fusionkd.teachers.checkpoints import read_checkpoint
from tests.cli.cascades import Launched, write_cascade
from tests.cli.kills import Work, check

REPOSITORY = Path(__file__).resolve().parents[2]
STAGES = ("first", "second")


def run(cascade: Path, folder: Path) -> int:
    """The cascade, in this process."""
    return command.main(["--config", str(cascade), "--folder", str(folder)], launch=Launched())


def students(folder: Path) -> str:
    """Each stage's weights and figures."""
    return "; ".join(
        f"{weights_digest(folder / name / 'student.ckpt')} {read_record(folder / name).figures}"  # type: ignore[union-attr]
        for name in STAGES
    )


def finished(folder: Path) -> dict[str, int]:
    """When the student of each finished stage was written; a torn record would raise."""
    records = {name: read_record(folder / name) for name in STAGES if (folder / name / "stage.json").exists()}
    return {
        name: (folder / name / "student.ckpt").stat().st_mtime_ns
        for name, record in records.items()
        if record is not None and record.finished
    }


class TrainedAgain:
    """Finds finished stages whose student was written once more, and checkpoints that can't be read."""

    def __init__(self) -> None:
        self.before: dict[str, int] = {}

    def __call__(self, folder: Path) -> list[str]:
        now = finished(folder)
        again = [name for name, at in self.before.items() if now.get(name) != at]
        self.before = now
        for last in folder.glob("*/checkpoints/last.ckpt"):
            read_checkpoint(last)
        return again


def kill(config: Path, tmp_path: Path, *, kills: int, steps: int) -> None:
    cascade = write_cascade(config, tmp_path, steps=steps)
    check(Work(partial(run, cascade), students, TrainedAgain), tmp_path / "runs", kills=kills)


def test_killed_at_a_few_moments(config: Path, tmp_path: Path) -> None:
    kill(config, tmp_path, kills=4, steps=4)


@pytest.mark.slow
def test_killed_at_fifty_moments(config: Path, tmp_path: Path) -> None:
    kill(config, tmp_path, kills=50, steps=7)


@pytest.mark.slow
def test_killed_command_leaves_no_training_behind(config: Path, tmp_path: Path) -> None:
    cascade = write_cascade(config, tmp_path, steps=60)
    content = yaml.safe_load(config.read_text())
    content["trainer"]["callbacks"][1]["init_args"]["every_n_train_steps"] = 5
    config.write_text(yaml.safe_dump(content))
    line = [sys.executable, str(REPOSITORY / "tools" / "cascade.py"), "--config", str(cascade)]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    last = tmp_path / "cascade" / "first" / "checkpoints" / "last.ckpt"
    with subprocess.Popen(line, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as first:
        while not last.is_file():
            assert first.poll() is None, "it ended before its first checkpoint"
            time.sleep(0.05)
        children = Path(f"/proc/{first.pid}/task/{first.pid}/children").read_text().split()
        first.kill()
    assert len(children) == 1
    until_s = time.monotonic() + 20
    while alive(int(children[0])) and time.monotonic() < until_s:
        time.sleep(0.05)
    assert not alive(int(children[0])), "the stage's training goes on without its cascade"
    assert not (tmp_path / "cascade" / "first" / "student.ckpt").exists()
    done = subprocess.run(line, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "first: goes on" in done.stdout
    folder = tmp_path / "undisturbed"
    torch.set_num_threads(1)
    assert command.main(["--config", str(cascade), "--folder", str(folder)], launch=Launched()) == 0
    assert students(tmp_path / "cascade") == students(folder)


def alive(process: int) -> bool:
    stat = Path(f"/proc/{process}/stat")
    return stat.exists() and stat.read_text().rsplit(")", 1)[1].split()[0] != "Z"
