"""Compiles every kernel at a moment of the caller's choice, instead of inside the first batch."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from fusionkd.geometry.grid import BevGrid
from fusionkd.geometry.iou import rotated_iou_bev
from fusionkd.geometry.nms import circle_nms, rotated_nms
from fusionkd.preprocess.boxes import points_in_boxes, replace_points_in_boxes
from fusionkd.preprocess.cells import crop_to_grid
from fusionkd.preprocess.clouds import moved_points, younger
from fusionkd.preprocess.compiled import forget_stale_kernels
from fusionkd.preprocess.depth import lidar_depth_maps
from fusionkd.preprocess.direct import pillars_of_sweeps, raster_of_sweeps
from fusionkd.preprocess.frustum import frustum_cells, measured_cells
from fusionkd.preprocess.images import normalise_images
from fusionkd.preprocess.mixing import mixed_pillars
from fusionkd.preprocess.pillars import dynamic_pillars, hard_pillars
from fusionkd.preprocess.raster import bev_raster
from fusionkd.preprocess.sweeps import fuse_sweeps, look_at_sweep
from fusionkd.preprocess.voxels import mean_voxels


def compile_kernels(progress: Callable[[str], None] | None = None) -> float:
    """Calls every kernel once with a tiny input; later calls, and later processes, find it compiled.

    Numba keeps the machine code beside the sources (or in its cache folder, where they can't be
    written), so only the first run on a machine takes its time here. Call it before worker processes
    start, so that they don't all compile the same.

    Args:
        progress: Called with each kernel's name before it is compiled or loaded.

    Returns:
        Seconds taken.
    """
    grid = BevGrid(x_min_m=-4, x_max_m=4, y_min_m=-4, y_max_m=4, cell_m=1.0)
    points = np.array([[1, 1, 0, 10, 0], [2, 1, 0, 10, 0]], np.float32)
    received = np.frombuffer(points.tobytes(), np.float32).reshape(points.shape)
    old_first = np.array([[1, 1, 0, 10, 1], [2, 1, 0, 10, 0]], np.float32)
    boxes = np.array([[1, 1, 0, 2, 2, 2, 0, 0, 0]], np.float32)
    eye = np.eye(4)[None]
    motion: dict[str, Any] = {"key_from_sweep": eye, "age_s": [0.0]}
    two: dict[str, Any] = {"key_from_sweep": np.repeat(eye, 2, axis=0), "age_s": [0.0, 0.0]}
    calls: dict[str, Callable[[], object]] = {
        "fuse_sweeps, read-only": lambda: fuse_sweeps([received], key_from_sweep=eye, age_s=[0.0]),
        "look_at_sweep": lambda: look_at_sweep(points),
        "fuse_sweeps": lambda: fuse_sweeps([points], **motion),
        "fuse_sweeps in threads": lambda: fuse_sweeps([points, points], **two, threads=2),
        "crop_to_grid": lambda: crop_to_grid(points, grid),
        "hard_pillars": lambda: hard_pillars(points, grid, max_points=2, max_pillars=4),
        "hard_pillars in threads": lambda: hard_pillars(points, grid, max_points=2, max_pillars=4, threads=2),
        "mixed_pillars": lambda: mixed_pillars(points, grid, max_points=2, max_pillars=4),
        "younger": lambda: (younger(points, 0.0), younger(old_first, 0.5)),
        "moved_points": lambda: moved_points(points, np.eye(4)),
        "dynamic_pillars": lambda: dynamic_pillars(points, grid),
        "mean_voxels": lambda: mean_voxels(points, grid, max_points=2, max_voxels=4),
        "bev_raster": lambda: bev_raster(points, grid, z_slices=2),
        "pillars_of_sweeps": lambda: pillars_of_sweeps([points], grid, max_points=2, max_pillars=4, **motion),
        "pillars_of_sweeps, read-only": lambda: pillars_of_sweeps(
            [received], grid, max_points=2, max_pillars=4, **motion
        ),
        "raster_of_sweeps, read-only": lambda: raster_of_sweeps([received], grid, z_slices=2, **motion),
        "raster_of_sweeps": lambda: raster_of_sweeps([points], grid, z_slices=2, **motion),
        "points_in_boxes": lambda: points_in_boxes(points, boxes),
        "replace_points_in_boxes": lambda: replace_points_in_boxes(points, boxes, points),
        "lidar_depth_maps": lambda: lidar_depth_maps(points, image_from_ego=eye, size_px=(8, 8), stride=4),
        "frustum_cells": lambda: frustum_cells(eye, (1.0,), grid=grid, size_px=(8, 8), size=(1, 1)),
        "measured_cells": lambda: measured_cells(points, image_from_ego=eye, grid=grid, size_px=(8, 8), size=(1, 1)),
        "normalise_images": lambda: normalise_images(np.zeros((1, 2, 2, 3), np.uint8)),
        "circle_nms": lambda: circle_nms(boxes[:, :2], boxes[:, 0], radius_m=1.0),
        "rotated_nms": lambda: rotated_nms(boxes[:, [0, 1, 3, 4, 6]], boxes[:, 0], iou=0.2),
        "rotated_iou_bev": lambda: rotated_iou_bev(boxes[:, [0, 1, 3, 4, 6]], boxes[:, [0, 1, 3, 4, 6]]),
    }
    start = time.perf_counter()
    for room in ("preprocess", "geometry"):
        forget_stale_kernels(Path(__file__).parent.parent / room)
    for name, call in calls.items():
        if progress is not None:
            progress(name)
        call()
    return time.perf_counter() - start


def announce_slowness(after_s: float = 4.0) -> Callable[[str], None]:
    """A ``progress`` that says once what takes so long, where kernels are compiled and not just loaded.

    Args:
        after_s: How long to be silent; kernels that are only loaded take less.
    """
    start = time.perf_counter()
    told = False

    def progress(_name: str) -> None:
        nonlocal told
        if not told and time.perf_counter() - start > after_s:
            told = True
            print("Compiling the Numba kernels, once on this machine ...", flush=True)

    return progress
