"""Frames made up for pictures: a ring of cameras, a flat ground, boxes where a test wants them."""

import numpy as np
from numpy.typing import NDArray

from fusionkd.data import Frame
from fusionkd.geometry import DETECTION_CLASSES, Boxes3D, CameraRig, rigid_from_yaw

# In the order of CAMERAS.
CAMERA_YAW_DEG = (55.0, 0.0, -55.0, 110.0, 180.0, -110.0)
IMAGE_GREY = (40, 60, 80, 100, 120, 140)
STORED_PX = (90, 160)


def camera_rig(size_px: tuple[int, int] = STORED_PX) -> CameraRig:
    """Six cameras 1.5 m above the ground around the car."""
    forward_from_camera = np.eye(4)
    forward_from_camera[:3, :3] = [[0, 0, 1], [-1, 0, 0], [0, -1, 0]]
    mounting = [
        rigid_from_yaw(yaw, (0.5 * np.cos(yaw), 0.5 * np.sin(yaw), 1.5)) @ forward_from_camera
        for yaw in np.deg2rad(CAMERA_YAW_DEG)
    ]
    matrix = np.array([[120.0, 0, 80], [0, 120.0, 45], [0, 0, 1]])
    scale = np.diag([size_px[1] / STORED_PX[1], size_px[0] / STORED_PX[0], 1])
    return CameraRig(np.tile(matrix, (6, 1, 1)), np.stack(mounting), np.tile(scale, (6, 1, 1)), size_px)


def boxes(*rows: tuple[str, float, float], score: float = 1.0, speed_mps: float = 0.0, yaw_rad: float = 0.0) -> Boxes3D:
    """Boxes of rows (class name, x, y) with the size of a car, on the ground."""
    array = np.array([[x, y, 0.8, 4.5, 1.9, 1.6, yaw_rad, speed_mps, 0] for _, x, y in rows]).reshape(-1, 9)
    label = np.array([DETECTION_CLASSES.index(name) for name, _, _ in rows], dtype=np.int64)
    return Boxes3D.from_array(array, label, np.full(len(rows), score, np.float32))


def ground_points(count: int = 4000) -> NDArray[np.float32]:
    """(P, 5) points on the ground, and a wall 20 m to the left."""
    generator = np.random.default_rng(3)
    angle, radius = generator.uniform(0, 2 * np.pi, count), generator.uniform(3, 50, count)
    ground = np.stack([radius * np.cos(angle), radius * np.sin(angle), np.zeros(count)], axis=1)
    wall = np.stack([generator.uniform(-30, 30, count), np.full(count, 20.0), generator.uniform(0, 4, count)], axis=1)
    xyz = np.concatenate([ground, wall])
    rest = np.stack([generator.uniform(0, 255, len(xyz)), np.zeros(len(xyz))], axis=1)
    return np.concatenate([xyz, rest], axis=1).astype(np.float32)


def made_up_frame(
    annotations: Boxes3D | None, *, points: NDArray[np.float32] | None = None, size_px: tuple[int, int] = STORED_PX
) -> Frame:
    """A frame whose images are plain greys, another one for each camera."""
    images = np.broadcast_to(np.array(IMAGE_GREY, np.uint8)[:, None, None, None], (6, *size_px, 3))
    return Frame(
        token="a" * 32,
        scene="scene-0001",
        timestamp_us=1_500_000_000_000_000,
        points=ground_points() if points is None else points,
        images=images,
        rig=camera_rig(size_px),
        boxes=annotations,
        global_from_ego=np.eye(4),
        ego_from_lidar=np.eye(4),
    )


def near_colour(picture: NDArray[np.uint8], rgb: tuple[float, float, float], tolerance: int = 12) -> NDArray[np.bool_]:
    """Which pixels of a picture have a colour, given in 0..1."""
    wanted = np.round(np.array(rgb) * 255)
    return np.asarray((np.abs(picture[..., :3].astype(int) - wanted) <= tolerance).all(axis=-1))
