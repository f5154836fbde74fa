import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusionkd.geometry import Boxes3D
from fusionkd.teachers import weighted_box_fusion

CAR, PEDESTRIAN = 0, 8


def boxes(
    *centres_m: tuple[float, float],
    score: tuple[float, ...] | float = 0.9,
    label: int = CAR,
    yaw_rad: float = 0.0,
    velocity_mps: tuple[float, float] = (1.0, 0.0),
) -> Boxes3D:
    n = len(centres_m)
    rows = np.zeros((n, 9), np.float32)
    rows[:, :2] = np.reshape(centres_m, (n, 2))
    rows[:, 3:6] = [4.0, 2.0, 1.5]
    rows[:, 6] = yaw_rad
    rows[:, 7:] = velocity_mps
    return Boxes3D.from_array(rows, np.full(n, label), np.broadcast_to(np.asarray(score, np.float32), n))


def test_one_detector_is_taken_at_its_word() -> None:
    found = boxes((0, 0), (10, 0), (0, 10), score=(0.2, 0.9, 0.5), yaw_rad=2.5)
    fused = weighted_box_fusion([found])
    np.testing.assert_allclose(fused.to_array(), found.to_array()[[1, 2, 0]], rtol=1e-6)
    np.testing.assert_allclose(fused.score, [0.9, 0.5, 0.2], rtol=1e-6)


def test_detectors_of_one_opinion_keep_it() -> None:
    found = boxes((0, 0), (10, 0), score=(0.8, 0.4))
    fused = weighted_box_fusion([found, found, found])
    np.testing.assert_allclose(fused.to_array(), found.to_array(), rtol=1e-6)
    np.testing.assert_allclose(fused.score, found.score, rtol=1e-6)


def test_box_of_one_detector_in_three_keeps_a_third_of_its_score() -> None:
    fused = weighted_box_fusion([boxes((0, 0), score=0.9), Boxes3D.empty(), Boxes3D.empty()])
    assert fused.score == pytest.approx([0.3])


def test_detector_that_does_not_know_a_class_is_not_asked() -> None:
    trust = np.ones((2, 10))
    trust[1, CAR] = 0.0
    alone = boxes((0, 0), score=0.9)
    fused = weighted_box_fusion([alone, boxes((1, 0), (5, 5), score=0.8)], trust=trust)
    np.testing.assert_allclose(fused.to_array(), alone.to_array())
    assert fused.score == pytest.approx([0.9])


def test_trusted_detector_pulls_the_box() -> None:
    pair = [boxes((0, 0), score=0.5), boxes((1, 0), score=0.5)]
    trust = np.ones((2, 10))
    trust[1] = 3.0
    assert weighted_box_fusion(pair).xyz_m[0, 0] == pytest.approx(0.5)
    assert weighted_box_fusion(pair, trust=trust).xyz_m[0, 0] == pytest.approx(0.75)


def test_classes_are_kept_apart_and_have_their_own_radius() -> None:
    near = [boxes((0, 0), label=PEDESTRIAN), boxes((1.5, 0), label=PEDESTRIAN)]
    assert len(weighted_box_fusion(near)) == 2, "pedestrians 1.5 m apart are two"
    assert len(weighted_box_fusion([boxes((0, 0)), boxes((1.5, 0))])) == 1, "cars' centres 1.5 m apart are one car"
    assert len(weighted_box_fusion([boxes((0, 0)), boxes((0, 0), label=PEDESTRIAN)])) == 2


def test_direction_is_voted_on_and_does_not_bend_the_axis() -> None:
    one = [boxes((0, 0), yaw_rad=yaw) for yaw in (0.1, 0.3, 0.2 - np.pi)]
    assert weighted_box_fusion(one).yaw_rad == pytest.approx([0.2], abs=1e-6)
    two = [boxes((0, 0), yaw_rad=yaw) for yaw in (0.1, 0.3 - np.pi, 0.2 - np.pi)]
    assert weighted_box_fusion(two).yaw_rad == pytest.approx([0.2 - np.pi], abs=1e-6)


def test_unknown_velocities_are_left_out_of_the_mean() -> None:
    unknown = boxes((0, 0), velocity_mps=(np.nan, np.nan))
    fused = weighted_box_fusion([unknown, boxes((0, 0), velocity_mps=(3.0, 4.0))])
    np.testing.assert_allclose(fused.velocity_mps, [[3.0, 4.0]])
    assert np.isnan(weighted_box_fusion([unknown, unknown]).velocity_mps).all()


def test_nothing_found_is_nothing() -> None:
    assert len(weighted_box_fusion([Boxes3D.empty(), Boxes3D.empty()])) == 0
    assert len(weighted_box_fusion([])) == 0


@pytest.mark.parametrize("trust", [np.ones((1, 10)), np.ones((2, 3)), -np.ones((2, 10))])
def test_wrong_trust_is_refused(trust: np.ndarray) -> None:
    with pytest.raises(ValueError, match="trust must be"):
        weighted_box_fusion([boxes((0, 0)), boxes((0, 0))], trust=trust)


def test_equals_the_authors_implementation() -> None:
    """Squares far apart with small errors gather alike by overlap and by distance of centres."""
    ensemble_boxes = pytest.importorskip("ensemble_boxes", reason="ensemble-boxes (the peers extra) is not installed")
    generator = np.random.default_rng(0)
    places = np.stack(np.meshgrid(np.arange(10), np.arange(10)), axis=-1).reshape(-1, 2) * 10.0 + 5.0  # (100, 2)
    detections = []
    for _ in range(3):
        seen = np.flatnonzero(generator.random(100) < 0.7)
        rows = np.zeros((len(seen), 9), np.float32)
        rows[:, :2], rows[:, 3:6] = places[seen] + generator.uniform(-0.2, 0.2, (len(seen), 2)), 4.0
        detections.append(Boxes3D.from_array(rows, seen % 2, generator.random(len(seen))))
    weights = [1.0, 2.0, 0.5]
    theirs, score, label = ensemble_boxes.weighted_boxes_fusion(
        [(np.concatenate([d.xyz_m[:, :2] - 2, d.xyz_m[:, :2] + 2], axis=1) / 100).tolist() for d in detections],
        [d.score.tolist() for d in detections],
        [d.label.tolist() for d in detections],
        weights=weights,
        iou_thr=0.5,
    )
    ours = weighted_box_fusion(detections, trust=np.repeat(np.array(weights)[:, None], 10, axis=1))
    assert len(ours) == len(score) > 90
    np.testing.assert_allclose(ours.score, score, atol=1e-6)
    np.testing.assert_allclose(ours.xyz_m[:, :2], (theirs[:, :2] + theirs[:, 2:]) * 50, atol=1e-4)
    np.testing.assert_array_equal(ours.label, label)


@st.composite
def detection_sets(draw: st.DrawFn) -> list[Boxes3D]:
    sets = []
    for _ in range(draw(st.integers(1, 4))):
        n = draw(st.integers(0, 8))
        generator = np.random.default_rng(draw(st.integers(0, 2**16)))
        rows = generator.uniform(-8, 8, (n, 9))
        rows[:, 3:6] = generator.uniform(0.5, 5, (n, 3))
        sets.append(Boxes3D.from_array(rows, generator.integers(0, 10, n), generator.uniform(0.01, 1, n)))
    return sets


@settings(deadline=None, max_examples=60)
@given(detection_sets())
def test_fusion_invents_nothing(sets: list[Boxes3D]) -> None:
    together = Boxes3D.concatenate(sets)
    fused = weighted_box_fusion(sets)
    assert len(fused) <= len(together)
    assert set(fused.label) == set(together.label)
    assert (np.diff(fused.score) <= 0).all()
    for label in set(together.label):
        ours, theirs = fused.select(fused.label == label), together.select(together.label == label)
        assert ours.score.max() <= theirs.score.max() + 1e-6
        for name in ("xyz_m", "lwh_m", "velocity_mps"):
            assert (getattr(ours, name) >= getattr(theirs, name).min(axis=0) - 1e-4).all()
            assert (getattr(ours, name) <= getattr(theirs, name).max(axis=0) + 1e-4).all()


@settings(deadline=None, max_examples=30)
@given(detection_sets(), st.floats(-3, 3))
def test_fusion_turns_with_the_world(sets: list[Boxes3D], angle_rad: float) -> None:
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(angle_rad), -np.sin(angle_rad)], [np.sin(angle_rad), np.cos(angle_rad)]]
    first = weighted_box_fusion(sets).transformed(turn)
    second = weighted_box_fusion([found.transformed(turn) for found in sets])
    np.testing.assert_allclose(first.score, second.score, atol=1e-6)
    np.testing.assert_allclose(first.xyz_m, second.xyz_m, atol=1e-3)
