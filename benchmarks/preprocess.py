"""Sweeps fused, and raw sweeps to pillars or raster, beside nuscenes-devkit and spconv, on one thread, in turns.

    python benchmarks/preprocess.py                         # a seeded cloud, shaped like nuScenes' LiDAR
    python benchmarks/preprocess.py --root DATA/nuscenes    # a real keyframe, used for all ten sweeps

Before anything is timed, both sides must give the same answer. spconv is optional
(``pip install fusionkd[peers]``); without it its rows are left out, and a line says so.
"""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from clouds import EGO_FROM_LIDAR, SWEEPS, Drive, options
from common import Row, compare, result_name, use_one_thread, write_result

from fusionkd.geometry import BevGrid, invert_rigid
from fusionkd.preprocess import (
    PillarBuffer,
    bev_raster,
    fuse_sweeps,
    hard_pillars,
    pillars_of_sweeps,
    raster_of_sweeps,
)

CELL_M, PILLARS, POINTS = 0.2, 150_000, 20


def fusion(drive: Drive, rounds: int) -> list[Row]:
    """Ten sweeps, from files."""
    expected, age = drive.by_devkit()
    found = drive.by_fusionkd(key_from_ego=invert_rigid(EGO_FROM_LIDAR))
    np.testing.assert_allclose(found[:, :4], expected.points.T, rtol=0, atol=2e-5)
    np.testing.assert_allclose(found[:, 4], age[0], rtol=0, atol=1e-6)
    sweeps, motion = [sweep.copy() for sweep in drive.read()], drive.motion()
    np.testing.assert_array_equal(fuse_sweeps(sweeps, **motion, threads=2), fuse_sweeps(sweeps, **motion))
    return [
        compare(
            f"{SWEEPS} sweeps read, moved, joined",
            drive.by_fusionkd,
            drive.by_devkit,
            peer_name="devkit from_file_multisweep",
            rounds=rounds,
            target=12.0,
        ),
        compare(
            f"{SWEEPS} sweeps in memory moved, joined, two threads",
            lambda: fuse_sweeps(sweeps, **motion, threads=2),
            lambda: fuse_sweeps(sweeps, **motion),
            peer_name="the same, one thread",
            rounds=rounds,
        ),
    ]


def raw_to_pillars(drive: Drive, rounds: int) -> list[Row]:
    """Files to pillars that a pillar feature net reads, beside the devkit and spconv one after the other."""
    try:
        from spconv.pytorch.utils import PointToVoxel
    except ImportError:
        print("spconv is not installed: its row is left out (pip install fusionkd[peers])")
        return []
    grid = BevGrid(cell_m=CELL_M)
    size = [CELL_M, CELL_M, grid.z_max_m - grid.z_min_m]
    reach = [grid.x_min_m, grid.y_min_m, grid.z_min_m, grid.x_max_m, grid.y_max_m, grid.z_max_m]
    voxelize = PointToVoxel(size, reach, 5, PILLARS, POINTS)
    limits: dict[str, Any] = {"max_points": POINTS, "max_pillars": PILLARS}
    buffer = PillarBuffer(**limits)

    def ours() -> Any:
        return pillars_of_sweeps(drive.read(), grid, out=buffer, **drive.motion(), **limits)

    def peers() -> Any:
        cloud, age = drive.by_devkit()
        return voxelize(torch.from_numpy(np.concatenate([cloud.points, age]).T.astype(np.float32, order="C")))

    expected = hard_pillars(drive.by_fusionkd(), grid, **limits)
    np.testing.assert_array_equal(ours().points, expected.points)
    what = f"{SWEEPS} sweep files to {len(expected):,} pillars of {CELL_M} m"
    name = "devkit from_file_multisweep, then spconv PointToVoxel"
    return [compare(what, ours, peers, peer_name=name, rounds=rounds, target=10.0)]


def raw_to_raster(drive: Drive, rounds: int) -> Row:
    """Files to the raster that the student reads, beside our own two steps."""
    grid, motion = BevGrid(), drive.motion()

    def direct() -> Any:
        return raster_of_sweeps(drive.read(), grid, z_slices=8, **motion)

    def in_two_steps() -> Any:
        return bev_raster(fuse_sweeps(drive.read(), **motion), grid, z_slices=8)

    np.testing.assert_array_equal(direct(), in_two_steps())
    what = f"{SWEEPS} sweep files to a raster of {grid.cell_m} m"
    return compare(what, direct, in_two_steps, peer_name="fuse_sweeps, then bev_raster", rounds=rounds)


def main() -> None:
    given = options(__doc__, rounds=31)
    use_one_thread()
    with tempfile.TemporaryDirectory() as folder:
        drive = Drive(Path(folder), given.sweep)
        rows = [*fusion(drive, given.rounds), *raw_to_pillars(drive, given.rounds), raw_to_raster(drive, given.rounds)]
    packages = ("numba", "nuscenes-devkit", "spconv", "torch")
    name = result_name("preprocess", simulated=given.root is None)
    write_result(name, rows, simulated=given.root is None, packages=packages)


if __name__ == "__main__":
    main()
