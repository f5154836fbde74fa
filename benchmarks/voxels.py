"""Points to pillars and voxels beside spconv's PointToVoxel, on one thread, in turns in one process.

    python benchmarks/voxels.py                         # seeded clouds
    python benchmarks/voxels.py --root DATA/nuscenes    # a real keyframe, used for all ten sweeps, beside a seeded one

Padded points are compared like with like: results of their own with spconv's copied out of its buffers, reused memory
with its buffers. Means are compared with the mean of spconv's padded points. Voxels, counts and order must be equal.
Needs spconv (``pip install fusionkd[peers]``); without it nothing is measured, and a line says so.
"""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from clouds import Drive, options
from common import Row, compare, result_name, use_one_thread, write_result
from numpy.typing import NDArray

from fusionkd.geometry import BevGrid
from fusionkd.models.dynamic_pillars import scatter_pillars
from fusionkd.preprocess import PillarBuffer, dynamic_pillars, hard_pillars, mean_voxels

SIDE_M = 102.4


def peer_of(grid: BevGrid, *, layers: int, most: int, points: int) -> Any:
    """The object of spconv for a grid."""
    from spconv.pytorch.utils import PointToVoxel

    size = [grid.cell_m, grid.cell_m, (grid.z_max_m - grid.z_min_m) / layers]
    reach = [grid.x_min_m, grid.y_min_m, grid.z_min_m, grid.x_max_m, grid.y_max_m, grid.z_max_m]
    return PointToVoxel(size, reach, 5, most, points)


def padded(cloud: NDArray[np.float32], *, cell_m: float, most: int, name: str, rounds: int) -> list[Row]:
    """Padded pillars as results of their own and in reused memory, and with two threads."""
    grid = BevGrid(cell_m=cell_m)
    voxelize, tensor = peer_of(grid, layers=1, most=most, points=20), torch.from_numpy(cloud)
    limits: dict[str, Any] = {"max_points": 20, "max_pillars": most}
    buffer = PillarBuffer(**limits)

    def fresh() -> Any:
        return hard_pillars(cloud, grid, **limits)

    def reused() -> Any:
        return hard_pillars(cloud, grid, **limits, out=buffer)

    def threads() -> Any:
        return hard_pillars(cloud, grid, **limits, out=buffer, threads=2)

    def copied() -> Any:
        return [part.clone() for part in voxelize(tensor)]

    voxels, cells, count = copied()
    for found in (fresh(), reused(), threads()):
        np.testing.assert_array_equal(found.row_column, cells.numpy()[:, 1:])
        np.testing.assert_array_equal(found.count, count.numpy())
        np.testing.assert_array_equal(found.points, voxels.numpy())
    what = f"{len(cloud):,} {name} points to {len(voxels):,} padded pillars"
    pairs = (
        (f"{what}, a result of its own", fresh, copied, "spconv PointToVoxel, copied", 2.0),
        (f"{what}, reused memory", reused, lambda: voxelize(tensor), "spconv PointToVoxel, its own buffers", 2.0),
        (f"{what}, reused memory, two threads", threads, reused, "the same, one thread", None),
    )
    return [compare(text, a, b, peer_name=peer, rounds=rounds, target=aim) for text, a, b, peer, aim in pairs]


def means(cloud: NDArray[np.float32], grid: BevGrid, *, layers: int, rounds: int) -> list[Row]:
    """Mean voxels beside spconv and a mean, and beside a copy of the same bytes."""
    points, most = (20 if layers == 1 else 10), 300_000
    voxelize, tensor = peer_of(grid, layers=layers, most=most, points=points), torch.from_numpy(cloud)

    def ours() -> Any:
        return mean_voxels(cloud, grid, layers=layers, max_points=points, max_voxels=most)

    def peers() -> Any:
        voxels, cells, count = voxelize(tensor)
        return voxels.sum(dim=1) / count[:, None], cells, count

    found, (mean, cells, count) = ours(), peers()
    np.testing.assert_array_equal(found.layer_row_column, cells.numpy())
    np.testing.assert_array_equal(found.count, count.numpy())
    np.testing.assert_allclose(found.mean, mean.numpy(), rtol=1e-5, atol=1e-4)
    np.testing.assert_array_equal(ours().mean, found.mean)
    what = f"{len(cloud):,} points to {len(found):,} mean {'pillars' if layers == 1 else 'voxels'} of {grid.cell_m} m"
    into = np.empty_like(cloud)
    name = "spconv PointToVoxel, then a mean"
    return [
        compare(what, ours, peers, peer_name=name, rounds=rounds, target=10.0),
        compare(
            what, ours, lambda: np.copyto(into, cloud), peer_name="a copy of the points", rounds=rounds, target=0.1
        ),
    ]


def on_device(cloud: NDArray[np.float32], rounds: int) -> Row:
    """Dynamic pillars by torch's scatter, on the GPU where there is one, beside the kernel."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    grid, tensor = BevGrid(cell_m=0.2), torch.from_numpy(cloud).to(device)

    def scatter() -> Any:
        found = scatter_pillars(tensor, grid)
        if device.type == "cuda":
            torch.cuda.synchronize()
        return found

    found, expected = scatter(), dynamic_pillars(cloud, grid)
    np.testing.assert_array_equal(found.pillar_of_point.cpu().numpy(), expected.pillar_of_point)
    what = f"{len(cloud):,} points to dynamic pillars, Numba"
    name = f"torch scatter on {device.type}"
    return compare(what, lambda: dynamic_pillars(cloud, grid), scatter, peer_name=name, rounds=rounds)


def main() -> None:
    given = options(__doc__, rounds=21)
    try:
        import spconv  # noqa: F401
    except ImportError:
        print("spconv is not installed: there is nothing to compare with (pip install fusionkd[peers])")
        return
    use_one_thread()
    with tempfile.TemporaryDirectory() as folder:
        cloud = Drive(Path(folder), given.sweep).by_fusionkd()
    shuffled = np.random.default_rng(0).random((300_000, 5)).astype(np.float32)
    shuffled = shuffled * np.float32([SIDE_M, SIDE_M, 8, 255, 0.5]) - np.float32([SIDE_M / 2, SIDE_M / 2, 5, 0, 0])
    rows = padded(cloud, cell_m=0.2, most=150_000, name="LiDAR", rounds=given.rounds)
    for cells in (173, 432):  # a side: 30,000 and 150,000 pillars, points in no order
        grid_m = SIDE_M / cells
        rows += padded(shuffled, cell_m=grid_m, most=cells**2, name="scattered", rounds=given.rounds)
    rows += means(cloud, BevGrid(cell_m=0.2), layers=1, rounds=given.rounds)
    rows += means(cloud, BevGrid(-54.0, 54.0, -54.0, 54.0, 0.075), layers=40, rounds=given.rounds)
    rows.append(on_device(cloud, given.rounds))
    name = result_name("voxels", simulated=given.root is None)
    write_result(name, rows, simulated=given.root is None, packages=("numba", "spconv", "torch"))


if __name__ == "__main__":
    main()
