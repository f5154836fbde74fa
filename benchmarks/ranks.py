"""Frames/s against the number of processes that train one student together (DDP over gloo, on the CPU).

    python benchmarks/ranks.py                                             # 1, 2 and 4 processes, and a table
    torchrun --nproc-per-node 2 benchmarks/ranks.py --steps 8              # one run, as on a cluster
    python benchmarks/ranks.py --root DATA/nuscenes --ranks 1 2

The run is configs/nuscenes_mini.yaml without its logger and callbacks; the teachers answer in each step, so that all
steps cost the same. At its end every process says what its weights
sum to, as bits: all must be equal. Processes that share two cores say nothing about a cluster's speed; what the figures
do show is what synchronising costs where no core is added.
"""

import argparse
import hashlib
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from common import Row, write_result

from fusionkd.cli.training import build_cli

REPOSITORY = Path(__file__).resolve().parent.parent
WARM_UP = 2
"""Steps that don't count: they fill queues, the teachers' memory and DDP's buckets."""


class Pace(pl.Callback):
    """Says how fast the process trained and what weights it ended with."""

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Starts the clock."""
        if trainer.global_step == WARM_UP:
            self._start = time.perf_counter()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Prints the figures."""
        seconds = time.perf_counter() - self._start
        frames = (trainer.global_step - WARM_UP) * trainer.datamodule.batch_size
        weights = b"".join(w.detach().numpy().tobytes() for w in pl_module.student.parameters())
        digest = hashlib.sha256(weights).hexdigest()[:16]
        line = f"process {trainer.global_rank} of {trainer.world_size}: {frames / seconds:.2f} frames/s"
        print(f"{line}, weights {digest}", flush=True)


def train(given: argparse.Namespace, processes: int) -> None:
    """One process's part of a run; torchrun's variables tell it which."""
    torch.set_num_threads(1)
    options = {
        "config": REPOSITORY / "configs" / "nuscenes_mini.yaml",
        "trainer.accelerator": "cpu",
        "trainer.devices": processes,
        "trainer.strategy": "ddp" if processes > 1 else "auto",
        "trainer.precision": "32-true",
        "trainer.max_steps": given.steps,
        "trainer.limit_val_batches": 0,
        "trainer.enable_progress_bar": "false",
        "trainer.logger": "false",
        "trainer.callbacks": "null",
        "data.init_args.num_workers": 1,
        "model.check_frames": 0,
        "model.remember_teachers": "false",
        **({} if given.root is None else {"data.init_args.root": given.root}),
    }
    cli = build_cli([word for name, value in options.items() for word in (f"--{name}", str(value))], run=False)
    cli.trainer.callbacks = [c for c in cli.trainer.callbacks if type(c).__module__.startswith("lightning")] + [Pace()]
    cli.trainer.fit(cli.model, cli.datamodule)


def launch(given: argparse.Namespace, processes: int) -> Row:
    """A run of so many processes by torchrun; they must end with equal weights."""
    words = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(processes), "--standalone"]
    words += [__file__, "--steps", str(given.steps)] + ([] if given.root is None else ["--root", str(given.root)])
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    run = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    if run.returncode:
        raise SystemExit(f"{' '.join(words)} failed:\n{run.stdout}{run.stderr}")
    lines = re.findall(r"process \d+ of \d+: ([\d.]+) frames/s, weights (\w+)", run.stdout)
    print("\n".join(line for line in run.stdout.splitlines() if line.startswith("process ")), flush=True)
    assert len(lines) == processes
    assert len({digest for _, digest in lines}) == 1, "the processes ended with different weights"
    return Row(f"{processes} processes, one thread each", sum(float(pace) for pace, _ in lines), "frames/s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, help="nuScenes root instead of the config's")
    parser.add_argument("--steps", type=int, default=22, help=f"gradient steps, of which {WARM_UP} don't count")
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2, 4], help="processes of each run")
    given = parser.parse_args()
    if "LOCAL_RANK" in os.environ:
        train(given, int(os.environ["WORLD_SIZE"]))
        return
    rows = [launch(given, processes) for processes in given.ranks]
    write_result("ranks", rows, simulated=True, packages=("torch", "lightning"))


if __name__ == "__main__":
    main()
