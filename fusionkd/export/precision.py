"""Exported networks in half precision and in eight bits.

Only the networks' bodies change: what follows a convolution and leads to the maps. Coordinates before it (the offsets
of points in a pillar) and after it (cells, boxes in metres) keep their 32 bits: half precision knows 100 m to 6 cm.
"""

import contextlib
import io
import json
import logging
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fusionkd.deploy import DeploySpec
from fusionkd.deploy.onnx import SPEC_KEY, open_session
from fusionkd.deploy.prepare import Inputs
from fusionkd.errors import UserError
from fusionkd.export.half import CONVOLUTIONS, halve
from fusionkd.export.network import MAPS
from fusionkd.export.onnx import ABOUT_KEY, require_onnx, write_onnx
from fusionkd.preprocess.views import PillarView

QUANTIZED = ("Conv", "ConvTranspose", "Relu", "Add", "MaxPool")
"""Operators that run in eight bits: the convolutions, and what stands between them, so that numbers stay small."""

RANGES = ("MinMax", "Percentile")
"""Ways to find the range of an activation: all that the calibration frames showed, or nearly all. A few pillars answer
ten times as strongly as the rest, and a range that holds them too leaves the rest no digits; a network that reads a
raster has no such outliers, and loses what is cut off. So both are made and the better one is kept."""

PERCENTILE = 99.99

TRIED_EVERY = 4
"""One of so many calibration frames decides which ranges are better, and takes no part in finding them."""


def to_fp16(source: Path, path: Path) -> None:
    """Write an exported network with its body in half precision; inputs and outputs stay as they are.

    Args:
        source: File of ``export_onnx`` with maps.
        path: The new file.

    Raises:
        UserError: If ONNX's packages aren't there.
    """
    proto, spec, about = _read(source)
    half = halve(proto, body_nodes(proto.graph))
    write_onnx(half, path, spec=spec, about={**about, "precision": "fp16"})


def to_int8(source: Path, path: Path, frames: Sequence[Inputs], *, reduce_range: bool = False) -> None:
    """Write an exported network with its body in eight bits, by ONNX Runtime's static quantization (QDQ, per channel).

    The layers that give the maps keep 32 bits. Ranges are found in the ways of ``RANGES``; the one whose maps are
    closer on frames that were held back is kept.

    Args:
        source: File of ``export_onnx`` with maps.
        path: The new file.
        frames: Inputs of ``prepare``, whose activations set the ranges; some ten to a hundred, as varied as possible.
        reduce_range: Weights of seven bits, for processors without VNNI, whose 16-bit sums may overflow.

    Raises:
        UserError: If ONNX's packages or the frames aren't there.
    """
    proto, spec, about = _read(source)
    _check_frames(frames)
    alike = _alike(frames, spec)
    tried, calibrating = alike[::TRIED_EVERY], [f for k, f in enumerate(alike) if k % TRIED_EVERY or len(alike) == 1]
    kept = kept_nodes(proto.graph)
    with tempfile.TemporaryDirectory() as folder, _silence():
        files = {name: Path(folder) / f"{name}.onnx" for name in RANGES}
        for name, file in files.items():
            _quantize(source, file, calibrating, ranges=name, kept=kept, reduce_range=reduce_range)
        errors = _map_errors(source, list(files.values()), tried)
        best = min(RANGES, key=lambda name: errors[files[name]])
        small = require_onnx().load(str(files[best]))
    calibration = {"frames": len(frames), "ranges": best}
    write_onnx(small, path, spec=spec, about={**about, "precision": "int8", "calibration": calibration})


def _quantize(
    source: Path, path: Path, frames: Sequence[Inputs], *, ranges: str, kept: list[str], reduce_range: bool
) -> None:
    from onnxruntime import quantization

    quantization.quantize_static(
        str(source),
        str(path),
        _reader(quantization.CalibrationDataReader, frames),
        quant_format=quantization.QuantFormat.QDQ,
        op_types_to_quantize=list(QUANTIZED),
        nodes_to_exclude=kept,
        calibrate_method=getattr(quantization.CalibrationMethod, ranges),
        extra_options={"CalibPercentile": PERCENTILE} if ranges == "Percentile" else {},
        per_channel=True,
        reduce_range=reduce_range,
        activation_type=quantization.QuantType.QUInt8,
        weight_type=quantization.QuantType.QInt8,
    )


def _map_errors(source: Path, files: Sequence[Path], frames: Sequence[Inputs]) -> dict[Path, float]:
    """Mean over the heads' maps of the relative error of each file."""
    sessions = {file: open_session(file) for file in (source, *files)}
    names = [value.name for value in sessions[source].get_outputs() if value.name in MAPS and value.name != "bev"]
    errors: dict[Path, list[float]] = {file: [] for file in files}
    for frame in frames:
        wanted = sessions[source].run(names, frame)
        for file in files:
            found = sessions[file].run(names, frame)
            off = [np.abs(b - a).mean() / max(np.abs(a).mean(), 1e-12) for a, b in zip(wanted, found)]
            errors[file].append(float(np.mean(off)))
    return {file: float(np.mean(values)) for file, values in errors.items()}


def to_int8_modelopt(source: Path, path: Path, frames: Sequence[Inputs]) -> None:
    """The same by nvidia-modelopt, whose rules are TensorRT's: for files that become engines.

    Args:
        source: File of ``export_onnx`` with maps.
        path: The new file.
        frames: Inputs of ``prepare``; of a network without pillars, since their number differs from frame to frame.

    Raises:
        UserError: If nvidia-modelopt or the frames aren't there, or the network reads pillars.
    """
    proto, spec, about = _read(source)
    _check_frames(frames)
    if "points" in spec.inputs:
        raise UserError("nvidia-modelopt can't calibrate a network that reads pillars, whose number varies. Use int8.")
    try:
        from modelopt.onnx.quantization import quantize
    except ImportError as error:
        raise UserError(
            f"Quantizing for TensorRT needs nvidia-modelopt ({error}). It wants NumPy 2, so give it an environment of "
            f"its own: pip install 'nvidia-modelopt[onnx]'"
        ) from None
    data = {name: np.concatenate([frame[name] for frame in frames]) for name in spec.inputs}
    with tempfile.TemporaryDirectory() as folder:
        quantized = Path(folder) / "quantized.onnx"
        quantize(
            str(source),
            quantize_mode="int8",
            calibration_data=data,
            nodes_to_exclude=kept_nodes(proto.graph),
            output_path=str(quantized),
        )
        small = require_onnx().load(str(quantized))
    about = {**about, "precision": "int8 (modelopt)", "calibration": {"frames": len(frames)}}
    write_onnx(small, path, spec=spec, about=about)


def body_nodes(graph: Any) -> set[str]:
    """Names of the nodes that are, or follow, a convolution and lead to a map."""
    after: set[str] = set()
    reached: set[str] = set()
    for node in graph.node:  # in topological order
        if node.op_type in CONVOLUTIONS or reached.intersection(node.input):
            after.add(node.name)
            reached.update(node.output)
    needed = {value.name for value in graph.output if value.name in MAPS}
    before: set[str] = set()
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            before.add(node.name)
            needed.update(node.input)
    return after & before


def last_convolutions(graph: Any) -> list[str]:
    """Names of the convolutions after which no other stands on the way to a head's map."""
    made_by = {output: node for node in graph.node for output in node.output}
    todo = [value.name for value in graph.output if value.name in MAPS and value.name != "bev"]
    found: list[str] = []
    seen: set[str] = set()
    while todo:
        name = todo.pop()
        if name in seen or name not in made_by:
            continue
        seen.add(name)
        node = made_by[name]
        if node.op_type in CONVOLUTIONS:
            found.append(node.name)
        else:
            todo.extend(node.input)
    return sorted(set(found))


def kept_nodes(graph: Any) -> list[str]:
    """Names of the nodes that are never quantized."""
    body = body_nodes(graph)
    return [node.name for node in graph.node if node.name not in body] + last_convolutions(graph)


def _read(source: Path) -> tuple[Any, DeploySpec, dict[str, Any]]:
    onnx = require_onnx()
    proto = onnx.load(str(source))
    metadata = {entry.key: entry.value for entry in proto.metadata_props}
    if SPEC_KEY not in metadata:
        raise UserError(f"{source} is no file of tools/export.py: its metadata has no {SPEC_KEY!r}.")
    if "heatmap" not in {value.name for value in proto.graph.output}:
        raise UserError(f"{source} was exported without its maps, which tell where the network's body ends.")
    return proto, DeploySpec.from_json(metadata[SPEC_KEY], source=str(source)), json.loads(metadata[ABOUT_KEY])


def _alike(frames: Sequence[Inputs], spec: DeploySpec) -> list[Inputs]:
    """What the network reads of the frames, all of the same shapes, which histograms over frames need."""
    free = [name for name in spec.inputs if spec.lidar is not None and name in PillarView.arrays]
    least = min((len(frame[name]) for frame in frames for name in free), default=0)
    return [{name: frame[name][:least] if name in free else frame[name] for name in spec.inputs} for frame in frames]


def _check_frames(frames: Sequence[Inputs]) -> None:
    if not frames:
        raise UserError(
            "Quantization needs frames to calibrate with, found none. Give --root DATA and --calibration N."
        )


def _reader(base: type, frames: Sequence[Inputs]) -> Any:
    """ONNX Runtime's way of asking for frames, one after the other."""

    class Reader(base):  # type: ignore[misc]
        def __init__(self) -> None:
            self._frames = iter(frames)

        def get_next(self) -> Inputs | None:
            return next(self._frames, None)

    return Reader()


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Without the quantizer's remarks on what it would rather be given."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        root.setLevel(level)
