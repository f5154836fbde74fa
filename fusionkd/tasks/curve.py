"""A run's losses over its steps, as a small file."""

import json
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor

from fusionkd.errors import UserError

CURVE = "curve.json"
"""The file's name in a run's folder."""


class TrainingCurve(pl.Callback):
    """Keeps the mean of each loss over every so many steps in ``curve.json`` of the run's folder.

    Trackers draw curves too; this one stays with the weights, survives interruptions, and is small enough to be
    shipped: ``tools/train_teachers.py`` puts it beside the zoo's weights.

    Args:
        every_n_steps: Steps behind one entry.

    Raises:
        UserError: If that isn't at least 1.
    """

    def __init__(self, every_n_steps: int = 20) -> None:
        if every_n_steps < 1:
            raise UserError(f"TrainingCurve.every_n_steps must be at least 1, found {every_n_steps}.")
        self.every_n_steps = every_n_steps
        self.entries: list[dict[str, float]] = []
        """Per entry ``step``, the last one behind it, and the mean of each loss by its log name."""
        # On the device: reading a loss in each step would wait for it.
        self._sums: dict[str, Tensor] = {}
        self._steps = 0

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Add this step; write where an entry is full."""
        for name, value in trainer.callback_metrics.items():
            if name.startswith("train/"):
                key = name.removeprefix("train/")
                self._sums[key] = value.detach() + torch.as_tensor(self._sums.get(key, 0.0)).to(value)
        self._steps += 1
        if self._steps == self.every_n_steps:
            self._close(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the steps that are left."""
        if self._steps:
            self._close(trainer)

    def state_dict(self) -> dict[str, Any]:
        """All entries, and the one that is being filled."""
        return {"entries": self.entries, "sums": self._floats(), "steps": self._steps}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where a checkpoint was written."""
        self.entries = list(state_dict["entries"])
        self._sums = {name: torch.tensor(value) for name, value in state_dict["sums"].items()}
        self._steps = state_dict["steps"]

    def _floats(self) -> dict[str, float]:
        return {name: float(total) for name, total in self._sums.items()}

    def _close(self, trainer: pl.Trainer) -> None:
        means = {name: round(total / self._steps, 5) for name, total in sorted(self._floats().items())}
        self.entries.append({"step": trainer.global_step, **means})
        self._sums.clear()
        self._steps = 0
        _write(Path(trainer.default_root_dir) / CURVE, self.entries)


@rank_zero_only
def _write(path: Path, entries: list[dict[str, float]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(entries) + "\n")
    partial.replace(path)
