"""From raw LiDAR points to what the networks read: Numba kernels behind pure functions on arrays."""

from fusionkd.preprocess.boxes import count_points_in_boxes, points_in_boxes, replace_points_in_boxes
from fusionkd.preprocess.cells import crop_to_grid
from fusionkd.preprocess.depth import lidar_depth_maps
from fusionkd.preprocess.direct import pillars_of_sweeps, raster_of_sweeps
from fusionkd.preprocess.pillar_memory import PillarBuffer, Pillars
from fusionkd.preprocess.pillars import DynamicPillars, dynamic_pillars, hard_pillars
from fusionkd.preprocess.raster import AGE_SCALE_S, bev_raster, raster_channels
from fusionkd.preprocess.sweeps import fuse_sweeps
from fusionkd.preprocess.voxels import MeanVoxels, mean_voxels

__all__ = [
    "AGE_SCALE_S",
    "DynamicPillars",
    "MeanVoxels",
    "PillarBuffer",
    "Pillars",
    "bev_raster",
    "count_points_in_boxes",
    "crop_to_grid",
    "dynamic_pillars",
    "fuse_sweeps",
    "hard_pillars",
    "lidar_depth_maps",
    "mean_voxels",
    "pillars_of_sweeps",
    "points_in_boxes",
    "raster_channels",
    "raster_of_sweeps",
    "replace_points_in_boxes",
]
