"""Frames, grids, boxes and cameras: the values that every other room speaks in."""

from fusionkd.geometry.boxes import DETECTION_CLASSES, Boxes3D
from fusionkd.geometry.camera import CAMERAS, CameraRig
from fusionkd.geometry.grid import BevGrid
from fusionkd.geometry.transforms import (
    invert_affine,
    invert_rigid,
    quaternion_from_rotation,
    quaternion_from_yaw,
    rigid_from_quaternion,
    rigid_from_yaw,
    rotation_from_quaternion,
    transform_points,
    wrap_angle_rad,
    yaw_of,
)

__all__ = [
    "CAMERAS",
    "DETECTION_CLASSES",
    "BevGrid",
    "Boxes3D",
    "CameraRig",
    "invert_affine",
    "invert_rigid",
    "quaternion_from_rotation",
    "quaternion_from_yaw",
    "rigid_from_quaternion",
    "rigid_from_yaw",
    "rotation_from_quaternion",
    "transform_points",
    "wrap_angle_rad",
    "yaw_of",
]
