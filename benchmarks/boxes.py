"""Points in boxes, depth maps and pasted objects beside the devkit and a plain loop, on one thread, in turns.

python benchmarks/boxes.py                         # a seeded cloud
python benchmarks/boxes.py --root DATA/nuscenes    # a real keyframe
"""

import tempfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from clouds import EGO_FROM_LIDAR, Drive, options
from common import Row, compare, result_name, use_one_thread, write_result
from numpy.typing import NDArray
from nuscenes.utils.data_classes import Box
from nuscenes.utils.geometry_utils import points_in_box, view_points
from pyquaternion import Quaternion

from fusionkd.data import Frame, GtDatabase, GtPaste
from fusionkd.data.collate import Sample
from fusionkd.data.gt_database import GtPaster
from fusionkd.geometry import Boxes3D, CameraRig, invert_rigid, rigid_from_yaw
from fusionkd.preprocess import count_points_in_boxes, lidar_depth_maps

STORED_PX = (900, 1600)
FOCAL_PX = 1266.0
OBJECTS = 400
CAMERA_FROM_AXES = np.array([[0.0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1]])


def some_boxes(points: NDArray[np.float32], count: int, seed: int) -> NDArray[np.float32]:
    """Boxes where points are."""
    rng = np.random.default_rng(seed)
    boxes = np.zeros((count, 9))
    boxes[:, :2] = points[rng.integers(0, len(points), count), :2]
    boxes[:, 2] = points[:, 2].mean()
    boxes[:, 3:6] = rng.uniform([0.6, 0.6, 1.5], [6.0, 2.5, 3.0], (count, 3))
    boxes[:, 6] = rng.uniform(-np.pi, np.pi, count)
    return boxes.astype(np.float32)


def devkit_boxes(rows: NDArray[np.float32]) -> list[Box]:
    return [Box(b[:3], b[[4, 3, 5]], Quaternion(axis=[0, 0, 1], angle=float(b[6]))) for b in rows]


def boxes_hold(points: NDArray[np.float32], rounds: int) -> Row:
    """Points per box."""
    boxes = some_boxes(points, 70, seed=1)
    peers, columns = devkit_boxes(boxes), np.ascontiguousarray(points[:, :3].T)

    def by_devkit() -> list[int]:
        return [int(points_in_box(box, columns).sum()) for box in peers]

    difference = np.abs(count_points_in_boxes(points, boxes) - by_devkit())
    assert difference.max() <= 1, "more than a point on a face, where rounding decides, differs"
    return compare(
        f"{len(points):,} points in {len(boxes)} boxes, counted",
        lambda: count_points_in_boxes(points, boxes),
        by_devkit,
        peer_name="devkit points_in_box",
        rounds=rounds,
        target=20.0,
    )


def depth(points: NDArray[np.float32], rounds: int) -> Row:
    """Depth maps of six cameras; the devkit's steps of ``map_pointcloud_to_image`` without its files."""
    mounts = [rigid_from_yaw(k * np.pi / 3, [1.0, 0.0, 1.5]) @ invert_rigid(CAMERA_FROM_AXES) for k in range(6)]
    intrinsics = np.array([[FOCAL_PX, 0, STORED_PX[1] / 2], [0, FOCAL_PX, STORED_PX[0] / 2], [0, 0, 1]])
    scaled = np.diag([256 / STORED_PX[1], 96 / STORED_PX[0], 1.0])
    rig = CameraRig(np.tile(intrinsics, (6, 1, 1)), np.stack(mounts), np.tile(scaled, (6, 1, 1)), (96, 256))
    view = scaled @ intrinsics
    height, width = rig.size_px

    def by_devkit() -> NDArray[np.float32]:
        maps = np.zeros((6, height // 8, width // 8), np.float32)
        for camera, ego_from_camera in enumerate(mounts):
            camera_from_ego = invert_rigid(ego_from_camera)
            seen = camera_from_ego[:3, :3] @ points[:, :3].T + camera_from_ego[:3, 3:]
            pixels = view_points(seen, view, normalize=True)
            inside = (seen[2] >= 1) & (pixels[0] >= 0) & (pixels[0] < width) & (pixels[1] >= 0) & (pixels[1] < height)
            u, v, d = pixels[0, inside] // 8, pixels[1, inside] // 8, seen[2, inside]
            farthest_first = np.argsort(-d)
            maps[camera, v[farthest_first].astype(int), u[farthest_first].astype(int)] = d[farthest_first]
        return maps

    def ours() -> NDArray[np.float32]:
        return lidar_depth_maps(points, image_from_ego=rig.image_from_ego, size_px=rig.size_px, stride=8)

    differs = np.abs(ours() - by_devkit()) > 1e-3
    assert differs.mean() < 1e-3, "more than a point on a pixel's border, where rounding decides, differs"
    return compare(
        f"{len(points):,} points to depth maps of six cameras",
        ours,
        by_devkit,
        peer_name="devkit view_points and masks, nearest point kept",
        rounds=rounds,
        target=20.0,
    )


class ObjectFiles:
    """Objects in a file each, as mmdet3d keeps them, pasted by a plain loop."""

    def __init__(self, folder: Path, database: GtDatabase) -> None:
        self.database = database
        self.paths = [folder / f"{item}.bin" for item in range(len(database))]
        for item, path in enumerate(self.paths):
            database.cloud(item).tofile(path)

    def paste(self, points: NDArray[np.float32], boxes: NDArray[np.float32], items: list[int]) -> NDArray[np.float32]:
        """The cloud with those objects that collide with nothing."""
        taken, clouds, chosen = [_corners(box) for box in boxes], [], []
        for item in items:
            corners = _corners(self.database.boxes[item])
            if any(cv2.intersectConvexConvex(corners, other)[0] > 0 for other in taken):
                continue
            taken.append(corners)
            chosen.append(item)
            clouds.append(np.fromfile(self.paths[item], np.float32).reshape(-1, 5))
        columns, outside = points[:, :3].T, np.ones(len(points), np.bool_)
        for box in devkit_boxes(self.database.boxes[chosen]):
            outside &= ~points_in_box(box, columns)
        return np.concatenate([points[outside], *clouds])


def _corners(box: NDArray[np.float32]) -> NDArray[np.float32]:
    cos, sin = np.cos(box[6]), np.sin(box[6])
    signs = np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]]) * box[3:5] / 2
    return (signs @ np.array([[cos, sin], [-sin, cos]]) + box[:2]).astype(np.float32)


def paste(points: NDArray[np.float32], folder: Path, rounds: int) -> Row:
    """Objects pasted into a frame of ten sweeps."""
    rng = np.random.default_rng(4)
    rows = some_boxes(points, OBJECTS, seed=3)
    sizes = rng.integers(5, 400, OBJECTS)
    start = np.concatenate([[0], np.cumsum(sizes)])
    cloud = rng.random((int(start[-1]), 5)).astype(np.float32) + np.repeat(rows[:, [0, 1, 2, 7, 8]], sizes, axis=0)
    database = GtDatabase(rows, rng.integers(0, 10, OBJECTS), cloud, start)
    present = some_boxes(points, 40, seed=5)
    boxes = Boxes3D.from_array(present, rng.integers(0, 10, 40))
    rig = CameraRig(np.tile(np.eye(3), (6, 1, 1)), np.tile(np.eye(4), (6, 1, 1)), np.tile(np.eye(3), (6, 1, 1)), (8, 8))
    images = np.zeros((6, 8, 8, 3), np.uint8)
    frame = Frame("", "", 0, points, images, rig, boxes, np.eye(4), EGO_FROM_LIDAR)
    paster, sample, peer = GtPaster(database, GtPaste()), Sample.plain(frame), ObjectFiles(folder, database)

    def ours() -> Any:
        return paster.paste(sample, np.random.default_rng(0)).frame

    def loop() -> Any:
        return peer.paste(points, present, paster.candidates(boxes, np.random.default_rng(0)))

    np.testing.assert_array_equal(ours().points, loop())
    what = f"{len(ours().boxes) - len(boxes)} objects pasted into {len(points):,} points"
    name = "a file per object and a plain loop"
    return compare(what, ours, loop, peer_name=name, rounds=rounds, target=20.0)


def main() -> None:
    given = options(__doc__, rounds=15)
    use_one_thread()
    with tempfile.TemporaryDirectory() as folder:
        points = Drive(Path(folder), given.sweep).by_fusionkd()
        one = points[points[:, 4] == 0]
        rows = [boxes_hold(cloud, given.rounds) for cloud in (one, points)]
        rows += [depth(one, given.rounds), paste(points, Path(folder), given.rounds)]
    name = result_name("boxes", simulated=given.root is None)
    write_result(name, rows, simulated=given.root is None, packages=("numba", "nuscenes-devkit"))


if __name__ == "__main__":
    main()
