"""Fills caches in processes that are killed or run side by side; run in an interpreter of its own, which forks.

python -m tests.tasks.cache_rounds ROOT CHECKPOINT FOLDER SEED KILLS
"""

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from fusionkd.distillation import FeatureMimic, ObjectRelation
from fusionkd.tasks.caching import CacheFiller, Share
from fusionkd.teachers import CachedTeacher
from tests.tasks.conftest import make_data


def fill(root: Path, checkpoint: Path, cache: Path, share: Share) -> None:
    terms = {"bev": FeatureMimic("lidar"), "relation": ObjectRelation("lidar")}
    teacher = CachedTeacher(str(checkpoint), str(cache))
    CacheFiller("lidar", teacher, list(terms.items()), data=make_data(root)).fill(torch.device("cpu"), share=share)


def forked(work: Callable[[], None]) -> int:
    """Process id of a child that does the work."""
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException:
            os._exit(1)
        os._exit(0)
    return child


def finish(child: int) -> None:
    assert os.waitpid(child, 0)[1] == 0, "a child failed"


def files(cache: Path) -> dict[str, bytes]:
    found = [file for file in cache.rglob("*") if file.is_file() and not file.name.startswith(".")]
    return {file.relative_to(cache).as_posix(): file.read_bytes() for file in found}


def main(root: Path, checkpoint: Path, folder: Path, *, seed: int, kills: int) -> None:
    torch.set_num_threads(1)
    alone = folder / "alone"
    begun = time.monotonic()
    finish(forked(lambda: fill(root, checkpoint, alone, Share())))
    seconds = time.monotonic() - begun
    wanted = files(alone)
    generator = np.random.default_rng(seed)
    stopped = rounds = 0
    while stopped < kills:
        cache = folder / f"killed{rounds}"
        child = forked(lambda cache=cache: fill(root, checkpoint, cache, Share()))  # type: ignore[misc]
        waited = seconds * generator.uniform(0.05, 0.95)
        time.sleep(waited)
        os.kill(child, signal.SIGKILL)
        if os.WIFSIGNALED(os.waitpid(child, 0)[1]):
            stopped += 1
        else:
            seconds = waited  # a machine that has become less busy would outrun the kills to come
        rounds += 1
        torn = [name for name, content in files(cache).items() if content != wanted[name]]
        assert not torn, f"torn after a kill: {torn}"
        finish(forked(lambda cache=cache: fill(root, checkpoint, cache, Share())))  # type: ignore[misc]
        assert files(cache) == wanted
    for name, shares in (("shares", (Share(0, 2), Share(1, 2))), ("same", (Share(), Share()))):
        children = [forked(lambda s=share, n=name: fill(root, checkpoint, folder / n, s)) for share in shares]  # type: ignore[misc]
        for child in children:
            finish(child)
        assert files(folder / name) == wanted, name
    print(f"{len(wanted)} files, {stopped} of {kills} kills in time, {rounds} rounds")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]), seed=int(sys.argv[4]), kills=int(sys.argv[5]))
