"""A progress bar with what matters in it, and silence where a warning concerns no user."""

import logging
import sys
import warnings
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import ProgressBar as LightningProgressBar
from tqdm import tqdm


class ProgressBar(LightningProgressBar):
    """One bar for the whole run with its steps, time left and loss, and one for each validation.

    Lightning's own bars count epochs, which say little when few labelled frames make an epoch.

    Args:
        interval_s: Least time between two updates on a terminal; into a file it prints a line every 15 s.
    """

    def __init__(self, interval_s: float = 0.5) -> None:
        super().__init__()
        self.interval_s = interval_s
        self._run: tqdm[Any] | None = None
        self._check: tqdm[Any] | None = None
        self._enabled = True

    def disable(self) -> None:
        """Lightning calls this in all processes but the first."""
        self._enabled = False

    def enable(self) -> None:
        """Show the bars."""
        self._enabled = True

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Open the run's bar."""
        super().on_train_start(trainer, pl_module)
        steps = trainer.estimated_stepping_batches
        total = int(steps) if steps != float("inf") else None
        self._run = self._bar("training", total, initial=trainer.global_step)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """One step further."""
        if self._run is None or trainer.global_step == self._run.n:
            return
        self._run.update(trainer.global_step - self._run.n)
        loss = trainer.callback_metrics.get("train/loss")
        if isinstance(loss, torch.Tensor):
            self._run.set_postfix_str(f"loss {float(loss):.3f}", refresh=False)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Open a bar for the validation."""
        super().on_validation_start(trainer, pl_module)
        batches = self.total_val_batches
        total = int(batches) if isinstance(batches, int) or batches != float("inf") else None
        self._check = self._bar("validation", total, leave=False)

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """One batch further."""
        if self._check is not None:
            self._check.update()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Close the validation's bar."""
        if self._check is not None:
            self._check.close()
            self._check = None

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Close the run's bar."""
        if self._run is not None:
            self._run.close()
            self._run = None

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Leave the terminal clean for the message."""
        for bar in (self._check, self._run):
            if bar is not None:
                bar.close()
        self._check = self._run = None

    def _bar(self, what: str, total: int | None, *, initial: int = 0, leave: bool = True) -> "tqdm[Any]":
        interval_s = self.interval_s if sys.stderr.isatty() else 15.0
        return tqdm(
            desc=what,
            total=total,
            initial=initial,
            leave=leave,
            disable=not self._enabled,
            dynamic_ncols=True,
            mininterval=interval_s,
            maxinterval=max(interval_s, 10.0),
        )


def silence_warnings() -> None:
    """Drop messages that are about choices made on purpose or that no user can act on."""
    for message in (
        # Few loader workers fit a machine with few cores.
        r".*does not have many workers.*",
        # An epoch of few labelled frames has few steps.
        r".*The number of training batches.*",
        # Figures are the same in all processes because the metric gathers boxes itself.
        r".*It is recommended to use `self.log.*sync_dist=True.*",
        # A run's folder is reused on purpose; checkpoints in it are kept.
        r".*Checkpoint directory .* exists and is not empty.*",
        # Lightning steps the schedule after the optimiser, also with mixed precision.
        r".*Detected call of `lr_scheduler.step\(\)` before `optimizer.step\(\)`.*",
        # Teachers stay in eval mode on purpose.
        r".*module\(s\) in eval mode at the start of training.*",
        # Lightning's own imports.
        r".*treespec, LeafSpec.*",
        # The tools hand their own command line on.
        r".*LightningCLI's args parameter is intended to run from within Python.*",
        # The model summary counts bytes for one precision only.
        r".*is not supported by the model summary.*",
        # Without a logger nothing is lost but the logger.
        r".*Starting from v1.9.0, `tensorboardX`.*",
    ):
        warnings.filterwarnings("ignore", message=message)
    # Which accelerators exist, which arguments had defaults: nothing a user has to know.
    for library in ("pytorch", "fabric"):
        logging.getLogger(f"lightning.{library}").setLevel(logging.WARNING)
