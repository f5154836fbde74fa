"""Models as files: built from a description, saved with it, loaded strictly and checked by numbers."""

import copy
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from jsonargparse import ArgumentParser
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from fusionkd.errors import UserError
from fusionkd.models.example import example_batch
from fusionkd.models.fusion import FusionModel

FORMAT = "fusionkd-1"
"""Version of the files' metadata."""

_TRUSTED = ("fusionkd.", "torch.nn.", "torchvision.")

_PROBE_TOLERANCE = 1e-2
"""Relative; processors and library versions differ by 1e-4, a wrong layer or weight by far more."""


def build_model(spec: Mapping[str, Any]) -> FusionModel:
    """The model that a description stands for.

    Args:
        spec: ``class_path`` and ``init_args`` as in a config file; class paths must lie in fusionkd, torch.nn or
            torchvision, so that a weights file can't name code of its own.

    Raises:
        UserError: If the description is wrong.
    """
    for path in _class_paths(spec):
        if not path.startswith(_TRUSTED):
            raise UserError(f"A model's description may name classes of {', '.join(_TRUSTED)} only; found {path!r}.")
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(FusionModel, "model")
    try:
        plain = json.loads(json.dumps(spec))
        model = parser.instantiate_classes(parser.parse_object({"model": plain})).model
    except Exception as error:  # jsonargparse passes on whatever a constructor raises
        raise UserError(f"A model can't be built from its description: {error}") from None
    assert isinstance(model, FusionModel)
    model.spec = plain
    return model


def save_model(model: FusionModel, path: str | Path, *, card: Mapping[str, Any], half: bool = True) -> None:
    """Write weights, how to build the model, its card and a numeric probe.

    Args:
        model: With its ``spec`` set.
        path: A ``.safetensors`` file.
        card: What is known of the model: figures, data, command; plain values.
        half: Whether convolutions and other matrices are stored in half precision; vectors (batch statistics,
            biases) always stay single. The probe is that of the stored numbers.

    Raises:
        UserError: If the model doesn't know how it was built.
    """
    if model.spec is None:
        raise UserError("A model is saved with its description: build it by build_model or from a config file.")
    weights = {}
    for name, value in model.state_dict().items():
        narrow = half and value.is_floating_point() and value.ndim >= 2
        weights[name] = value.detach().cpu().to(torch.float16 if narrow else value.dtype).contiguous()
    stored = copy.deepcopy(model).cpu()
    stored.load_state_dict(weights)
    metadata = {
        "format": FORMAT,
        "spec": json.dumps(model.spec),
        "classes": json.dumps(model.head.classes),
        "card": json.dumps(dict(card)),
        "probe": json.dumps(probe(stored)),
    }
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    save_file(weights, str(path), metadata=metadata)


def load_model(path: str | Path) -> tuple[FusionModel, dict[str, Any]]:
    """A model and its card.

    Returns:
        The model in eval mode, in single precision, on the CPU; and the card.

    Raises:
        UserError: If the file can't be read, names or shapes of its weights don't fit exactly, or the model answers
            the probe differently than when it was saved.
    """
    weights, metadata = _read(Path(path))
    model = build_model(json.loads(metadata["spec"]))
    wanted = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    found = {name: tuple(value.shape) for name, value in weights.items()}
    wrong = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
    if wrong:
        shown = "; ".join(f"{name}: wanted {wanted.get(name)}, found {found.get(name)}" for name in wrong[:3])
        raise UserError(f"{len(wrong)} weights of {path} don't fit the model it describes: {shown}.")
    model.load_state_dict(weights)
    _check_probe(model, json.loads(metadata["probe"]), path=path)
    return model.eval(), json.loads(metadata["card"])


@torch.no_grad()
def probe(model: FusionModel) -> dict[str, list[float]]:
    """Mean, mean of absolutes and a random projection of each output map for a made-up frame, in eval mode."""
    training = model.training
    with torch.autocast("cpu", enabled=False):
        output = model.eval()(example_batch(model))
    model.train(training)
    figures = {}
    for name in ("heatmap", "box_regression", "bev"):
        flat = getattr(output, name).double().flatten()
        signs = torch.randn(len(flat), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        figures[name] = [float(flat.mean()), float(flat.abs().mean()), float(flat @ signs) / len(flat) ** 0.5]
    return figures


def _check_probe(model: FusionModel, recorded: Mapping[str, list[float]], *, path: str | Path) -> None:
    for name, values in probe(model).items():
        allowed = _PROBE_TOLERANCE * max(recorded[name][1], 1e-6)
        if not all(abs(now - then) <= allowed for now, then in zip(values, recorded[name])):
            raise UserError(
                f"The model of {path} answers its probe differently than when it was saved: {name} gives "
                f"{[round(v, 5) for v in values]} instead of {[round(v, 5) for v in recorded[name]]}. Its layers' code "
                f"has changed since, or the file is damaged."
            )


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    if not path.is_file():
        raise UserError(f"There is no weights file {path}.")
    try:
        with safe_open(str(path), framework="pt") as file:
            metadata = dict(file.metadata() or {})
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} can't be read as safetensors: {error}. Was it cut off?") from None
    missing = [key for key in ("spec", "card", "probe") if key not in metadata]
    if metadata.get("format") != FORMAT or missing:
        raise UserError(
            f"{path} is not a model of fusionkd: its metadata says format {metadata.get('format')!r} instead of "
            f"{FORMAT!r}. Save models by fusionkd.models.save_model."
        )
    return weights, metadata


def _class_paths(spec: Any) -> Iterator[str]:
    if isinstance(spec, Mapping):
        if "class_path" in spec:
            yield str(spec["class_path"])
        for value in spec.values():
            yield from _class_paths(value)
    elif isinstance(spec, list | tuple):
        for value in spec:
            yield from _class_paths(value)
