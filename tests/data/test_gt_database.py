from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from shapely.affinity import rotate, translate
from shapely.geometry import Polygon, box
from tiny_world import POINTS_PER_OBJECT, THINGS, TinyWorld

from fusionkd.data import GtDatabase, GtPaste, NuScenesDataset, NuScenesIndex
from fusionkd.data.collate import Sample
from fusionkd.data.gt_database import GtPaster
from fusionkd.errors import UserError
from fusionkd.geometry import DETECTION_CLASSES, Boxes3D, wrap_angle_rad
from fusionkd.preprocess import count_points_in_boxes, points_in_boxes

DETECTED = [thing for thing in THINGS if thing.category != "animal" and thing.points]


def _dataset(root: Path, num_sweeps: int = 1) -> NuScenesDataset:
    index = NuScenesIndex.load(root)
    return NuScenesDataset(index, index.records(index.scene_names), image_size_px=(64, 128), num_sweeps=num_sweeps)


@pytest.fixture(scope="module")
def database(tiny_root: Path) -> GtDatabase:
    return GtDatabase.build(_dataset(tiny_root), min_points=5)


def test_every_object_with_enough_points_is_cut_out(database: GtDatabase) -> None:
    assert len(database) == 6 * len(DETECTED)
    for item in range(len(database)):
        cloud = database.cloud(item)
        assert len(cloud) == POINTS_PER_OBJECT
        assert count_points_in_boxes(cloud, database.boxes[item : item + 1]).tolist() == [POINTS_PER_OBJECT]


def test_objects_with_few_points_are_left_out(tiny_root: Path) -> None:
    empty = GtDatabase.build(_dataset(tiny_root), min_points=POINTS_PER_OBJECT + 1)
    assert len(empty) == 0
    assert empty.boxes.shape == (0, 9)


def test_the_database_is_kept_beside_the_data_without_pickle(tiny_world: TinyWorld) -> None:
    first = GtDatabase.beside(_dataset(tiny_world.root), min_points=5)
    (path,) = (tiny_world.root / ".fusionkd").glob("objects-*.npz")
    with np.load(path, allow_pickle=False) as file:
        assert set(file) == {"boxes", "label", "points", "start"}
    for sweep in (tiny_world.root / "samples" / "LIDAR_TOP").iterdir():
        sweep.unlink()
    again = GtDatabase.beside(_dataset(tiny_world.root), min_points=5)
    np.testing.assert_array_equal(first.points, again.points)
    with pytest.raises(UserError, match="is missing"):
        GtDatabase.beside(_dataset(tiny_world.root, num_sweeps=2), min_points=5)
    reported = []
    GtDatabase.beside(
        _dataset(tiny_world.root, num_sweeps=2),
        min_points=5,
        on_bad_frame=lambda record, error: reported.append(record),
    )
    assert len(reported) == 6


def _footprint(row: np.ndarray) -> Polygon:
    x, y, _, length, width, _, yaw = row[:7]
    flat = box(-length / 2, -width / 2, length / 2, width / 2)
    return translate(rotate(flat, yaw, origin=(0, 0), use_radians=True), x, y)


def _sample(tiny_root: Path) -> Sample:
    """A frame of which half the boxes are kept, so that there is room."""
    frame = _dataset(tiny_root)[1]
    return Sample.plain(replace(frame, boxes=frame.boxes.select(np.array([0, 2]))))


def _elsewhere(database: GtDatabase) -> GtDatabase:
    """Each object turned about the car by an angle of its own, so that places differ."""
    boxes, points = database.boxes.copy(), database.points.copy()
    for item in range(len(database)):
        angle = 0.37 * item
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]], np.float32)
        boxes[item, :2] = turn @ boxes[item, :2]
        boxes[item, 6] = wrap_angle_rad(boxes[item, 6] + angle)
        rows = slice(database.start[item], database.start[item + 1])
        points[rows, :2] = points[rows, :2] @ turn.T
    return replace(database, boxes=boxes, points=points)


def test_pasted_objects_collide_with_nothing_and_bring_their_points(tiny_root: Path, database: GtDatabase) -> None:
    settings = GtPaste(dict.fromkeys(("car", "truck", "pedestrian", "bicycle", "traffic_cone"), 6))
    paster = GtPaster(_elsewhere(database), settings)
    sample = _sample(tiny_root)
    total = 0
    for seed in range(10):
        pasted = paster.paste(sample, np.random.default_rng(seed))
        boxes = pasted.frame.boxes
        old = len(sample.frame.boxes)
        assert pasted.pasted.tolist() == [False] * old + [True] * (len(boxes) - old)
        np.testing.assert_array_equal(boxes.to_array()[:old], sample.frame.boxes.to_array())
        footprints = [_footprint(row) for row in boxes.to_array()]
        for i in range(old, len(boxes)):
            assert all(footprints[i].intersection(other).area < 1e-3 for other in footprints[:i])
        counts = count_points_in_boxes(pasted.frame.points, boxes.to_array())
        assert counts[old:].tolist() == [POINTS_PER_OBJECT] * (len(boxes) - old)
        assert np.bincount(boxes.label, minlength=10).max() <= 6
        outside = points_in_boxes(sample.frame.points, boxes.select(pasted.pasted).to_array()) < 0
        assert outside.sum() + POINTS_PER_OBJECT * (len(boxes) - old) == len(pasted.frame.points)
        total += len(boxes) - old
    assert total > 30


def test_points_inside_a_pasted_box_make_room(tiny_root: Path, database: GtDatabase) -> None:
    sample = Sample.plain(replace(_dataset(tiny_root)[1], boxes=Boxes3D.empty()))
    cone = DETECTION_CLASSES.index("traffic_cone")
    paster = GtPaster(database, GtPaste({"traffic_cone": 1}))
    pasted = paster.paste(sample, np.random.default_rng(0))
    assert pasted.frame.boxes.label.tolist() == [cone]
    before = count_points_in_boxes(sample.frame.points, pasted.frame.boxes.to_array())[0]
    after = count_points_in_boxes(pasted.frame.points, pasted.frame.boxes.to_array())[0]
    assert after == POINTS_PER_OBJECT
    assert len(pasted.frame.points) == len(sample.frame.points) - before + POINTS_PER_OBJECT


def test_unlabelled_and_full_frames_stay_as_they_are(tiny_root: Path, database: GtDatabase) -> None:
    frame = _dataset(tiny_root)[1]
    unlabelled = Sample.plain(replace(frame, boxes=None))
    paster = GtPaster(database, GtPaste({"car": 3}))
    assert paster.paste(unlabelled, np.random.default_rng(0)) is unlabelled
    full = Sample.plain(frame)
    assert GtPaster(database, GtPaste({"car": 1})).paste(full, np.random.default_rng(0)) is full


def test_unknown_classes_are_named() -> None:
    with pytest.raises(UserError, match=r"fill_up_to names lorry, which is no nuScenes detection class.*truck"):
        GtPaste({"lorry": 1})
