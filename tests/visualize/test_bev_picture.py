"""The views from above: what lies where, what is said, and that something is there at all."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from picture_frames import IMAGE_GREY, boxes, made_up_frame, near_colour
from PIL import Image

from fusionkd.geometry import Boxes3D
from fusionkd.visualize import Scene, save_bev, save_bev_figure, scene_from_frame
from fusionkd.visualize.bev import RANGE_M, heading_lines, point_image, subtitle, uncrowded
from fusionkd.visualize.scene import ANNOTATION_RGB, PREDICTION_RGB

WARNING_RGB = (1.0, 0.82, 0.4)
NO_POINTS = np.zeros((0, 5), np.float32)


def _picture(path: Path) -> NDArray[np.uint8]:
    return np.asarray(Image.open(path).convert("RGB"))


def _scene(annotations: Boxes3D | None, predictions: Boxes3D | None, *, simulated: bool = False) -> Scene:
    frame = made_up_frame(annotations, points=NO_POINTS)
    return scene_from_frame(frame, predictions, title="a title", simulated=simulated)


def test_ahead_is_up_and_left_is_left(tmp_path: Path) -> None:
    save_bev(tmp_path / "bev.png", _scene(None, boxes(("car", 30, 12), score=0.9)))
    picture = _picture(tmp_path / "bev.png")
    assert picture.shape == (1120, 1000, 3)
    mask = near_colour(picture, PREDICTION_RGB, 60)
    mask[1010:] = False  # the legend
    rows, columns = np.nonzero(mask)
    pixel_m = 2 * RANGE_M / 930
    ahead = RANGE_M - (np.array([rows.min(), rows.max()]) + 0.5 - (1120 * (1 - 0.103) - 930)) * pixel_m
    left = RANGE_M - (np.array([columns.min(), columns.max()]) + 0.5 - 55) * pixel_m
    # The heading line reaches 0.6 m past the front.
    np.testing.assert_allclose(ahead, [32.25 + 0.6, 27.75], atol=0.2)
    np.testing.assert_allclose(left, [12.95, 11.05], atol=0.2)


def test_points_appear_where_they_are_the_highest_on_top() -> None:
    points = np.array(
        [[20, 10, 0, 0, 0], [20, 10, 3, 0, 0], [20, 10, 1, 0, 0], [-30, -5, 0, 0, 0], [90, 0, 0, 0, 0]], np.float32
    )
    scene = scene_from_frame(made_up_frame(None, points=points), None, title="", simulated=False)
    image = point_image(scene, size_px=104)
    rows, columns = np.nonzero(image[..., 3])
    # One pixel is one metre; rows from behind to ahead, columns from left to right.
    assert sorted(zip(rows.tolist(), columns.tolist())) == [(22, 56), (72, 41)]
    np.testing.assert_array_equal(image[72, 41, :3], scene.point_rgb[1])
    np.testing.assert_array_equal(image[22, 56, :3], scene.point_rgb[3])


def test_missed_and_invented_stand_out_from_what_agrees(tmp_path: Path) -> None:
    agree = boxes(("car", 20, 0))
    save_bev(tmp_path / "agree.png", _scene(agree, boxes(("car", 20, 0), score=0.9)))
    save_bev(tmp_path / "apart.png", _scene(agree, boxes(("car", -20, 0), score=0.9)))
    for rgb in (ANNOTATION_RGB, PREDICTION_RGB):
        background = np.array([14, 17, 22]) / 255
        filled = tuple(0.45 * np.array(rgb) + 0.55 * background)
        count = [near_colour(_picture(tmp_path / name), filled)[:1000].sum() for name in ("agree.png", "apart.png")]
        assert count[0] < 20
        assert count[1] > 300


@pytest.mark.parametrize("simulated", [True, False])
def test_simulated_data_is_called_so(tmp_path: Path, simulated: bool) -> None:
    scene = _scene(boxes(("car", 20, 0)), None, simulated=simulated)
    save_bev(tmp_path / "bev.png", scene)
    save_bev_figure(
        tmp_path / "figure.png", made_up_frame(boxes(("car", 20, 0))), predictions=None, title="t", simulated=simulated
    )
    for name in ("bev.png", "figure.png"):
        warned = near_colour(_picture(tmp_path / name), WARNING_RGB)
        assert (warned[:40, 600:].sum() > 300) == simulated
        assert warned[60:].sum() == 0


def test_the_figure_shows_six_cameras_around_the_view(tmp_path: Path) -> None:
    annotations = boxes(("car", 15, 0), ("car", -15, 0))
    frame = made_up_frame(annotations)
    save_bev_figure(
        tmp_path / "figure.png", frame, predictions=boxes(("car", 15, 1), score=0.9), title="t", simulated=False
    )
    picture = _picture(tmp_path / "figure.png")
    height, width = picture.shape[:2]
    assert width == 1600
    front = slice(80, 80 + 250)
    back = slice(height - 280, height - 30)
    for camera, grey in enumerate(IMAGE_GREY):
        row, column = divmod(camera, 3)
        pane = picture[(front, back)[row], 40 + column * 530 : 40 + column * 530 + 450]
        assert np.median(pane) == grey
    pane = {
        "front": picture[front, 540:1060],
        "back": picture[back, 540:1060],
        "front left": picture[front, :520],
    }
    assert near_colour(pane["front"], ANNOTATION_RGB, 40).sum() > 100
    assert near_colour(pane["front"], PREDICTION_RGB, 40).sum() > 100
    assert near_colour(pane["back"], ANNOTATION_RGB, 40).sum() > 100
    assert near_colour(pane["back"], PREDICTION_RGB, 40).sum() == 0
    assert near_colour(pane["front left"], ANNOTATION_RGB, 40).sum() == 0


def test_the_figure_takes_low_images_no_boxes_and_no_annotations(tmp_path: Path) -> None:
    for name, annotations, predictions in (
        ("none", None, None),
        ("empty", Boxes3D.empty(), Boxes3D.empty()),
        ("unlabelled", None, boxes(("bus", 10, 3), score=0.5)),
    ):
        frame = made_up_frame(annotations, size_px=(48, 160))
        save_bev_figure(tmp_path / f"{name}.png", frame, predictions=predictions, title=name, simulated=False)
        picture = _picture(tmp_path / f"{name}.png")
        assert picture.shape[0] < 1500
        assert picture.std() > 10


def test_folders_are_made(tmp_path: Path) -> None:
    save_bev(tmp_path / "a" / "b" / "bev.png", _scene(None, None))
    assert (tmp_path / "a" / "b" / "bev.png").stat().st_size > 10_000


def test_the_subtitle_says_the_rule_where_there_is_a_judgement() -> None:
    car, found = boxes(("car", 20, 0)), boxes(("car", 20, 0), score=0.9)
    assert subtitle(_scene(car, found)).endswith("(scores from 0.3); a match is of the same class within 2 m")
    assert subtitle(_scene(car, None)) == "1 annotations"


def test_headings_reach_past_the_front_of_small_boxes() -> None:
    lines = heading_lines(boxes(("pedestrian", 5, 3), yaw_rad=np.pi / 2))
    np.testing.assert_allclose(lines[0], [[3, 5], [3 + 2.25 + 0.6, 5]], atol=1e-6)


def test_labels_keep_clear_of_each_other() -> None:
    generator = np.random.default_rng(0)
    places = generator.uniform(0, 20, (200, 2))
    kept = uncrowded(places, width=3, height=1)
    chosen = places[kept]
    gap = np.abs(chosen[:, None] - chosen)
    clash = (gap[..., 0] < 3) & (gap[..., 1] < 1)
    np.fill_diagonal(clash, False)
    assert kept[0]
    assert not clash.any()
    # Each one left out would have lain on one that was kept.
    for place in places[~kept]:
        gap = np.abs(chosen - place)
        assert ((gap[:, 0] < 3) & (gap[:, 1] < 1)).any()
