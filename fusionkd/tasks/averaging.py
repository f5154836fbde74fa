"""Averages of the weights over the run."""

from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor

from fusionkd.errors import UserError
from fusionkd.tasks.supervised import SupervisedTask
from fusionkd.teachers import average_

_LIVE = "fusionkd_live_student"


class StudentAverage(pl.Callback):
    """An exponential moving average of the student's weights, used for validation and kept at the end.

    Lightning's own ``EMAWeightAveraging`` copies the whole module before its last parts are made, and starts
    with the full decay; this one averages those who are judged, the student and its peers, over a window that grows
    with the run.

    A checkpoint holds the averages as the student's and its peers' weights, and beside them the live ones, with which
    a resumed run goes on.

    Args:
        decay: Share of the average that a step keeps, once the run is long enough.
    """

    def __init__(self, decay: float = 0.995) -> None:
        if not 0 <= decay < 1:
            raise UserError(f"StudentAverage's decay must lie in [0, 1), found {decay}.")
        self.decay = decay
        self._average: dict[str, Tensor] = {}
        self._updates = 0
        self._last_step = 0
        self._live: dict[str, Tensor] | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin with the weights as they are, unless a checkpoint brought an average."""
        state = _judged_state(pl_module)
        if not self._average:
            self._average = {name: value.detach().clone() for name, value in state.items()}
        self._average = {name: value.to(state[name].device) for name, value in self._average.items()}

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        """Take the new weights into the average, after each optimiser step."""
        if trainer.global_step == self._last_step:
            return
        self._last_step = trainer.global_step
        self._updates += 1
        decay = min(self.decay, (1 + self._updates) / (10 + self._updates))
        average_(self._average, _judged_state(pl_module), decay=decay)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Validate with the average."""
        if self._average and self._live is None:
            self._live = {name: value.detach().clone() for name, value in _judged_state(pl_module).items()}
            _load(pl_module, self._average)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Go on with the live weights."""
        if self._live is not None:
            _load(pl_module, self._live)
            self._live = None

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep the average as the student."""
        if self._average:
            _load(pl_module, self._average)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """The same for a run that was interrupted after its last step and has none left to train."""
        self.on_train_end(trainer, pl_module)

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs besides the weights."""
        return {"updates": self._updates, "last_step": self._last_step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on counting."""
        self._updates = state_dict["updates"]
        self._last_step = state_dict["last_step"]

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Put the average where the student's weights are looked for, and the live ones beside it."""
        if not self._average:
            return
        state = checkpoint["state_dict"]
        live = self._live or {name: state[name] for name in self._average}
        # Clones, because the average goes on changing while a checkpoint may still be written.
        checkpoint[_LIVE] = {name: value.detach().clone() for name, value in live.items()}
        averages = {name: value.detach().clone() for name, value in self._average.items()}
        checkpoint["state_dict"] = dict(state) | averages

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Resume with the live weights; the average is what Lightning loaded as the student's."""
        if _LIVE not in checkpoint or trainer.state.fn != "fit":
            return
        self._average = {name: value.detach().clone() for name, value in _judged_state(pl_module).items()}
        # Checkpoints of an older version name the student's weights alone.
        live = checkpoint[_LIVE].items()
        _load(pl_module, {name if name in self._average else f"student.{name}": value for name, value in live})


def _judged_state(pl_module: pl.LightningModule) -> dict[str, Tensor]:
    """Weights of those who are judged, by their names in the task."""
    judged = pl_module.judged if isinstance(pl_module, SupervisedTask) else ("student",)
    prefixes = tuple(f"{path}." for path in judged)
    return {name: value for name, value in pl_module.state_dict().items() if name.startswith(prefixes)}


def _load(pl_module: pl.LightningModule, weights: dict[str, Tensor]) -> None:
    state = _judged_state(pl_module)
    with torch.no_grad():
        for name, value in weights.items():
            state[name].copy_(value)
