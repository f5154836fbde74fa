"""Every stage and the boxes of mmdetection3d's CenterPoint-pillar, as its own code computed them."""

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from fusionkd.models.decode import best_cells, boxes_at_cells
from fusionkd.models.lidar import scatter_pillars
from fusionkd.models.mmdet3d import PILLAR_GRID, load_centerpoint_pillar
from fusionkd.models.nms import circle_nms
from fusionkd.models.values import FusionOutput
from fusionkd.preprocess import hard_pillars

MIN_SQUARED_M2 = (4, 12, 10, 1, 0.85, 0.175)


@pytest.fixture(scope="module")
def peer(shared_parity: Path) -> tuple[ModuleType, dict[str, Any], Any]:
    location = importlib.util.spec_from_file_location("make_weights", shared_parity / "make_weights.py")
    assert location is not None
    assert location.loader is not None
    module = importlib.util.module_from_spec(location)
    location.loader.exec_module(module)
    spec = module.load_spec(str(shared_parity / "centerpoint_pillar"))
    return module, spec, np.load(shared_parity / "centerpoint_pillar" / "expected.npz")


@pytest.fixture(scope="module")
def model(peer: Any) -> Any:
    module, spec, _ = peer
    weights = {name: torch.from_numpy(np.asarray(array)) for name, array in module.make_weights(spec).items()}
    assert len(weights) == 414
    return load_centerpoint_pillar(weights)


@pytest.fixture(scope="module", params=["real", "synthetic"])
def run(request: pytest.FixtureRequest, peer: Any, model: Any) -> tuple[str, dict[str, torch.Tensor], Any]:
    module, spec, _ = peer
    points = module.make_input(spec, request.param)["points"]
    pillars = hard_pillars(points, PILLAR_GRID, max_points=20, max_pillars=40000)
    coords = np.concatenate([np.zeros((len(pillars), 1), np.int64), pillars.row_column], axis=1)
    tensors = {
        "points": torch.from_numpy(pillars.points),
        "count": torch.from_numpy(pillars.count),
        "coords": torch.from_numpy(coords),
    }
    stages: dict[str, torch.Tensor] = {}
    with torch.no_grad():
        features = model.lidar.pillars(**tensors)
        stages["pillar_features"] = features
        for index, stage in enumerate(model.lidar.backbone(_canvas(model, features, tensors["coords"]))):
            stages[f"backbone.{index}"] = stage
        stages["canvas"] = _canvas(model, features, tensors["coords"])
        output = model.forward_tensors(
            torch.zeros(1, 6, 3, 8, 8),
            None,
            camera_present=torch.zeros(1, 6, dtype=torch.bool),
            lidar=tensors,
            lidar_present=torch.ones(1, dtype=torch.bool),
        )
        stages["neck"] = output.bev
        stages["shared_conv"] = model.head.shared_conv(output.bev)
        slices = {"reg": (0, 2), "height": (2, 3), "dim": (3, 6), "rot": (6, 8), "vel": (8, 10)}
        first = 0
        for task in range(6):
            classes = model.head.task_of_class.count(task)
            stages[f"head.{task}.heatmap"] = output.heatmap[:, first : first + classes]
            first += classes
            for name, (low, high) in slices.items():
                stages[f"head.{task}.{name}"] = output.box_regression[:, task, low:high]
    return request.param, stages, tensors


def _canvas(model: Any, features: torch.Tensor, coords: torch.Tensor) -> torch.Tensor:
    return scatter_pillars(features, coords, batch_size=1, shape=PILLAR_GRID.shape)


def test_every_stage(run: Any, peer: Any) -> None:
    case, stages, _ = run
    _, spec, expected = peer
    compared = 0
    for name, sample in spec["samples"][case].items():
        if name not in stages:
            continue
        rms = expected[f"{case}/{name}/stats"][4]
        ours = stages[name][0].numpy().ravel()[np.asarray(sample["flat_index"])]
        np.testing.assert_allclose(ours, expected[f"{case}/{name}/values"], rtol=0, atol=5e-4 * rms, err_msg=name)
        compared += 1
    assert compared >= 42  # canvas, 3 of the backbone, neck, shared convolution, 6 x 6 branches


def test_decorated_points(run: Any, peer: Any, model: Any) -> None:
    case, _, tensors = run
    expected = peer[2][f"{case}/pfn_input_first50"]
    ours = model.lidar.pillars.decorate(**{name: x[:50] for name, x in tensors.items()}).numpy()
    np.testing.assert_allclose(ours, expected, atol=2e-5)


def test_final_boxes(run: Any, peer: Any, model: Any) -> None:
    case, stages, _ = run
    expected = peer[2]
    boxes, scores, labels = _peer_boxes(stages, model)
    theirs = np.concatenate([expected[f"{case}/final.gravity_center"], expected[f"{case}/final.boxes"][:, 3:]], axis=1)
    their_labels, their_scores = expected[f"{case}/final.labels"], expected[f"{case}/final.scores"]
    assert len(boxes) == len(theirs)
    free = np.ones(len(boxes), bool)
    for box, label, score in zip(theirs, their_labels, their_scores):
        distance = np.where(free & (labels == label), np.linalg.norm(boxes[:, :3] - box[:3], axis=1), np.inf)
        match = int(np.argmin(distance))
        assert distance[match] < 2e-3
        free[match] = False
        np.testing.assert_allclose(boxes[match, 3:6], box[3:6], rtol=1e-3)
        assert abs((boxes[match, 6] - box[6] + np.pi) % (2 * np.pi) - np.pi) < 2e-3
        np.testing.assert_allclose(boxes[match, 7:9], box[7:9], atol=2e-3)
        assert abs(scores[match] - score) < 1e-4


def _peer_boxes(stages: dict[str, torch.Tensor], model: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The peer's own post-processing, task by task, on top of our decoder's functions."""
    parts = []
    first = 0
    for task in range(6):
        heat = stages[f"head.{task}.heatmap"]
        regression = torch.cat(
            [stages[f"head.{task}.{name}"] for name in ("reg", "height", "dim", "rot", "vel")], dim=1
        )
        output = FusionOutput(
            heatmap=heat, box_regression=regression[:, None], heading_axis=None, bev=heat, camera_bev=None,
            lidar_bev=None, depth_logits=None, grid=model.grid, classes=("a",) * heat.shape[1],
            task_of_class=(0,) * heat.shape[1], frame="lidar",
        )  # fmt: skip
        flat = heat.sigmoid().flatten(1)
        score, index = flat.topk(500, dim=1)
        cells = heat.shape[-2] * heat.shape[-1]
        label, cell = index // cells, index % cells
        boxes = boxes_at_cells(output, label, cell)[0].numpy()
        values, names = score[0].numpy(), label[0].numpy() + first
        low, high = np.array([-61.2, -61.2, -10]), np.array([61.2, 61.2, 10])
        keep = (values > 0.1) & np.all((boxes[:, :3] >= low) & (boxes[:, :3] <= high), axis=1)
        boxes, values, names = boxes[keep], values[keep], names[keep]
        kept = circle_nms(boxes[:, :2], values, radius_m=float(np.sqrt(MIN_SQUARED_M2[task])))[:83]
        parts.append((boxes[kept], values[kept], names[kept]))
        first += heat.shape[1]
    boxes, scores, labels = (np.concatenate(column) for column in zip(*parts))
    return boxes, scores, labels


def test_best_cells_are_local_maxima() -> None:
    heat = torch.full((1, 2, 5, 5), -9.0)
    heat[0, 1, 2, 3] = 3.0
    heat[0, 1, 2, 2] = 2.0
    heat[0, 0, 4, 0] = 1.0
    score, label, cell = best_cells(heat, count=3)
    assert label[0, :2].tolist() == [1, 0]
    assert cell[0, :2].tolist() == [13, 20]
    torch.testing.assert_close(score[0, :2], torch.tensor([3.0, 1.0]).sigmoid())
