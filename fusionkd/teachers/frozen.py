"""Trained models that no longer learn."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from fusionkd.deploy import DeploySpec
from fusionkd.errors import UserError
from fusionkd.models import FusionModel, load_model
from fusionkd.models.values import FusionOutput, SensorBatch
from fusionkd.teachers.checkpoints import Record, read_checkpoint, record_of, student_of
from fusionkd.teachers.teacher import Teacher

ZOO = "zoo:"


class FrozenTeacher(Teacher):
    """A trained model in eval mode, without gradients, whatever the task around it does.

    Args:
        checkpoint: ``zoo:NAME`` for weights that ship with fusionkd, a ``.safetensors`` file of
            ``fusionkd.models.save_model``, or a ``.ckpt`` of ``tools/train.py fit``.
        check: Whether its figures on a few validation frames are compared with its recorded ones before the
            first step.

    Raises:
        UserError: If there is no such file, its weights don't fit exactly or it answers differently than when it
            was saved.
    """

    def __init__(self, checkpoint: str, *, check: bool = True) -> None:
        super().__init__()
        self.checkpoint = checkpoint
        self.check = check
        self.model, self.record = self.open(checkpoint)
        self.requires_grad_(False)
        self.eval()

    def open(self, checkpoint: str) -> tuple[nn.Module, Record]:
        """The model of a checkpoint and what it is known to reach."""
        return load_trained(checkpoint)

    def train(self, mode: bool = True) -> "FrozenTeacher":
        """Stay in eval mode: batch statistics of the student's frames must not creep in."""
        del mode
        super().train(False)
        return self

    @torch.no_grad()
    def forward(self, batch: SensorBatch) -> FusionOutput:
        """The teacher's maps, without gradients."""
        output: FusionOutput = self.model(batch)
        return output


def zoo_path(name: str) -> Path:
    """File of shipped weights.

    Raises:
        UserError: If fusionkd ships no such weights.
    """
    folder = zoo_folder()
    path = folder / f"{name}.safetensors"
    if not path.is_file():
        known = ", ".join(sorted(found.stem for found in folder.glob("*.safetensors"))) or "none"
        raise UserError(f"There are no shipped weights 'zoo:{name}'; there are: {known}.")
    return path


def zoo_folder() -> Path:
    """Where shipped weights and their cards lie."""
    import fusionkd.models

    return Path(fusionkd.models.__file__).parent / "zoo"


def far_off(measured: float, recorded: float) -> bool:
    """Whether an mAP on a few frames can't belong to a model that reached the recorded one.

    Few frames scatter widely, and only a broken model or wrongly prepared input falls below a third.
    """
    return recorded >= 0.03 and measured < recorded / 3


def load_trained(checkpoint: str) -> tuple[FusionModel, Record]:
    """A trained model and what it is known to reach.

    Args:
        checkpoint: As for ``FrozenTeacher``.

    Raises:
        UserError: If there is no such file, or its weights don't fit exactly.
    """
    path = checkpoint_path(checkpoint)
    if path.suffix == ".ckpt":
        content = read_checkpoint(path)
        return student_of(content, source=str(path)), record_of(content)
    model, card = load_model(path)
    return model, _record_of_card(card, path)


def load_record(checkpoint: str) -> Record:
    """What a trained model is known to reach, without building it.

    Args:
        checkpoint: As for ``FrozenTeacher``.

    Raises:
        UserError: If there is no such file, or it can't be read.
    """
    path = checkpoint_path(checkpoint)
    if path.suffix == ".ckpt":
        return record_of(read_checkpoint(path))
    try:
        with safe_open(str(path), framework="pt") as file:
            card = json.loads((file.metadata() or {})["card"])
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise UserError(f"{path} can't be read as a model of fusionkd: {error}. Was it cut off?") from None
    return _record_of_card(card, path)


def checkpoint_path(checkpoint: str) -> Path:
    """The file of a trained model.

    Args:
        checkpoint: As for ``FrozenTeacher``.

    Raises:
        UserError: If there is no such file, or it is of another kind.
    """
    path = zoo_path(checkpoint[len(ZOO) :]) if checkpoint.startswith(ZOO) else Path(checkpoint)
    if not path.is_file():
        raise UserError(f"There is no checkpoint {path}. Give zoo:NAME, a .safetensors or a .ckpt file.")
    if path.suffix not in (".safetensors", ".ckpt"):
        raise UserError(f"A trained model is a .safetensors or a .ckpt file (or zoo:NAME), found {path}.")
    return path


def _record_of_card(card: Mapping[str, Any], path: Path) -> Record:
    deploy = DeploySpec.from_json(card["deploy"], source=f"The card of {path}") if card.get("deploy") else None
    return Record(card.get("figures", {}), card.get("simulated"), deploy)
