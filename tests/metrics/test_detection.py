"""The metric on arrays, against nuscenes-devkit's own."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from metric_oracle import RACK, World, assert_identical, assert_same, devkit, random_world
from nuscenes.eval.common.config import config_factory

from fusionkd.errors import UserError
from fusionkd.geometry import DETECTION_CLASSES
from fusionkd.metrics import (
    DETECTION_CVPR_2019,
    DetectionSettings,
    detection_curves,
    evaluate,
    figures_by_distance,
    format_table,
)


@settings(max_examples=100, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    samples=st.integers(1, 4),
    annotations=st.integers(0, 12),
    detections=st.integers(0, 24),
    classes=st.integers(1, 10),
    score_levels=st.sampled_from([1, 3, 1000]),
    step_m=st.sampled_from([None, 0.5]),
)
def test_equal_to_devkit(
    seed: int,
    samples: int,
    annotations: int,
    detections: int,
    classes: int,
    score_levels: int,
    step_m: float | None,
) -> None:
    world = random_world(
        seed,
        samples=samples,
        annotations=annotations,
        detections=detections,
        classes=classes,
        score_levels=score_levels,
        step_m=step_m,
    )
    try:
        metrics, data = devkit(world)
    except AssertionError:
        # The devkit refuses confidences that interpolation's rounding left unsorted by one bit.
        assume(False)
    assert_same(detection_curves(world.truth(), world.results()), metrics, data)


def test_random_worlds_reach_what_they_are_for() -> None:
    # The comparison above would be worth little if its worlds had no matches, racks or unknown velocities.
    world = random_world(3, samples=30, annotations=30, detections=60, step_m=0.5)
    figures = evaluate(world.truth(), world.results())
    assert 0.03 < figures.mean_ap < 0.9
    assert np.all(figures.positives > 0)
    truth = world.truth()
    assert len(truth.rack_sample) > 5
    assert np.isnan(truth.velocity_mps).any()
    assert (truth.num_points == 0).any()
    without_racks = replace(truth, rack_sample=np.empty(0, np.int64), rack_corners_m=np.empty((0, 4, 3)))
    positives = evaluate(without_racks, world.results()).positives
    changed = {name for name, a, b in zip(DETECTION_CLASSES, positives, figures.positives) if a != b}
    assert changed == {"bicycle", "motorcycle"}


def _one_sample(boxes: list[tuple[str, float, float]], found: int) -> World:
    """Annotations of (class, x, y) seen from a car at the origin; the first ``found`` of them are detected."""
    rest = {"size": [1.0, 2.0, 1.5], "rotation": [1.0, 0, 0, 0], "velocity": [1.0, 0.0], "attribute_name": ""}
    notes = [{"name": n, "translation": [x, y, 0.5], "sample_token": "s", "num_pts": 1, **rest} for n, x, y in boxes]
    results = [{**n, "detection_name": n["name"], "detection_score": 1 - i / 200} for i, n in enumerate(notes[:found])]
    return World({"s": [0.0, 0.0, 0.0]}, notes, {"s": results})


def test_boxes_at_exactly_the_class_range_do_not_count() -> None:
    places = [("barrier", 18.0, 24.0), ("barrier", 0.0, 29.5), ("pedestrian", 24.0, 32.0), ("pedestrian", 0.0, 39.5)]
    world = _one_sample([*places, ("car", 30.0, 40.0), ("car", -30.0, 39.5)], found=6)
    curves = detection_curves(world.truth(), world.results())
    assert_same(curves, *devkit(world))
    assert curves.positives.sum() == 3


@pytest.mark.parametrize("found", [9, 10, 11, 12, 99, 100])
def test_recalls_around_the_first_that_counts(found: int) -> None:
    world = _one_sample([("car", i % 10 * 4.0 - 18, i // 10 * 4.0 - 18) for i in range(100)], found=found)
    curves = detection_curves(world.truth(), world.results())
    assert_same(curves, *devkit(world))
    assert (curves.figures().tp_error[0, 0] == 0) == (found > 10)


def test_settings_are_the_devkits() -> None:
    theirs = config_factory("detection_cvpr_2019")
    ours = DETECTION_CVPR_2019
    assert dict(zip(DETECTION_CLASSES, ours.class_range_m)) == theirs.class_range
    assert list(ours.match_distances_m) == theirs.dist_ths
    assert ours.tp_distance_m == theirs.dist_th_tp
    assert (ours.min_recall, ours.min_precision) == (theirs.min_recall, theirs.min_precision)
    assert ours.max_boxes_per_sample == theirs.max_boxes_per_sample
    assert ours.mean_ap_weight == theirs.mean_ap_weight


def test_perfect_detections_of_every_class_score_one() -> None:
    world = random_world(0, samples=4, annotations=60)
    world.annotations = [
        {**note, "num_pts": 3, "velocity": [1.0, 2.0]} for note in world.annotations if note["name"] != RACK
    ]
    for token in world.detections:
        notes = [note for note in world.annotations if note["sample_token"] == token]
        world.detections[token] = [{**n, "detection_name": n["name"], "detection_score": 0.9} for n in notes]
    figures = evaluate(world.truth(), world.results())
    assert np.all(figures.positives > 0)
    assert figures.mean_ap == pytest.approx(1, abs=1e-12)
    assert figures.nds == pytest.approx(1, abs=1e-7)


def test_samples_without_results() -> None:
    world = random_world(5, samples=3)
    truth = world.truth()
    with_all = evaluate(truth, world.results())
    with_empty = World(world.ego_xyz_m, world.annotations, {**world.detections, "sample-1": []})
    del world.detections["sample-1"]
    part = world.results()
    with pytest.raises(UserError, match=r"no results for 1 of the 3 samples, for example sample-1.*empty list"):
        evaluate(truth, part)
    empty = evaluate(truth, part, missing="empty")
    assert_identical(empty.to_dict(), evaluate(truth, with_empty.results()).to_dict())
    ignored = evaluate(truth, part, missing="ignore")
    assert_same(detection_curves(truth, part, missing="ignore"), *devkit(world))
    assert ignored.positives.sum() < empty.positives.sum() == with_all.positives.sum()


def test_results_of_a_foreign_sample_are_refused() -> None:
    world = random_world(5)
    truth = world.truth()
    world.detections["elsewhere"] = []
    with pytest.raises(UserError, match="1 samples that the truth doesn't have, for example elsewhere"):
        evaluate(truth, world.results())


def test_nothing_to_evaluate_is_refused() -> None:
    with pytest.raises(UserError, match="no samples to evaluate"):
        evaluate(World({}, [], {}).truth(), World({}, [], {}).results())


def test_too_many_boxes_are_refused() -> None:
    world = random_world(0, samples=1, annotations=3, detections=5)
    box = next(box for boxes in world.detections.values() for box in boxes)
    world.detections = {"sample-0": [box] * 501}
    with pytest.raises(UserError, match="Sample sample-0 has 501 detections; at most 500"):
        evaluate(world.truth(), world.results())


def test_by_distance_splits_the_annotations() -> None:
    world = random_world(11, samples=10, annotations=30, detections=40)
    truth, results = world.truth(), world.results()
    bins = figures_by_distance(truth, results, edges_m=(0, 20, 50))
    whole = evaluate(truth, results)
    assert list(bins) == ["0-20 m", "20-50 m"]
    np.testing.assert_array_equal(sum(b.positives for b in bins.values()), whole.positives)
    near = bins["0-20 m"]
    # Restated by hand: with the far boxes gone from the tables, the official settings see the same.
    close = _within(world, 20)
    expected = evaluate(close.truth(), close.results())
    assert_identical(near.to_dict(), expected.to_dict())


def _within(world: World, range_m: float) -> World:
    def near(box: dict[str, object]) -> bool:
        ego = np.array(world.ego_xyz_m[str(box["sample_token"])])
        return bool(np.linalg.norm((np.array(box["translation"]) - ego)[:2]) < range_m) or box.get("name") == RACK

    kept = {token: [box for box in boxes if near(box)] for token, boxes in world.detections.items()}
    return World(world.ego_xyz_m, [note for note in world.annotations if near(note)], kept)


def test_min_points_leaves_out_sparse_annotations() -> None:
    world = random_world(2, samples=5, annotations=20)
    truth = world.truth()
    strict = evaluate(truth, world.results(), settings=DetectionSettings(min_points=4))
    world.annotations = [
        {**note, "num_pts": note["num_pts"] if note["num_pts"] >= 4 else 0} for note in world.annotations
    ]
    assert_identical(strict.to_dict(), evaluate(world.truth(), world.results()).to_dict())


def test_mean_ap_present_leaves_out_absent_classes() -> None:
    world = random_world(4, samples=6, annotations=20, classes=3)
    figures = evaluate(world.truth(), world.results())
    present = figures.positives > 0
    assert 0 < present.sum() <= 3
    assert figures.mean_ap_present == pytest.approx(figures.mean_ap * 10 / present.sum())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"class_range_m": (50.0,)}, "class_range_m needs one range for each of car"),
        ({"tp_distance_m": 3.0}, "tp_distance_m must be one of match_distances_m"),
        ({"min_recall": 1.0}, r"must lie in \[0, 1\)"),
        ({"max_boxes_per_sample": 0}, "at least 1, found 0"),
    ],
)
def test_impossible_settings_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        DetectionSettings(**change)


def test_table_has_a_line_per_class() -> None:
    world = random_world(4, samples=6, annotations=20)
    figures = evaluate(world.truth(), world.results()).to_dict()
    lines = format_table(figures).splitlines()
    assert lines[0].split() == ["class", "AP", "ATE", "ASE", "AOE", "AVE", "AAE"]
    assert lines[1].split() == ["car", *(f"{figures[f'{c}/car']:.3f}" for c in lines[0].split()[1:])]
    assert lines[-2].split()[1] == f"{figures['mAP']:.3f}"
    assert lines[-1].split() == ["NDS", f"{figures['NDS']:.3f}"]
