"""A nuScenes version small enough to write in a test: a few boxes, points in them, dots where cameras see them."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from fusionkd.geometry import (
    CAMERAS,
    invert_rigid,
    quaternion_from_rotation,
    quaternion_from_yaw,
    rigid_from_quaternion,
    rigid_from_yaw,
    transform_points,
)

STORED_PX = (90, 160)
FOCAL_PX = 126.6
CAMERA_YAW_DEG = {
    "CAM_FRONT_LEFT": 55,
    "CAM_FRONT": 0,
    "CAM_FRONT_RIGHT": -55,
    "CAM_BACK_LEFT": 110,
    "CAM_BACK": 180,
    "CAM_BACK_RIGHT": -110,
}
START_US = 1_500_000_000_000_000
KEYFRAME_US = 500_000
SWEEP_US = 100_000
IMAGE_US = 250_000
POINTS_PER_OBJECT = 20
GROUND_POINTS = 200


@dataclass(frozen=True)
class Thing:
    """An object: where it is at time 0 relative to the car's first pose, and how it moves."""

    category: str
    xy_m: tuple[float, float]
    lwh_m: tuple[float, float, float]
    yaw_rad: float
    speed_mps: float
    colour_rgb: tuple[int, int, int]
    attribute: str = ""
    points: int = POINTS_PER_OBJECT


THINGS = (
    Thing("vehicle.car", (14, 0.5), (4.6, 1.9, 1.7), 0.2, 6.0, (230, 30, 30), "vehicle.moving"),
    Thing("vehicle.truck", (-18, 3), (8.5, 2.6, 3.2), 3.0, 0.0, (30, 220, 30), "vehicle.parked"),
    Thing("human.pedestrian.adult", (8, -9), (0.7, 0.6, 1.75), 1.0, 1.3, (40, 40, 240), "pedestrian.moving"),
    Thing("movable_object.trafficcone", (9, 10), (0.4, 0.4, 0.9), 0.0, 0.0, (240, 220, 20)),
    Thing("vehicle.bicycle", (-9, -11), (1.8, 0.6, 1.2), -2.0, 3.0, (220, 30, 220), "cycle.with_rider"),
    Thing("animal", (20, -14), (1.0, 0.4, 0.6), 0.5, 0.0, (30, 220, 220)),
    Thing("vehicle.bus.rigid", (38, 12), (11, 2.9, 3.4), 0.1, 0.0, (120, 120, 250), "vehicle.stopped", points=0),
)


def token(*parts: object) -> str:
    """32 hexadecimal digits from any parts."""
    return hashlib.md5("/".join(map(str, parts)).encode()).hexdigest()


class TinyWorld:
    """Writes the tables and files.

    Args:
        root: Where to.
        scenes: Scene names.
        keyframes: Per scene.
        image_sweeps: Whether there are images between the keyframes.
    """

    def __init__(
        self,
        root: Path,
        *,
        scenes: tuple[str, ...] = ("scene-0061", "scene-0103"),
        keyframes: int = 3,
        image_sweeps: bool = True,
        version: str = "v1.0-mini",
    ) -> None:
        self.root = root
        self.version = version
        self._keyframes = keyframes
        self._image_sweeps = image_sweeps
        self.tables: dict[str, list[dict[str, Any]]] = {}
        self._fixed_tables()
        for number, scene in enumerate(scenes):
            self._scene(scene, number)
        # Interleaved, so that an index can't rely on a sample's boxes lying together.
        self.tables["sample_annotation"].sort(key=lambda record: record["instance_token"])
        self.write_tables()
        (root / "maps").mkdir(exist_ok=True)
        cv2.imwrite(str(root / "maps" / "none.png"), np.zeros((4, 4), np.uint8))

    def write_tables(self) -> None:
        folder = self.root / self.version
        folder.mkdir(parents=True, exist_ok=True)
        for name, records in self.tables.items():
            (folder / f"{name}.json").write_text(json.dumps(records))

    def _fixed_tables(self) -> None:
        categories = sorted({thing.category for thing in THINGS})
        attributes = sorted({thing.attribute for thing in THINGS if thing.attribute})
        sensors = [(name, "camera") for name in CAMERAS] + [("LIDAR_TOP", "lidar"), ("RADAR_FRONT", "radar")]
        self.tables = {
            "category": [{"token": token("cat", n), "name": n, "description": ""} for n in categories],
            "attribute": [{"token": token("att", n), "name": n, "description": ""} for n in attributes],
            "visibility": [{"token": str(n), "level": f"v{n}", "description": ""} for n in (1, 2, 3, 4)],
            "sensor": [{"token": token("sensor", n), "channel": n, "modality": m} for n, m in sensors],
            "calibrated_sensor": [self._calibration(name) for name, _ in sensors],
            "log": [{"token": "log", "logfile": "l", "vehicle": "v", "date_captured": "d", "location": "here"}],
            "map": [{"token": "map", "log_tokens": ["log"], "category": "semantic_prior", "filename": "maps/none.png"}],
            **{n: [] for n in ("scene", "sample", "sample_data", "sample_annotation", "instance", "ego_pose")},
        }

    def _calibration(self, channel: str) -> dict[str, Any]:
        camera = channel in CAMERA_YAW_DEG
        transform = ego_from_sensor(channel)
        matrix = [[FOCAL_PX, 0.0, STORED_PX[1] / 2], [0.0, FOCAL_PX, STORED_PX[0] / 2], [0.0, 0.0, 1.0]]
        return {
            "token": token("calibration", channel),
            "sensor_token": token("sensor", channel),
            "translation": transform[:3, 3].tolist(),
            "rotation": list(quaternion_from_rotation(transform[:3, :3])),
            "camera_intrinsic": matrix if camera else [],
        }

    def _scene(self, name: str, number: int) -> None:
        samples = [token(name, "sample", k) for k in range(self._keyframes)]
        first, last = START_US, START_US + KEYFRAME_US * (self._keyframes - 1)
        self.tables["scene"].append(
            {
                "token": token(name),
                "name": name,
                "description": "tiny",
                "log_token": "log",
                "nbr_samples": len(samples),
                "first_sample_token": samples[0],
                "last_sample_token": samples[-1],
            }
        )
        for k, sample in enumerate(samples):
            self.tables["sample"].append(
                {
                    "token": sample,
                    "timestamp": START_US + KEYFRAME_US * k,
                    "scene_token": token(name),
                    "prev": samples[k - 1] if k else "",
                    "next": samples[k + 1] if k + 1 < len(samples) else "",
                }
            )
        clouds = self._sensor(name, number, "LIDAR_TOP", list(range(first, last + 1, SWEEP_US)))
        step = IMAGE_US if self._image_sweeps else KEYFRAME_US
        for i, camera in enumerate(CAMERAS):
            self._sensor(name, number, camera, [time - 2000 * i for time in range(first, last + 1, step)])
        self._sensor(name, number, "RADAR_FRONT", list(range(first, last + 1, KEYFRAME_US)))
        self._annotate(name, number, clouds)

    def _sensor(self, scene: str, number: int, channel: str, times_us: list[int]) -> list[NDArray[np.float32]]:
        clouds = []
        for i, time_us in enumerate(times_us):
            nearest = round((time_us - START_US) / KEYFRAME_US)
            is_key = abs(time_us - START_US - nearest * KEYFRAME_US) < IMAGE_US / 4
            ending = {"LIDAR_TOP": "pcd.bin", "RADAR_FRONT": "pcd"}.get(channel, "jpg")
            filename = f"{'samples' if is_key else 'sweeps'}/{channel}/{scene}__{channel}__{time_us}.{ending}"
            here = token(scene, channel, i)
            pose = global_from_ego(number, time_us)
            self.tables["ego_pose"].append(
                {
                    "token": here,
                    "timestamp": time_us,
                    "rotation": list(quaternion_from_rotation(pose[:3, :3])),
                    "translation": pose[:3, 3].tolist(),
                }
            )
            self.tables["sample_data"].append(
                {
                    "token": here,
                    "sample_token": token(scene, "sample", nearest),
                    "ego_pose_token": here,
                    "calibrated_sensor_token": token("calibration", channel),
                    "timestamp": time_us,
                    "fileformat": ending.split(".")[0],
                    "is_key_frame": bool(is_key),
                    "height": STORED_PX[0] if ending == "jpg" else 0,
                    "width": STORED_PX[1] if ending == "jpg" else 0,
                    "filename": filename,
                    "prev": token(scene, channel, i - 1) if i else "",
                    "next": token(scene, channel, i + 1) if i + 1 < len(times_us) else "",
                }
            )
            path = self.root / filename
            path.parent.mkdir(parents=True, exist_ok=True)
            if channel == "LIDAR_TOP":
                cloud = lidar_points(number, time_us)
                cloud.tofile(path)
                if is_key:
                    clouds.append(cloud)
            elif ending == "jpg":
                cv2.imwrite(
                    str(path), camera_image(number, channel, time_us)[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 98]
                )
        return clouds

    def _annotate(self, scene: str, number: int, clouds: list[NDArray[np.float32]]) -> None:
        for i, thing in enumerate(THINGS):
            tokens = [token(scene, "annotation", i, k) for k in range(self._keyframes)]
            self.tables["instance"].append(
                {
                    "token": token(scene, "instance", i),
                    "category_token": token("cat", thing.category),
                    "nbr_annotations": len(tokens),
                    "first_annotation_token": tokens[0],
                    "last_annotation_token": tokens[-1],
                }
            )
            for k, here in enumerate(tokens):
                pose = global_from_thing(number, thing, START_US + k * KEYFRAME_US)
                length, width, height = thing.lwh_m
                self.tables["sample_annotation"].append(
                    {
                        "token": here,
                        "sample_token": token(scene, "sample", k),
                        "instance_token": token(scene, "instance", i),
                        "visibility_token": str(1 + i % 4) if i else "",
                        "attribute_tokens": [token("att", thing.attribute)] if thing.attribute else [],
                        "translation": pose[:3, 3].tolist(),
                        "size": [width, length, height],
                        "rotation": list(quaternion_from_rotation(pose[:3, :3])),
                        "prev": tokens[k - 1] if k else "",
                        "next": tokens[k + 1] if k + 1 < len(tokens) else "",
                        "num_lidar_pts": thing.points,
                        "num_radar_pts": 0,
                    }
                )


def ego_from_sensor(channel: str) -> NDArray[np.float64]:
    """Mounting of a sensor."""
    if channel not in CAMERA_YAW_DEG:
        return rigid_from_quaternion(quaternion_from_yaw(-np.pi / 2), (0.9, 0.0, 1.8))
    yaw = np.deg2rad(CAMERA_YAW_DEG[channel])
    ego_from_forward = rigid_from_yaw(yaw, (1.0 * np.cos(yaw), 0.5 * np.sin(yaw), 1.5))
    forward_from_camera = np.eye(4)
    forward_from_camera[:3, :3] = [[0, 0, 1], [-1, 0, 0], [0, -1, 0]]
    return np.asarray(ego_from_forward @ forward_from_camera)


def global_from_ego(scene: int, time_us: int) -> NDArray[np.float64]:
    """The car drives a bend at 8 m/s, on a slight slope."""
    seconds = (time_us - START_US) * 1e-6
    yaw = 0.4 + scene + 0.2 * seconds
    pose = rigid_from_yaw(yaw, (1000 + 8 * seconds, 2000 + 100 * scene + 2 * seconds, 0.1 * seconds))
    pitch = np.eye(4)
    pitch[:3, :3] = [[np.cos(0.01), 0, np.sin(0.01)], [0, 1, 0], [-np.sin(0.01), 0, np.cos(0.01)]]
    return np.asarray(pose @ pitch)


def global_from_thing(scene: int, thing: Thing, time_us: int) -> NDArray[np.float64]:
    """An upright box that moves along its heading."""
    seconds = (time_us - START_US) * 1e-6
    start = global_from_ego(scene, START_US)
    yaw = float(np.arctan2(start[1, 0], start[0, 0])) + thing.yaw_rad
    position = transform_points(start, np.array([[*thing.xy_m, thing.lwh_m[2] / 2]]))[0]
    position[:2] += thing.speed_mps * seconds * np.array([np.cos(yaw), np.sin(yaw)])
    return rigid_from_yaw(yaw, position)


def lidar_points(scene: int, time_us: int) -> NDArray[np.float32]:
    """Points (P, 5) in the LiDAR frame: some in each thing, the rest below all of them and on the car itself."""
    generator = np.random.default_rng([scene, time_us % 10**9])
    lidar_from_global = invert_rigid(global_from_ego(scene, time_us) @ ego_from_sensor("LIDAR_TOP"))
    parts = []
    for thing in THINGS:
        inside = generator.uniform(-0.45, 0.45, (thing.points, 3)) * thing.lwh_m
        parts.append(transform_points(lidar_from_global @ global_from_thing(scene, thing, time_us), inside))
    angle, radius = generator.uniform(0, 2 * np.pi, GROUND_POINTS), generator.uniform(2, 60, GROUND_POINTS)
    parts.append(np.stack([radius * np.cos(angle), radius * np.sin(angle), np.full(GROUND_POINTS, -4.0)], axis=1))
    parts.append(generator.uniform(-0.5, 0.5, (10, 3)))
    xyz = np.concatenate(parts)
    cloud = np.zeros((len(xyz), 5), np.float32)
    cloud[:, :3] = xyz
    cloud[:, 3] = generator.integers(0, 256, len(xyz))
    cloud[:, 4] = np.arange(len(xyz)) % 32
    return cloud


def camera_image(scene: int, channel: str, time_us: int) -> NDArray[np.uint8]:
    """Dark grey with a dot of its colour at the centre of each thing."""
    image = np.full((*STORED_PX, 3), 60, np.uint8)
    camera_from_global = invert_rigid(global_from_ego(scene, time_us) @ ego_from_sensor(channel))
    for thing in THINGS:
        x, y, z = (camera_from_global @ global_from_thing(scene, thing, time_us))[:3, 3]
        if z > 1:
            u, v = FOCAL_PX * x / z + STORED_PX[1] / 2, FOCAL_PX * y / z + STORED_PX[0] / 2
            if -10 < u < STORED_PX[1] + 10 and -10 < v < STORED_PX[0] + 10:
                # Shifts for sub-pixels: pixel i covers [i, i + 1), OpenCV counts from pixel centres.
                centre = (round((u - 0.5) * 16), round((v - 0.5) * 16))
                cv2.circle(image, centre, 4 * 16, thing.colour_rgb, -1, cv2.LINE_AA, 4)
    return image


def dots_in(image: NDArray[np.uint8]) -> dict[int, NDArray[np.float64]]:
    """Pixel (u, v) of the dot of each thing that lies wholly in an image, by the thing's row in THINGS."""
    centres = {}
    for row, thing in enumerate(THINGS):
        near = np.linalg.norm(image.astype(float) - thing.colour_rgb, axis=-1) < 60
        if near.sum() >= 3:
            rows, columns = np.nonzero(near)
            inside = rows.min() > 0 and columns.min() > 0
            inside = inside and rows.max() < image.shape[0] - 1 and columns.max() < image.shape[1] - 1
            if inside:
                centres[row] = np.array([columns.mean() + 0.5, rows.mean() + 0.5])
    return centres
