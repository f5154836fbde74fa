"""The training loader: how long a step waits for its batch, what a frame costs, frames/s by batch size and workers.

    python benchmarks/loader.py                         # the data of configs/nuscenes_mini.yaml, written if missing
    python benchmarks/loader.py --root DATA/nuscenes    # your own copy of that version

All augmentation is on: pasted objects, BEV and images. A step of 250 ms is run in turns with batches from the loader
and with batches that lie in memory. It either computes on two threads, as a CPU's training does, and shares the cores
with the loader's workers, or leaves the cores alone, as a GPU's does. On a machine with more cores the process keeps to
two. An epoch of the mini config is 20 steps long, and its first step waits for a batch that nobody has begun yet.
"""

import argparse
import itertools
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import Row, bootstrap_interval, t_interval, write_result

from fusionkd.data import Batch, NuScenesDataModule
from fusionkd.data.collate import Collator
from fusionkd.data.configured import configured_data
from fusionkd.data.loading import LoaderDataset
from fusionkd.data.sampling import Draw

CONFIG = Path(__file__).resolve().parent.parent / "configs" / "nuscenes_mini.yaml"
AUGMENTATION: dict[str, Any] = {"bev_augmentation": {}, "image_augmentation": {}, "gt_paste": {}}
STEP_S = 0.25
QUEUED = 8
"""Batches that two workers have ready after a pause; steps fed by them say nothing about the loader's pace."""


def datamodule(given: argparse.Namespace, **change: Any) -> NuScenesDataModule:
    """The mini config's data with all augmentation on."""
    root = {} if given.root is None else {"root": str(given.root)}
    return configured_data(CONFIG, {**AUGMENTATION, **root, **change})


def endless(data: NuScenesDataModule) -> Iterator[Batch]:
    """Training batches, epoch after epoch."""
    loader = data.train_dataloader()
    for epoch in itertools.count():
        loader.sampler.set_epoch(epoch)
        yield from loader


class Computing:
    """A step that computes on two threads for 250 ms when nothing else runs."""

    name = f"a step that computes for {STEP_S * 1e3:.0f} ms on two threads"

    def __init__(self) -> None:
        torch.set_num_threads(2)
        self._matrix = torch.rand(768, 768)
        self._products = 1
        taken = [self._seconds(20) for _ in range(5)]
        self._products = max(round(STEP_S * 20 / min(taken)), 1)

    def _seconds(self, products: int) -> float:
        start = time.perf_counter()
        for _ in range(products):
            torch.mm(self._matrix, self._matrix)
        return time.perf_counter() - start

    def __call__(self) -> None:
        """Computes."""
        self._seconds(self._products)


class Waiting:
    """A step that leaves the cores alone."""

    name = f"a step of {STEP_S * 1e3:.0f} ms on another device"

    def __call__(self) -> None:
        """Waits."""
        time.sleep(STEP_S)


def touch(batch: Batch) -> None:
    """Reads all of a batch, as copying it to a device would."""
    for tensor in (batch.images, batch.lidar_depth, *(t for view in batch.lidar.values() for t in view.values())):
        tensor.sum()


def fed(batches: Iterator[Batch], step: Callable[[], None], steps: int) -> tuple[float, float]:
    """Mean seconds that a step waits for its batch, and that it takes with it; the first ``QUEUED`` don't count."""
    waited, whole = [], []
    for _ in range(QUEUED + steps):
        start = time.perf_counter()
        batch = next(batches)
        waited.append(time.perf_counter() - start)
        touch(batch)
        step()
        del batch  # as Lightning's loop does: giving its memory back is a part of the step, not of the wait
        whole.append(time.perf_counter() - start)
    return float(np.mean(waited[QUEUED:])), float(np.mean(whole[QUEUED:]))


def waits(data: NuScenesDataModule, step: Any, given: argparse.Namespace) -> list[Row]:
    """A step fed by the loader beside the same step fed from memory."""
    batches = endless(data)
    memory = itertools.cycle([next(batches) for _ in range(4)])
    shares, loader_s, memory_s = [], [], []
    for k in range(given.rounds):
        for side in (batches, memory) if k % 2 == 0 else (memory, batches):
            waited, whole = fed(side, step, given.steps)
            (memory_s if side is memory else loader_s).append(whole)
            if side is batches:
                shares.append(100 * waited / STEP_S)
    ratios = np.array(memory_s) / np.array(loader_s)
    share = np.array(shares)
    return [
        Row(
            f"wait for a batch, {step.name}",
            float(share.mean()),
            "% of 250 ms",
            target=2.0,
            better="lower",
            interval=t_interval(share),
        ),
        Row(
            f"{step.name}, fed by the loader",
            float(np.median(loader_s) * 1e3),
            "ms",
            peer="fed from memory",
            peer_value=float(np.median(memory_s) * 1e3),
            ratio=float(np.median(ratios)),
            interval=bootstrap_interval(ratios),
        ),
    ]


def stages(data: NuScenesDataModule, frames: int) -> list[Row]:
    """What a frame costs in a worker, stage by stage."""
    torch.set_num_threads(1)
    dataset = data.train_dataloader().dataset
    plan, plain, collator = dataset._plan, dataset._frames, dataset._collator
    assert isinstance(dataset, LoaderDataset)
    assert isinstance(collator, Collator)
    draws = [Draw(0, k, k % len(dataset)) for k in range(frames)]
    for draw in draws:  # fills the image cache and the system's
        dataset[draw]
    read = [plan.read(plain, draw) for draw in draws]
    calls: dict[str, Callable[[int], object]] = {
        "sweeps read and fused": lambda k: plain.points(plain.records[draws[k].item]),
        "all of reading: sweeps, images warped and recoloured, boxes": lambda k: plan.read(plain, draws[k]),
        "depth maps": lambda k: collator.depth(read[k]),
        "objects pasted, ego frame augmented": lambda k: plan.change(read[k], draws[k]),
        **{
            f"view {name}": lambda k, view=view: view.make(read[k].points)  # type: ignore[misc]
            for name, view in collator.views.items()
        },
        "the whole frame": lambda k: dataset[draws[k]],
    }
    rows = [Row(f"a frame: {name}", _median_ms(call, frames), "ms", better="lower") for name, call in calls.items()]
    samples = [dataset[draw] for draw in draws[: data.batch_size]]
    joined = _median_ms(lambda _: dataset.collate(samples), frames) / data.batch_size
    return [*rows, Row("a frame: its share of joining a batch", joined, "ms", better="lower")]


def _median_ms(call: Callable[[int], object], count: int) -> float:
    seconds = []
    for k in range(count):
        start = time.perf_counter()
        call(k)
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds) * 1e3)


def pace(given: argparse.Namespace, *, batch_size: int, workers: int) -> Row:
    """Frames/s that nobody's step holds up."""
    torch.set_num_threads(1)
    batches = endless(
        datamodule(given, batch_size=batch_size, unlabelled_per_batch=batch_size // 2, num_workers=workers)
    )
    for _ in range(2 + 4 * workers):
        next(batches)
    start, frames = time.perf_counter(), 0
    while frames < given.frames:
        touch(next(batches))
        frames += batch_size
    value = frames / (time.perf_counter() - start)
    return Row(f"batches of {batch_size}, {workers} workers", value, "frames/s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, help="nuScenes root instead of the config's")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each side (default 5)")
    parser.add_argument("--steps", type=int, default=20, help="steps per turn (default 20)")
    parser.add_argument("--frames", type=int, default=200, help="frames per row of frames/s (default 200)")
    given = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])
    data = datamodule(given)
    data.prepare_data()
    rows = stages(data, min(given.frames, 60))
    for step in (Computing(), Waiting()):
        rows += waits(data, step, given)
    rows += [
        pace(given, batch_size=size, workers=workers)
        for size, workers in [(4, 0), (4, 1), (2, 2), (4, 2), (8, 2), (16, 2), (4, 4)]
    ]
    write_result("loader", rows, simulated=data.is_simulated, packages=("numba", "torch", "opencv-python-headless"))


if __name__ == "__main__":
    main()
