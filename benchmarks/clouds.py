"""Sweeps in files, real or seeded, for the benchmarks."""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from nuscenes.utils.data_classes import LidarPointCloud
from pyquaternion import Quaternion

from fusionkd.data.reading import SweepFiles, read_sweep
from fusionkd.geometry import invert_rigid, rigid_from_quaternion, rigid_from_yaw
from fusionkd.preprocess import fuse_sweeps

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

    def read(self) -> SweepFiles:
        """The sweeps, read as the data set reads them: each when its turn comes."""
        return SweepFiles(self.paths)

    def motion(self, *, key_from_ego: NDArray[np.float64] | None = None) -> dict[str, Any]:
        """How the sweeps are moved; the key frame is ego, or another one for the check against the devkit."""
        first = invert_rigid(self.global_from_ego[0])
        key = first if key_from_ego is None else key_from_ego @ first
        transforms = np.stack([key @ pose @ EGO_FROM_LIDAR for pose in self.global_from_ego])
        return {"key_from_sweep": transforms, "age_s": np.arange(SWEEPS) * SWEEP_US * 1e-6}

    def by_fusionkd(self, *, key_from_ego: NDArray[np.float64] | None = None) -> NDArray[np.float32]:
        """Our way."""
        return fuse_sweeps(self.read(), **self.motion(key_from_ego=key_from_ego))


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


def options(doc: str | None, rounds: int) -> argparse.Namespace:
    """Command line of the benchmarks on clouds, and the sweep that it names as ``sweep``."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, help="nuScenes root with samples/LIDAR_TOP")
    parser.add_argument("--rounds", type=int, default=rounds, help=f"calls of each side per row (default {rounds})")
    given = parser.parse_args()
    if given.root is None:
        given.sweep = seeded_sweep()
        return given
    files = sorted((given.root / "samples" / "LIDAR_TOP").glob("*.bin"))
    if not files:
        parser.error(f"--root {given.root} holds no samples/LIDAR_TOP/*.bin; give the root of a nuScenes copy.")
    given.sweep = read_sweep(files[0])
    return given
