"""Every stage and the boxes of mmdetection3d's CenterPoint-pillar, as its own code computed them."""

import importlib.util
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from fusionkd.errors import UserError
from fusionkd.geometry import BevGrid
from fusionkd.models import FusionModel, FusionOutput
from fusionkd.models.mmdet3d import centerpoint_pillar_decoder, load_centerpoint_pillar
from fusionkd.preprocess import hard_pillars

BRANCHES = {"reg": slice(0, 2), "height": slice(2, 3), "dim": slice(3, 6), "rot": slice(6, 8), "vel": slice(8, 10)}
STAGES = 6 + 6 * 6  # canvas, three of the backbone, neck, shared convolution; six branches of six tasks


class Peer(NamedTuple):
    make: Any
    spec: dict[str, Any]
    expected: Any


class Run(NamedTuple):
    case: str
    view: dict[str, torch.Tensor]
    stages: dict[str, torch.Tensor]
    output: FusionOutput


@pytest.fixture(scope="module")
def peer(shared_parity: Path) -> Peer:
    location = importlib.util.spec_from_file_location("make_weights", shared_parity / "make_weights.py")
    assert location is not None
    assert location.loader is not None
    module = importlib.util.module_from_spec(location)
    location.loader.exec_module(module)
    folder = shared_parity / "centerpoint_pillar"
    return Peer(module, module.load_spec(str(folder)), np.load(folder / "expected.npz"))


@pytest.fixture(scope="module")
def weights(peer: Peer) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(np.asarray(array)) for name, array in peer.make.make_weights(peer.spec).items()}


@pytest.fixture(scope="module")
def model(weights: dict[str, torch.Tensor]) -> FusionModel:
    assert len(weights) == 414
    return load_centerpoint_pillar(weights)


@pytest.fixture(scope="module", params=["real", "synthetic"])
def run(request: pytest.FixtureRequest, peer: Peer, model: FusionModel) -> Run:
    points = peer.make.make_input(peer.spec, request.param)["points"]
    view = _pillar_view(points)
    stages: dict[str, torch.Tensor] = {}
    lidar: Any = model.lidar
    parts = {"neck": lidar.neck, "shared_conv": model.head.shared_conv}
    parts |= {f"backbone.{i}": block for i, block in enumerate(lidar.backbone.blocks)}
    hooks = [
        part.register_forward_hook(lambda _, __, out, name=name: stages.__setitem__(name, out))
        for name, part in parts.items()
    ]
    with torch.no_grad():
        stages["pillar_features"] = lidar.pillars(**view, grid=lidar.pillar_grid(model.grid))[None]
        stages["canvas"] = lidar.canvas(view, batch_size=1, grid=model.grid)
        output = model(_Batch(view))
    for hook in hooks:
        hook.remove()
    for task in range(6):
        classes = [c for c, t in enumerate(output.task_of_class) if t == task]
        stages[f"head.{task}.heatmap"] = output.heatmap[:, classes]
        for name, channels in BRANCHES.items():
            stages[f"head.{task}.{name}"] = output.box_regression[:, task, channels]
    return Run(request.param, view, stages, output)


class _Batch:
    """One frame of LiDAR and no cameras."""

    def __init__(self, view: dict[str, torch.Tensor]) -> None:
        self.images = torch.zeros(1, 6, 3, 8, 8)
        self.camera_present = torch.zeros(1, 6, dtype=torch.bool)
        self.image_from_ego = torch.eye(4).expand(1, 6, 4, 4)
        self.lidar = {"pillars": view}
        self.lidar_present = torch.ones(1, dtype=torch.bool)


def _pillar_view(points: np.ndarray) -> dict[str, torch.Tensor]:
    pillars = hard_pillars(points, BevGrid(cell_m=0.2), max_points=20, max_pillars=40000)
    coords = np.concatenate([np.zeros((len(pillars), 1), np.int64), pillars.row_column], axis=1)
    arrays = {"points": pillars.points, "count": pillars.count, "coords": coords}
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def test_every_stage(run: Run, peer: Peer) -> None:
    samples = peer.spec["samples"][run.case]
    compared = 0
    for name, sample in samples.items():
        ours = run.stages[name][0].contiguous().numpy()
        assert list(ours.shape) == list(sample["shape"]), name
        rms = peer.expected[f"{run.case}/{name}/stats"][4]
        theirs = peer.expected[f"{run.case}/{name}/values"]
        np.testing.assert_allclose(ours.ravel()[sample["flat_index"]], theirs, rtol=0, atol=5e-4 * rms, err_msg=name)
        compared += 1
    assert compared == STAGES


def test_whole_maps_have_the_peers_statistics(run: Run, peer: Peer) -> None:
    for name, stage in run.stages.items():
        total, absolutes, low, high, rms = peer.expected[f"{run.case}/{name}/stats"]
        ours = stage[0].double()
        assert float(ours.abs().sum()) == pytest.approx(absolutes, rel=1e-4), name
        assert float(ours.sum()) == pytest.approx(total, abs=1e-4 * absolutes), name
        assert float(ours.min()) == pytest.approx(low, abs=5e-4 * rms), name
        assert float(ours.max()) == pytest.approx(high, abs=2e-3 * rms), name


def test_decorated_points(run: Run, peer: Peer, model: FusionModel) -> None:
    first = {name: tensor[:50] for name, tensor in run.view.items()}
    lidar: Any = model.lidar
    ours = lidar.pillars.decorate(**first, grid=lidar.pillar_grid(model.grid)).numpy()
    np.testing.assert_allclose(ours, peer.expected[f"{run.case}/pfn_input_first50"], atol=2e-5)


def test_boxes_before_suppression(run: Run, peer: Peer) -> None:
    decoder = centerpoint_pillar_decoder()
    score, label, boxes = decoder.decode_tensors(run.output)
    for task in range(6):
        mine = slice(500 * task, 500 * (task + 1))
        keep = score[0, mine] > 0.1
        theirs = peer.expected[f"{run.case}/decoded.{task}.bboxes"]
        scores = peer.expected[f"{run.case}/decoded.{task}.scores"]
        z_in_range = boxes[0, mine, 2].abs() <= 10
        assert int((keep & z_in_range).sum()) == len(theirs)
        found = boxes[0, mine][keep & z_in_range].numpy()
        _assert_same_boxes(found, score[0, mine][keep & z_in_range].numpy(), theirs, scores)
        assert len(set(label[0, mine].tolist())) <= 2


def test_final_boxes(run: Run, peer: Peer) -> None:
    (ours,) = centerpoint_pillar_decoder()(run.output)
    final = {
        name: peer.expected[f"{run.case}/final.{name}"] for name in ("boxes", "scores", "labels", "gravity_center")
    }
    theirs = np.concatenate([final["gravity_center"], final["boxes"][:, 3:]], axis=1)
    assert np.bincount(ours.label, minlength=10).tolist() == np.bincount(final["labels"], minlength=10).tolist()
    for label in range(10):
        rows, peers = ours.label == label, final["labels"] == label
        _assert_same_boxes(ours.to_array()[rows], ours.score[rows], theirs[peers], final["scores"][peers])


def _assert_same_boxes(ours: np.ndarray, our_scores: np.ndarray, theirs: np.ndarray, scores: np.ndarray) -> None:
    """As sets: scores closer than the float noise may swap."""
    free = np.ones(len(ours), bool)
    for box, score in zip(theirs, scores):
        distance = np.where(free, np.linalg.norm(ours[:, :3] - box[:3], axis=1), np.inf)
        match = int(np.argmin(distance))
        free[match] = False
        np.testing.assert_allclose(ours[match, :3], box[:3], rtol=0, atol=1e-3)
        np.testing.assert_allclose(ours[match, 3:6], box[3:6], rtol=1e-3)
        assert abs((ours[match, 6] - box[6] + np.pi) % (2 * np.pi) - np.pi) < 2e-3
        np.testing.assert_allclose(ours[match, 7:9], box[7:9], rtol=0, atol=2e-3)
        assert abs(our_scores[match] - score) < 1e-4


def test_pillars_beyond_the_limit(peer: Peer, model: FusionModel) -> None:
    case = "dense_voxels_only"
    view = _pillar_view(peer.make.make_input(peer.spec, case)["points"])
    lidar: Any = model.lidar
    with torch.no_grad():
        features = lidar.pillars(**view, grid=lidar.pillar_grid(model.grid))
    assert len(features) == 40000
    absolutes = peer.expected[f"{case}/pillar_features/stats"][1]
    assert float(features.double().abs().sum()) == pytest.approx(absolutes, rel=1e-5)
    theirs = peer.expected[f"{case}/pillar_features_first200"]
    np.testing.assert_allclose(features[:200].numpy(), theirs, atol=2e-4)


def test_half_matching_weights_are_named(weights: dict[str, torch.Tensor]) -> None:
    changed = dict(weights)
    del changed["pts_neck.deblocks.0.0.weight"]
    changed["pts_backbone.extra"] = torch.zeros(1)
    changed["pts_bbox_head.shared_conv.conv.weight"] = torch.zeros(64, 128, 3, 3)
    with pytest.raises(UserError) as error:
        load_centerpoint_pillar(changed)
    for name in ("pts_neck.deblocks.0.0.weight", "pts_backbone.extra", "shared_conv.conv.weight (64, 128, 3, 3)"):
        assert name in str(error.value)
