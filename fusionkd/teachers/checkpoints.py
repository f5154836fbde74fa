"""Students out of Lightning checkpoints, checked key by key."""

import json
import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fusionkd.deploy import DeploySpec
from fusionkd.errors import UserError
from fusionkd.models import FusionModel, build_model

STUDENT_KEY = "fusionkd_student"
"""Key of a checkpoint under which the student's description is kept, as JSON."""

DEPLOY_KEY = "fusionkd_deploy"
"""Key of a checkpoint under which is kept what a vehicle must know to run the student, as JSON."""

RECORD_KEY = "fusionkd_record"
"""Key of a checkpoint under which the last validation's figures are kept, as JSON."""

_PREFIX = "student."


@dataclass(frozen=True)
class Record:
    """What a model is known to reach.

    Attributes:
        figures: nuScenes figures by name; empty where none were recorded.
        simulated: Whether they were measured on simulated data, None where this isn't known.
        deploy: What the model reads and how its answers become boxes; None where it wasn't recorded.
    """

    figures: Mapping[str, float] = field(default_factory=dict)
    simulated: bool | None = None
    deploy: DeploySpec | None = None


def read_checkpoint(path: Path) -> dict[str, Any]:
    """A Lightning checkpoint, without unpickling anything but tensors and plain values.

    Raises:
        UserError: If there is no such file or it can't be read.
    """
    if not path.is_file():
        raise UserError(f"There is no checkpoint {path}.")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"{path} can't be read as a checkpoint: {first}. Was it cut off, or saved by something else?"
        ) from None
    if not isinstance(checkpoint, dict) or not isinstance(checkpoint.get("state_dict"), dict):
        raise UserError(f"{path} is not a Lightning checkpoint: it has no 'state_dict'.")
    return checkpoint


def student_weights(checkpoint: Mapping[str, Any]) -> dict[str, Tensor]:
    """The student's weights by its own names."""
    state: Mapping[str, Tensor] = checkpoint["state_dict"]
    return {name[len(_PREFIX) :]: value for name, value in state.items() if name.startswith(_PREFIX)}


def check_weights(model: nn.Module, weights: Mapping[str, Tensor], *, source: str) -> None:
    """Refuse weights that don't fit a model exactly.

    Args:
        model: Who would load them.
        weights: By name.
        source: Where they come from, for the message.

    Raises:
        UserError: If names or shapes differ; it names the first few.
    """
    wanted = model.state_dict()
    problems = {
        "missing": [name for name in wanted if name not in weights],
        "unexpected": [name for name in weights if name not in wanted],
        "of another shape": [
            f"{name} {tuple(weights[name].shape)} instead of {tuple(wanted[name].shape)}"
            for name in wanted
            if name in weights and weights[name].shape != wanted[name].shape
        ],
    }
    found = [f"{len(names)} {kind} ({_some(names)})" for kind, names in problems.items() if names]
    if found:
        raise UserError(
            f"The weights of {source} don't fit this model: {'; '.join(found)}. Use the configuration that the weights "
            f"were trained with."
        )


def load_student(path: str | Path) -> FusionModel:
    """The student of a Lightning checkpoint, rebuilt from the description that the checkpoint holds.

    Args:
        path: A ``.ckpt`` that ``tools/train.py fit`` wrote.

    Returns:
        The model in eval mode, on the CPU.

    Raises:
        UserError: If the file can't be read, has no description or its weights don't fit.
    """
    return student_of(read_checkpoint(Path(path)), source=str(path))


def student_of(checkpoint: Mapping[str, Any], *, source: str) -> FusionModel:
    """The student of a checkpoint that was read.

    Args:
        checkpoint: Of ``read_checkpoint``.
        source: Where it comes from, for messages.

    Raises:
        UserError: If it has no description or its weights don't fit.
    """
    if STUDENT_KEY not in checkpoint:
        raise UserError(
            f"{source} doesn't say how its student is built (no '{STUDENT_KEY}'). Only checkpoints of "
            f"tools/train.py can be loaded this way."
        )
    model = build_model(json.loads(checkpoint[STUDENT_KEY]))
    weights = student_weights(checkpoint)
    check_weights(model, weights, source=source)
    model.load_state_dict(weights)
    return model.eval()


def record_of(checkpoint: Mapping[str, Any]) -> Record:
    """What the checkpoint says that its student reaches."""
    content = json.loads(checkpoint.get(RECORD_KEY, "{}"))
    deploy = DeploySpec.from_json(checkpoint[DEPLOY_KEY]) if DEPLOY_KEY in checkpoint else None
    return Record(content.get("figures", {}), content.get("simulated"), deploy)


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
