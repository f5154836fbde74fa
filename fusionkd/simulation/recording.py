"""One scene on disk: sensor files, map and the scene's rows of the tables."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from fusionkd.geometry import (
    CAMERAS,
    invert_rigid,
    quaternion_from_rotation,
    quaternion_from_yaw,
    rigid_from_quaternion,
)
from fusionkd.simulation.camera import View
from fusionkd.simulation.mapping import write_map
from fusionkd.simulation.records import Record, Tables, calibrations, link, token, visibility_token
from fusionkd.simulation.rig import IMAGES_PER_KEYFRAME, KEYFRAME_US, LIDAR, MOUNTINGS, SWEEP_US, SWEEPS_PER_KEYFRAME
from fusionkd.simulation.scene import build_scene
from fusionkd.simulation.sensing import (
    Film,
    Seen,
    count_inside,
    image_height_px,
    seen_at,
    seen_of,
    take_image,
    take_sweep,
)
from fusionkd.simulation.settings import WorldSettings

FIRST_US: Final = 1_700_000_000_000_000
SCENE_US: Final = 1_000_000_000
"""Scenes begin this far apart."""
OLDER_SWEEPS: Final = SWEEPS_PER_KEYFRAME - 1
"""Sweeps before a scene's first keyframe, so that even that one has ten."""
ANNOTATED_WITHIN_M: Final = 80.0
UNSEEN_BY_LIDAR_WITHIN_M: Final = 60.0
SEEN_PX: Final = 24.0
"""Pixels of an 800 pixel wide image in which a thing without LiDAR points must be seen to be annotated."""
JPEG_QUALITY: Final = 92


@dataclass
class SceneRecorder:
    """Writes one scene; ``scene`` is what it draws, from ``first_us`` on, ``name`` what it is called.

    Args:
        root: Dataset folder.
        settings: Of the world.
        number: Of the scene in the world.
        on_keyframe: Called after each keyframe.
    """

    root: Path
    settings: WorldSettings
    number: int
    on_keyframe: Callable[[], None]
    _chains: dict[str, list[Record]] = field(default_factory=dict)
    _poses: list[Record] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.name = self.settings.scene_names()[self.number]
        self.first_us = FIRST_US + self.number * SCENE_US
        keyframes = self.settings.keyframes_per_scene
        self._last_sweep = OLDER_SWEEPS + SWEEPS_PER_KEYFRAME * (keyframes - 1)
        duration_s = (self._last_sweep * SWEEP_US + SWEEP_US) * 1e-6
        self.scene = build_scene(
            self._generator("scene"),
            duration_s=duration_s,
            mix=self.settings.class_mix,
            look_alike=self.settings.look_alike,
        )
        self._film = Film.drawn(self._generator("film"))

    def record(self) -> Tables:
        """Write all files of the scene and return its rows."""
        samples = [self._token("sample", k) for k in range(self.settings.keyframes_per_scene)]
        annotations: dict[int, list[Record]] = {}
        for sweep in range(self._last_sweep + 1):
            keyframe = max(0, -(-(sweep - OLDER_SWEEPS) // SWEEPS_PER_KEYFRAME))
            is_key = sweep == OLDER_SWEEPS + keyframe * SWEEPS_PER_KEYFRAME
            points = self._lidar(sweep, samples[keyframe], is_key=is_key)
            if is_key:
                views = [self._image(channel, keyframe, 0, samples[keyframe]) for channel in CAMERAS]
                self._annotate(samples[keyframe], sweep, points, views, annotations)
                if self.settings.camera_sweeps and keyframe + 1 < len(samples):
                    for step in range(1, IMAGES_PER_KEYFRAME):
                        for channel in CAMERAS:
                            self._image(channel, keyframe, step, samples[keyframe + (step > IMAGES_PER_KEYFRAME // 2)])
                self.on_keyframe()
        return self._tables(samples, annotations)

    def instance_token(self, thing: int) -> str:
        """Token under which a thing of ``scene`` is annotated."""
        return self._token("instance", thing)

    def _generator(self, *purpose: object) -> np.random.Generator:
        return np.random.default_rng(int(token(self.settings.seed, "random", self.name, *purpose), 16))

    def _token(self, *parts: object) -> str:
        return token(self.settings.seed, self.name, *parts)

    def _seconds(self, time_us: int) -> float:
        return (time_us - self.first_us) * 1e-6

    def _file(self, channel: str, time_us: int, *, is_key: bool) -> str:
        folder, ending = "samples" if is_key else "sweeps", "pcd.bin" if channel == LIDAR else "jpg"
        return f"{folder}/{channel}/simulated-{self.settings.seed:04d}-{self.name}__{channel}__{time_us}.{ending}"

    def _lidar(self, sweep: int, sample: str, *, is_key: bool) -> NDArray[np.float32]:
        time_us = self.first_us + sweep * SWEEP_US
        points = take_sweep(self.scene, self._seconds(time_us), self._generator("sweep", sweep))
        name = self._file(LIDAR, time_us, is_key=is_key)
        (self.root / name).write_bytes(points.astype("<f4").tobytes())
        self._add_data(LIDAR, time_us, name, sample, is_key=is_key)
        return points

    def _image_us(self, channel: str, keyframe: int, step: int) -> int:
        lidar_us = self.first_us + (OLDER_SWEEPS + keyframe * SWEEPS_PER_KEYFRAME) * SWEEP_US
        return lidar_us + MOUNTINGS[channel].offset_us + step * KEYFRAME_US // IMAGES_PER_KEYFRAME

    def _image(self, channel: str, keyframe: int, step: int, sample: str) -> View:
        time_us = self._image_us(channel, keyframe, step)
        shift = self._generator("grain", channel, time_us).integers(0, 256, 2)
        view = take_image(
            self.scene,
            channel,
            self._seconds(time_us),
            width_px=self.settings.image_width_px,
            film=self._film,
            shift=(int(shift[0]), int(shift[1])),
        )
        name = self._file(channel, time_us, is_key=step == 0)
        done, data = cv2.imencode(".jpg", view.image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        if not done:
            raise RuntimeError(f"OpenCV could not encode the image {name}.")
        (self.root / name).write_bytes(data.tobytes())
        self._add_data(channel, time_us, name, sample, is_key=step == 0)
        return view

    def _map(self, path: Path) -> None:
        write_map(path, self.scene)

    def _seen(self, views: list[View]) -> Seen:
        return seen_of(self.scene, views)

    def _count(
        self, points: NDArray[np.float32], lidar_from_box: NDArray[np.float64], lwh_m: tuple[float, float, float]
    ) -> int:
        return count_inside(points, lidar_from_box, lwh_m)

    def _add_data(self, channel: str, time_us: int, name: str, sample: str, *, is_key: bool) -> None:
        own = self._token("data", channel, time_us)
        pose = self.scene.global_from_scene @ self.scene.ego_pose(self._seconds(time_us))
        self._poses.append(
            {
                "token": own,
                "timestamp": time_us,
                "rotation": list(quaternion_from_rotation(pose[:3, :3])),
                "translation": pose[:3, 3].tolist(),
            }
        )
        width = self.settings.image_width_px
        self._chains.setdefault(channel, []).append(
            {
                "token": own,
                "sample_token": sample,
                "ego_pose_token": own,
                "calibrated_sensor_token": self._token("calibration", channel),
                "timestamp": time_us,
                "fileformat": "pcd" if channel == LIDAR else "jpg",
                "is_key_frame": is_key,
                "height": 0 if channel == LIDAR else image_height_px(width),
                "width": 0 if channel == LIDAR else width,
                "filename": name,
                "prev": "",
                "next": "",
            }
        )

    def _annotate(
        self,
        sample: str,
        sweep: int,
        points: NDArray[np.float32],
        views: list[View],
        annotations: dict[int, list[Record]],
    ) -> None:
        """Boxes of a keyframe: what the LiDAR hit, and near things that only a camera sees."""
        scene, time_s = self.scene, sweep * SWEEP_US * 1e-6
        seen = self._seen(views)
        at_s = seen_at(scene, time_s)
        xy, yaw = scene.tracks.at(at_s)
        speed = np.linalg.norm(scene.tracks.velocity_at(at_s), axis=1)
        pose = scene.ego_pose(time_s)
        away = np.linalg.norm(xy - pose[:2, 3], axis=1)
        enough = SEEN_PX * (self.settings.image_width_px / 800) ** 2
        turn = float(np.arctan2(scene.global_from_scene[1, 0], scene.global_from_scene[0, 0]))
        lidar_from_global = invert_rigid(self._stored_lidar_pose())
        for i in np.flatnonzero(away < ANNOTATED_WITHIN_M):
            thing = scene.things[i]
            centre = scene.global_from_scene @ np.array([xy[i, 0], xy[i, 1], thing.lwh_m[2] / 2, 1.0])
            rotation = quaternion_from_yaw(float(np.remainder(yaw[i] + turn + np.pi, 2 * np.pi) - np.pi))
            lidar_from_box = lidar_from_global @ rigid_from_quaternion(rotation, centre[:3])
            count = self._count(points, lidar_from_box, thing.lwh_m)
            looked_at = seen.visible_px[i] >= max(enough, 1.0) and away[i] < UNSEEN_BY_LIDAR_WITHIN_M
            if count == 0 and not looked_at:
                continue
            attribute = thing.attribute(float(speed[i]))
            seed = self.settings.seed
            annotations.setdefault(int(i), []).append(
                {
                    "token": self._token("annotation", sample, int(i)),
                    "sample_token": sample,
                    "instance_token": self.instance_token(int(i)),
                    "visibility_token": visibility_token(int(seen.visible_px[i]), int(seen.covered_px[i])),
                    "attribute_tokens": [token(seed, "attribute", attribute)] if attribute else [],
                    "translation": centre[:3].tolist(),
                    "size": [thing.lwh_m[1], thing.lwh_m[0], thing.lwh_m[2]],
                    "rotation": list(rotation),
                    "prev": "",
                    "next": "",
                    "num_lidar_pts": count,
                    "num_radar_pts": 0,
                }
            )

    def _stored_lidar_pose(self) -> NDArray[np.float64]:
        """Global from LiDAR of the newest sweep, from the very numbers that were stored."""
        pose, mounting = self._poses, MOUNTINGS[LIDAR]
        stored = next(row for row in reversed(pose) if row["token"] == self._chains[LIDAR][-1]["token"])
        return np.asarray(
            rigid_from_quaternion(stored["rotation"], stored["translation"]) @ mounting.ego_from_sensor,
            dtype=np.float64,
        )

    def _tables(self, samples: list[str], annotations: dict[int, list[Record]]) -> Tables:
        seed, scene = self.settings.seed, self.scene
        log = self._token("log")
        map_name = f"maps/{self._token('map')}.png"
        self._map(self.root / map_name)
        first_us = self.first_us + OLDER_SWEEPS * SWEEP_US
        sample_rows: list[Record] = [
            {"token": own, "timestamp": first_us + k * KEYFRAME_US, "scene_token": self._token("scene")}
            for k, own in enumerate(samples)
        ]
        link(sample_rows)
        for chain in (*self._chains.values(), *annotations.values()):
            link(chain)
        return {
            "calibrated_sensor": calibrations(self.settings, self.name),
            "ego_pose": self._poses,
            "log": [_log(log, seed, self.name)],
            "map": [
                {"token": self._token("map"), "log_tokens": [log], "category": "semantic_prior", "filename": map_name}
            ],
            "scene": [
                {
                    "token": self._token("scene"),
                    "log_token": log,
                    "nbr_samples": len(samples),
                    "first_sample_token": samples[0],
                    "last_sample_token": samples[-1],
                    "name": self.name,
                    "description": f"Simulated, {scene.weather.name}, {scene.plan.lanes} lanes each way",
                }
            ],
            "sample": sample_rows,
            "sample_data": [row for channel in MOUNTINGS for row in self._chains[channel]],
            "instance": [
                {
                    "token": self.instance_token(i),
                    "category_token": token(seed, "category", scene.things[i].category),
                    "nbr_annotations": len(chain),
                    "first_annotation_token": chain[0]["token"],
                    "last_annotation_token": chain[-1]["token"],
                }
                for i, chain in sorted(annotations.items())
            ],
            "sample_annotation": [row for _, chain in sorted(annotations.items()) for row in chain],
        }


def _log(own: str, seed: int, scene: str) -> Record:
    return {
        "token": own,
        "logfile": f"simulated-{seed:04d}-{scene}",
        "vehicle": "simulated",
        "date_captured": "2023-11-14",
        "location": "simulated-town",
    }
