"""Models as files: built from a description, saved with it, loaded strictly and checked by numbers."""

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
from fusionkd.models.fusion import FusionModel, example_batch

FORMAT = "fusionkd-1"

_TRUSTED = ("fusionkd.", "torch.nn.")


def build_model(spec: Mapping[str, Any]) -> FusionModel:
    """The model that a description stands for.

    Args:
        spec: ``class_path`` and ``init_args`` as in a config file; class paths must lie in fusionkd or torch.nn,
            so that a weights file can't name code of its own.

    Raises:
        UserError: If the description is wrong.
    """
    for path in _class_paths(spec):
        if not path.startswith(_TRUSTED):
            raise UserError(f"A model's description may name classes of fusionkd and torch.nn, found {path!r}.")
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(FusionModel, "model")
    try:
        model = parser.instantiate_classes(parser.parse_object({"model": json.loads(json.dumps(spec))})).model
    except Exception as error:  # jsonargparse passes on whatever a constructor raises
        raise UserError(f"A model can't be built from its description: {error}") from None
    assert isinstance(model, FusionModel)
    model.spec = dict(spec)
    return model


def save_model(model: FusionModel, path: str | Path, *, card: Mapping[str, Any]) -> None:
    """Write weights in half precision, how to build the model, its card and a numeric probe.

    Args:
        model: With its ``spec`` set.
        path: A ``.safetensors`` file.
        card: What is known of the model: figures, data, command; plain values.

    Raises:
        UserError: If the model doesn't know how it was built.
    """
    if model.spec is None:
        raise UserError("A model is saved with its description: build it by build_model or from a config file.")
    weights = {
        name: value.detach().cpu().to(torch.float16 if value.is_floating_point() else value.dtype).contiguous()
        for name, value in model.state_dict().items()
    }
    rounded = build_model(model.spec)
    rounded.load_state_dict(_single_precision(weights))
    metadata = {
        "format": FORMAT,
        "spec": json.dumps(model.spec),
        "card": json.dumps(dict(card)),
        "probe": json.dumps(probe(rounded)),
    }
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    save_file(weights, str(path), metadata=metadata)


def load_model(path: str | Path) -> tuple[FusionModel, dict[str, Any]]:
    """A model and its card.

    Returns:
        The model in eval mode on the CPU, and the card.

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
    model.load_state_dict(_single_precision(weights))
    _check_probe(model, json.loads(metadata["probe"]), path=path)
    return model.eval(), json.loads(metadata["card"])


@torch.no_grad()
def probe(model: FusionModel) -> dict[str, list[float]]:
    """Mean, mean of absolutes and largest absolute of each output for a made-up frame."""
    training = model.training
    model.eval()
    output = model(example_batch(model))
    model.train(training)
    maps = {"heatmap": output.heatmap, "box_regression": output.box_regression, "bev": output.bev}
    return {
        name: [float(x.double().mean()), float(x.double().abs().mean()), float(x.double().abs().max())]
        for name, x in maps.items()
    }


def _check_probe(model: FusionModel, recorded: Mapping[str, list[float]], *, path: str | Path) -> None:
    for name, values in probe(model).items():
        scale = max(recorded[name][1], 1e-6)
        error = max(abs(a - b) for a, b in zip(values[:2], recorded[name][:2])) / scale
        # Other processors and library versions differ by 1e-5; a wrong layer by far more than this.
        if not error < 1e-2:
            raise UserError(
                f"The model of {path} answers its probe differently than when it was saved: {name} is "
                f"{values[0]:.5g}, {values[1]:.5g} instead of {recorded[name][0]:.5g}, {recorded[name][1]:.5g}. The "
                f"code of its layers has changed since, or the file is damaged."
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


def _single_precision(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.float() if value.is_floating_point() else value for name, value in weights.items()}


def _class_paths(spec: Any) -> Iterator[str]:
    if isinstance(spec, Mapping):
        if "class_path" in spec:
            yield str(spec["class_path"])
        for value in spec.values():
            yield from _class_paths(value)
    elif isinstance(spec, list):
        for value in spec:
            yield from _class_paths(value)
