"""Half precision and eight bits: only the body changes, and the boxes stay."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest

from fusionkd.deploy import OnnxNetwork, prepare
from fusionkd.errors import UserError
from fusionkd.export.example import example_raw
from fusionkd.export.network import MAPS
from fusionkd.export.onnx import ABOUT_KEY
from fusionkd.export.parity import TOLERANCES, compare_networks
from fusionkd.export.precision import (
    RANGES,
    body_nodes,
    kept_nodes,
    last_convolutions,
    to_fp16,
    to_int8,
    to_int8_modelopt,
)
from fusionkd.export.tensorrt import build_engine, pillar_shapes, serialized_engine, trtexec_command

KINDS = ["camera+raster", "camera+pillars"]


@pytest.mark.parametrize("kind", KINDS)
def test_half_precision_answers_the_same(made, tmp_path: Path, kind: str) -> None:
    item, source = made(kind)
    path = tmp_path / "half.onnx"
    to_fp16(source, path)
    frames = [prepare(example_raw(item.spec, seed=seed), item.spec) for seed in (1, 2, 3)]
    report = compare_networks(
        OnnxNetwork(source), OnnxNetwork(path), frames, spec=item.spec, outputs=MAPS, tolerance=TOLERANCES["fp16"]
    )
    assert report.broken == []
    proto = onnx.load(path)
    kinds = {weight.name: weight.data_type for weight in proto.graph.initializer}
    convolutions = [node for node in proto.graph.node if node.op_type == "Conv"]
    assert len(convolutions) > 5
    assert all(kinds[node.input[1]] == onnx.TensorProto.FLOAT16 for node in convolutions)
    assert {value.type.tensor_type.elem_type for value in proto.graph.output} <= {1, 7}  # float32 and int64, as before
    assert path.stat().st_size < 0.8 * source.stat().st_size


@pytest.mark.parametrize("kind", KINDS)
def test_eight_bits_are_close_and_say_so(made, tmp_path: Path, kind: str) -> None:
    item, source = made(kind)
    path = tmp_path / "small.onnx"
    frames = [prepare(example_raw(item.spec, seed=seed), item.spec) for seed in range(5)]
    to_int8(source, path, frames[:4])
    network = OnnxNetwork(path)
    assert network.spec == item.spec
    about = json.loads(network.metadata[ABOUT_KEY])
    assert about["precision"] == "int8"
    assert about["calibration"]["frames"] == 4
    assert about["calibration"]["ranges"] in RANGES
    kinds = {node.op_type for node in onnx.load(path).graph.node}
    assert {"QuantizeLinear", "DequantizeLinear"} <= kinds
    # An untrained head, so only the maps are judged.
    wanted, found = OnnxNetwork(source).run(frames[4], ["heatmap"])[0], network.run(frames[4], ["heatmap"])[0]
    error = np.abs(found - wanted).mean() / np.abs(wanted - wanted.mean()).mean()
    assert 1e-4 < error < 0.2


@pytest.mark.parametrize("kind", KINDS)
def test_coordinates_and_the_heads_are_left_alone(made, kind: str) -> None:
    _, source = made(kind)
    graph = onnx.load(source).graph
    body, kept = body_nodes(graph), set(kept_nodes(graph))
    by_name = {node.name: node for node in graph.node}
    assert {by_name[name].op_type for name in by_name.keys() - body} >= {"TopK", "Exp"}
    assert all(by_name[name].op_type in ("Conv", "ConvTranspose") for name in last_convolutions(graph))
    assert set(last_convolutions(graph)) <= kept
    if "pillars" in kind:
        assert "Gemm" in {by_name[name].op_type for name in kept} | {"Gemm"} - {node.op_type for node in graph.node}
    assert len(by_name.keys() - kept) > 5


def test_what_is_missing_is_named(made, tmp_path: Path) -> None:
    _, source = made("camera+raster")
    with pytest.raises(UserError, match="needs frames to calibrate with"):
        to_int8(source, tmp_path / "a.onnx", [])
    proto = onnx.load(source)
    del proto.graph.output[3:]
    onnx.save(proto, tmp_path / "bare.onnx")
    with pytest.raises(UserError, match="exported without its maps"):
        to_fp16(tmp_path / "bare.onnx", tmp_path / "a.onnx")
    del proto.metadata_props[:]
    onnx.save(proto, tmp_path / "plain.onnx")
    with pytest.raises(UserError, match=r"is no file of tools/export\.py"):
        to_fp16(tmp_path / "plain.onnx", tmp_path / "a.onnx")


def test_tools_of_nvidia_are_asked_for_where_they_are_missing(made, tmp_path: Path, monkeypatch) -> None:
    item, source = made("camera+raster")
    monkeypatch.setitem(__import__("sys").modules, "modelopt", None)
    monkeypatch.setitem(__import__("sys").modules, "tensorrt", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    frame = prepare(example_raw(item.spec), item.spec)
    with pytest.raises(UserError, match="pip install 'nvidia-modelopt"):
        to_int8_modelopt(source, tmp_path / "a.onnx", [frame])
    with pytest.raises(UserError, match="pip install tensorrt"):
        build_engine(source, tmp_path / "a.engine", spec=item.spec)
    pillars, path = made("camera+pillars")
    with pytest.raises(UserError, match="pillars, whose number varies"):
        to_int8_modelopt(path, tmp_path / "a.onnx", [prepare(example_raw(pillars.spec), pillars.spec)])


class FakeTensorRt:
    """As much of TensorRT's Python package as builds an engine; it writes down the shapes that it is told."""

    def __init__(self) -> None:
        self.shapes: dict[str, tuple[tuple[int, ...], ...]] = {}
        self.flags: list[str] = []
        self.Logger = type("Logger", (), {"ERROR": 0, "__init__": lambda _self, _level: None})
        self.BuilderFlag = SimpleNamespace(FP16="fp16")
        self.OnnxParser = lambda _network, _logger: SimpleNamespace(parse=lambda content: len(content) > 0)
        self.Builder = lambda _logger: SimpleNamespace(
            create_network=lambda _flags: None,
            create_builder_config=lambda: SimpleNamespace(
                set_flag=self.flags.append, add_optimization_profile=lambda _profile: None
            ),
            create_optimization_profile=lambda: SimpleNamespace(
                set_shape=lambda name, *shapes: self.shapes.update({name: shapes})
            ),
            build_serialized_network=lambda _network, _config: b"engine",
        )


def test_the_python_package_is_told_how_many_pillars_there_may_be(made) -> None:
    item, source = made("camera+pillars")
    package = FakeTensorRt()
    shapes = pillar_shapes(item.spec)
    assert serialized_engine(package, source, shapes=shapes, flags=["fp16"]) == b"engine"
    assert package.flags == ["fp16"]
    assert package.shapes["points"] == ((1, 5, 5), (8000, 5, 5), (30000, 5, 5))


def test_trtexec_is_told_how_many_pillars_there_may_be(made) -> None:
    item, source = made("camera+pillars")
    command = trtexec_command(source, Path("a.engine"), shapes=pillar_shapes(item.spec), flags=["fp16"])
    assert command[:4] == ["trtexec", f"--onnx={source}", "--saveEngine=a.engine", "--fp16"]
    assert command[4] == "--minShapes=points:1x5x5,count:1,coords:1x3"
    assert command[6] == "--maxShapes=points:30000x5x5,count:30000,coords:30000x3"
    assert pillar_shapes(made("camera+raster")[0].spec) == {}
