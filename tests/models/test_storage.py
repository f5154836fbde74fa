import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from fusionkd.errors import UserError
from fusionkd.models import FusionModel, build_model, example_batch, load_model, save_model
from tests.models.conftest import SPECS

CARD = {"figures": {"mAP": 0.4}, "simulated": True, "seed": 1000}


@pytest.mark.parametrize("half", [True, False])
def test_a_model_survives_its_file(model: FusionModel, tmp_path: Path, half: bool) -> None:
    for _ in range(2):  # batch statistics of their own
        model(example_batch(model))
    save_model(model, tmp_path / "deep" / "model.safetensors", card=CARD, half=half)
    loaded, card = load_model(tmp_path / "deep" / "model.safetensors")
    assert card == CARD
    assert loaded.spec == model.spec
    assert not loaded.training
    assert model.training
    for name, value in model.state_dict().items():
        other = loaded.state_dict()[name]
        assert other.dtype == value.dtype
        if half and value.ndim >= 2:
            torch.testing.assert_close(other, value, atol=1e-6, rtol=1e-3)
        else:
            assert torch.equal(other, value), name
    batch = example_batch(model, seed=3)
    with torch.no_grad():
        a, b = model.eval()(batch), loaded(batch)
    torch.testing.assert_close(a.heatmap, b.heatmap, atol=1e-2 if half else 0, rtol=0)


def test_half_precision_halves_the_file(fused: FusionModel, tmp_path: Path) -> None:
    for half in (True, False):
        save_model(fused, tmp_path / f"{half}.safetensors", card={}, half=half)
    large, small = ((tmp_path / f"{half}.safetensors").stat().st_size for half in (False, True))
    weights = sum(parameter.numel() for parameter in fused.parameters())
    assert large - small > 1.8 * weights


@pytest.fixture
def saved(fused: FusionModel, tmp_path: Path) -> Path:
    save_model(fused, tmp_path / "model.safetensors", card=CARD)
    return tmp_path / "model.safetensors"


def _rewrite(path: Path, change: Callable[[dict[str, torch.Tensor], dict[str, str]], None]) -> None:
    with safe_open(str(path), framework="pt") as file:
        metadata = dict(file.metadata())
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    change(weights, metadata)
    save_file(weights, str(path), metadata=metadata)


def _missing(weights: dict[str, torch.Tensor], metadata: dict[str, str]) -> None:
    del weights["head.shared_conv.conv.weight"]


def _unexpected(weights: dict[str, torch.Tensor], metadata: dict[str, str]) -> None:
    weights["head.shared_conv.extra"] = torch.zeros(1)


def _mismatched(weights: dict[str, torch.Tensor], metadata: dict[str, str]) -> None:
    weights["head.shared_conv.conv.weight"] = torch.zeros(16, 9, 3, 3)


def _damaged(weights: dict[str, torch.Tensor], metadata: dict[str, str]) -> None:
    weights["head.shared_conv.bn.running_mean"] += 0.3


def _permuted(weights: dict[str, torch.Tensor], metadata: dict[str, str]) -> None:
    weights["camera.lift.net.3.weight"] = weights["camera.lift.net.3.weight"].flip(0).contiguous()


def _foreign(weights: dict[str, torch.Tensor], metadata: dict[str, str]) -> None:
    metadata.clear()


def _dangerous(weights: dict[str, torch.Tensor], metadata: dict[str, str]) -> None:
    spec = json.loads(metadata["spec"])
    spec["init_args"]["backbone"] = {"class_path": "os.system", "init_args": {"command": "true"}}
    metadata["spec"] = json.dumps(spec)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_missing, r"1 weights of .*model\.safetensors.*shared_conv\.conv\.weight: wanted \(16, 8, 3, 3\), found None"),
        (_unexpected, r"shared_conv\.extra: wanted None, found \(1,\)"),
        (_mismatched, r"wanted \(16, 8, 3, 3\), found \(16, 9, 3, 3\)"),
        (_damaged, "answers its probe differently"),
        (_permuted, "answers its probe differently"),
        (_foreign, "is not a model of fusionkd"),
        (_dangerous, r"found 'os\.system'"),
    ],
)
def test_wrong_files_are_refused(saved: Path, change: Any, message: str) -> None:
    _rewrite(saved, change)
    with pytest.raises(UserError, match=message):
        load_model(saved)


def test_a_file_that_was_cut_off(saved: Path) -> None:
    saved.write_bytes(saved.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"model\.safetensors can't be read as safetensors.*cut off"):
        load_model(saved)
    with pytest.raises(UserError, match="no weights file"):
        load_model(saved.with_name("other.safetensors"))


def test_layers_that_changed_their_meaning(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fusionkd.models.backbone.ResidualBlock.forward", lambda self, x: x + self.layers(x))
    with pytest.raises(UserError, match="Its layers' code has changed"):
        load_model(saved)


def test_a_model_without_description(fused: FusionModel, tmp_path: Path) -> None:
    fused.spec = None
    with pytest.raises(UserError, match="build_model"):
        save_model(fused, tmp_path / "model.safetensors", card={})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda spec: spec["init_args"]["head"]["init_args"].update(in_chanels=8), "in_chanels"),
        (lambda spec: spec["init_args"]["head"].update(class_path="fusionkd.models.Head"), r"fusionkd\.models\.Head"),
        (lambda spec: spec["init_args"]["head"].update(class_path="builtins.print"), r"builtins\.print"),
        (lambda spec: spec["init_args"].pop("head"), "head"),
        (lambda spec: spec["init_args"]["grid"].update(cell_m=-1), "cell_m must be positive"),
    ],
    ids=["misspelled", "unknown class", "untrusted class", "missing", "wrong value"],
)
def test_wrong_descriptions_are_named(change: Any, message: str) -> None:
    spec = copy.deepcopy(SPECS["camera+raster"])
    change(spec)
    with pytest.raises(UserError, match=message):
        build_model(spec)


def test_a_description_is_plain_and_rebuilds(model: FusionModel) -> None:
    again = build_model(json.loads(json.dumps(model.spec)))
    assert again.state_dict().keys() == model.state_dict().keys()
    assert again.spec == model.spec
