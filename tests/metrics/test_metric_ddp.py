"""The Metric in several processes that talk through gloo."""

import json
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from lightning import LightningModule, Trainer
from metric_oracle import assert_identical
from test_metric import ego_world, feed
from torch import Tensor
from torch.utils.data import DataLoader

from fusionkd.metrics.metric import _gathering_device

SAMPLES = 7
Figures = dict[str, float]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    # OpenMP's threads don't live on in a forked process, which would wait for them for ever.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def expected() -> Figures:
    """Figures of one process (which also compiles the kernels before anything forks)."""
    metric, inputs = ego_world(0, samples=SAMPLES)
    feed(metric, inputs, *inputs)
    figures = metric.compute()
    assert 0 < figures["mAP"] < 1
    return figures


def _rank(rank: int, shards: Sequence[Sequence[int]], folder: Path) -> None:
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder}/meet",
        rank=rank,
        world_size=len(shards),
        timeout=timedelta(seconds=60),
    )
    try:
        metric, inputs = ego_world(0, samples=SAMPLES)
        tokens = [metric.truth.tokens[sample] for sample in shards[rank]]
        # One by one: a process without samples must never have called update.
        for token in tokens[:1]:
            feed(metric, inputs, token)
        # In between, as a progress report would: what a process itself holds must survive the gathering.
        metric.compute()
        for token in tokens[1:]:
            feed(metric, inputs, token)
        results = metric.results()
        told = {"figures": metric.compute(), "tokens": results.tokens, "x_m": results.xyz_m[:, 0].tolist()}
        (folder / f"{rank}.json").write_text(json.dumps(told))
    finally:
        dist.destroy_process_group()


@pytest.mark.parametrize(
    "shards",
    [
        [[0, 2, 4, 6], [1, 3, 5]],
        [[0, 2, 4, 6], [1, 3, 5, 0]],
        [list(range(SAMPLES)), []],
        [[], list(range(SAMPLES))],
        [[6, 5], [0, 1, 2, 3], [4]],
        [[0, 3, 6], [1, 4, 0], [2, 5, 1]],
        [[], [], list(range(SAMPLES))],
    ],
    ids=lambda shards: "|".join("".join(map(str, shard)) for shard in shards),
)
def test_equal_to_one_process_bit_for_bit(shards: list[list[int]], expected: Figures, tmp_path: Path) -> None:
    mp.start_processes(_rank, args=(shards, tmp_path), nprocs=len(shards), start_method="fork")
    metric, inputs = ego_world(0, samples=SAMPLES)
    feed(metric, inputs, *inputs)
    results = metric.results()
    for rank in range(len(shards)):
        told = json.loads((tmp_path / f"{rank}.json").read_text())
        assert_identical(told["figures"], expected)
        assert told["tokens"] == list(results.tokens)
        assert told["x_m"] == results.xyz_m[:, 0].tolist()


def test_nccl_gathers_on_the_gpu_wherever_the_metric_is(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu, gpu = torch.device("cpu"), torch.device("cuda", 3)
    assert _gathering_device(cpu, None) == cpu
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 3)
    for backend, expected in (("gloo", cpu), ("nccl", gpu)):
        monkeypatch.setattr(dist, "get_backend", lambda group, backend=backend: backend)
        assert _gathering_device(cpu, None) == expected
        assert _gathering_device(gpu, None) == gpu


class _Judge(LightningModule):
    """Judges stored detections, with figures logged as a task logs them."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder
        self.metric, self.inputs = ego_world(0, samples=SAMPLES)

    def validation_step(self, batch: Tensor, batch_index: int) -> None:
        feed(self.metric, self.inputs, *(self.metric.truth.tokens[i] for i in batch.tolist()))

    def on_validation_epoch_end(self) -> None:
        figures = self.metric.compute()
        self.log_dict({f"val/{name}": value for name, value in figures.items()})
        (self.folder / f"{self.global_rank}.json").write_text(json.dumps(figures))
        self.metric.reset()


@pytest.mark.skipif(torch.cuda.is_initialized(), reason="a process that has used CUDA can't be forked")
def test_in_lightning_whose_sampler_repeats_samples(expected: Figures, tmp_path: Path) -> None:
    # 7 samples for 2 processes: the sampler gives one of them twice.
    trainer = Trainer(
        accelerator="cpu",
        devices=2,
        strategy="ddp_fork",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
    )
    loader: DataLoader[Any] = DataLoader(list(range(SAMPLES)), batch_size=2)
    (logged,) = trainer.validate(_Judge(tmp_path), loader, verbose=False)
    for rank in range(2):
        assert_identical(json.loads((tmp_path / f"{rank}.json").read_text()), expected)
    assert logged["val/NDS"] == pytest.approx(expected["NDS"], abs=1e-6)
    assert np.isnan(logged["val/AOE/traffic_cone"])
