"""Work that is killed at random moments, begun again and killed again, until it ends."""

import multiprocessing
import os
import shutil
import signal
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch


@dataclass(frozen=True)
class Work:
    """What is killed; all functions are of a module, since another interpreter gets them.

    Attributes:
        run: Does the work in a folder, or goes on with it, and returns an exit status.
        result: What the finished work left in its folder.
        watch: Makes a function that looks at a folder after each kill and at the end, and says what is wrong there.
    """

    run: Callable[[Path], int]
    result: Callable[[Path], str]
    watch: Callable[[], Callable[[Path], list[str]]]


@dataclass
class Endured:
    """What was seen.

    Attributes:
        undisturbed: The result of work that nobody killed.
        ended: The results of all work that was killed and went on to its end.
        kills: How many of them hit work that was going on.
        wrong: What was wrong after them.
    """

    undisturbed: str
    ended: list[str] = field(default_factory=list)
    kills: int = 0
    wrong: list[str] = field(default_factory=list)


def begin(work: Work, folder: Path) -> int:
    """Run in a forked process; its id."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            with (folder.parent / f"{folder.name}.log").open("a") as log:
                os.dup2(log.fileno(), 1)
                os.dup2(log.fileno(), 2)
                status = work.run(folder)
        finally:
            os._exit(status)
    return child


def _endure(work: Work, folder: Path, *, kills: int, seed: int) -> Endured:
    torch.set_num_threads(1)
    folder.mkdir()
    begin_s = time.monotonic()
    assert os.waitpid(begin(work, folder / "whole"), 0)[1] == 0, (folder / "whole.log").read_text()[-3000:]
    whole_s = time.monotonic() - begin_s
    seen = Endured(work.result(folder / "whole"))
    chance = np.random.default_rng(seed)
    number = 0
    while seen.kills < kills:
        number += 1
        home, look, hits = folder / f"killed_{number}", work.watch(), 0
        while True:
            child = begin(work, home)
            if seen.kills < kills:
                time.sleep(chance.uniform(0, 0.7 * whole_s))
                os.kill(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
            seen.wrong += look(home) if home.exists() else []
            if status == 0:
                # A machine that has become less busy would outrun most of the kills to come.
                whole_s *= 0.8 if not hits else 1.0
                break
            assert os.WIFSIGNALED(status), (folder / f"{home.name}.log").read_text()[-3000:]
            seen.kills += 1
            hits += 1
        seen.ended.append(work.result(home))
        shutil.rmtree(home)
    return seen


def check(work: Work, folder: Path, *, kills: int) -> None:
    """Kill until enough kills have hit, and let each end: always with the result of undisturbed work."""
    # Forked from an interpreter of its own: where an earlier test left autograd with threads, this one can't fork.
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as fresh:
        seen = fresh.submit(_endure, work, folder, kills=kills, seed=kills).result()
    assert seen.kills >= kills
    assert seen.ended
    assert [result for result in seen.ended if result != seen.undisturbed] == []
    assert seen.wrong == []
