"""The torchmetrics Metric in one process."""

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from metric_oracle import assert_identical, random_world
from numpy.typing import NDArray

from fusionkd.errors import UserError
from fusionkd.geometry import DETECTION_CLASSES, Boxes3D, rigid_from_quaternion, rigid_from_yaw
from fusionkd.metrics import ATTRIBUTES, Detections, NuScenesDetection, evaluate, write_submission


def ego_world(
    seed: int, *, samples: int = 6, detections: int = 30
) -> tuple[NuScenesDetection, dict[str, tuple[Boxes3D, NDArray[np.float64]]]]:
    """A metric, and per sample the boxes in the ego frame with its pose on a slope."""
    rng = np.random.default_rng(seed)
    world = random_world(seed, samples=samples, annotations=30, detections=detections)
    results = world.results()
    inputs = {}
    for token in results.tokens:
        quaternion = np.array([1.0, 0, 0, 0]) + rng.normal(0, [0.5, 0.02, 0.02, 1.0])
        pose = rigid_from_quaternion(quaternion, world.ego_xyz_m[token])
        inputs[token] = (results.in_ego(token, pose), pose)
    return NuScenesDetection(world.truth()), inputs


def feed(metric: NuScenesDetection, inputs: dict[str, tuple[Boxes3D, NDArray[np.float64]]], *tokens: str) -> None:
    chosen = [inputs[token] for token in tokens]
    metric.update(tokens, [boxes for boxes, _ in chosen], np.array([pose for _, pose in chosen]).reshape(-1, 4, 4))


def test_equal_to_evaluate() -> None:
    metric, inputs = ego_world(0)
    feed(metric, inputs, *list(inputs)[:4])
    feed(metric, inputs, *list(inputs)[4:])
    figures = metric.compute()
    direct = Detections.from_ego(
        list(inputs), [b for b, _ in inputs.values()], np.array([p for _, p in inputs.values()])
    )
    assert figures["mAP"] > 0.05
    assert_identical(figures, evaluate(metric.truth, direct).to_dict())


def test_order_and_batching_of_updates_change_nothing() -> None:
    metric, inputs = ego_world(1)
    feed(metric, inputs, *inputs)
    one_by_one = NuScenesDetection(metric.truth)
    for token in reversed(inputs):
        feed(one_by_one, inputs, token)
    assert_identical(metric.compute(), one_by_one.compute())


def test_goes_to_the_global_frame() -> None:
    metric, _ = ego_world(0)
    token = metric.truth.tokens[1]
    ego_xyz_m = metric.truth.ego_xyz_m[1]
    box = Boxes3D.from_array(
        np.array([[10.0, 2.0, 1.0, 4.5, 1.9, 1.6, 0.5, 3.0, 0.0]]),
        np.array([DETECTION_CLASSES.index("bus")]),
        np.array([0.75]),
    )
    pose = rigid_from_yaw(np.pi / 2, ego_xyz_m)
    metric.update([token], [box], torch.from_numpy(pose)[None])
    results = metric.results()
    assert results.tokens == (token,)
    np.testing.assert_allclose(results.xyz_m, (ego_xyz_m + np.array([-2, 10, 1]))[None], atol=1e-6)
    np.testing.assert_allclose(results.yaw_rad, [np.pi / 2 + 0.5], atol=1e-6)
    np.testing.assert_allclose(results.velocity_mps, [[0, 3]], atol=1e-6)
    np.testing.assert_array_equal(results.lwh_m, np.float32([[4.5, 1.9, 1.6]]))
    assert [ATTRIBUTES[a] for a in results.attribute] == ["vehicle.moving"]
    assert results.score.tolist() == [0.75]
    back = results.in_ego(token, pose)
    np.testing.assert_allclose(back.to_array(), box.to_array(), atol=1e-5)
    assert back.label.tolist() == box.label.tolist()


def test_a_sloping_road_turns_headings_as_seen_from_above() -> None:
    metric, _ = ego_world(0)
    token = metric.truth.tokens[0]
    pose = rigid_from_quaternion([0.9, 0.1, -0.2, 0.3], metric.truth.ego_xyz_m[0])
    row = np.array([[5.0, 1.0, 0.0, 4.0, 2.0, 1.5, 0.7, 0.0, 0.0]])
    metric.update([token], [Boxes3D.from_array(row, np.array([0]))], pose[None])
    ahead = pose[:3, :3] @ [np.cos(0.7), np.sin(0.7), 0]
    np.testing.assert_allclose(metric.results().yaw_rad, [np.arctan2(ahead[1], ahead[0])], atol=1e-6)


def test_keeps_the_best_500() -> None:
    metric, _ = ego_world(0)
    n = 700
    rng = np.random.default_rng(0)
    rows = np.concatenate([rng.uniform(1, 9, (n, 6)), rng.normal(size=(n, 3))], axis=1)
    score = rng.permutation(n).astype(np.float32) / n
    score[score > 0.9] = 1.0
    pose = rigid_from_yaw(0, metric.truth.ego_xyz_m[0])
    metric.update(metric.truth.tokens[:1], [Boxes3D.from_array(rows, np.zeros(n, int), score)], pose[None])
    kept = metric.results().score
    assert len(kept) == 500
    assert sorted(kept) == sorted(score.astype(np.float64))[-500:]
    np.testing.assert_array_equal(kept, score[score >= kept.min()])


def test_only_seen_samples_count_unless_told_otherwise() -> None:
    metric, inputs = ego_world(2)
    first = metric.truth.tokens[:2]
    feed(metric, inputs, *first)
    part = metric.results()
    assert part.tokens == first
    assert_identical(metric.compute(), evaluate(metric.truth, part, missing="ignore").to_dict())
    everything = NuScenesDetection(metric.truth, missing="empty")
    feed(everything, inputs, *first)
    assert everything.compute()["mAP"] < metric.compute()["mAP"]
    strict = NuScenesDetection(metric.truth, missing="error")
    feed(strict, inputs, *first)
    with pytest.raises(UserError, match="no results for 4 of the 6 samples, for example sample-2"):
        strict.compute()
    with pytest.raises(UserError, match="missing must be"):
        NuScenesDetection(metric.truth, missing="maybe")


def test_a_sample_seen_twice_counts_once() -> None:
    metric, inputs = ego_world(3)
    feed(metric, inputs, *inputs)
    once = metric.compute()
    twice = NuScenesDetection(metric.truth)
    feed(twice, inputs, *inputs)
    feed(twice, {t: (b.select(np.arange(len(b)) % 2), p) for t, (b, p) in inputs.items()}, *inputs)
    assert_identical(once, twice.compute())
    in_one_batch = NuScenesDetection(metric.truth)
    feed(in_one_batch, inputs, *inputs, *inputs)
    assert_identical(once, in_one_batch.compute())


def test_samples_without_boxes_count() -> None:
    metric, inputs = ego_world(4, detections=10)
    nothing = {token: (Boxes3D.empty(), pose) for token, (_, pose) in inputs.items()}
    feed(metric, nothing, *inputs)
    feed(metric, nothing)
    figures = metric.compute()
    assert (figures["mAP"], figures["NDS"], figures["mATE"]) == (0, 0, 1)
    assert metric.results().tokens == metric.truth.tokens


def test_lives_like_a_torchmetric(tmp_path: Path) -> None:
    metric, inputs = ego_world(5)
    feed(metric, inputs, *inputs)
    before = metric.compute()
    assert_identical(pickle.loads(pickle.dumps(metric)).compute(), before)
    assert_identical(metric.clone().compute(), before)
    assert metric.state_dict() == {}
    metric.reset()
    tokens = list(inputs)[:3]
    chosen = [inputs[token] for token in tokens]
    step = metric(tokens, [b for b, _ in chosen], np.array([p for _, p in chosen]))
    assert_identical(step, metric.compute())
    feed(metric, inputs, *list(inputs)[3:])
    assert_identical(metric.compute(), before)


def test_figures_are_logged_as_floats() -> None:
    metric, inputs = ego_world(5)
    feed(metric, inputs, *inputs)
    figures = metric.compute()
    assert all(type(value) is float for value in figures.values())
    assert len(figures) == 7 + 10 * (1 + 4 + 5)


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_nothing_seen_is_refused() -> None:
    metric, _ = ego_world(0)
    with pytest.raises(UserError, match="no samples to evaluate"):
        metric.compute()


def test_unknown_sample_is_refused() -> None:
    metric, inputs = ego_world(0)
    boxes, pose = inputs["sample-0"]
    with pytest.raises(UserError, match="Sample 'sweep' is not among the 6 samples"):
        metric.update(["sweep"], [boxes], pose[None])


def test_pose_of_another_frame_is_refused() -> None:
    metric, inputs = ego_world(0)
    boxes, pose = inputs["sample-0"]
    moved = pose.copy()
    moved[0, 3] += 1.5
    with pytest.raises(UserError, match=r"pose given for sample sample-0 lies 1\.50 m from the car's position"):
        metric.update(["sample-0"], [boxes], moved[None])
    moved[0, 3] = np.nan
    with pytest.raises(UserError, match="lies nan m"):
        metric.update(["sample-0"], [boxes], moved[None])


def test_counts_must_agree() -> None:
    metric, inputs = ego_world(0)
    boxes, pose = inputs["sample-0"]
    with pytest.raises(ValueError, match=r"found 1 tokens, 2 sets of boxes and poses of shape \(1, 4, 4\)"):
        metric.update(["sample-0"], [boxes, boxes], pose[None])
    with pytest.raises(ValueError, match=r"poses of shape \(4, 4\)"):
        metric.update(["sample-0"], [boxes], pose)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("xyz_m", np.nan, "xyz_m must be finite"),
        ("lwh_m", 0, "lwh_m must be positive and finite"),
        ("lwh_m", np.inf, "lwh_m must be positive and finite"),
        ("yaw_rad", np.inf, "yaw_rad must be finite"),
        ("velocity_mps", np.inf, "velocity_mps must be finite, or NaN"),
        ("score", np.nan, "score must be finite and not negative"),
        ("score", -0.1, "score must be finite and not negative"),
    ],
)
def test_boxes_that_cannot_be_judged_are_named(field: str, value: float, message: str) -> None:
    metric, inputs = ego_world(0)
    token = next(token for token, (boxes, _) in inputs.items() if len(boxes) > 3)
    boxes, pose = inputs[token]
    array = getattr(boxes, field).copy()
    array[2] = value
    with (
        np.errstate(invalid="ignore"),
        pytest.raises(UserError, match=rf"Detection 2 of sample {token} has {field}=.*: {message}"),
    ):
        metric.update([token], [replace(boxes, **{field: array})], pose[None])


def test_unknown_velocities_are_allowed(tmp_path: Path) -> None:
    metric, inputs = ego_world(0)
    unknown = {
        t: (replace(b, velocity_mps=np.full_like(b.velocity_mps, np.nan)), pose) for t, (b, pose) in inputs.items()
    }
    feed(metric, unknown, *inputs)
    assert metric.compute()["AVE/car"] == 1
    path = tmp_path / "results.json"
    write_submission(path, metric.results(), samples=metric.truth.tokens, use_camera=True, use_lidar=True)
    assert "NaN" in path.read_text()
