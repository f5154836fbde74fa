"""Parts of a student that don't learn."""

from collections.abc import Sequence

import lightning.pytorch as pl
from torch import nn

from fusionkd.errors import UserError
from fusionkd.tasks.supervised import SupervisedTask, part_of


class FrozenParts(pl.Callback):
    """Keeps parts of the student as they are: weights, and the statistics of batch normalisation.

    For a model that joins branches trained before, see ``warm_start``: without gradients a frozen branch costs a
    third of a step.

    Args:
        parts: Their dotted paths in the student, such as ``lidar`` or ``camera.encoder``.

    Raises:
        UserError: If none is named, or, before the first step, if the student has no such part.
    """

    def __init__(self, parts: Sequence[str]) -> None:
        if not parts:
            raise UserError("FrozenParts needs at least one part of the student, such as lidar; found none.")
        self.parts = tuple(parts)

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Take the parts' weights out of the optimiser's reach."""
        for part in self._of(pl_module):
            part.requires_grad_(False)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: object, batch_idx: int
    ) -> None:
        """Back to eval mode, which the start of an epoch and the end of a validation undo."""
        for part in self._of(pl_module):
            part.eval()

    def _of(self, pl_module: pl.LightningModule) -> list[nn.Module]:
        assert isinstance(pl_module, SupervisedTask)
        return [part_of(pl_module.student, name, owner="the student", asked="FrozenParts.parts") for name in self.parts]
