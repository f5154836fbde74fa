"""What a scene holds, and who is said to be found, missed or invented."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from picture_frames import boxes, ground_points, made_up_frame

from fusionkd.errors import UserError
from fusionkd.geometry import DETECTION_CLASSES, Boxes3D
from fusionkd.metrics import DETECTION_CVPR_2019
from fusionkd.visualize import Scene, scene_from_frame, summary, tally
from fusionkd.visualize.scene import (
    ANNOTATION,
    ANNOTATION_BEYOND,
    ANNOTATION_RGB,
    FOUND,
    INVENTED,
    MATCHED,
    MISSED,
    PREDICTION,
    PREDICTION_BEYOND,
    PREDICTION_RGB,
    point_colours,
)
from fusionkd.visualize.verdict import judge, within_range


def _scene(annotations: Boxes3D | None, predictions: Boxes3D | None, **options: float) -> Scene:
    return scene_from_frame(made_up_frame(annotations), predictions, title="t", simulated=False, **options)


def _names(scene: Scene) -> list[str]:
    return [boxes.name for boxes in scene.box_sets if len(boxes.boxes)]


def test_boxes_are_sorted_into_found_missed_and_invented() -> None:
    annotations = boxes(("car", 10, 0), ("car", 20, 0), ("pedestrian", 5, 5), ("car", 60, 0))
    predictions = boxes(("car", 10.5, 0.5), ("truck", 20, 0), ("pedestrian", 5, 8), ("pedestrian", 45, 0), score=0.8)
    scene = _scene(annotations, predictions)
    where = {boxes.name: boxes.boxes.xyz_m[:, :2].tolist() for boxes in scene.box_sets}
    assert where == {
        FOUND: [[10, 0]],
        MATCHED: [[10.5, 0.5]],
        MISSED: [[20, 0], [5, 5]],
        INVENTED: [[20, 0], [5, 8]],
        ANNOTATION_BEYOND: [[60, 0]],
        PREDICTION_BEYOND: [[45, 0]],
    }
    counts = tally(scene)
    car, truck, pedestrian = (DETECTION_CLASSES.index(name) for name in ("car", "truck", "pedestrian"))
    assert counts[car].tolist() == [1, 1, 0]
    assert counts[truck].tolist() == [0, 0, 1]
    assert counts[pedestrian].tolist() == [0, 1, 1]
    assert counts.sum() == 5
    assert summary(scene) == "found 1 of 3 objects, missed 2, invented 2"


def test_who_says_what_is_told_by_colour_and_what_matters_by_weight() -> None:
    scene = _scene(boxes(("car", 10, 0), ("car", 20, 0)), boxes(("car", 10, 0), ("car", 30, 0), score=0.9))
    for boxes_of in scene.box_sets:
        wanted = ANNOTATION_RGB if boxes_of.name.startswith("annotation") else PREDICTION_RGB
        assert boxes_of.colour_rgb == wanted
        assert (boxes_of.weight == "strong") == (boxes_of.name in (MISSED, INVENTED))
    # What matters is drawn last, on top.
    assert [boxes_of.weight for boxes_of in scene.box_sets[-2:]] == ["strong", "strong"]


def test_predictions_below_the_threshold_are_neither_shown_nor_judged() -> None:
    annotations = boxes(("car", 10, 0))
    predictions = Boxes3D.concatenate([boxes(("car", 10, 0), score=0.29), boxes(("car", 30, 0), score=0.31)])
    scene = _scene(annotations, predictions, score_threshold=0.3)
    assert sorted(_names(scene)) == sorted([MISSED, INVENTED])
    assert _names(_scene(annotations, predictions, score_threshold=0.2)) == [FOUND, MATCHED, INVENTED]
    assert _scene(annotations, predictions).score_threshold == 0.3


@pytest.mark.parametrize("threshold", [-0.1, 1.1, float("nan")])
def test_a_threshold_outside_of_zero_to_one_is_refused(threshold: float) -> None:
    with pytest.raises(UserError, match="between 0 and 1"):
        _scene(None, None, score_threshold=threshold)


def test_annotations_or_predictions_alone_are_not_judged() -> None:
    alone = _scene(boxes(("car", 10, 0), ("car", 90, 0)), None)
    assert _names(alone) == [ANNOTATION]
    assert (alone.is_judged, alone.score_threshold) == (False, None)
    assert summary(alone) == "2 annotations"
    unlabelled = _scene(None, boxes(("car", 10, 0), score=0.9))
    assert _names(unlabelled) == [PREDICTION]
    assert not unlabelled.is_judged
    assert summary(unlabelled) == "1 predictions, no annotations to judge them by"
    assert _scene(None, None).box_sets == ()
    assert tally(alone).sum() == 0


def test_a_frame_without_any_object_or_prediction_can_be_judged() -> None:
    scene = _scene(Boxes3D.empty(), Boxes3D.empty())
    assert scene.is_judged
    assert summary(scene) == "found 0 of 0 objects, missed 0, invented 0"


def test_points_of_earlier_sweeps_are_left_out_unless_asked_for() -> None:
    points = ground_points(10)
    points[::2, 4] = 0.25
    frame = made_up_frame(None, points=points)
    assert len(scene_from_frame(frame, None, title="t", simulated=False).points_m) == 10
    everything = scene_from_frame(frame, None, title="t", simulated=False, max_age_s=1.0)
    np.testing.assert_array_equal(everything.points_m, points[:, :3])


def test_higher_and_stronger_points_are_brighter() -> None:
    points = np.zeros((40, 5), np.float32)
    points[:, 2] = np.linspace(-3, 6, 40)
    points[:, 3] = np.linspace(0, 255, 40)[::-1]
    height, intensity = (point_colours(points, by).sum(axis=1) for by in ("height", "intensity"))
    assert np.all(np.diff(height) >= 0)
    assert height[0] < height[20] < height[-1]
    assert np.all(np.diff(intensity) < 0)
    for by in ("height", "intensity"):
        colours = point_colours(points, by)
        assert colours.dtype == np.float32
        assert 0 <= colours.min() <= colours.max() <= 1
        # Boxes are told by colour, so points have hardly any.
        assert np.ptp(colours, axis=1).max() < 0.15


def test_points_and_colours_must_fit() -> None:
    with pytest.raises(ValueError, match=r"\(5, 3\) and \(4, 3\)"):
        Scene("t", np.zeros((5, 3), np.float32), np.zeros((4, 3), np.float32), (), simulated=False)


def test_boxes_count_within_the_range_of_their_class() -> None:
    for label, name in enumerate(DETECTION_CLASSES):
        range_m = DETECTION_CVPR_2019.class_range_m[label]
        b = boxes((name, 0, range_m - 0.01), (name, -range_m - 0.01, 0), (name, range_m, 0))
        assert within_range(b).tolist() == [True, False, False]


positions = st.lists(
    st.tuples(st.integers(0, 2), st.integers(-8, 8), st.integers(-8, 8)), max_size=12, unique_by=lambda p: p[1:]
)


@given(positions, positions, st.integers(0, 2**31))
@settings(deadline=None)
def test_matching_is_greedy_from_the_best_score(truth: list[tuple[int, int, int]], found: list, seed: int) -> None:
    generator = np.random.default_rng(seed)
    annotations = boxes(*((DETECTION_CLASSES[c], x * 0.7, y * 0.7) for c, x, y in truth))
    predictions = boxes(*((DETECTION_CLASSES[c], x * 0.7 + 0.1, y * 0.7) for c, x, y in found))
    predictions = Boxes3D.from_array(
        predictions.to_array(), predictions.label, generator.permutation(len(found)).astype(np.float32) / 20
    )
    free = set(range(len(truth)))
    wanted = np.zeros(len(found), bool)
    for p in sorted(range(len(found)), key=lambda p: -predictions.score[p]):
        distance = {
            a: float(np.linalg.norm(annotations.xyz_m[a, :2].astype(float) - predictions.xyz_m[p, :2].astype(float)))
            for a in sorted(free)
            if annotations.label[a] == predictions.label[p]
        }
        nearest = min(distance, key=lambda a: distance[a], default=None)
        if nearest is not None and distance[nearest] < 2.0:
            free.remove(nearest)
            wanted[p] = True
    verdict = judge(predictions, annotations)
    np.testing.assert_array_equal(verdict.matched, wanted)
    assert set(np.flatnonzero(~verdict.found).tolist()) == free
