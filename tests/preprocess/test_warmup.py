import subprocess
import sys
from pathlib import Path

import pytest

from fusionkd.preprocess.compiled import forget_stale_kernels
from fusionkd.preprocess.warmup import announce_slowness, compile_kernels

# A fresh process, because other tests may have compiled what the warm-up forgets.
SCRIPT = """
import sys
import numpy as np
from numba.core.dispatcher import Dispatcher
from fusionkd.geometry import BevGrid
from fusionkd.geometry.iou import rotated_iou_bev
from fusionkd.geometry.nms import circle_nms, rotated_nms
from fusionkd import preprocess
from fusionkd.preprocess.warmup import compile_kernels

def compiled():
    modules = [m for n, m in sys.modules.items() if n.startswith("fusionkd.")]
    kernels = {id(v): v for m in modules for v in vars(m).values() if isinstance(v, Dispatcher)}
    return {kernel.py_func.__name__: len(kernel.signatures) for kernel in kernels.values()}

told = []
assert compile_kernels(told.append) > 0
before = compiled()
# Helpers that only kernels call need no signature of their own.
missing = {name for name, count in before.items() if count == 0}
inner = {"_clip", "_shared_area", "pair_iou", "_is_kept", "cells_of_block", "add_to_pillars", "_add_block"}
inner |= {"columns_of_block", "cells_of_columns", "points_on_grid", "open_cells", "_rows_of_pillars", "_open_hashed"}
inner |= {"_sides", "_tile", "near_boxes", "is_held", "mark_held"}
inner |= {"_take_block", "_is_ahead", "_mark", "_list_marked", "_project", "_draw_nearest", "_cell"}
inner |= {"_move_columns", "_write_moved"}
assert missing <= inner, missing - inner

cloud = np.random.default_rng(0).uniform(-3, 3, (99, 5)).astype(np.float32)
boxes = np.ones((2, 9), np.float32)
grid = BevGrid()
cloud = preprocess.fuse_sweeps([cloud, cloud[:5]], key_from_sweep=np.tile(np.eye(4), (2, 1, 1)), age_s=np.zeros(2))
preprocess.crop_to_grid(cloud, grid)
preprocess.hard_pillars(cloud, grid, max_points=20, max_pillars=30000)
preprocess.hard_pillars(cloud, grid, max_points=20, max_pillars=30000, threads=2)
preprocess.hard_pillars(
    cloud, grid, max_points=20, max_pillars=99, out=preprocess.PillarBuffer(max_points=20, max_pillars=99)
)
preprocess.mean_voxels(cloud, grid, layers=40, max_points=10, max_voxels=99)
preprocess.dynamic_pillars(cloud, grid)
preprocess.bev_raster(cloud, grid, z_slices=8)
preprocess.points_in_boxes(cloud, boxes)
preprocess.count_points_in_boxes(cloud, boxes)
preprocess.lidar_depth_maps(cloud, image_from_ego=np.tile(np.eye(4), (6, 1, 1)), size_px=(96, 256), stride=8)
rotated_iou_bev(boxes[:, :5], boxes[:, :5])
circle_nms(boxes[:, :2], boxes[:, 0], radius_m=2)
rotated_nms(boxes[:, :5], boxes[:, 0], iou=0.2)
assert compiled() == before, (compiled(), before)
print(*told)
"""


def test_the_warm_up_leaves_nothing_to_compile() -> None:
    run = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert "hard_pillars" in run.stdout.split()


def test_the_warm_up_may_be_silent_and_called_again() -> None:
    assert compile_kernels() >= 0


def test_slowness_is_told_once_and_haste_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    slow, fast = announce_slowness(after_s=0.0), announce_slowness(after_s=3600.0)
    for name in ("fuse_sweeps", "bev_raster"):
        slow(name)
        fast(name)
    assert capsys.readouterr().out.splitlines() == ["Compiling the Numba kernels, once on this machine ..."]


def test_kernels_of_changed_sources_are_forgotten(tmp_path: Path) -> None:
    (tmp_path / "kernel.py").write_text("a = 1\n")
    cache = tmp_path / "__pycache__"
    cache.mkdir()
    (cache / "kernel.nbi").write_text("compiled")
    forget_stale_kernels(tmp_path)
    assert not (cache / "kernel.nbi").exists()
    (cache / "kernel.nbi").write_text("compiled")
    forget_stale_kernels(tmp_path)
    assert (cache / "kernel.nbi").exists()
    (tmp_path / "kernel.py").write_text("a = 2\n")
    forget_stale_kernels(tmp_path)
    assert not (cache / "kernel.nbi").exists()
