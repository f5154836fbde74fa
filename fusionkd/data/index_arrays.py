"""The arrays of a NuScenesIndex and how they are kept in one file."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from fusionkd.data.array_file import read_arrays, write_arrays
from fusionkd.geometry import rotation_from_quaternion

T = TypeVar("T")
Rows = int | list[int] | NDArray[np.int64]
"""One row of a table, or several."""


@dataclass(frozen=True)
class Scenes:
    """S scenes in the table's order.

    Attributes:
        name: (S,) UTF-8 bytes, as all text here.
        description: (S,).
        location: Where the log was taken, (S,).
    """

    name: NDArray[np.bytes_]
    description: NDArray[np.bytes_]
    location: NDArray[np.bytes_]


@dataclass(frozen=True)
class Samples:
    """N keyframes in the table's order.

    Attributes:
        token: (N,).
        scene: Row in ``Scenes``, (N,).
        timestamp_us: (N,) int64.
        sweep: Row in ``Sweeps`` of the LiDAR keyframe, -1 if there is none, (N,).
        image: Rows in ``Images`` of the six camera keyframes in the order of ``CAMERAS``, or -1, (N, 6).
    """

    token: NDArray[np.bytes_]
    scene: NDArray[np.int64]
    timestamp_us: NDArray[np.int64]
    sweep: NDArray[np.int64]
    image: NDArray[np.int64]


@dataclass(frozen=True)
class SensorData:
    """L recordings of one kind of sensor in the table's order.

    Attributes:
        token: sample_data tokens, (L,).
        filename: Relative to the root, (L,).
        timestamp_us: (L,) int64.
        scene: Row in ``Scenes``, (L,).
        is_keyframe: (L,) bool.
        calibration: Row in ``Calibrations``, (L,).
        ego_xyz_m: Ego position in the global frame at the timestamp, (L, 3).
        ego_wxyz: Ego orientation, (L, 4).
    """

    token: NDArray[np.bytes_]
    filename: NDArray[np.bytes_]
    timestamp_us: NDArray[np.int64]
    scene: NDArray[np.int64]
    is_keyframe: NDArray[np.bool_]
    calibration: NDArray[np.int64]
    ego_xyz_m: NDArray[np.float64]
    ego_wxyz: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.token)

    def global_from_ego(self, row: Rows) -> NDArray[np.float64]:
        """(4, 4) pose of the car when a recording was made, or (n, 4, 4) of several."""
        return _rigid(self.ego_wxyz[row], self.ego_xyz_m[row])

    def path(self, row: int) -> str:
        """File of a recording, relative to the root."""
        return str(self.filename[row].decode())


@dataclass(frozen=True)
class Sweeps(SensorData):
    """LiDAR sweeps.

    Attributes:
        previous: Row of the sweep before, -1 for the first of a scene, (L,).
    """

    previous: NDArray[np.int64]

    def chain(self, row: int, length: int) -> list[int]:
        """A sweep and those before it, newest first: ``length`` of them or as many as there are."""
        rows: list[int] = []
        while row >= 0 and len(rows) < length:
            rows.append(row)
            row = int(self.previous[row])
        return rows


@dataclass(frozen=True)
class Images(SensorData):
    """Camera images.

    Attributes:
        camera: Index in ``CAMERAS``, (L,).
        size_px: (height, width) by the table, (L, 2).
    """

    camera: NDArray[np.int64]
    size_px: NDArray[np.int64]


@dataclass(frozen=True)
class Calibrations:
    """Mountings of all sensors.

    Attributes:
        xyz_m: Position in the ego frame, (C, 3).
        wxyz: Orientation, (C, 4).
        intrinsics: Camera matrix, zeros for other sensors, (C, 3, 3).
    """

    xyz_m: NDArray[np.float64]
    wxyz: NDArray[np.float64]
    intrinsics: NDArray[np.float64]

    def ego_from_sensor(self, row: Rows) -> NDArray[np.float64]:
        """(4, 4) mounting of a sensor, or (n, 4, 4) of several."""
        return _rigid(self.wxyz[row], self.xyz_m[row])


@dataclass(frozen=True)
class Annotations:
    """A boxes of all keyframes in the GLOBAL frame, sample by sample, in the order of the devkit's ``sample["anns"]``.

    Attributes:
        start: Rows of sample ``i`` are ``start[i]`` up to, without, ``start[i + 1]``; (N + 1,).
        token: (A,).
        xyz_m: Centres, (A, 3) float64.
        lwh_m: Length, width, height (the table says width, length, height), (A, 3).
        wxyz: Orientation quaternions as in the table, (A, 4).
        yaw_rad: Heading of the length axis seen from above, (A,).
        velocity_mps: By the devkit's ``box_velocity``, NaN where it can't be known, (A, 2).
        label: Detection class, or -1 where the category is none, (A,).
        category: Row in the category table, (A,).
        attribute: Row in the attribute table, -1 for none, (A,).
        instance: Row in the instance table, (A,).
        num_lidar_pts: (A,).
        num_radar_pts: (A,).
        visibility: 1 (0-40 %) to 4 (80-100 %), 0 if unknown, (A,).
    """

    start: NDArray[np.int64]
    token: NDArray[np.bytes_]
    xyz_m: NDArray[np.float64]
    lwh_m: NDArray[np.float64]
    wxyz: NDArray[np.float64]
    yaw_rad: NDArray[np.float64]
    velocity_mps: NDArray[np.float64]
    label: NDArray[np.int64]
    category: NDArray[np.int64]
    attribute: NDArray[np.int64]
    instance: NDArray[np.int64]
    num_lidar_pts: NDArray[np.int64]
    num_radar_pts: NDArray[np.int64]
    visibility: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.label)

    def rows(self, sample: int) -> slice:
        """Rows of one sample's boxes."""
        return slice(int(self.start[sample]), int(self.start[sample + 1]))


@dataclass(frozen=True)
class IndexArrays:
    """Everything that an index knows, as arrays; see the parts."""

    scenes: Scenes
    samples: Samples
    sweeps: Sweeps
    images: Images
    calibrations: Calibrations
    annotations: Annotations
    category_names: NDArray[np.bytes_]
    attribute_names: NDArray[np.bytes_]


_PARTS: dict[str, type[Any]] = {
    "scenes": Scenes,
    "samples": Samples,
    "sweeps": Sweeps,
    "images": Images,
    "calibrations": Calibrations,
    "annotations": Annotations,
}


def save_arrays(path: Path, arrays: IndexArrays, fingerprint: str) -> None:
    """Write the arrays and the fingerprint of their tables, atomically."""
    flat: dict[str, NDArray[Any]] = {}
    for field in fields(arrays):
        value = getattr(arrays, field.name)
        if field.name in _PARTS:
            flat.update({f"{field.name}.{inner.name}": getattr(value, inner.name) for inner in fields(value)})
        else:
            flat[field.name] = value
    write_arrays(path, flat, note=fingerprint)


def load_arrays(path: Path, fingerprint: str) -> IndexArrays | None:
    """The arrays, mapped into memory, or None where there are none of this fingerprint or the file is damaged."""
    flat = read_arrays(path, note=fingerprint)
    if flat is None:
        return None
    try:
        parts: dict[str, Any] = {name: _read_part(kind, name, flat) for name, kind in _PARTS.items()}
        return IndexArrays(**parts, category_names=flat["category_names"], attribute_names=flat["attribute_names"])
    except KeyError:
        return None


def _read_part(kind: type[T], name: str, flat: dict[str, NDArray[Any]]) -> T:
    return kind(**{field.name: flat[f"{name}.{field.name}"] for field in fields(kind)})  # type: ignore[arg-type]


def _rigid(wxyz: NDArray[np.float64], xyz_m: NDArray[np.float64]) -> NDArray[np.float64]:
    out = np.zeros((*wxyz.shape[:-1], 4, 4))
    out[..., :3, :3] = rotation_from_quaternion(wxyz)
    out[..., :3, 3] = xyz_m
    out[..., 3, 3] = 1.0
    return out
