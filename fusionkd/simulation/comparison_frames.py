"""Keyframes of any nuScenes-format root, as far as the root has them: what two worlds are compared by."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fusionkd.errors import UserError
from fusionkd.geometry import CAMERAS, invert_rigid, rigid_from_quaternion
from fusionkd.simulation.rig import LIDAR

TABLES_NEEDED: Final = ("sample", "sample_data", "calibrated_sensor", "sensor", "ego_pose", "scene")
TABLES_OF_BOXES: Final = ("sample_annotation", "instance", "category")

Row = dict[str, Any]


@dataclass(frozen=True)
class Annotated:
    """The boxes of a keyframe in its LiDAR frame.

    Attributes:
        kind: (B,) detection class of each.
        centre_m: (B, 3).
        lwh_m: (B, 3) length, width, height.
        points: (B,) LiDAR points inside, as the table says.
        speed_mps: (B,) from the neighbours in the instance's chain; NaN without any.
    """

    kind: tuple[str, ...]
    centre_m: NDArray[np.float64]
    lwh_m: NDArray[np.float64]
    points: NDArray[np.int64]
    speed_mps: NDArray[np.float64]


@dataclass(frozen=True)
class Keyframe:
    """One keyframe, as far as its files are there.

    Attributes:
        name: Scene and number.
        points: (N, 5) float32 x, y, z, intensity, ring in the LiDAR frame, or None.
        boxes: Annotations, or None if the root has no such table.
        images: Per camera its file; cameras without a file are absent.
    """

    name: str
    points: NDArray[np.float32] | None
    boxes: Annotated | None
    images: dict[str, Path] = field(default_factory=dict)


class Root:
    """The tables of a nuScenes-format folder.

    Args:
        path: The folder; it holds one folder of tables or ``version`` names one.
        version: Name of the version; None takes the only one there is.
        leave_out: Words; scenes whose description holds one of them are left out.

    Attributes:
        skipped: What the root lacks, in sentences.
        is_simulated: Whether the folder says so itself.

    Raises:
        UserError: If a needed table is missing, or if the version is ambiguous.
    """

    def __init__(self, path: Path, *, version: str | None = None, leave_out: tuple[str, ...] = ()) -> None:
        self.path = path
        self.skipped: list[str] = []
        self.is_simulated = (path / "simulated.json").is_file()
        found = sorted(p.parent.name for p in path.glob("*/sample_data.json"))
        if version is None:
            if len(found) != 1:
                held = ", ".join(found) or "none"
                raise UserError(f"{path} must hold one folder of nuScenes tables, found {held}. Name a version.")
            version = found[0]
        self._folder = path / version
        self._tables = {name: self._table(name) for name in TABLES_NEEDED}
        self._leave_out = leave_out
        missing = [name for name in TABLES_OF_BOXES if not (self._folder / f"{name}.json").is_file()]
        self._boxes: dict[str, list[Row]] | None = None
        if missing:
            self.skipped.append(f"boxes: no table {', '.join(missing)}")
        else:
            self._boxes = {}
            for row in self._table("sample_annotation"):
                self._boxes.setdefault(row["sample_token"], []).append(row)
            kinds = _kind_of_category(self._table("category"))
            self._kind = {row["token"]: kinds.get(row["category_token"]) for row in self._table("instance")}
            self._annotation = {row["token"]: row for rows in self._boxes.values() for row in rows}

    def _table(self, name: str) -> list[Row]:
        path = self._folder / f"{name}.json"
        try:
            rows: list[Row] = json.loads(path.read_text())
        except OSError as error:
            raise UserError(f"Table {path} can't be read: {error.strerror}. A comparison needs it.") from error
        except ValueError as error:
            raise UserError(f"Table {path} is no valid JSON: {error}.") from error
        return rows

    def keyframes(self) -> Iterator[Keyframe]:
        """All keyframes in the sample table's order; what is missing is noted in ``skipped``."""
        scenes = {row["token"]: row for row in self._tables["scene"]}
        self._time_us = {row["token"]: row["timestamp"] for row in self._tables["sample"]}
        sensors = {row["token"]: row["channel"] for row in self._tables["sensor"]}
        rigs = {row["token"]: row for row in self._tables["calibrated_sensor"]}
        poses = {row["token"]: row for row in self._tables["ego_pose"]}
        files: dict[str, dict[str, Row]] = {}
        for row in self._tables["sample_data"]:
            if row["is_key_frame"]:
                channel = sensors[rigs[row["calibrated_sensor_token"]]["sensor_token"]]
                files.setdefault(row["sample_token"], {})[channel] = row
        numbers: dict[str, int] = {}
        missing = dict.fromkeys((LIDAR, *CAMERAS), 0)
        for sample in self._tables["sample"]:
            scene = scenes[sample["scene_token"]]
            number = numbers.setdefault(scene["token"], 0)
            numbers[scene["token"]] += 1
            if any(word.lower() in scene["description"].lower() for word in self._leave_out):
                continue
            own = {c: row for c, row in files.get(sample["token"], {}).items() if c in missing}
            there = {
                c: self.path / row["filename"] for c, row in own.items() if (self.path / row["filename"]).is_file()
            }
            for channel in missing:
                missing[channel] += channel not in there
            points = read_points(there[LIDAR]) if LIDAR in there else None
            boxes = None
            if self._boxes is not None and LIDAR in own:
                pose, rig = poses[own[LIDAR]["ego_pose_token"]], rigs[own[LIDAR]["calibrated_sensor_token"]]
                boxes = self._annotated(
                    sample["token"],
                    invert_rigid(
                        rigid_from_quaternion(pose["rotation"], pose["translation"])
                        @ rigid_from_quaternion(rig["rotation"], rig["translation"])
                    ),
                )
            images = {channel: there[channel] for channel in CAMERAS if channel in there}
            yield Keyframe(f"{scene['name']}:{number}", points, boxes, images)
        self.skipped += [f"{channel}: {count} keyframes without a file" for channel, count in missing.items() if count]

    def _annotated(self, sample: str, lidar_from_global: NDArray[np.float64]) -> Annotated:
        assert self._boxes is not None
        rows = [row for row in self._boxes.get(sample, []) if self._kind.get(row["instance_token"])]
        centre = np.array([row["translation"] for row in rows], dtype=np.float64).reshape(-1, 3)
        size = np.array([row["size"] for row in rows], dtype=np.float64).reshape(-1, 3)
        return Annotated(
            tuple(str(self._kind[row["instance_token"]]) for row in rows),
            centre @ lidar_from_global[:3, :3].T + lidar_from_global[:3, 3],
            size[:, [1, 0, 2]],
            np.array([row["num_lidar_pts"] for row in rows], dtype=np.int64),
            np.array([self._speed_mps(row) for row in rows], dtype=np.float64),
        )

    def _speed_mps(self, row: Row) -> float:
        before = self._annotation.get(row["prev"], row)
        after = self._annotation.get(row["next"], row)
        seconds = (self._time_us[after["sample_token"]] - self._time_us[before["sample_token"]]) * 1e-6
        if not 0.0 < seconds < 3.0:
            return float("nan")
        way = np.subtract(after["translation"], before["translation"])
        return float(np.hypot(way[0], way[1]) / seconds)


def read_points(path: Path) -> NDArray[np.float32]:
    """Points of a nuScenes LiDAR file, (N, 5) float32.

    Raises:
        UserError: If the file's size isn't that of whole points.
    """
    values = np.fromfile(path, "<f4")
    if len(values) == 0 or len(values) % 5:
        raise UserError(f"{path} must hold points of five float32 each, found {values.nbytes} bytes.")
    return values.reshape(-1, 5)  # (N, 5)


def _kind_of_category(categories: list[Row]) -> dict[str, str | None]:
    # Imported here because the devkit brings matplotlib and more.
    from nuscenes.eval.detection.utils import category_to_detection_name

    return {row["token"]: category_to_detection_name(row["name"]) for row in categories}
