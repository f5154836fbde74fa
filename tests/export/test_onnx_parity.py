"""A file answers what torch answers: every map, every box, with sensors lost, for a fixed rig."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from fusionkd.deploy import OnnxNetwork, Pipeline, RawFrame, load, prepare
from fusionkd.deploy.onnx import SPEC_KEY
from fusionkd.errors import UserError
from fusionkd.export.example import example_raw
from fusionkd.export.network import MAPS, TorchNetwork
from fusionkd.export.onnx import ABOUT_KEY
from fusionkd.export.parity import TOLERANCES, compare_boxes, compare_networks, match_boxes
from fusionkd.geometry import Boxes3D
from fusionkd.models import Decoder, FusionOutput


def lost(raw: RawFrame, *, cameras: tuple[int, ...] = (), lidar: bool = False) -> RawFrame:
    """The frame without some sensors."""
    images = tuple(None if k in cameras else image for k, image in enumerate(raw.images))
    if not lidar:
        return replace(raw, images=images)
    return replace(raw, images=images, sweeps=(), key_from_sweep=np.zeros((0, 4, 4)), age_s=np.zeros(0))


LOSSES = {
    "nothing": {},
    "a camera": {"cameras": (2,)},
    "all cameras": {"cameras": tuple(range(6))},
    "LiDAR": {"lidar": True},
}


@pytest.mark.parametrize("loss", list(LOSSES))
@pytest.mark.parametrize(
    ("kind", "fixed"),
    [
        ("camera", False),
        ("camera+raster", False),
        ("camera+pillars", False),
        ("camera+raster", True),
        ("painted+raster", False),
        ("painted+raster", True),
    ],
)
def test_every_map_and_box_is_torchs(made, kind: str, fixed: bool, loss: str) -> None:
    item, path = made(kind, fixed=fixed)
    reference = TorchNetwork(item.model, item.spec)
    frames = [prepare(lost(example_raw(item.spec, seed=seed), **LOSSES[loss]), item.spec) for seed in (1, 2)]
    report = compare_networks(
        reference, OnnxNetwork(path), frames, spec=item.spec, outputs=MAPS, tolerance=TOLERANCES["fp32"]
    )
    assert [output.name for output in report.outputs if output.relative > 1e-5] == []
    # Where cameras alone see nothing, all cells answer alike, and rounding alone says which is a peak.
    if kind != "camera":
        assert report.broken == []
        assert report.boxes.matched == report.boxes.reference == report.boxes.found > 10


@pytest.mark.parametrize("kind", ["camera+raster", "camera+pillars", "painted+raster"])
def test_the_whole_way_is_the_decoders(made, kind: str) -> None:
    """Against ``FusionModel.forward`` and ``Decoder``, which share no code with the runtime's network."""
    item, path = made(kind)
    raw = example_raw(item.spec, seed=5)
    inputs = {name: torch.from_numpy(array) for name, array in prepare(raw, item.spec).items()}
    camera = "images" in inputs
    with torch.no_grad():
        answer = item.model.forward_tensors(
            inputs["images"] if camera else torch.zeros(1, 1, 3, 1, 1),
            inputs["cells"] if camera else None,
            inputs.get("measured"),
            camera_present=inputs["camera_present"],
            lidar=inputs,
            lidar_present=inputs["lidar_present"],
        )
    output = FusionOutput(
        **answer._asdict(), grid=item.spec.grid, classes=item.spec.classes, task_of_class=item.spec.task_of_class
    )
    (wanted,) = Decoder(0.2, candidates=60)(output)
    found = load(path)(raw)
    assert len(found) > 10
    np.testing.assert_array_equal(found.label, wanted.label)
    np.testing.assert_allclose(found.to_array(), wanted.to_array(), atol=2e-4)


def test_the_file_knows_what_it_is(made) -> None:
    item, path = made("camera+raster", fixed=True)
    network = OnnxNetwork(path)
    assert network.spec == item.spec
    about = json.loads(network.metadata[ABOUT_KEY])
    assert {"fusionkd", "git", "torch", "opsets", "config_sha256", "simulated", "precision", "model"} <= about.keys()
    assert about["opsets"] == {"ai.onnx": 20}
    assert network.spec.camera.fixed_rig is not None
    assert "cells" not in [value.name for value in network.session.get_inputs()]
    # No traces of the machine that exported it.
    assert str(Path(onnx.__file__).parents[1]).encode() not in path.read_bytes()


def test_it_runs_where_there_is_no_torch(made) -> None:
    item, path = made("camera+raster")
    script = f"""
import sys
sys.modules.update(dict.fromkeys(["torch", "onnx", "cv2", "lightning"]))  # importing any of them fails
import numpy as np
from fusionkd.deploy import RawFrame, load
raw = dict(np.load(sys.argv[1]))
frame = RawFrame("a", (raw.pop("sweep").tobytes(),), raw["key"], raw["age"], tuple(raw["images"]), raw["intrinsics"],
                 raw["mount"], {item.spec.camera.size_px})
boxes = load({str(path)!r})(frame)
print(len(boxes), float(boxes.score.sum()))
"""
    raw = example_raw(item.spec, seed=3)
    file = path.with_suffix(".npz")
    sweep = np.frombuffer(raw.sweeps[0], np.uint8)
    np.savez(
        file, sweep=sweep, key=raw.key_from_sweep, age=raw.age_s, images=np.stack(raw.images),
        intrinsics=raw.intrinsics, mount=raw.ego_from_camera,
    )  # fmt: skip
    result = subprocess.run([sys.executable, "-c", script, str(file)], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    count, total = result.stdout.split()
    here = load(path)(raw)
    assert int(count) == len(here) > 0
    assert float(total) == pytest.approx(float(here.score.sum()), rel=1e-5)


def test_files_that_arent_are_named(made, tmp_path: Path) -> None:
    _, path = made("camera+raster")
    with pytest.raises(UserError, match="There is no file"):
        OnnxNetwork(tmp_path / "gone.onnx")
    with pytest.raises(UserError, match=r"has no CUDAExecutionProvider; it has .*CPUExecutionProvider"):
        OnnxNetwork(path, providers=("CUDAExecutionProvider",))
    proto = onnx.load(path)
    del proto.metadata_props[:]
    onnx.save(proto, tmp_path / "plain.onnx")
    with pytest.raises(UserError, match=f"has no '{SPEC_KEY}'"):
        OnnxNetwork(tmp_path / "plain.onnx")
    (tmp_path / "text.onnx").write_text("not a model")
    with pytest.raises(UserError, match=r"text\.onnx can't be loaded as an ONNX model"):
        OnnxNetwork(tmp_path / "text.onnx")


def test_a_model_of_another_grid_is_refused(made) -> None:
    _, path = made("camera+raster")
    network = OnnxNetwork(path)
    grid = network.spec.grid.with_cell(3.2)
    view = replace(network.spec.lidar, grid=grid)
    other = replace(network.spec, grid=grid, lidar=view)
    with pytest.raises(UserError, match="prepared with the file's own description"):
        Pipeline(other, network)(example_raw(other))
    with pytest.raises(UserError, match="raster wasn't prepared"):
        Pipeline(replace(network.spec, lidar=None), network)(example_raw(network.spec))


def _boxes(x: list[float], label: list[int], score: list[float]) -> Boxes3D:
    rows = np.zeros((len(x), 9), np.float32)
    rows[:, 0] = x
    return Boxes3D.from_array(rows, np.array(label), np.array(score))


def test_boxes_are_matched_once_and_within_their_class() -> None:
    reference = _boxes([0, 5, 20], [0, 0, 1], [0.9, 0.8, 0.7])
    found = _boxes([0.3, 0.1, 20.2, 5.9], [0, 0, 0, 0], [0.9, 0.5, 0.7, 0.6])
    assert sorted(match_boxes(reference, found)) == [(0, 1), (1, 3)]
    parity = compare_boxes([(reference, found)], clear_score=0.65)
    assert (parity.reference, parity.found, parity.matched) == (3, 4, 2)
    assert parity.max_centre_m == pytest.approx(0.9)
    assert parity.max_score == pytest.approx(0.4)
    assert parity.unmatched == pytest.approx(3 / 5)  # clear: three of the reference, two of the others


def test_a_wrong_network_is_out_of_tolerance(made) -> None:
    item, path = made("camera+raster")
    network = OnnxNetwork(path)
    with torch.no_grad():
        changed = TorchNetwork(item.model, item.spec)
        weight = changed.module.model.head.task_heads[0].weight
        weight.mul_(1.05)
    try:
        frames = [prepare(example_raw(item.spec), item.spec)]
        report = compare_networks(changed, network, frames, spec=item.spec, outputs=MAPS, tolerance=TOLERANCES["fp32"])
    finally:
        with torch.no_grad():
            weight.div_(1.05)
    assert any("heatmap" in text for text in report.broken)
    assert report.to_dict()["broken"] == report.broken
    assert "made-up frames" in report.table("a").title
