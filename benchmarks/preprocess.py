"""Numba kernels beside the code that people use today, on one thread, in turns in one process.

    python benchmarks/preprocess.py                         # a seeded cloud, shaped like nuScenes' LiDAR
    python benchmarks/preprocess.py --root DATA/nuscenes    # a real keyframe, used for all ten sweeps

Before anything is timed, both sides must give the same answer. spconv is optional
(``pip install fusionkd[peers]``); without it its rows are left out, and a line says so.
"""

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import Row, compare, use_one_thread, write_result
from numpy.typing import NDArray
from nuscenes.utils.data_classes import Box, LidarPointCloud
from nuscenes.utils.geometry_utils import points_in_box
from pyquaternion import Quaternion

from fusionkd.data.reading import read_sweep
from fusionkd.geometry import BevGrid, invert_rigid, rigid_from_quaternion, rigid_from_yaw
from fusionkd.preprocess import count_points_in_boxes, fuse_sweeps, hard_pillars

SWEEPS = 10
SWEEP_US = 50_000
EGO_FROM_LIDAR = rigid_from_quaternion([0.7077, -0.0065, 0.0106, -0.7064], [0.9437, 0.0, 1.8402])


class Drive:
    """Ten sweeps in files, with the tables that the devkit's sweep loader asks for."""

    def __init__(self, folder: Path, sweep: NDArray[np.float32]) -> None:
        self.dataroot = str(folder)
        self.paths = [folder / f"{k}.pcd.bin" for k in range(SWEEPS)]
        self.global_from_ego = [rigid_from_yaw(1.1 - 0.01 * k, [410 - 0.4 * k, 1180, 0]) for k in range(SWEEPS)]
        mount = {"translation": EGO_FROM_LIDAR[:3, 3].tolist(), "rotation": Quaternion(matrix=EGO_FROM_LIDAR).elements}
        self.rows: dict[tuple[str, str], Any] = {("calibrated_sensor", ""): mount}
        for k, path in enumerate(self.paths):
            sweep.tofile(path)
            pose = self.global_from_ego[k]
            self.rows["ego_pose", str(k)] = {
                "translation": pose[:3, 3].tolist(),
                "rotation": Quaternion(matrix=pose).elements,
            }
            self.rows["sample_data", str(k)] = {
                "filename": path.name,
                "timestamp": 1_532_402_927_647_951 - SWEEP_US * k,
                "ego_pose_token": str(k),
                "calibrated_sensor_token": "",
                "prev": str(k + 1) if k + 1 < SWEEPS else "",
            }

    def get(self, table: str, token: str) -> Any:
        """The row, as ``NuScenes.get`` gives it."""
        return self.rows[table, token]

    def by_devkit(self) -> tuple[LidarPointCloud, NDArray[np.float64]]:
        """The devkit's way, in the LiDAR frame of the keyframe."""
        return LidarPointCloud.from_file_multisweep(
            self, {"data": {"LIDAR_TOP": "0"}}, "LIDAR_TOP", "LIDAR_TOP", nsweeps=SWEEPS
        )

    def by_fusionkd(self, *, key_from_ego: NDArray[np.float64] | None = None) -> NDArray[np.float32]:
        """Our way; the key frame is ego, or another one for the check against the devkit."""
        first = invert_rigid(self.global_from_ego[0])
        key = first if key_from_ego is None else key_from_ego @ first
        return fuse_sweeps(
            [read_sweep(path) for path in self.paths],
            key_from_sweep=np.stack([key @ pose @ EGO_FROM_LIDAR for pose in self.global_from_ego]),
            age_s=np.arange(SWEEPS) * SWEEP_US * 1e-6,
        )


def seeded_sweep(seed: int = 0) -> NDArray[np.float32]:
    """A cloud with the rings, range and size of a nuScenes sweep: flat ground and walls around it."""
    rng = np.random.default_rng(seed)
    elevation, azimuth = np.meshgrid(np.radians(np.linspace(-30.67, 10.67, 32)), np.linspace(-np.pi, np.pi, 1085))
    ground = np.where(elevation < -0.01, -1.84 / np.sin(np.minimum(elevation, -0.01)), np.inf)
    wall = np.interp(azimuth, np.linspace(-np.pi, np.pi, 60), rng.uniform(4, 70, 60)) / np.cos(elevation)
    distance = np.minimum(ground, wall) + rng.normal(0, 0.02, azimuth.shape)
    flat = distance * np.cos(elevation)
    columns = [flat * np.cos(azimuth), flat * np.sin(azimuth), distance * np.sin(elevation)]
    ring = np.broadcast_to(np.arange(32), azimuth.shape)
    return np.stack([*columns, rng.uniform(0, 255, azimuth.shape), ring], -1).reshape(-1, 5).astype(np.float32)


def fusion(drive: Drive, rounds: int) -> Row:
    expected, age = drive.by_devkit()
    found = drive.by_fusionkd(key_from_ego=invert_rigid(EGO_FROM_LIDAR))
    np.testing.assert_allclose(found[:, :4], expected.points.T, rtol=0, atol=2e-5)
    np.testing.assert_allclose(found[:, 4], age[0], rtol=0, atol=1e-6)
    return compare(
        f"{SWEEPS} sweeps read, moved, joined",
        drive.by_fusionkd,
        drive.by_devkit,
        peer_name="devkit from_file_multisweep",
        rounds=rounds,
        target=12.0,
    )


def pillars(points: NDArray[np.float32], rounds: int) -> list[Row]:
    """Hard pillars at two sizes, beside spconv's with and without a copy out of its reused buffers."""
    try:
        from spconv.pytorch.utils import PointToVoxel
    except ImportError:
        print("spconv is not installed: its rows are left out (pip install fusionkd[peers])")
        return []
    rows = []
    for cell_m, limit in ((0.4, 60_000), (0.2, 150_000)):
        grid = BevGrid(cell_m=cell_m)
        size = [cell_m, cell_m, grid.z_max_m - grid.z_min_m]
        reach = [grid.x_min_m, grid.y_min_m, grid.z_min_m, grid.x_max_m, grid.y_max_m, grid.z_max_m]
        voxelize = PointToVoxel(size, reach, 5, limit, 20)
        cloud = torch.from_numpy(points)

        def ours(grid: BevGrid = grid, limit: int = limit) -> Any:
            return hard_pillars(points, grid, max_points=20, max_pillars=limit)

        def reused(voxelize: Callable[[torch.Tensor], Any] = voxelize, cloud: torch.Tensor = cloud) -> Any:
            return voxelize(cloud)

        def fresh(reused: Callable[[], Any] = reused) -> Any:
            return [tensor.clone() for tensor in reused()]

        found, (voxels, cells, count) = ours(), fresh()
        np.testing.assert_array_equal(found.row_column, cells.numpy()[:, 1:])
        np.testing.assert_array_equal(found.count, count.numpy())
        np.testing.assert_array_equal(found.points, voxels.numpy())
        what = f"{len(points):,} points to {len(found):,} pillars of {cell_m} m"
        for name, peer in (("copied", fresh), ("its own buffers", reused)):
            rows.append(compare(what, ours, peer, peer_name=f"spconv PointToVoxel, {name}", rounds=rounds, target=2.0))
    return rows


def boxes_hold(points: NDArray[np.float32], rounds: int, num_boxes: int = 70) -> Row:
    rng = np.random.default_rng(1)
    boxes = np.zeros((num_boxes, 9))
    boxes[:, :2] = points[rng.integers(0, len(points), num_boxes), :2]
    boxes[:, 2] = points[:, 2].mean()
    boxes[:, 3:6] = rng.uniform([0.6, 0.6, 1.5], [6.0, 2.5, 3.0], (num_boxes, 3))
    boxes[:, 6] = rng.uniform(-np.pi, np.pi, num_boxes)
    peers = [Box(b[:3], b[[4, 3, 5]], Quaternion(axis=[0, 0, 1], angle=b[6])) for b in boxes]
    columns = np.ascontiguousarray(points[:, :3].T)

    def by_devkit() -> list[int]:
        return [int(points_in_box(box, columns).sum()) for box in peers]

    difference = np.abs(count_points_in_boxes(points, boxes) - by_devkit())
    assert difference.max() <= 1, "more than a point on a face, where rounding decides, differs"
    return compare(
        f"{len(points):,} points in {num_boxes} boxes, counted",
        lambda: count_points_in_boxes(points, boxes),
        by_devkit,
        peer_name="devkit points_in_box",
        rounds=rounds,
        target=20.0,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, help="nuScenes root with samples/LIDAR_TOP")
    parser.add_argument("--rounds", type=int, default=31, help="calls of each side per row (default 31)")
    options = parser.parse_args()
    use_one_thread()
    if options.root is None:
        sweep = seeded_sweep()
    else:
        files = sorted((options.root / "samples" / "LIDAR_TOP").glob("*.bin"))
        if not files:
            parser.error(f"--root {options.root} holds no samples/LIDAR_TOP/*.bin; give the root of a nuScenes copy.")
        sweep = read_sweep(files[0])
    with tempfile.TemporaryDirectory() as folder:
        drive = Drive(Path(folder), sweep)
        rows = [fusion(drive, options.rounds)]
        points = drive.by_fusionkd()
    rows += pillars(points, options.rounds)
    rows += [boxes_hold(cloud, options.rounds) for cloud in (points[points[:, 4] == 0], points)]
    write_result(
        "preprocess",
        rows,
        simulated=options.root is None,
        packages=("numba", "nuscenes-devkit", "spconv", "torch"),
    )


if __name__ == "__main__":
    main()
