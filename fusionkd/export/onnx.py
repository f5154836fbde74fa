"""Models as ONNX files that know what they read."""

import hashlib
import json
import subprocess
import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

import fusionkd
from fusionkd.deploy import DeploySpec, RawFrame, prepare
from fusionkd.deploy.onnx import SPEC_KEY
from fusionkd.deploy.prepare import network_rig
from fusionkd.errors import UserError
from fusionkd.export.example import example_raw
from fusionkd.export.fixed_rig import with_fixed_rig
from fusionkd.export.network import MAPS, CandidateNetwork
from fusionkd.export.spec import Trained
from fusionkd.models import FusionModel

ABOUT_KEY = "fusionkd.about"
"""Key of a file's metadata under which is kept, as JSON, where it comes from."""

OPSET = 20
"""ONNX operator set; the newest that the exporter of torch 2.10 knows without conversion."""


@dataclass(frozen=True)
class Exportable:
    """A model, ready to be written.

    Attributes:
        model: In eval mode, on the CPU; of one rig where the spec names a fixed one.
        spec: What it reads and how its answers become boxes.
        about: Where it comes from: plain values.
    """

    model: FusionModel
    spec: DeploySpec
    about: Mapping[str, Any]


def exportable(trained: Trained, *, fixed_rig: RawFrame | None = None) -> Exportable:
    """What is to be written of a trained model.

    Args:
        trained: The model.
        fixed_rig: A frame whose cameras stand for all; None for a network that is told in each frame where the
            cameras are.

    Raises:
        UserError: If a model without cameras is given a rig.
    """
    model, spec = trained.model, trained.spec
    if fixed_rig is not None:
        if spec.camera is None:
            raise UserError(f"{trained.checkpoint} has no camera branch, so there is no rig to fix.")
        cells = torch.from_numpy(prepare(fixed_rig, spec)["cells"][0])
        rig = network_rig(fixed_rig, spec.camera).tolist()
        model = with_fixed_rig(model, cells)
        spec = replace(spec, camera=replace(spec.camera, fixed_rig=rig))
    return Exportable(model, spec, _about(trained))


def export_onnx(item: Exportable, path: Path, *, maps: bool = True) -> None:
    """Write a model as one ONNX file of batch 1: inputs are those of ``prepare``, outputs score, label and boxes.

    There is no operator outside of ONNX's own. The number of pillars is free; all other shapes are fixed.

    Args:
        item: The model.
        path: An ``.onnx`` file.
        maps: Whether the maps behind the candidates are outputs too; asking for none of them costs nothing.

    Raises:
        UserError: If ONNX's packages aren't there or the model can't be exported.
    """
    onnx = require_onnx()
    network = CandidateNetwork(item.model, item.spec, maps=MAPS if maps else ())
    # The made-up frame has a rig of its own, which a network for a fixed rig would refuse.
    anywhere = (
        item.spec if item.spec.camera is None else replace(item.spec, camera=replace(item.spec.camera, fixed_rig=None))
    )
    arrays = prepare(example_raw(anywhere), anywhere)
    inputs = {name: torch.from_numpy(arrays[name]) for name in item.spec.inputs}
    pillars = torch.export.Dim("pillars", min=1, max=2**20)
    free = {name: {0: pillars} if name in ("points", "count", "coords") else None for name in inputs}
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # about copies within the exporter itself
            program = torch.onnx.export(
                network,
                (),
                kwargs={"inputs": inputs},
                input_names=list(inputs),
                output_names=list(network.outputs),
                dynamic_shapes={"inputs": free},
                opset_version=OPSET,
                dynamo=True,
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        raise UserError(f"The model can't be exported to ONNX: {str(error).strip().splitlines()[-1]}") from error
    assert program is not None
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / "plain.onnx"
        program.save(plain, external_data=False)
        proto = onnx.load(plain)
    _forget_traces(proto)
    write_onnx(proto, path, spec=item.spec, about={**item.about, "precision": "fp32"})


def write_onnx(proto: Any, path: Path, *, spec: DeploySpec, about: Mapping[str, Any]) -> None:
    """Check a model, add what it must know of itself and write it.

    Args:
        proto: An ``onnx.ModelProto``.
        path: The file.
        spec: What it reads.
        about: Where it comes from.

    Raises:
        UserError: If ONNX's checker refuses the model.
    """
    onnx = require_onnx()
    opsets = {entry.domain or "ai.onnx": entry.version for entry in proto.opset_import}
    onnx.helper.set_model_props(
        proto, {SPEC_KEY: spec.to_json(), ABOUT_KEY: json.dumps({**about, "opsets": opsets}, sort_keys=True)}
    )
    proto.producer_name, proto.producer_version = "fusionkd", fusionkd.__version__
    try:
        onnx.checker.check_model(proto, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise UserError(f"The exported model isn't valid ONNX: {str(error).splitlines()[0]}") from error
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(proto, str(path))


def require_onnx() -> Any:
    """The package ``onnx``.

    Raises:
        UserError: If it isn't there.
    """
    try:
        import onnx
        import onnxscript
    except ImportError as error:
        raise UserError(
            f"Exporting needs the packages onnx, onnxscript and onnxruntime ({error}): pip install 'fusionkd[export]'"
        ) from None
    del onnxscript
    return onnx


def git_version() -> str | None:
    """``git describe`` of the sources that run, or None where they aren't in a repository."""
    folder = Path(fusionkd.__file__).parent
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--tags"]
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    # An installed package may lie in somebody else's repository, an environment's for example.
    return result.stdout.strip() if result.returncode == 0 and (folder.parent / "pyproject.toml").is_file() else None


def _about(trained: Trained) -> dict[str, Any]:
    config = trained.config
    return {
        "fusionkd": fusionkd.__version__,
        "git": git_version(),
        "torch": torch.__version__,
        "checkpoint": Path(trained.checkpoint).name,
        "model": trained.model.spec,
        "config_sha256": None if config is None else hashlib.sha256(config.read_bytes()).hexdigest(),
        "simulated": trained.record.simulated,
    }


def _forget_traces(proto: Any) -> None:
    """Drop what the exporter notes of its own calls: a third of the file, and paths of this machine."""
    for node in proto.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    for value in (*proto.graph.value_info, *proto.graph.input, *proto.graph.output, *proto.graph.initializer):
        del value.metadata_props[:]
    del proto.graph.metadata_props[:]
    del proto.functions[:]
