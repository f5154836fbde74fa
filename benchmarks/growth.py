"""How each path's time grows with its input: points, boxes, samples. Writes docs/growth.svg, a log-log plot.

python benchmarks/growth.py
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from clouds import seeded_sweep
from common import Row, use_one_thread, write_result
from metric_memory import ANNOTATIONS, boxes, truth_of

from fusionkd.geometry import BevGrid
from fusionkd.geometry.nms import circle_nms, rotated_nms
from fusionkd.metrics import Detections, evaluate
from fusionkd.preprocess import bev_raster, fuse_sweeps, hard_pillars, lidar_depth_maps, mean_voxels, points_in_boxes

mpl.use("Agg")
import matplotlib.pyplot as plt

PICTURE = Path(__file__).resolve().parent.parent / "docs" / "growth.svg"
POINTS = (1_000, 10_000, 100_000, 1_000_000)
BOXES = (10, 30, 100, 300, 1000)
SAMPLES = (10, 100, 1000)


def best_ms(call: Callable[[], Any], rounds: int) -> float:
    """The shortest of several calls: what the work takes when nobody else disturbs."""
    call()
    taken = []
    for _ in range(rounds):
        start = time.perf_counter()
        call()
        taken.append(time.perf_counter() - start)
    return min(taken) * 1e3


def over_points(count: int) -> dict[str, Callable[[], Any]]:
    """Each path on a cloud of so many points."""
    sweep = seeded_sweep()
    rng = np.random.default_rng(0)
    cloud = sweep[np.sort(rng.integers(0, len(sweep), count))]
    cloud[:, 4] = rng.integers(0, 10, count) * np.float32(0.05)
    held = np.column_stack([cloud[rng.integers(0, count, 70), :3], np.full((70, 3), 3.0), np.zeros((70, 3))])
    camera = np.tile(np.array([[8.0, -8, 0, 0], [8, 0, -8, 0], [1, 0, 0, 0], [0, 0, 0, 1]]) * 16, (6, 1, 1))
    grid = BevGrid(cell_m=0.2)
    return {
        "fuse_sweeps": lambda: fuse_sweeps([cloud], key_from_sweep=np.eye(4)[None], age_s=[0.0]),
        "hard_pillars": lambda: hard_pillars(cloud, grid, max_points=20, max_pillars=60_000),
        "mean_voxels": lambda: mean_voxels(cloud, grid, layers=40, max_points=10, max_voxels=200_000),
        "bev_raster": lambda: bev_raster(cloud, BevGrid(), z_slices=8),
        "points_in_boxes": lambda: points_in_boxes(cloud, held),
        "lidar_depth_maps": lambda: lidar_depth_maps(cloud, image_from_ego=camera, size_px=(256, 256), stride=8),
    }


def over_boxes(count: int) -> dict[str, Callable[[], Any]]:
    """Suppression of so many boxes."""
    rng = np.random.default_rng(0)
    rows = np.concatenate([rng.uniform(-50, 50, (count, 2)), rng.uniform(0.5, 5, (count, 2)), np.zeros((count, 1))], 1)
    score = rng.random(count)
    return {
        "circle_nms": lambda: circle_nms(rows[:, :2], score, radius_m=1.0),
        "rotated_nms": lambda: rotated_nms(rows, score, iou=0.2),
    }


def over_samples(count: int, per_sample: int = 100) -> dict[str, Callable[[], Any]]:
    """The metric over so many samples of 100 detections and 30 annotations."""
    truth = truth_of([f"{i:032x}" for i in range(count)])
    rng = np.random.default_rng(2)
    columns = boxes(rng, count * per_sample)
    start = np.arange(count + 1) * per_sample
    found = Detections(tokens=truth.tokens, start=start, score=rng.random(count * per_sample), **columns)
    assert len(truth.label) == count * ANNOTATIONS
    return {"evaluate": lambda: evaluate(truth, found)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="calls per size, of which the shortest counts")
    rounds = parser.parse_args().rounds
    use_one_thread()
    kinds = (("points", POINTS, over_points), ("boxes", BOXES, over_boxes), ("samples", SAMPLES, over_samples))
    figure, axes = plt.subplots(1, len(kinds), figsize=(12, 4), sharey=True, layout="constrained")
    rows = []
    for axis, (unit, sizes, paths) in zip(axes, kinds):
        lines: dict[str, list[float]] = {}
        for size in sizes:
            for name, call in paths(size).items():
                lines.setdefault(name, []).append(best_ms(call, rounds))
        for name, values in lines.items():
            axis.loglog(sizes, values, marker="o", label=name)
            rows += [Row(f"{name}, {size:,} {unit}", value, "ms", better="lower") for size, value in zip(sizes, values)]
        axis.set_xlabel(f"{unit} (simulated)")
        axis.grid(which="both", alpha=0.3)
        axis.legend()
    axes[0].set_ylabel("milliseconds, one thread")
    mpl.rcParams["svg.hashsalt"] = "growth"
    figure.savefig(PICTURE, metadata={"Date": None})
    write_result("growth", rows, simulated=True, packages=("numba",))


if __name__ == "__main__":
    main()
