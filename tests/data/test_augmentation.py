from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_world import THINGS, dots_in

from fusionkd.data import BevAugmentation, ImageAugmentation, LidarAugmentation, NuScenesDataset, NuScenesIndex
from fusionkd.data.augmentation import AugmentationPlan, augment_bev
from fusionkd.data.collate import Collator, Sample
from fusionkd.data.sampling import Draw
from fusionkd.errors import UserError
from fusionkd.geometry import CAMERAS, DETECTION_CLASSES, transform_points
from fusionkd.preprocess import count_points_in_boxes

SIZE_PX = (60, 128)
EVERYTHING = BevAugmentation(flip_x=0.5, flip_y=0.5, max_rotation_rad=3, scale=(0.5, 2.0), shift_std_m=(2, 2, 1))


@pytest.fixture(scope="module")
def dataset(tiny_root: Path) -> NuScenesDataset:
    index = NuScenesIndex.load(tiny_root)
    return NuScenesDataset(index, index.records(index.scene_names), image_size_px=SIZE_PX, num_sweeps=3)


def _augmented(dataset: NuScenesDataset, plan: AugmentationPlan, draw: Draw) -> Sample:
    return plan.change(plan.read(dataset, draw), draw)


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**32))
def test_the_drawn_map_is_a_rotation_with_mirrors_and_one_scale(seed: int) -> None:
    affine = EVERYTHING.draw(np.random.default_rng(seed))
    linear = affine[:3, :3]
    scale = linear[2, 2]
    assert 0.5 <= scale <= 2
    np.testing.assert_allclose(linear @ linear.T, scale**2 * np.eye(3), atol=1e-9)
    assert np.array_equal(linear[2, :2], [0, 0])


def test_points_in_boxes_don_t_change_with_the_ego_frame(dataset: NuScenesDataset) -> None:
    for item, frame in enumerate(dataset):
        before = count_points_in_boxes(frame.points, frame.boxes.to_array())
        for seed in range(20):
            sample = augment_bev(Sample.plain(frame), EVERYTHING.draw(np.random.default_rng([item, seed])))
            after = count_points_in_boxes(sample.frame.points, sample.frame.boxes.to_array())
            np.testing.assert_array_equal(after, before)
            np.testing.assert_array_equal(sample.frame.points[:, 3:], frame.points[:, 3:])


def test_boxes_move_with_the_ego_frame(dataset: NuScenesDataset) -> None:
    """A point ahead of each box, and the box's place a second later, must land where the affine map takes them."""
    frame = dataset[1]
    for seed in range(20):
        affine = EVERYTHING.draw(np.random.default_rng(seed))
        sample = augment_bev(Sample.plain(frame), affine)
        before, after = frame.boxes, sample.frame.boxes
        np.testing.assert_allclose(after.xyz_m, transform_points(affine, before.xyz_m), atol=1e-4)
        np.testing.assert_allclose(after.lwh_m, before.lwh_m * affine[2, 2], rtol=1e-5)
        for boxes_before, boxes_after in (
            (
                _ahead(before.xyz_m, before.yaw_rad, before.lwh_m[:, 0]),
                _ahead(after.xyz_m, after.yaw_rad, after.lwh_m[:, 0]),
            ),
            (_moved(before.xyz_m, before.velocity_mps), _moved(after.xyz_m, after.velocity_mps)),
        ):
            np.testing.assert_allclose(transform_points(affine, boxes_before), boxes_after, atol=1e-3)
        np.testing.assert_allclose(sample.ego_from_augmented @ affine, np.eye(4), atol=1e-9)


def _ahead(xyz_m: np.ndarray, yaw_rad: np.ndarray, length_m: np.ndarray) -> np.ndarray:
    step = np.stack([np.cos(yaw_rad), np.sin(yaw_rad), np.zeros_like(yaw_rad)], axis=1)
    return xyz_m + step * length_m[:, None] / 2


def _moved(xyz_m: np.ndarray, velocity_mps: np.ndarray) -> np.ndarray:
    return xyz_m + np.pad(velocity_mps, ((0, 0), (0, 1)))


def test_box_centres_project_to_the_same_pixels_and_depths(dataset: NuScenesDataset) -> None:
    frame = dataset[1]
    for seed in range(20):
        sample = augment_bev(Sample.plain(frame), EVERYTHING.draw(np.random.default_rng(seed)))
        for camera in range(len(CAMERAS)):
            pixels, depth = frame.rig.project(camera, frame.boxes.xyz_m)
            found, found_depth = sample.frame.rig.project(camera, sample.frame.boxes.xyz_m)
            ahead = depth > 1
            np.testing.assert_allclose(found[ahead], pixels[ahead], atol=0.01)
            np.testing.assert_allclose(found_depth, depth, atol=1e-3)


def test_depth_maps_don_t_change_with_the_ego_frame(dataset: NuScenesDataset) -> None:
    frame, collator = dataset[1], Collator({}, depth_stride=4)
    before = collator.depth(frame)
    assert (before > 0).sum() > 20
    sample = augment_bev(Sample.plain(frame), EVERYTHING.draw(np.random.default_rng(7)))
    after = collator.depth(sample.frame)
    # A point within float32 rounding of a cell's border may change cells.
    assert np.mean(np.isclose(before, after, atol=1e-2)) > 0.999


def test_augmented_images_show_boxes_where_they_project(dataset: NuScenesDataset) -> None:
    """The dots painted into the stored images, found again by colour after both augmentations."""
    image = ImageAugmentation(max_rotation_rad=0.3, max_shift=0.1, brightness=0, contrast=0, saturation=0)
    plan = AugmentationPlan(seed=1, bev=EVERYTHING, image=image)
    standing = {DETECTION_CLASSES.index("truck"): 1, DETECTION_CLASSES.index("traffic_cone"): 3}
    seen = 0
    for position in range(30):
        frame = _augmented(dataset, plan, Draw(0, position, position % len(dataset))).frame
        for camera in range(len(CAMERAS)):
            pixels, depth = frame.rig.project(camera, frame.boxes.xyz_m)
            dots = dots_in(frame.images[camera])
            for box, label in enumerate(frame.boxes.label):
                thing = standing.get(int(label))
                if thing in dots:
                    assert THINGS[thing].speed_mps == 0
                    assert depth[box] > 1
                    assert np.linalg.norm(pixels[box] - dots[thing]) < 0.7
                    seen += 1
    assert seen > 20


def test_image_augmentation_off_is_the_plain_image(dataset: NuScenesDataset) -> None:
    still = ImageAugmentation((1, 1), 0, 0, 0, 0, 0, 0)
    frame = AugmentationPlan(image=still).read(dataset, Draw(0, 0, 1))
    np.testing.assert_array_equal(frame.images, dataset[1].images)
    np.testing.assert_allclose(frame.rig.image_aug, dataset[1].rig.image_aug)


def test_colours_change_as_drawn(dataset: NuScenesDataset) -> None:
    image = ImageAugmentation((1, 1), 0, 0, 0, brightness=0.2, contrast=0.2, saturation=0.2)
    generator = np.random.default_rng(0)
    for _ in range(20):
        colour = image.draw_colour(generator)
        grey = colour @ [100, 100, 100, 1]
        # Grey stays grey whatever the saturation.
        np.testing.assert_allclose(grey, grey[0])
        assert 100 * 0.8 * 0.8 - 0.2 * 127.5 <= grey[0] <= 100 * 1.2 * 1.2 + 0.2 * 127.5
    plan = AugmentationPlan(image=image)
    changed = plan.read(dataset, Draw(0, 0, 1)).images.astype(int) - dataset[1].images
    assert 0 < np.abs(changed).mean() < 60


def test_no_augmentation_changes_nothing(dataset: NuScenesDataset) -> None:
    frame = dataset[2]
    sample = _augmented(dataset, AugmentationPlan(), Draw(3, 5, 2))
    np.testing.assert_array_equal(sample.frame.points, frame.points)
    np.testing.assert_array_equal(sample.frame.boxes.to_array(), frame.boxes.to_array())
    np.testing.assert_array_equal(sample.frame.images, frame.images)
    np.testing.assert_array_equal(sample.ego_from_augmented, np.eye(4))


def test_a_draw_decides_its_sample(dataset: NuScenesDataset) -> None:
    plan = AugmentationPlan(seed=3, bev=BevAugmentation(), image=ImageAugmentation())
    first, again = (_augmented(dataset, plan, Draw(2, 9, 1)) for _ in range(2))
    np.testing.assert_array_equal(first.frame.points, again.frame.points)
    np.testing.assert_array_equal(first.frame.images, again.frame.images)
    for other in (Draw(3, 9, 1), Draw(2, 8, 1)):
        different = _augmented(dataset, plan, other)
        assert not np.array_equal(first.frame.points, different.frame.points)
        assert not np.array_equal(first.frame.images, different.frame.images)
    reseeded = _augmented(dataset, replace(plan, seed=4), Draw(2, 9, 1))
    assert not np.array_equal(first.frame.points, reseeded.frame.points)


def test_frames_without_boxes_are_augmented_too(tiny_root: Path) -> None:
    index = NuScenesIndex.load(tiny_root)
    dataset = NuScenesDataset(index, index.sweep_records(["scene-0061"]), image_size_px=SIZE_PX)
    sample = _augmented(dataset, AugmentationPlan(bev=BevAugmentation(1, 1)), Draw(0, 0, 0))
    assert sample.frame.boxes is None
    assert len(sample.pasted) == 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: BevAugmentation(scale=(1.1, 0.9)), r"BevAugmentation\.scale must be a positive range"),
        (lambda: BevAugmentation(flip_x=2), r"BevAugmentation\.flip_x is a chance"),
        (lambda: ImageAugmentation(scale=(0, 1)), r"ImageAugmentation\.scale must be a positive range"),
        (lambda: ImageAugmentation(saturation=-1), r"ImageAugmentation\.saturation must lie between"),
    ],
)
def test_impossible_settings_are_named(make, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make()


def test_taking_sweeps_away_leaves_the_newest_whole_and_every_number_occurs() -> None:
    points = np.zeros((1000, 5), np.float32)
    points[:, 4] = np.repeat(0.05 * np.arange(10), 100)
    thin = LidarAugmentation(fewer_sweeps=1.0).thin
    kept = {len(thin(points, np.random.default_rng(seed))) for seed in range(200)}
    assert kept == {100 * sweeps for sweeps in range(1, 10)}
    often = [len(LidarAugmentation(0.3).thin(points, np.random.default_rng(seed))) < 1000 for seed in range(500)]
    assert np.mean(often) == pytest.approx(0.3, abs=0.08)
    alone = points[:100]
    assert thin(alone, np.random.default_rng(0)) is alone


def test_points_and_intensities_are_drawn_once_per_frame() -> None:
    points = np.zeros((20000, 5), np.float32)
    points[:, 0], points[:, 3] = np.arange(20000), 100
    points[:50, 3] = 250
    poorer = LidarAugmentation(0.0, kept_points=(0.5, 0.9), intensity=(0.5, 2.0))
    shares, factors = [], []
    for seed in range(60):
        found = poorer.change(points, np.random.default_rng(seed))
        assert (np.diff(found[:, 0]) > 0).all()  # in their order, none twice
        assert len(np.unique(found[50:, 3])) == 1
        assert found[:, 3].max() <= 255
        shares.append(len(found) / 20000)
        factors.append(found[-1, 3] / 100)
    assert 0.48 < min(shares) < 0.6 < 0.8 < max(shares) < 0.92
    assert 0.5 <= min(factors) < 0.7 < 1.7 < max(factors) <= 2.0
    assert (points[:50, 3] == 250).all()  # the given points stay
    assert LidarAugmentation(0.0).change(points, np.random.default_rng(0)) is points


@pytest.mark.parametrize("wrong", [{"kept_points": (0.5, 1.1)}, {"kept_points": (0, 1)}, {"intensity": (2, 1)}])
def test_ranges_that_are_none_are_named(wrong: dict[str, tuple[float, float]]) -> None:
    (name,) = wrong
    with pytest.raises(UserError, match=f"LidarAugmentation.{name}"):
        LidarAugmentation(**wrong)  # type: ignore[arg-type]


def test_a_plan_takes_sweeps_away_alike_in_every_process(dataset: NuScenesDataset) -> None:
    plain = AugmentationPlan(seed=3, bev=EVERYTHING)
    plan = replace(plain, lidar=LidarAugmentation(fewer_sweeps=1.0))
    for item, frame in enumerate(dataset):
        draw = Draw(epoch=0, position=0, item=item)
        sample, again = _augmented(dataset, plan, draw), _augmented(dataset, plan, draw)
        np.testing.assert_array_equal(sample.frame.points, again.frame.points)
        assert len(np.unique(sample.frame.points[:, 4])) <= max(len(np.unique(frame.points[:, 4])) - 1, 1)
        # Other chance isn't disturbed: the ego frame moves as it does without.
        np.testing.assert_array_equal(sample.ego_from_augmented, _augmented(dataset, plain, draw).ego_from_augmented)


def test_a_chance_is_between_0_and_1() -> None:
    with pytest.raises(UserError, match="fewer_sweeps is a chance between 0 and 1, found 2"):
        LidarAugmentation(fewer_sweeps=2)
