"""From the JSON tables of a nuScenes version to the arrays of an index."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusionkd.data.index_arrays import (
    Annotations,
    Calibrations,
    Images,
    IndexArrays,
    Samples,
    Scenes,
    SensorData,
    Sweeps,
)
from fusionkd.data.tables import Table, no_garbage_collection
from fusionkd.errors import UserError
from fusionkd.geometry import CAMERAS, DETECTION_CLASSES, rotation_from_quaternion

LIDAR = "LIDAR_TOP"
"""The channel of the LiDAR."""

DETECTION_CLASS_OF_CATEGORY: dict[str, str] = {
    "movable_object.barrier": "barrier",
    "vehicle.bicycle": "bicycle",
    "vehicle.bus.bendy": "bus",
    "vehicle.bus.rigid": "bus",
    "vehicle.car": "car",
    "vehicle.construction": "construction_vehicle",
    "vehicle.motorcycle": "motorcycle",
    "human.pedestrian.adult": "pedestrian",
    "human.pedestrian.child": "pedestrian",
    "human.pedestrian.construction_worker": "pedestrian",
    "human.pedestrian.police_officer": "pedestrian",
    "movable_object.trafficcone": "traffic_cone",
    "vehicle.trailer": "trailer",
    "vehicle.truck": "truck",
}
"""nuScenes' detection task: which category counts as which class; all others aren't detected."""

MAX_TIME_DIFFERENCE_S = 1.5
"""Longest time between two annotations from which the devkit takes a velocity (doubled across two gaps)."""


def build_arrays(folder: Path) -> IndexArrays:
    """Read all tables of a version.

    Args:
        folder: Where the JSON tables lie.

    Raises:
        UserError: If a table is malformed, lacks a key or points to records that aren't there.
    """
    with no_garbage_collection():
        return _arrays(folder)


def _arrays(folder: Path) -> IndexArrays:
    scene_table, sample_table = Table(folder / "scene.json"), Table(folder / "sample.json")
    sample_rows = sample_table.rows_by_token()
    scene_of_sample = sample_table.links("scene_token", scene_table.rows_by_token(), to="scene")
    sample_time_us = sample_table.numbers("timestamp").astype(np.int64)
    channels, calibrations = _calibrations(folder)
    data = Table(folder / "sample_data.json")
    sensor_row = data.links("calibrated_sensor_token", channels.rows, to="calibrated_sensor")
    channel = channels.channel[sensor_row]
    sample_of_data = data.links("sample_token", sample_rows, to="sample")
    poses = Table(folder / "ego_pose.json")
    shared = _SharedColumns(data, poses, sensor_row, scene_of_sample[sample_of_data])
    sweep_rows = np.flatnonzero(channel == len(CAMERAS))
    image_rows = np.flatnonzero((channel >= 0) & (channel < len(CAMERAS)))
    sweeps = Sweeps(**shared.rows(sweep_rows), previous=_previous(data, sweep_rows))
    images = Images(
        **shared.rows(image_rows),
        camera=channel[image_rows],
        size_px=_image_sizes(data, image_rows),
    )
    n = len(sample_table)
    samples = Samples(
        token=sample_table.strings("token"),
        scene=scene_of_sample,
        timestamp_us=sample_time_us,
        sweep=_keyframes(sweeps, sample_of_data[sweep_rows], np.zeros(len(sweeps), np.int64), (n, 1))[:, 0],
        image=_keyframes(images, sample_of_data[image_rows], images.camera, (n, len(CAMERAS))),
    )
    annotations, categories, attributes = _annotations(folder, sample_rows, sample_time_us)
    return IndexArrays(
        scenes=_scenes(folder, scene_table),
        samples=samples,
        sweeps=sweeps,
        images=images,
        calibrations=calibrations,
        annotations=annotations,
        category_names=categories,
        attribute_names=attributes,
    )


class _SharedColumns:
    """What every kind of sensor data has, read once for all of them."""

    def __init__(self, data: Table, poses: Table, sensor_row: NDArray[np.int64], scene: NDArray[np.int64]) -> None:
        pose = data.links("ego_pose_token", poses.rows_by_token(), to="ego_pose")
        self._columns: dict[str, NDArray[Any]] = {
            "timestamp_us": data.numbers("timestamp").astype(np.int64),
            "scene": scene,
            "is_keyframe": np.asarray(data.column("is_key_frame"), dtype=np.bool_),
            "calibration": sensor_row,
            "ego_xyz_m": poses.numbers("translation", 3)[pose],
            "ego_wxyz": _quaternions(poses)[pose],
        }
        self._texts = {"token": data.column("token"), "filename": data.column("filename")}

    def rows(self, rows: NDArray[np.int64]) -> dict[str, Any]:
        """The columns of some rows, by the names of ``SensorData``."""
        texts = {
            name: np.array([values[row].encode() for row in rows], dtype=np.bytes_)
            for name, values in self._texts.items()
        }
        return {**texts, **{name: values[rows] for name, values in self._columns.items()}}


class _Channels:
    """Row of each calibrated sensor's token, and its channel: camera index, 6 for the LiDAR, -1 for others."""

    def __init__(self, table: Table, sensors: Table) -> None:
        self.rows = table.rows_by_token()
        names = sensors.column("channel")
        order = {name: i for i, name in enumerate((*CAMERAS, LIDAR))}
        sensor = table.links("sensor_token", sensors.rows_by_token(), to="sensor")
        self.channel = np.array([order.get(names[row], -1) for row in sensor], dtype=np.int64)


def _calibrations(folder: Path) -> tuple[_Channels, Calibrations]:
    table = Table(folder / "calibrated_sensor.json")
    channels = _Channels(table, Table(folder / "sensor.json"))
    intrinsics = np.zeros((len(table), 3, 3))
    for row, matrix in enumerate(table.column("camera_intrinsic")):
        if 0 <= channels.channel[row] < len(CAMERAS):
            if np.shape(matrix) != (3, 3):
                raise UserError(
                    f"Record {row} of table {table.path} belongs to {CAMERAS[channels.channel[row]]}, so its "
                    f"camera_intrinsic must be a 3x3 matrix, found {matrix!r}."
                )
            intrinsics[row] = matrix
    return channels, Calibrations(table.numbers("translation", 3), _quaternions(table), intrinsics)


def _scenes(folder: Path, table: Table) -> Scenes:
    logs = Table(folder / "log.json")
    locations = logs.column("location")
    log = table.links("log_token", logs.rows_by_token(), to="log")
    return Scenes(
        name=table.strings("name"),
        description=table.strings("description"),
        location=np.array([locations[row].encode() for row in log], dtype=np.bytes_),
    )


def _previous(data: Table, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Row of the sweep before each sweep, -1 where a chain begins."""
    tokens, before = data.column("token"), data.column("prev")
    place = {tokens[row]: i for i, row in enumerate(rows)}
    previous = np.fromiter((place.get(before[row], -1) for row in rows), dtype=np.int64, count=len(rows))
    time_us = data.numbers("timestamp")[rows]
    for row in rows[(previous >= 0) & (time_us[previous] >= time_us)]:
        raise UserError(
            f"Record {row} of table {data.path} is a LiDAR sweep that is no later than the one its prev names; "
            f"timestamps must rise along a scene."
        )
    return previous


def _image_sizes(data: Table, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    sizes = np.stack([data.numbers("height"), data.numbers("width")], axis=1)[rows].astype(np.int64)
    for row in rows[np.any(sizes <= 0, axis=1)]:
        raise UserError(f"Record {row} of table {data.path} is a camera image whose height or width isn't positive.")
    return sizes


def _keyframes(
    data: SensorData, sample: NDArray[np.int64], channel: NDArray[np.int64], shape: tuple[int, int]
) -> NDArray[np.int64]:
    """Row of the keyframe recording per (sample, channel), -1 where there is none."""
    out = np.full(shape, -1, dtype=np.int64)
    rows = np.flatnonzero(data.is_keyframe)
    out[sample[rows], channel[rows]] = rows
    return out


def _quaternions(table: Table) -> NDArray[np.float64]:
    wxyz = table.numbers("rotation", 4)
    norm = np.linalg.norm(wxyz, axis=1)
    for row in np.flatnonzero(np.abs(norm - 1) > 1e-2):
        raise UserError(
            f"Record {row} of table {table.path} has rotation={wxyz[row].tolist()}; expected a unit quaternion "
            f"(w, x, y, z), found length {norm[row]:.3f}."
        )
    return wxyz


def _annotations(
    folder: Path, sample_rows: dict[str, int], sample_time_us: NDArray[np.int64]
) -> tuple[Annotations, NDArray[np.bytes_], NDArray[np.bytes_]]:
    table = Table(folder / "sample_annotation.json")
    categories, attributes = Table(folder / "category.json"), Table(folder / "attribute.json")
    instances = Table(folder / "instance.json")
    sample = table.links("sample_token", sample_rows, to="sample")
    instance = table.links("instance_token", instances.rows_by_token(), to="instance")
    category = instances.links("category_token", categories.rows_by_token(), to="category")[instance]
    label = _labels(categories)[category]
    wxyz = _quaternions(table)
    axes = rotation_from_quaternion(wxyz)
    columns: dict[str, NDArray[Any]] = {
        "token": table.strings("token"),
        "xyz_m": table.numbers("translation", 3),
        "lwh_m": _sizes(table),
        "wxyz": wxyz,
        "yaw_rad": np.arctan2(axes[:, 1, 0], axes[:, 0, 0]),
        "velocity_mps": _velocities(table, 1e-6 * sample_time_us[sample]),
        "label": label,
        "category": category,
        "attribute": _attributes(table, attributes, label),
        "instance": instance,
        "num_lidar_pts": table.numbers("num_lidar_pts").astype(np.int64),
        "num_radar_pts": table.numbers("num_radar_pts").astype(np.int64),
        "visibility": _visibilities(table),
    }
    # Stable, so that each sample's boxes keep the table's order, which is the devkit's.
    order = np.argsort(sample, kind="stable")
    start = np.searchsorted(sample[order], np.arange(len(sample_time_us) + 1))
    boxes = Annotations(start=start, **{name: values[order] for name, values in columns.items()})
    return boxes, categories.strings("name"), attributes.strings("name")


def _labels(categories: Table) -> NDArray[np.int64]:
    names = [DETECTION_CLASS_OF_CATEGORY.get(name) for name in categories.column("name")]
    return np.array([-1 if name is None else DETECTION_CLASSES.index(name) for name in names], dtype=np.int64)


def _sizes(table: Table) -> NDArray[np.float64]:
    width_length_height = table.numbers("size", 3)
    for row in np.flatnonzero(np.any(width_length_height <= 0, axis=1)):
        raise UserError(
            f"Record {row} of table {table.path} has size={width_length_height[row].tolist()}; "
            f"width, length and height must be positive."
        )
    return width_length_height[:, [1, 0, 2]]


def _attributes(table: Table, attributes: Table, label: NDArray[np.int64]) -> NDArray[np.int64]:
    tokens = table.column("attribute_tokens")
    for row, names in enumerate(tokens):
        if len(names) > 1 and label[row] >= 0:
            raise UserError(
                f"Record {row} of table {table.path} has {len(names)} attributes; the nuScenes detection task "
                f"allows one at most."
            )
    first = [names[0] if names else "" for names in tokens]
    return table.rows_of("attribute_tokens", first, attributes.rows_by_token(), to="attribute", optional=True)


def _visibilities(table: Table) -> NDArray[np.int64]:
    tokens = table.column("visibility_token")
    levels = {"": 0, "1": 1, "2": 2, "3": 3, "4": 4}
    for row, token in enumerate(tokens):
        if token not in levels:
            raise UserError(
                f'Record {row} of table {table.path} has visibility_token={token!r}; expected "1", "2", "3", "4" or "".'
            )
    return np.array([levels[token] for token in tokens], dtype=np.int64)


def _velocities(table: Table, time_s: NDArray[np.float64]) -> NDArray[np.float64]:
    """Velocities (A, 2) by the rule of the devkit's ``NuScenes.box_velocity``, number for number."""
    rows = table.rows_by_token()
    previous = table.links("prev", rows, to="sample_annotation", optional=True)
    following = table.links("next", rows, to="sample_annotation", optional=True)
    here = np.arange(len(table))
    first = np.where(previous >= 0, previous, here)
    last = np.where(following >= 0, following, here)
    xyz_m = table.numbers("translation", 3)
    duration_s = time_s[last] - time_s[first]
    both = (previous >= 0) & (following >= 0)
    known = (first != last) & (duration_s <= np.where(both, 2, 1) * MAX_TIME_DIFFERENCE_S)
    with np.errstate(divide="ignore", invalid="ignore"):
        velocity = (xyz_m[last] - xyz_m[first])[:, :2] / duration_s[:, None]
    return np.where(known[:, None], velocity, np.nan)
