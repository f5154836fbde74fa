"""A teacher that is the student's own average."""

import copy
from collections.abc import Mapping

import torch
from torch import Tensor

from fusionkd.errors import UserError
from fusionkd.models import FusionModel
from fusionkd.models.values import FusionOutput, SensorBatch
from fusionkd.teachers.teacher import Teacher


@torch.no_grad()
def average_(average: Mapping[str, Tensor], state: Mapping[str, Tensor], *, decay: float) -> None:
    """One step of an exponential moving average, in place: decay * average + (1 - decay) * state.

    Args:
        average: Tensors by name; integers, which have no mean, take the new value.
        state: At least the same names.
        decay: Share of the average that stays, in [0, 1].
    """
    floating = [name for name, value in average.items() if value.is_floating_point()]
    torch._foreach_lerp_([average[name] for name in floating], [state[name].detach() for name in floating], 1 - decay)
    for name in average.keys() - set(floating):
        average[name].copy_(state[name])


class MeanTeacher(Teacher):
    """The moving average of the student's weights teaches the student (Tarvainen & Valpola, NeurIPS 2017, eq. 1).

    It sees each batch in eval mode: without the student's modality dropout, which is the noise that makes the two
    answers differ. The decay grows as min(decay, 1 - 1 / (step + 1)), so that the average soon forgets the first
    weights. Batch statistics are averaged like weights.

    Args:
        decay: Share of the average that a step keeps, once the run is long enough.

    Raises:
        UserError: If the decay isn't in [0, 1).
    """

    fixed = False

    def __init__(self, decay: float = 0.99) -> None:
        super().__init__()
        if not 0 <= decay < 1:
            raise UserError(f"MeanTeacher's decay must lie in [0, 1), found {decay}.")
        self.decay = decay

    def meet(self, student: FusionModel) -> None:
        """Begin as a copy of the student."""
        self.model = copy.deepcopy(student).requires_grad_(False).eval()

    def train(self, mode: bool = True) -> "MeanTeacher":
        """Stay in eval mode."""
        del mode
        super().train(False)
        return self

    def follow(self, student: FusionModel, *, step: int) -> None:
        """Take the student's new weights into the average."""
        decay = min(self.decay, 1 - 1 / (step + 1))
        average_(self.model.state_dict(), student.state_dict(), decay=decay)

    @torch.no_grad()
    def forward(self, batch: SensorBatch) -> FusionOutput:
        """The average's maps, without gradients."""
        output: FusionOutput = self.model(batch)
        return output
