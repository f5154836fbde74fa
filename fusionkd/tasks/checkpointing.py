"""Checkpoints from which an interrupted run goes on."""

from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor

from fusionkd.data.cache import write_atomically

_RANDOM = "fusionkd_random"


class RunCheckpoint(ModelCheckpoint):
    """Keeps the last state of a run in ``checkpoints/last.ckpt`` of the run's folder.

    A run that goes on from it takes the very steps that it would have taken: the checkpoint also holds how far the
    epoch's frames were used and the state of torch's random numbers. The file appears whole or not at all.

    Args:
        every_n_train_steps: Steps between two saves.
    """

    def __init__(self, every_n_train_steps: int = 500) -> None:
        super().__init__(
            every_n_train_steps=every_n_train_steps, save_last=True, save_top_k=1, enable_version_counter=False
        )
        self._random: dict[str, Tensor] = {}

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Find the folder, which only the trainer knows."""
        self.dirpath = str(Path(trainer.default_root_dir) / "checkpoints")
        if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:
            trainer.strategy.checkpoint_io = WholeFiles()
        super().setup(trainer, pl_module, stage)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add the random numbers' state, and count epochs as a run does that nobody interrupted."""
        _count_epochs(trainer, checkpoint)
        checkpoint[_RANDOM] = {"cpu": torch.get_rng_state()}
        if pl_module.device.type == "cuda":
            checkpoint[_RANDOM]["cuda"] = torch.cuda.get_rng_state(pl_module.device)

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Remember it until the first step: what is built before may draw numbers too."""
        self._random = checkpoint.get(_RANDOM, {})

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        """Go on with the numbers that would have come."""
        if "cpu" in self._random:
            torch.set_rng_state(self._random["cpu"].cpu())
        if "cuda" in self._random and pl_module.device.type == "cuda":
            torch.cuda.set_rng_state(self._random["cuda"].cpu(), pl_module.device)
        self._random = {}


def _count_epochs(trainer: pl.Trainer, checkpoint: dict[str, Any]) -> None:
    """Set right what Lightning counts after going on from the end of an epoch.

    It begins the next epoch then without counting it as begun. A second resume, from the end of that one, would take
    it for the same epoch and train on its frames again.
    """
    steps = trainer.fit_loop.epoch_loop.batch_progress.total
    if steps.completed != steps.processed - 1:  # type: ignore[attr-defined]
        return  # not within a step
    for count in checkpoint["loops"]["fit_loop"]["epoch_progress"].values():
        count["ready"] = count["started"] = count["processed"] + 1
        count["completed"] = count["processed"]


class WholeFiles(TorchCheckpointIO):
    """Checkpoints that take their name only once they are complete.

    Lightning's own writes into the folder for temporary files first, from where a file is copied byte by byte if that
    folder lies on another disk.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write a file beside the path, then rename it."""
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        write_atomically(Path(path), partial(torch.save, checkpoint))
