"""The bootstrap over scenes."""

import numpy as np
import pytest

from fusionkd.errors import UserError
from fusionkd.geometry import Boxes3D
from fusionkd.metrics import Detections, DetectionTruth, evaluate, scene_bootstrap
from fusionkd.metrics.resampling import repeated


def _truth(samples: int = 12, boxes: int = 8, seed: int = 0) -> DetectionTruth:
    rng = np.random.default_rng(seed)
    n = samples * boxes
    places = [
        np.stack([rng.permutation(40)[:boxes] - 20.0, rng.uniform(-20, 20, boxes)], axis=1) for _ in range(samples)
    ]
    return DetectionTruth(
        tokens=tuple(f"s{k}" for k in range(samples)),
        ego_xyz_m=np.zeros((samples, 3)),
        start=np.arange(0, n + 1, boxes),
        xyz_m=np.concatenate([np.concatenate(places), np.zeros((n, 1))], axis=1),
        lwh_m=rng.uniform(1, 4, (n, 3)),
        yaw_rad=rng.uniform(-3, 3, n),
        velocity_mps=rng.normal(0, 3, (n, 2)),
        label=rng.integers(0, 10, n),
        attribute=np.full(n, -1),
        num_points=np.full(n, 5),
        rack_sample=np.arange(0, samples, 2),
        rack_corners_m=rng.normal(0, 5, (samples // 2, 4, 3)),
    )


def _found(truth: DetectionTruth, miss: float, seed: int = 1) -> Detections:
    rng = np.random.default_rng(seed)
    boxes = []
    for i in range(len(truth)):
        rows = np.arange(truth.start[i], truth.start[i + 1])
        rows = rows[rng.random(len(rows)) >= miss]
        shift = rng.normal(0, 0.5, (len(rows), 3)) * [1, 1, 0]
        boxes.append(
            Boxes3D(
                (truth.xyz_m[rows] + shift).astype(np.float32),
                truth.lwh_m[rows].astype(np.float32),
                truth.yaw_rad[rows].astype(np.float32),
                truth.velocity_mps[rows].astype(np.float32),
                truth.label[rows],
                rng.uniform(0.1, 1, len(rows)).astype(np.float32),
            )
        )
    return Detections.from_ego(list(truth.tokens), boxes, np.tile(np.eye(4), (len(truth), 1, 1)))


def test_each_sample_once_gives_the_figures_of_all() -> None:
    truth = _truth()
    found = _found(truth, miss=0.3)
    order = np.random.default_rng(2).permutation(len(truth))
    again = repeated(truth, order)
    shown = found.shown_at(again.tokens, [truth.tokens[k] for k in order])
    np.testing.assert_allclose(evaluate(again, shown).class_ap, evaluate(truth, found).class_ap, atol=1e-12)
    np.testing.assert_array_equal(again.rack_sample, np.flatnonzero(order % 2 == 0))
    np.testing.assert_array_equal(again.rack_corners_m, truth.rack_corners_m[order[order % 2 == 0] // 2])


def test_a_single_scene_leaves_nothing_to_chance() -> None:
    truth = _truth()
    found = _found(truth, miss=0.3)
    whole = evaluate(truth, found).mean_ap
    drawn = scene_bootstrap(truth, found, ["scene"] * len(truth), draws=5)
    assert [figures.mean_ap for figures in drawn] == pytest.approx([whole] * 5)


def test_scatter_lies_around_the_figure_and_two_models_meet_the_same_draws() -> None:
    truth = _truth()
    scenes = [f"scene-{k // 3}" for k in range(len(truth))]
    worse, better = (_found(truth, miss=miss) for miss in (0.6, 0.1))
    low, high = (
        np.array([figures.mean_ap for figures in scene_bootstrap(truth, found, scenes, draws=60, seed=4)])
        for found in (worse, better)
    )
    assert low.std() > 0
    assert low.min() < evaluate(truth, worse).mean_ap < low.max()
    assert (high > low).all()
    again = [figures.mean_ap for figures in scene_bootstrap(truth, worse, scenes, draws=60, seed=4)]
    np.testing.assert_array_equal(low, again)


def test_a_scene_is_wanted_for_each_sample() -> None:
    truth = _truth()
    with pytest.raises(UserError, match="a scene for each of 12 samples, found 2"):
        scene_bootstrap(truth, _found(truth, miss=0.0), ["a", "b"])
