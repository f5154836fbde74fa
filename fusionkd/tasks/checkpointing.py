"""Checkpoints from which an interrupted run goes on."""

from pathlib import Path

import lightning.pytorch as pl
from lightning.pytorch.callbacks import ModelCheckpoint


class RunCheckpoint(ModelCheckpoint):
    """Keeps the last state of a run in ``checkpoints/last.ckpt`` of the run's folder.

    Lightning resumes a run at the beginning of an epoch exactly; within an epoch it begins that epoch's frames
    again. Saving at a multiple of the epoch's steps avoids this where it matters.

    Args:
        every_n_train_steps: Steps between two saves.
    """

    def __init__(self, every_n_train_steps: int = 500) -> None:
        super().__init__(every_n_train_steps=every_n_train_steps, save_last=True, save_top_k=1)

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Find the folder, which only the trainer knows."""
        self.dirpath = str(Path(trainer.default_root_dir) / "checkpoints")
        super().setup(trainer, pl_module, stage)
