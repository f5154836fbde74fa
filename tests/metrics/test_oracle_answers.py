"""What-if detections: one attribute right, the rest untouched."""

import numpy as np
import pytest
from numpy.typing import NDArray

from fusionkd.errors import UserError
from fusionkd.metrics import Detections, DetectionTruth, evaluate
from fusionkd.metrics.oracle import QUESTIONS, meant, with_truth


def truth_of(seed: int = 0, samples: int = 6, boxes: int = 8) -> DetectionTruth:
    rng = np.random.default_rng(seed)
    n = samples * boxes
    return DetectionTruth(
        tokens=tuple(f"s{k}" for k in range(samples)),
        ego_xyz_m=np.zeros((samples, 3)),
        start=np.arange(0, n + 1, boxes),
        xyz_m=np.concatenate([rng.permutation(18)[:boxes, None] * [[2.4, 0, 0]] - [20, 0, 0] for _ in range(samples)]),
        lwh_m=rng.uniform(1, 4, (n, 3)),
        yaw_rad=rng.uniform(-3, 3, n),
        velocity_mps=rng.normal(0, 3, (n, 2)),
        label=rng.integers(0, 10, n),
        attribute=np.full(n, -1),
        num_points=np.full(n, 5),
        rack_sample=np.zeros(0),
        rack_corners_m=np.zeros((0, 4, 3)),
    )


def spoiled(truth: DetectionTruth, seed: int = 1) -> Detections:
    """The truth as detections, with every answer a little or quite wrong."""
    rng = np.random.default_rng(seed)
    n = len(truth.label)
    return Detections(
        tokens=truth.tokens,
        start=truth.start,
        xyz_m=truth.xyz_m + rng.normal(0, 0.3, (n, 3)) * [1, 1, 0],
        lwh_m=truth.lwh_m,
        yaw_rad=truth.yaw_rad + rng.normal(0, 0.5, n),
        velocity_mps=truth.velocity_mps + rng.normal(0, 1, (n, 2)),
        label=np.where(rng.random(n) < 0.4, rng.integers(0, 10, n), truth.label),
        score=rng.uniform(0.1, 1, n),
        attribute=truth.attribute,
    )


def errors(truth: DetectionTruth, detections: Detections) -> NDArray[np.float64]:
    return evaluate(truth, detections).mean_tp_error


def test_perfect_classes_of_boxes_in_the_right_place_give_full_average_precision() -> None:
    truth = truth_of()
    detections = spoiled(truth)
    exact = with_truth(truth, detections, "class")
    assert evaluate(truth, detections).mean_ap < 0.8
    np.testing.assert_array_equal(exact.label, truth.label)
    assert evaluate(truth, with_truth(truth, exact, "centre")).mean_ap == pytest.approx(1.0, abs=0.001)


def test_each_question_mends_its_own_error() -> None:
    truth = truth_of()
    exact = with_truth(truth, spoiled(truth), "class")
    before = errors(truth, exact)
    for question, number in (("centre", 0), ("heading", 2), ("velocity", 3)):
        after = errors(truth, with_truth(truth, exact, question))  # type: ignore[arg-type]
        assert before[number] > 0.1
        assert after[number] == pytest.approx(0.0, abs=1e-9)
        others = [k for k in (0, 2, 3) if k != number]
        np.testing.assert_allclose(after[others], before[others], atol=0.05)


def test_nothing_changes_where_nothing_is_meant() -> None:
    truth = truth_of()
    detections = spoiled(truth)
    away = Detections(**{**vars_of(detections), "xyz_m": detections.xyz_m + np.array([0, 30.0, 0])})
    assert np.all(meant(truth, away, of_same_class=False) == -1)
    for question in QUESTIONS:
        changed = with_truth(truth, away, question)
        for name, value in vars_of(away).items():
            np.testing.assert_array_equal(getattr(changed, name), value)


def test_an_annotation_is_meant_once_and_by_the_most_certain() -> None:
    truth = truth_of(samples=1, boxes=1)
    twice = Detections(
        tokens=truth.tokens,
        start=np.array([0, 2]),
        xyz_m=truth.xyz_m[[0, 0]] + [[0.1, 0, 0], [0.5, 0, 0]],
        lwh_m=np.ones((2, 3)),
        yaw_rad=np.zeros(2),
        velocity_mps=np.zeros((2, 2)),
        label=truth.label[[0, 0]],
        score=np.array([0.3, 0.9]),
        attribute=np.array([-1, -1]),
    )
    np.testing.assert_array_equal(meant(truth, twice, of_same_class=True), [-1, 0])


def test_a_subset_is_judged_like_the_samples_alone() -> None:
    truth = truth_of()
    detections = spoiled(truth)
    part = detections.shown_at(("s1", "s4"), ("s1", "s4"))
    assert part.tokens == ("s1", "s4")
    np.testing.assert_array_equal(part.xyz_m, np.concatenate([detections.xyz_m[8:16], detections.xyz_m[32:40]]))
    assert detections.shown_at((), ()).tokens == ()
    assert len(detections.shown_at(("new",), (None,))) == 0


def test_unknown_questions_and_samples_are_refused() -> None:
    truth = truth_of()
    with pytest.raises(UserError, match="must be one of class, centre"):
        with_truth(truth, spoiled(truth), "colour")  # type: ignore[arg-type]
    stranger = Detections(**{**vars_of(spoiled(truth)), "tokens": tuple("abcdef")})
    with pytest.raises(UserError, match="no sample a"):
        meant(truth, stranger, of_same_class=True)


def vars_of(detections: Detections) -> dict[str, object]:
    names = ("tokens", "start", "xyz_m", "lwh_m", "yaw_rad", "velocity_mps", "label", "score", "attribute")
    return {name: getattr(detections, name) for name in names}
