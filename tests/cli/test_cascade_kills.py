"""A cascade that is killed at random moments ends with the weights of an undisturbed one."""

import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from fusionkd.cli import cascade as command
from fusionkd.cli.cascade_record import read_record, weights_digest
from fusionkd.teachers.checkpoints import read_checkpoint
from tests.cli.cascades import Launched, write_cascade

REPOSITORY = Path(__file__).resolve().parents[2]
STAGES = ("first", "second")


@dataclass
class Endured:
    """What was seen.

    Attributes:
        undisturbed: Weights and figures of each stage's student in a run that nobody killed.
        ended: The same for every cascade that was killed and went on to its end.
        kills: How many of them hit a cascade at work.
        trained_again: Finished stages whose student was written once more.
    """

    undisturbed: dict[str, str]
    ended: list[dict[str, str]] = field(default_factory=list)
    kills: int = 0
    trained_again: list[str] = field(default_factory=list)


def begin(cascade: Path, folder: Path) -> int:
    """Run a cascade in a forked process; its id."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            with (folder.parent / f"{folder.name}.log").open("a") as log:
                os.dup2(log.fileno(), 1)
                os.dup2(log.fileno(), 2)
                status = command.main(["--config", str(cascade), "--folder", str(folder)], launch=Launched())
        finally:
            os._exit(status)
    return child


def students(folder: Path) -> dict[str, str]:
    """Each stage's weights and figures."""
    return {
        name: f"{weights_digest(folder / name / 'student.ckpt')} {read_record(folder / name).figures}"  # type: ignore[union-attr]
        for name in STAGES
    }


def finished(folder: Path) -> dict[str, int]:
    """When the student of each finished stage was written; a torn record would raise."""
    records = {name: read_record(folder / name) for name in STAGES if (folder / name / "stage.json").exists()}
    return {
        name: (folder / name / "student.ckpt").stat().st_mtime_ns
        for name, record in records.items()
        if record is not None and record.finished
    }


def endure(cascade: Path, folder: Path, *, kills: int, seed: int) -> Endured:
    """Kill cascades at random moments until enough kills have hit, and let each end."""
    torch.set_num_threads(1)
    folder.mkdir()
    begin_s = time.monotonic()
    assert os.waitpid(begin(cascade, folder / "whole"), 0)[1] == 0, (folder / "whole.log").read_text()[-3000:]
    whole_s = time.monotonic() - begin_s
    seen = Endured(students(folder / "whole"))
    chance = np.random.default_rng(seed)
    number = 0
    while seen.kills < kills:
        number += 1
        home = folder / f"killed_{number}"
        before: dict[str, int] = {}
        hits = 0
        while True:
            child = begin(cascade, home)
            if seen.kills < kills:
                time.sleep(chance.uniform(0, 0.7 * whole_s))
                os.kill(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
            if home.exists():
                now = finished(home)
                seen.trained_again += [name for name, at in before.items() if now.get(name) != at]
                before = now
            for last in home.glob("*/checkpoints/last.ckpt"):
                read_checkpoint(last)
            if status == 0:
                # A machine that has become less busy would outrun most of the kills to come.
                whole_s *= 0.8 if not hits else 1.0
                break
            assert os.WIFSIGNALED(status), (folder / f"{home.name}.log").read_text()[-3000:]
            seen.kills += 1
            hits += 1
        seen.ended.append(students(home))
        shutil.rmtree(home)
    return seen


def check(config: Path, tmp_path: Path, *, kills: int, steps: int) -> None:
    cascade = write_cascade(config, tmp_path, steps=steps)
    # Forked from an interpreter of its own: where an earlier test left autograd with threads, this one can't fork.
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as fresh:
        seen = fresh.submit(endure, cascade, tmp_path / "runs", kills=kills, seed=kills).result()
    assert seen.kills >= kills
    assert seen.ended
    assert [students for students in seen.ended if students != seen.undisturbed] == []
    assert seen.trained_again == []


def test_killed_at_a_few_moments(config: Path, tmp_path: Path) -> None:
    check(config, tmp_path, kills=4, steps=4)


@pytest.mark.slow
def test_killed_at_fifty_moments(config: Path, tmp_path: Path) -> None:
    check(config, tmp_path, kills=50, steps=7)


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
