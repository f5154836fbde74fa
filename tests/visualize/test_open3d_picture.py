"""The three-dimensional picture, its triangles, and what is said where it can't be drawn."""

import builtins
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from picture_frames import boxes, made_up_frame, near_colour
from PIL import Image

from fusionkd.errors import UserError
from fusionkd.visualize import Scene, save_scene, scene_from_frame, show_scene
from fusionkd.visualize.meshes import Mesh, arrows, beams, footprints, rings, solid_boxes
from fusionkd.visualize.open3d_scene import (
    EYE_M,
    TARGET_M,
    camera_from_ego,
    load_open3d,
    render,
    require_display,
    scene_mesh,
)
from fusionkd.visualize.scene import ANNOTATION_RGB, PREDICTION_RGB

SIZE_PX = (300, 480)


@pytest.fixture(scope="module")
def _open3d_draws() -> None:
    """Skips where Open3D or a system library that it needs is missing."""
    try:
        render(_scene(), size_px=(32, 32))
    except UserError as error:
        pytest.skip(str(error))


def _scene(**options: Any) -> Scene:
    annotations = boxes(("car", 15, 3), ("car", 10, -6), speed_mps=3)
    predictions = boxes(("car", 15, 3.3), ("truck", 5, 8), score=0.8)
    return scene_from_frame(made_up_frame(annotations), predictions, title="a title", simulated=True, **options)


@pytest.mark.usefixtures("_open3d_draws")
def test_the_same_scene_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("first.png", "second.png"):
        save_scene(tmp_path / "made" / name, _scene(), size_px=SIZE_PX)
    first, second = ((tmp_path / "made" / name).read_bytes() for name in ("first.png", "second.png"))
    assert first == second
    assert Image.open(tmp_path / "made" / "first.png").size == (480, 300 + 126)


@pytest.mark.usefixtures("_open3d_draws")
def test_the_picture_shows_points_and_both_kinds_of_boxes() -> None:
    picture = render(_scene(), size_px=SIZE_PX)
    assert picture.shape == (*SIZE_PX, 3)
    assert picture.dtype == np.uint8
    background = np.array([14, 17, 22])
    assert (np.abs(picture[:10].astype(int) - background) <= 1).all()
    for rgb in (ANNOTATION_RGB, PREDICTION_RGB):
        assert near_colour(picture, rgb).sum() > 150
    # Grey pixels are points.
    grey = (np.ptp(picture.astype(int), axis=2) < 40) & (picture.min(axis=2) > 60)
    assert grey.sum() > 1000


@pytest.mark.usefixtures("_open3d_draws")
def test_left_is_left_and_ahead_is_up() -> None:
    def middle(x: float, y: float) -> np.ndarray:
        scene = scene_from_frame(made_up_frame(None), boxes(("car", x, y), score=0.9), title="", simulated=False)
        return np.argwhere(near_colour(render(scene, size_px=SIZE_PX), PREDICTION_RGB)).mean(axis=0)

    here, left, ahead = middle(10, 0), middle(10, 10), middle(30, 0)
    assert left[1] < here[1] - 40
    assert abs(here[1] - SIZE_PX[1] / 2) < 3
    assert ahead[0] < here[0] - 30


def test_a_missing_system_library_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    real_import = builtins.__import__

    def failing(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "open3d":
            raise OSError("libusb-1.0.so.0: cannot open shared object file: No such file or directory")
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", failing)
    with pytest.raises(UserError, match=r"apt-get install libusb-1.0-0\. --bev bev.png needs no Open3D"):
        load_open3d()


def test_a_missing_open3d_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "open3d", None)
    with pytest.raises(UserError, match=r'pip install "open3d>=0\.20'):
        render(_scene(), size_px=SIZE_PX)


def test_without_a_display_no_window_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UserError, match=r"--save scene.png"):
        show_scene(_scene())
    monkeypatch.setenv("DISPLAY", ":0")
    require_display()
    monkeypatch.delenv("DISPLAY")
    monkeypatch.setattr("sys.platform", "darwin")
    require_display()


def test_the_camera_stands_where_it_says_and_looks_at_its_target() -> None:
    camera = camera_from_ego(EYE_M, TARGET_M)
    np.testing.assert_allclose(camera @ [*EYE_M, 1], [0, 0, 0, 1], atol=1e-9)
    target = camera @ [*TARGET_M, 1]
    np.testing.assert_allclose(target[:2], 0, atol=1e-9)
    assert target[2] == pytest.approx(np.linalg.norm(np.subtract(EYE_M, TARGET_M)))
    left, up = camera[:3, :3] @ [0, 1, 0], camera[:3, :3] @ [0, 0, 1]
    assert left[0] < 0
    assert up[1] < 0
    np.testing.assert_allclose(camera[:3, :3] @ camera[:3, :3].T, np.eye(3), atol=1e-12)


def test_beams_are_closed_and_as_wide_and_long_as_told() -> None:
    generator = np.random.default_rng(1)
    segments = generator.uniform(-5, 5, (30, 2, 3))
    segments[0] = [[0, 0, 0], [0, 0, 3]]  # upright: the cross product with z would vanish
    segments[1] = [[1, 1, 1], [1, 1, 1]]  # no length, no beam
    radius = generator.uniform(0.01, 0.2, 30)
    mesh = beams(segments, radius_m=radius, rgb=(1, 0, 0))
    kept = np.delete(np.arange(30), 1)
    assert len(mesh.vertices_m) == 8 * 29
    assert len(mesh.triangles) == 12 * 29
    # Each edge of a closed surface belongs to two triangles.
    edges = np.sort(mesh.triangles[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), axis=1)
    assert (np.unique(edges, axis=0, return_counts=True)[1] == 2).all()
    for vertices, (start, end), r in zip(mesh.vertices_m.reshape(29, 8, 3), segments[kept], radius[kept]):
        along = (end - start) / np.linalg.norm(end - start)
        part = (vertices - start) @ along
        across = np.linalg.norm(vertices - start - part[:, None] * along, axis=1)
        np.testing.assert_allclose(across, r * np.sqrt(2), rtol=1e-6)
        np.testing.assert_allclose(np.sort(part), np.repeat([-r, np.linalg.norm(end - start) + r], 4), rtol=1e-6)
    volume = _volumes(mesh).reshape(29, 12).sum(axis=1)
    length = np.linalg.norm(segments[kept, 1] - segments[kept, 0], axis=1)
    np.testing.assert_allclose(volume, (2 * radius[kept]) ** 2 * (length + 2 * radius[kept]), rtol=1e-6)


def test_solid_boxes_and_footprints_cover_the_box() -> None:
    box = boxes(("car", 5, -3), yaw_rad=0.7)
    solid = solid_boxes(box, rgb=(1, 1, 1))
    assert abs(_volumes(solid).sum()) == pytest.approx(4.5 * 1.9 * 1.6, rel=1e-5)
    ground = footprints(box, rgb=(1, 1, 1))
    corners = ground.vertices_m[ground.triangles]
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1) / 2
    assert area.sum() == pytest.approx(4.5 * 1.9, rel=1e-5)
    np.testing.assert_allclose(ground.vertices_m[:, 2], 0, atol=1e-6)


def test_joined_meshes_keep_their_triangles() -> None:
    parts = [footprints(boxes(("car", x, 0)), rgb=(0, 0, x / 10)) for x in (1, 2, 3)]
    joined = Mesh.joined(parts)
    found = joined.vertices_m[joined.triangles]
    np.testing.assert_array_equal(found, np.concatenate([part.vertices_m[part.triangles] for part in parts]))
    np.testing.assert_allclose(joined.vertex_rgb[joined.triangles][:, 0, 2], [0.1, 0.1, 0.2, 0.2, 0.3, 0.3])
    assert len(Mesh.joined([]).triangles) == 0


def test_only_moving_boxes_have_arrows_as_long_as_their_way() -> None:
    assert arrows(boxes(("car", 5, 0), speed_mps=0.3), min_speed_mps=0.5).shape == (0, 2, 3)
    unknown = boxes(("car", 5, 0), speed_mps=float("nan"))
    assert arrows(unknown, min_speed_mps=0.5).shape == (0, 2, 3)
    lines = arrows(boxes(("car", 5, 0), speed_mps=4), min_speed_mps=0.5)
    np.testing.assert_allclose(lines[0], [[5, 0, 0], [9, 0, 0]], atol=1e-6)
    # The head's two strokes start at the tip and lead back to either side.
    np.testing.assert_allclose(lines[1:, 0], [[9, 0, 0]] * 2, atol=1e-6)
    assert sorted(np.sign(lines[1:, 1, 1]).tolist()) == [-1, 1]
    assert (lines[1:, 1, 0] < 9).all()


def test_rings_have_their_radius() -> None:
    circle = rings([10, 20], height_m=0.5)
    radius = np.hypot(circle[..., 0], circle[..., 1])
    np.testing.assert_allclose(np.sort(np.unique(radius.round(6))), [10, 20])
    np.testing.assert_array_equal(circle[..., 2], 0.5)


def test_every_set_of_boxes_is_in_the_mesh() -> None:
    scene = _scene()
    colours = scene_mesh(scene).vertex_rgb
    for rgb in (ANNOTATION_RGB, PREDICTION_RGB):
        assert (np.abs(colours - rgb).max(axis=1) < 1e-9).sum() >= 8 * 13


def _volumes(mesh: Mesh) -> np.ndarray:
    """Signed volume between each triangle and the origin."""
    a, b, c = (mesh.vertices_m[mesh.triangles[:, k]] for k in range(3))
    return np.einsum("ij,ij->i", a, np.cross(b, c)) / 6
