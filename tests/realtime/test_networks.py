"""Networks by PyTorch beside the path that training takes, and what they refuse."""

import builtins
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_pipeline import assert_same_boxes, boxes_of_training_path, dataset_of, raw_frames, small_model

from fusionkd.data import NuScenesDataset
from fusionkd.deploy import NO_CLOCK, Pipeline, prepare
from fusionkd.errors import UserError
from fusionkd.export.network import CandidateNetwork
from fusionkd.realtime.backends import BACKENDS, Running, build_pipeline
from fusionkd.realtime.clock import SpanClock
from fusionkd.realtime.cuda_graph import CudaGraphNetwork
from fusionkd.realtime.networks import CompiledNetwork, DeviceTensors, EagerNetwork, check_device
from fusionkd.realtime.tensorrt import TensorRtNetwork
from tests.data.tiny_world import TinyWorld
from tests.models.conftest import SPECS

no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="for machines without a GPU")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> NuScenesDataset:
    return dataset_of(TinyWorld(tmp_path_factory.mktemp("networks")).root)


@pytest.mark.parametrize("kind", list(SPECS))
def test_eager_gives_the_boxes_of_the_training_path(kind: str, tiny: NuScenesDataset) -> None:
    model, spec = small_model(kind)
    pipeline = Pipeline(spec, EagerNetwork(model, spec))
    for item, raw in list(enumerate(raw_frames(tiny)))[:2]:
        assert_same_boxes(pipeline(raw), boxes_of_training_path(model, tiny, item))


@pytest.mark.parametrize(
    ("kind", "parts"),
    [("camera+raster", {"camera", "lidar"}), ("camera", {"camera"}), ("pillars", {"lidar"})],
)
def test_eager_has_a_stage_per_part_and_they_cover_the_network(
    kind: str, parts: set[str], tiny: NuScenesDataset
) -> None:
    model, spec = small_model(kind)
    network = EagerNetwork(model, spec)
    inputs = prepare(raw_frames(tiny)[0], spec)
    clock = SpanClock(2)
    for _ in range(2):
        clock.begin()
        network(inputs, clock)
        clock.end()
    stages, stage_ns = clock.recorded()
    wanted = {"copy", "between", "fuser", "backbone", "head", "candidates"} | parts
    assert set(stages) == {f"network/{part}" for part in wanted}
    assert stages[-1] == "network/candidates"
    assert (stage_ns > 0).all()
    network(inputs, NO_CLOCK)


def test_an_error_in_a_part_leaves_its_stage(tiny: NuScenesDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    model, spec = small_model()
    network = EagerNetwork(model, spec)
    inputs = prepare(raw_frames(tiny)[0], spec)
    clock = SpanClock(1)
    clock.begin()
    with pytest.raises(UserError, match="LiDAR view"):
        network({**inputs, "raster": inputs["raster"][:, :2]}, clock)
    with clock.span("afterwards"):
        pass
    clock.end()


def test_the_model_that_was_given_stays_as_it_was(tiny: NuScenesDataset) -> None:
    model, spec = small_model()
    EagerNetwork(model, spec)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_half_precision_is_near(tiny: NuScenesDataset) -> None:
    model, spec = small_model()
    inputs = prepare(raw_frames(tiny)[0], spec)
    whole = EagerNetwork(model, spec)(inputs)
    network = EagerNetwork(model, spec, precision="bfloat16")
    half = network(inputs)
    assert network.name == "eager, bfloat16"
    assert half.score.dtype == np.float32
    assert 0 < np.abs(np.sort(half.score) - np.sort(whole.score)).max() < 0.02


@pytest.mark.slow
def test_compiled_gives_the_same_candidates(tiny: NuScenesDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    # Dynamo's own backend traces and guards like the compiler's, and takes a second instead of a minute.
    compiler = torch.compile
    monkeypatch.setattr(torch, "compile", lambda model, mode: compiler(model, backend="eager"))
    model, spec = small_model("pillars")
    network = CompiledNetwork(model, spec)
    eager = EagerNetwork(model, spec)
    for raw in raw_frames(tiny)[:3]:  # every frame has another number of pillars
        inputs = prepare(raw, spec)
        found, wanted = network(inputs), eager(inputs)
        np.testing.assert_allclose(found.score, wanted.score, atol=1e-6)
        np.testing.assert_allclose(found.boxes, wanted.boxes, atol=1e-4)
    assert network.name.startswith("compile, default, ")
    assert int(network.name.split()[2]) >= 1


def test_a_compiler_that_fails_is_told_and_not_gone_around(
    tiny: NuScenesDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(graph: Any, inputs: Any) -> Any:
        raise RuntimeError("no compiler here")

    compiler = torch.compile
    monkeypatch.setattr(torch, "compile", lambda model, mode: compiler(model, backend=broken))
    model, spec = small_model("raster")
    with pytest.raises(UserError, match=r"can't compile this model on cpu.*--backend eager"):
        CompiledNetwork(model, spec)(prepare(raw_frames(tiny)[0], spec))


def test_cells_travel_only_when_the_rig_changes(tiny: NuScenesDataset) -> None:
    _, spec = small_model()
    inputs = prepare(raw_frames(tiny)[0], spec)
    tensors = DeviceTensors(torch.device("cpu"))
    first = tensors(inputs)
    assert tensors(inputs)["cells"] is first["cells"]
    moved = {**inputs, "cells": inputs["cells"].copy()}
    assert tensors(moved)["cells"] is not first["cells"]


def test_a_graph_being_written_down_has_static_shapes(tiny: NuScenesDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    model, spec = small_model()
    network = CandidateNetwork(model, spec)
    tensors = DeviceTensors(torch.device("cpu"))(prepare(raw_frames(tiny)[0], spec))
    program = torch.export.export(network, (tensors,))
    for found, wanted in zip(program.module()(tensors), network(tensors)):
        torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)


@no_gpu
@pytest.mark.parametrize("backend", ["eager", "compile", "cuda_graph", "onnxruntime", "onnxruntime_tensorrt"])
def test_a_gpu_that_is_not_there(backend: str) -> None:
    with pytest.raises(UserError, match=r"A GPU was asked for \(cuda\), but PyTorch sees 0"):
        build_pipeline("zoo:student", Running(backend, device="cuda"))


def test_devices_that_do_not_exist() -> None:
    for device in ("gpu", "mps", "meta"):
        with pytest.raises(UserError, match=r"device|cpu or cuda"):
            check_device(device)


def test_cuda_graphs_want_a_gpu_and_one_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="CUDA graphs run on a GPU"):
        CudaGraphNetwork(*small_model(), device="cpu")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(UserError, match="number of pillars changes"):
        CudaGraphNetwork(*small_model("pillars"))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_cuda_graph_gives_the_same_candidates(tiny: NuScenesDataset) -> None:
    model, spec = small_model()
    network, eager = CudaGraphNetwork(model, spec), EagerNetwork(model, spec, device="cuda")
    for raw in raw_frames(tiny):
        inputs = prepare(raw, spec)
        np.testing.assert_allclose(network(inputs).score, eager(inputs).score, atol=1e-4)


def test_tensorrt_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(UserError, match="pip install tensorrt"):
        build_pipeline("student.onnx", Running("tensorrt"))
    with pytest.raises(UserError, match="JetPack"):
        TensorRtNetwork("student.onnx")
    old = type(builtins)("tensorrt")
    old.__dict__["__version__"] = "8.6.1"
    monkeypatch.setitem(sys.modules, "tensorrt", old)
    with pytest.raises(UserError, match=r"8\.6\.1 is too old"):
        TensorRtNetwork("student.onnx")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"backend": "caffe"}, "no backend 'caffe'; there are eager, compile"),
        ({"threads": 0}, "1 thread at least"),
    ],
)
def test_settings_that_make_no_sense(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Running(**settings)


def test_precisions_and_files_that_do_not_fit(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="precision must be one of float32"):
        EagerNetwork(*small_model(), precision="int8")
    with pytest.raises(UserError, match="exported file, which eager can't run"):
        build_pipeline("student.onnx", Running("eager"))
    with pytest.raises(UserError, match="There is no file"):
        build_pipeline(str(tmp_path / "none.onnx"))
    (tmp_path / "torn.onnx").write_bytes(b"\x08\x07\x12\x04junk")
    with pytest.raises(UserError, match="can't be loaded as an ONNX model"):
        build_pipeline(str(tmp_path / "torn.onnx"))
    assert set(BACKENDS) >= {"eager", "compile", "cuda_graph", "onnxruntime", "tensorrt"}
