from pathlib import Path

import cv2
import numpy as np
import pytest
from nuscenes import NuScenes
from nuscenes.utils.data_classes import LidarPointCloud
from tiny_world import STORED_PX, THINGS, TinyWorld, dots_in

from fusionkd.data import NuScenesDataset, NuScenesIndex
from fusionkd.data.image_cache import ImageCache
from fusionkd.errors import UserError
from fusionkd.geometry import CAMERAS, invert_rigid, transform_points
from fusionkd.preprocess import count_points_in_boxes

SIZE_PX = (64, 128)


def _dataset(root: Path, **options) -> NuScenesDataset:
    index = NuScenesIndex.load(root)
    return NuScenesDataset(
        index, index.records(index.scene_names), **{"image_size_px": SIZE_PX, "min_box_points": 0, **options}
    )


@pytest.mark.parametrize("root", ["tiny_root", "real_root"])
@pytest.mark.parametrize("sweeps", [1, 4, 10])
def test_points_equal_the_devkits_in_the_ego_frame(request: pytest.FixtureRequest, root: str, sweeps: int) -> None:
    path = request.getfixturevalue(root)
    devkit = NuScenes("v1.0-mini", str(path), verbose=False)
    dataset = _dataset(path, num_sweeps=sweeps)
    for frame, sample in zip(dataset, devkit.sample, strict=True):
        cloud, age_s = LidarPointCloud.from_file_multisweep(devkit, sample, "LIDAR_TOP", "LIDAR_TOP", nsweeps=sweeps)
        wanted = transform_points(frame.ego_from_lidar, cloud.points[:3].T.astype(np.float64))
        np.testing.assert_allclose(frame.points[:, :3], wanted, atol=1e-3)
        np.testing.assert_array_equal(frame.points[:, 3], cloud.points[3])
        np.testing.assert_allclose(frame.points[:, 4], age_s[0], atol=1e-5)


def test_first_frames_have_fewer_sweeps(tiny_root: Path) -> None:
    dataset = _dataset(tiny_root, num_sweeps=8)
    assert [len(np.unique(dataset[i].points[:, 4])) for i in range(3)] == [1, 6, 8]


@pytest.mark.parametrize("root", ["tiny_root", "real_root"])
def test_boxes_hold_the_points_that_the_table_counts(request: pytest.FixtureRequest, root: str) -> None:
    dataset = _dataset(request.getfixturevalue(root), num_sweeps=1)
    for row, frame in enumerate(dataset):
        a, rows = dataset.index.annotations, dataset.index.annotations.rows(row)
        counted = a.num_lidar_pts[rows][a.label[rows] >= 0]
        found = count_points_in_boxes(frame.points, frame.boxes.to_array())
        # Annotated boxes stand upright in the world, those of a frame in the slightly tilted car.
        tolerance = 0 if root == "tiny_root" else np.maximum(4, 0.05 * counted)
        assert np.all(np.abs(found - counted) <= tolerance)
        assert counted.sum() > 50


def test_cameras_see_boxes_where_they_project(tiny_root: Path) -> None:
    """Each image was taken at its own time: only a rig with ego motion finds standing things exactly."""
    dataset = _dataset(tiny_root)
    standing = [row for row, thing in enumerate(THINGS) if thing.speed_mps == 0]
    seen = 0
    for record, frame in zip(dataset.records, dataset):
        a, rows = dataset.index.annotations, dataset.index.annotations.rows(record.sample)
        centres_ego_m = transform_points(invert_rigid(frame.global_from_ego), a.xyz_m[rows])
        of_category = {name: i for i, name in enumerate(dataset.index.category_names)}
        for camera in range(len(CAMERAS)):
            pixels, depth = frame.rig.project(camera, centres_ego_m)
            for thing, dot in dots_in(frame.images[camera]).items():
                if thing not in standing:
                    continue
                here = int(np.flatnonzero(a.category[rows] == of_category[THINGS[thing].category])[0])
                assert depth[here] > 1
                assert np.linalg.norm(pixels[here] - dot) < 0.5
                seen += 1
    assert seen > 10


def test_sweeps_between_keyframes_become_frames_without_boxes(tiny_root: Path) -> None:
    index = NuScenesIndex.load(tiny_root)
    records = index.sweep_records(["scene-0061"])
    frame = NuScenesDataset(index, records, image_size_px=SIZE_PX, num_sweeps=3)[2]
    assert frame.boxes is None
    assert frame.token == records[2].token
    assert frame.timestamp_us == records[2].timestamp_us
    np.testing.assert_allclose(np.unique(frame.points[:, 4]), [0, 0.1, 0.2], atol=1e-6)
    keyframe = NuScenesDataset(index, index.records(["scene-0061"], labelled=False), image_size_px=SIZE_PX)[0]
    assert keyframe.boxes is None


def test_images_are_scaled_to_the_width_and_cropped_at_the_top(tiny_root: Path) -> None:
    dataset = _dataset(tiny_root, image_size_px=(60, 128))
    frame = dataset[1]
    row = dataset.records[1].images[2]
    stored = cv2.imread(str(tiny_root / dataset.index.images.path(row)))[..., ::-1]
    wanted = cv2.resize(stored, (128, 72), interpolation=cv2.INTER_AREA)[12:]
    assert np.abs(frame.images[2].astype(int) - wanted).max() <= 3
    corner = frame.rig.image_aug[2] @ [STORED_PX[1], STORED_PX[0], 1]
    np.testing.assert_allclose(corner, [128, 60, 1])
    with pytest.raises(UserError, match=r"image_size_px 80x128.*too tall.*has 72 rows"):
        _dataset(tiny_root, image_size_px=(80, 128))[0]


def test_missing_cameras_in_the_tables_are_named(tiny_world: TinyWorld) -> None:
    camera = CAMERAS[3]
    tiny_world.tables["sample_data"] = [
        record for record in tiny_world.tables["sample_data"] if camera not in record["filename"]
    ]
    tiny_world.write_tables()
    with pytest.raises(UserError, match=rf"has no image of {camera} in sample_data\.json"):
        _dataset(tiny_world.root)[0]


def test_num_sweeps_must_include_the_frames_own(tiny_root: Path) -> None:
    with pytest.raises(UserError, match="num_sweeps must be at least 1"):
        _dataset(tiny_root, num_sweeps=0)


def test_cached_images_are_those_that_were_decoded(tiny_world: TinyWorld) -> None:
    index = NuScenesIndex.load(tiny_world.root)
    plain = _dataset(tiny_world.root)[0]
    cache = ImageCache.beside(index, (72, 128))
    assert cache.get(0) is None
    first = _dataset(tiny_world.root, image_cache=cache)[0]
    for path in (tiny_world.root / "samples" / "CAM_FRONT").iterdir():
        path.unlink()
    again = _dataset(tiny_world.root, image_cache=ImageCache.beside(index, (72, 128)))[0]
    np.testing.assert_array_equal(plain.images, first.images)
    np.testing.assert_array_equal(first.images, again.images)


def test_a_damaged_slot_of_the_cache_counts_as_empty(tmp_path: Path) -> None:
    cache = ImageCache(tmp_path / "images.bin", (4, 6))
    image = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    cache.put(3, image)
    np.testing.assert_array_equal(cache.get(3), image)
    assert [cache.get(row) is None for row in (0, 2, 4, 99)] == [True] * 4
    with (tmp_path / "images.bin").open("r+b") as stream:
        stream.seek(3 * (4 + 72) + 40)
        stream.write(bytes([(image.reshape(-1)[36] + 1) % 256]))
    assert cache.get(3) is None
    cache.put(3, image)
    np.testing.assert_array_equal(cache.get(3), image)


def test_caches_of_older_tables_are_deleted(tiny_world: TinyWorld) -> None:
    old = ImageCache.beside(NuScenesIndex.load(tiny_world.root), (72, 128))
    old.put(0, np.zeros((72, 128, 3), np.uint8))
    tiny_world.tables["sample_annotation"][0]["translation"][0] += 1
    tiny_world.write_tables()
    new = ImageCache.beside(NuScenesIndex.load(tiny_world.root), (72, 128))
    assert new.path != old.path
    assert not old.path.exists()
