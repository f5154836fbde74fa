"""nuScenes' attributes, and the rule that gives a detection one."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusionkd.errors import UserError
from fusionkd.geometry import DETECTION_CLASSES

ATTRIBUTES: tuple[str, ...] = (
    "pedestrian.moving",
    "pedestrian.sitting_lying_down",
    "pedestrian.standing",
    "cycle.with_rider",
    "cycle.without_rider",
    "vehicle.moving",
    "vehicle.parked",
    "vehicle.stopped",
)
"""Attribute names in the order of every attribute index of this room; -1 stands for none."""

MOVING_SPEED_MPS = 0.2
"""Faster objects count as moving."""

_WHEN_MOVING_AND_STANDING = {
    "car": ("vehicle.moving", "vehicle.parked"),
    "truck": ("vehicle.moving", "vehicle.parked"),
    "construction_vehicle": ("vehicle.moving", "vehicle.parked"),
    "bus": ("vehicle.moving", "vehicle.stopped"),
    "trailer": ("vehicle.moving", "vehicle.parked"),
    "barrier": ("", ""),
    "motorcycle": ("cycle.with_rider", "cycle.without_rider"),
    "bicycle": ("cycle.with_rider", "cycle.without_rider"),
    "pedestrian": ("pedestrian.moving", "pedestrian.standing"),
    "traffic_cone": ("", ""),
}
_INDEX = {"": -1, **{name: index for index, name in enumerate(ATTRIBUTES)}}
_MOVING = np.array([_INDEX[_WHEN_MOVING_AND_STANDING[name][0]] for name in DETECTION_CLASSES], dtype=np.int64)
_STANDING = np.array([_INDEX[_WHEN_MOVING_AND_STANDING[name][1]] for name in DETECTION_CLASSES], dtype=np.int64)


def attribute_for(class_name: str, speed_mps: float) -> str:
    """The attribute that a detection gets from its class and speed.

    Above 0.2 m/s vehicles and pedestrians are "moving" and cycles "with_rider". Slower (or of unknown, NaN,
    speed) a bus is "stopped", other vehicles are "parked", pedestrians "standing", cycles "without_rider".
    Barriers and cones have no attribute. This is the rule of most public detectors (mmdetection3d's among them),
    whose heads, like ours, predict no attribute.

    Args:
        class_name: One of ``DETECTION_CLASSES``.
        speed_mps: Speed over ground.

    Returns:
        A name of ``ATTRIBUTES``, or "" for none.

    Raises:
        UserError: If there is no such class.
    """
    if class_name not in _WHEN_MOVING_AND_STANDING:
        raise UserError(f"Unknown class {class_name!r}; expected one of {', '.join(DETECTION_CLASSES)}.")
    moving, standing = _WHEN_MOVING_AND_STANDING[class_name]
    return moving if speed_mps > MOVING_SPEED_MPS else standing


def attributes_for(label: NDArray[np.int64], velocity_mps: NDArray[Any]) -> NDArray[np.int64]:
    """``attribute_for`` of many boxes: indices into ``ATTRIBUTES``, (N,), -1 for none.

    Args:
        label: Indices into ``DETECTION_CLASSES``, (N,).
        velocity_mps: (N, 2).
    """
    moving = np.hypot(velocity_mps[:, 0], velocity_mps[:, 1]) > MOVING_SPEED_MPS
    return np.where(moving, _MOVING[label], _STANDING[label])


def attribute_index(name: str) -> int:
    """Index of an attribute's name in ``ATTRIBUTES``; -1 for "".

    Raises:
        UserError: If nuScenes has no such attribute.
    """
    if name not in _INDEX:
        raise UserError(f"Unknown attribute {name!r}; expected one of {', '.join(ATTRIBUTES)}, or an empty string.")
    return _INDEX[name]
