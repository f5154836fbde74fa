"""Where the things of a simulated world really are, at any time: the world is drawn again from its settings."""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fusionkd.errors import UserError
from fusionkd.geometry import invert_rigid, quaternion_from_yaw, rigid_from_quaternion
from fusionkd.simulation.recording import ANNOTATED_WITHIN_M, SceneRecorder
from fusionkd.simulation.sensing import count_inside, seen_at
from fusionkd.simulation.settings import WorldSettings
from fusionkd.simulation.writing import MARK, describe


class ExactBoxes(NamedTuple):
    """M things that the LiDAR hit, in the GLOBAL frame.

    Attributes:
        instance: Tokens of their instances.
        category: nuScenes category names.
        attribute: Attribute names, "" for none.
        xyz_m: Centres, (M, 3).
        lwh_m: (M, 3).
        wxyz: Quaternions, scalar first, (M, 4).
        velocity_mps: Of that very moment, (M, 2).
        num_points: LiDAR points inside, at least 1, (M,).
    """

    instance: list[str]
    category: list[str]
    attribute: list[str]
    xyz_m: NDArray[np.float64]
    lwh_m: NDArray[np.float64]
    wxyz: NDArray[np.float64]
    velocity_mps: NDArray[np.float64]
    num_points: NDArray[np.int64]


class WorldTruth:
    """The truth behind a written world.

    Args:
        settings: Of the world.
    """

    def __init__(self, settings: WorldSettings) -> None:
        self._settings = settings
        self._recorders: dict[str, SceneRecorder] = {}

    @classmethod
    def of(cls, root: Path) -> "WorldTruth | None":
        """The truth of the world at a root; None if there is no simulated one, or another version wrote it."""
        try:
            written = json.loads((root / MARK).read_text())
            settings = WorldSettings(**written["settings"])
        except (OSError, ValueError, KeyError, TypeError, UserError):
            return None
        alike = {**written, "fusionkd_version": describe(settings)["fusionkd_version"]} == describe(settings)
        return cls(settings) if alike else None

    def boxes(
        self, scene: str, time_us: int, *, points: NDArray[np.float32], global_from_lidar: NDArray[np.float64]
    ) -> ExactBoxes:
        """The things that a sweep hit, each where it was when the sweep passed it.

        Args:
            scene: Name of the scene.
            time_us: Timestamp of the sweep.
            points: The sweep, (P, 5), in the LiDAR frame.
            global_from_lidar: (4, 4), by the tables.
        """
        recorder = self._recorder(scene)
        world, time_s = recorder.scene, (time_us - recorder.first_us) * 1e-6
        at_s = seen_at(world, time_s)
        xy, yaw = world.tracks.at(at_s)
        velocity = world.tracks.velocity_at(at_s)
        turn = world.global_from_scene[:2, :2]
        turn_rad = float(np.arctan2(turn[1, 0], turn[0, 0]))
        away = np.linalg.norm(xy - world.ego_pose(time_s)[:2, 3], axis=1)
        lidar_from_global = invert_rigid(global_from_lidar)
        rows, centres, turns, counts = [], [], [], []
        for i in np.flatnonzero(away < ANNOTATED_WITHIN_M).tolist():
            lwh_m = world.things[i].lwh_m
            centre = (world.global_from_scene @ np.array([*xy[i], lwh_m[2] / 2, 1.0]))[:3]
            rotation = quaternion_from_yaw(float(np.remainder(yaw[i] + turn_rad + np.pi, 2 * np.pi) - np.pi))
            count = count_inside(points, lidar_from_global @ rigid_from_quaternion(rotation, centre), lwh_m)
            if count:
                rows.append(i)
                centres.append(centre)
                turns.append(rotation)
                counts.append(count)
        things = [world.things[i] for i in rows]
        return ExactBoxes(
            [recorder.instance_token(i) for i in rows],
            [thing.category for thing in things],
            [thing.attribute(float(np.hypot(*velocity[i]))) for thing, i in zip(things, rows)],
            np.array(centres).reshape(-1, 3),
            np.array([thing.lwh_m for thing in things]).reshape(-1, 3),
            np.array(turns).reshape(-1, 4),
            velocity[rows] @ turn.T,
            np.array(counts, dtype=np.int64),
        )

    def _recorder(self, scene: str) -> SceneRecorder:
        if scene not in self._recorders:
            number = self._settings.scene_names().index(scene)
            # Only drawn, never told to record: nothing is written.
            self._recorders[scene] = SceneRecorder(Path(), self._settings, number, lambda: None)
        return self._recorders[scene]
