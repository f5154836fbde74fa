"""A scene in three dimensions: an Open3D window, or a picture drawn without any display."""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fusionkd.errors import UserError
from fusionkd.geometry import transform_points
from fusionkd.visualize.bev import MOVING_MPS, RING_RADII_M, short_name, uncrowded
from fusionkd.visualize.caption import Label, captioned
from fusionkd.visualize.meshes import Mesh, arrows, beams, footprints, rings, solid_boxes
from fusionkd.visualize.projection import box_segments
from fusionkd.visualize.scene import BoxSet, Rgb, Scene, Weight

EYE_M = (-42.0, 0.0, 34.0)
TARGET_M = (3.0, 0.0, 0.0)
"""The camera stands behind and above the car and looks ahead."""

_FOCAL_SHARE = 1.15
_BACKGROUND: Rgb = (0.055, 0.067, 0.086)
_RING_RGB: Rgb = (0.24, 0.27, 0.32)
_LABEL_RGB: Rgb = (0.55, 0.57, 0.61)
_EGO_RGB: Rgb = (0.95, 0.95, 0.95)
_DIM: dict[Weight, float] = {"faint": 0.45, "normal": 1.0, "strong": 1.0}
# Half a line's width for each metre that it is away: the same number of pixels near and far.
_WIDTH_SHARE: dict[Weight, float] = {"faint": 0.0006, "normal": 0.0010, "strong": 0.0017}

_DEBIAN_PACKAGE = {
    "libusb": "libusb-1.0-0",
    "libGL.": "libgl1",
    "libEGL": "libegl1 libegl-mesa0",
    "libgomp": "libgomp1",
    "libX11": "libx11-6",
}


def save_scene(path: str | Path, scene: Scene, *, size_px: tuple[int, int] = (1000, 1600)) -> None:
    """Write a picture of a scene from behind and above the car, with a legend under it.

    The same scene gives the same bytes every time.

    Args:
        path: Where to; its folder is made.
        scene: What to draw.
        size_px: (height, width) of the picture without its captions.

    Raises:
        UserError: If Open3D, or a system library that it needs, is missing.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    captioned(render(scene, size_px=size_px), scene, labels=_labels(scene, size_px)).save(path)


def show_scene(scene: Scene) -> None:
    """Open a window and wait until it is closed.

    Raises:
        UserError: If there is no display, or Open3D or a system library that it needs is missing.
    """
    require_display()
    visualizer = _window(scene, size_px=(900, 1440), visible=True)
    visualizer.run()
    visualizer.destroy_window()


def require_display() -> None:
    """Make sure that a window can be opened.

    Raises:
        UserError: If this is a Linux machine without a display.
    """
    if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise UserError(
            "There is no display for a window (neither DISPLAY nor WAYLAND_DISPLAY is set). Write a picture instead: "
            "--save scene.png for the scene in 3D, --bev bev.png for the view from above."
        )


def render(scene: Scene, *, size_px: tuple[int, int]) -> NDArray[np.uint8]:
    """The picture without captions, (height, width, 3) uint8 RGB, drawn without a display.

    Raises:
        UserError: If Open3D, or a system library that it needs, is missing.
    """
    height, width = size_px
    # Drawn at twice the size and averaged: off-screen drawing smooths no edges by itself.
    visualizer = _window(scene, size_px=(2 * height, 2 * width), visible=False)
    try:
        visualizer.poll_events()
        visualizer.update_renderer()
        drawn = np.asarray(visualizer.capture_screen_float_buffer(do_render=True))
    finally:
        visualizer.destroy_window()
    large = Image.fromarray(np.round(drawn * 255).astype(np.uint8))
    return np.asarray(large.resize((width, height), Image.Resampling.BOX))


def scene_mesh(scene: Scene) -> Mesh:
    """Everything in the scene but the points."""
    circles = rings(RING_RADII_M, height_m=0.0)
    parts = [
        beams(circles, radius_m=_radius_m(circles, 0.0005), rgb=_RING_RGB),
        solid_boxes(scene.ego, rgb=_EGO_RGB),
    ]
    return Mesh.joined([*parts, *(part for boxes in scene.box_sets for part in _box_parts(boxes))])


def load_open3d() -> ModuleType:
    """Open3D, imported only where it is used: it needs system libraries that pip can't install.

    Raises:
        UserError: If it or one of those is missing; the sentence names the Debian package.
    """
    try:
        import open3d
    except (ImportError, OSError) as error:
        raise UserError(f"Open3D can't be loaded: {error}. {_remedy(str(error))}") from None
    return open3d  # type: ignore[no-any-return]


def _remedy(message: str) -> str:
    for library, package in _DEBIAN_PACKAGE.items():
        if library in message:
            return f"On Debian and Ubuntu: apt-get install {package}. --bev bev.png needs no Open3D."
    return 'Install it with: pip install "open3d>=0.20,<0.21". --bev bev.png needs no Open3D.'


def _box_parts(boxes: BoxSet) -> list[Mesh]:
    rgb = _dimmed(boxes.colour_rgb, _DIM[boxes.weight])
    lines = box_segments(boxes.boxes).reshape(-1, 2, 3)
    if boxes.weight != "faint":
        lines = np.concatenate([lines, arrows(boxes.boxes, min_speed_mps=MOVING_MPS)])
    parts = [beams(lines, radius_m=_radius_m(lines, _WIDTH_SHARE[boxes.weight]), rgb=rgb)]
    if boxes.weight == "strong":
        parts.append(footprints(boxes.boxes, rgb=_dimmed(rgb, 0.55)))
    return parts


def _dimmed(rgb: Rgb, share: float) -> Rgb:
    return (rgb[0] * share, rgb[1] * share, rgb[2] * share)


def _radius_m(segments_m: NDArray[np.float64], share: float) -> NDArray[np.float64]:
    distance = np.linalg.norm(segments_m.mean(axis=1) - np.array(EYE_M), axis=1)
    return np.asarray(share * distance)


def _window(scene: Scene, *, size_px: tuple[int, int], visible: bool) -> Any:
    """A window with the scene in it and the camera in place."""
    o3d = load_open3d()
    title = f"{scene.title} - SIMULATED DATA" if scene.simulated else scene.title
    visualizer = o3d.visualization.Visualizer()
    # Without a display Open3D reports at length how it found another way.
    with o3d.utility.VerbosityContextManager(o3d.utility.VerbosityLevel.Error), _runtime_folder():
        opened = visualizer.create_window(title, width=size_px[1], height=size_px[0], visible=visible)
    if not opened:
        raise UserError(
            "Open3D can't open a window, nor draw without one. On Debian and Ubuntu: "
            "apt-get install libegl1 libegl-mesa0 libgl1-mesa-dri. --bev bev.png needs no Open3D."
        )
    points = o3d.geometry.PointCloud(o3d.utility.Vector3dVector(scene.points_m.astype(np.float64)))
    points.colors = o3d.utility.Vector3dVector(scene.point_rgb.astype(np.float64))
    mesh = scene_mesh(scene)
    triangles = o3d.geometry.TriangleMesh(
        o3d.utility.Vector3dVector(mesh.vertices_m), o3d.utility.Vector3iVector(mesh.triangles)
    )
    triangles.vertex_colors = o3d.utility.Vector3dVector(mesh.vertex_rgb)
    for geometry in (points, triangles):
        visualizer.add_geometry(geometry)
    options = visualizer.get_render_option()
    options.background_color = np.array(_BACKGROUND)
    options.light_on = False
    options.mesh_show_back_face = True
    options.point_size = 2.0 if visible else 3.0
    _place_camera(o3d, visualizer, size_px=size_px)
    return visualizer


@contextmanager
def _runtime_folder() -> Iterator[None]:
    """Name a runtime folder where none is set: libraries for displays complain on stderr otherwise."""
    if "XDG_RUNTIME_DIR" in os.environ:
        yield
        return
    os.environ["XDG_RUNTIME_DIR"] = tempfile.gettempdir()
    try:
        yield
    finally:
        del os.environ["XDG_RUNTIME_DIR"]


def _labels(scene: Scene, size_px: tuple[int, int]) -> list[Label]:
    """Names over the boxes that need a look, and the rings' radii, where they appear in the picture."""
    diagonal = np.sqrt(0.5)
    labels = []
    for radius in RING_RADII_M:
        pixels, depth_m = _seen(np.array([[radius * diagonal, -radius * diagonal, 0.0]]), size_px)
        labels.append((f"{radius} m", pixels[0], depth_m.min(), _LABEL_RGB))
    for boxes in scene.box_sets:
        for corners, label in zip(boxes.boxes.corners(), boxes.boxes.label.tolist()):
            if boxes.weight == "strong":
                pixels, depth_m = _seen(corners, size_px)
                above = np.array([pixels[:, 0].mean(), pixels[:, 1].min() - 5])
                labels.append((short_name(label), above, depth_m.min(), boxes.colour_rgb))
    seen = [
        Label(text, (float(x), float(y)), rgb)
        for text, (x, y), depth_m, rgb in labels
        if depth_m > 1 and 0 < x < size_px[1] and 0 < y < size_px[0]
    ]
    room = uncrowded(np.array([label.xy_px for label in seen]).reshape(-1, 2), width=50, height=18)
    return [label for label, kept in zip(seen, room) if kept]


def _seen(points_m: NDArray[np.floating[Any]], size_px: tuple[int, int]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Pixels (N, 2) and depths (N,) of ego points in the picture."""
    seen = transform_points(camera_from_ego(EYE_M, TARGET_M), points_m)
    focal = _FOCAL_SHARE * size_px[0]
    return seen[:, :2] / seen[:, 2:] * focal + np.array(size_px[::-1]) / 2, seen[:, 2]


def _place_camera(o3d: ModuleType, visualizer: Any, *, size_px: tuple[int, int]) -> None:
    height, width = size_px
    camera = o3d.camera.PinholeCameraParameters()
    focal = _FOCAL_SHARE * height
    # Open3D only takes a principal point at the centre, counted from pixel centres.
    camera.intrinsic = o3d.camera.PinholeCameraIntrinsic(width, height, focal, focal, width / 2 - 0.5, height / 2 - 0.5)
    camera.extrinsic = camera_from_ego(EYE_M, TARGET_M)
    visualizer.get_view_control().convert_from_pinhole_camera_parameters(camera, allow_arbitrary=True)


def camera_from_ego(eye_m: tuple[float, float, float], target_m: tuple[float, float, float]) -> NDArray[np.float64]:
    """(4, 4) transform to a camera (x right, y down, z forward) that looks from one point at another."""
    forward = np.array(target_m) - np.array(eye_m)
    forward /= np.linalg.norm(forward)
    right = np.cross(forward, np.array([0.0, 0.0, 1.0]))
    right /= np.linalg.norm(right)
    out = np.eye(4)
    out[:3, :3] = np.stack([right, np.cross(forward, right), forward])
    out[:3, 3] = -out[:3, :3] @ np.array(eye_m)
    return out
