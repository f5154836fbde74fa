"""What the rig's sensors record of a scene at a time, and what of it is annotated."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fusionkd.geometry import CAMERAS, invert_rigid
from fusionkd.simulation.camera import View, ViewInput, render
from fusionkd.simulation.echoes import FARTHEST_M
from fusionkd.simulation.lidar import SweepInput, column_of, sweep
from fusionkd.simulation.rig import COLUMN_STEP_RAD, COLUMNS, FULL_HEIGHT_PX, FULL_WIDTH_PX, LIDAR, MOUNTINGS, SWEEP_US
from fusionkd.simulation.scene import Scene, Solids, moved
from fusionkd.simulation.shading import FREE_PATH_M, SHADOW, smooth_noise

THINGS_WITHIN_M: Final = 90.0
SCENERY_WITHIN_M: Final = 150.0
COLUMN_S: Final[NDArray[np.float64]] = (
    (np.arange(COLUMNS) - (COLUMNS - 1)) * COLUMN_STEP_RAD / (2 * np.pi) * SWEEP_US * 1e-6
)
"""Time of each LiDAR column relative to the end of its sweep."""


@dataclass(frozen=True)
class Film:
    """Noise that all images of a world share: ``texture`` and ``grain`` of ``camera.ViewInput``."""

    texture: NDArray[np.float32]
    grain: NDArray[np.float32]

    @classmethod
    def drawn(cls, generator: np.random.Generator) -> "Film":
        """New noise."""
        return cls(smooth_noise(generator), generator.standard_normal((256, 256), dtype=np.float32))


@dataclass(frozen=True)
class Seen:
    """How much of each thing the six cameras see.

    Attributes:
        covered_px: (N,) pixels each thing would cover if nothing stood before it.
        visible_px: (N,) pixels in which it is seen.
    """

    covered_px: NDArray[np.int64]
    visible_px: NDArray[np.int64]


def seen_at(scene: Scene, time_s: float) -> NDArray[np.float64]:
    """When the sweep that ends at ``time_s`` passes each thing, (N,) seconds.

    A thing's annotation stands where the LiDAR saw it, as an annotator would draw it.
    """
    lidar = scene.ego_pose(time_s) @ MOUNTINGS[LIDAR].ego_from_sensor
    xy, _ = scene.tracks.at(time_s)
    points = np.concatenate([xy, np.full((len(xy), 1), 1.0)], axis=1)
    to_lidar = invert_rigid(lidar)
    local = points @ to_lidar[:3, :3].T + to_lidar[:3, 3]
    column = np.minimum(column_of(np.arctan2(local[:, 1], local[:, 0])), COLUMNS - 1.0)
    return np.asarray(time_s + np.interp(column, np.arange(COLUMNS), COLUMN_S), dtype=np.float64)


def solids_at(
    scene: Scene, time_s: NDArray[np.float64] | float, ego_xy: NDArray[np.float64]
) -> tuple[Solids, NDArray[np.float64]]:
    """Solids near the ego car, near objects first, and their velocities (P, 2).

    Args:
        scene: The scene.
        time_s: One time, or one for each thing.
        ego_xy: (2,) where the car is.
    """
    xy, yaw = scene.tracks.at(time_s)
    velocity = scene.tracks.velocity_at(time_s)
    near = np.linalg.norm(xy - ego_xy, axis=1) < THINGS_WITHIN_M
    local, scenery = scene.local, scene.scenery
    chosen = np.flatnonzero(near[local.owner])
    fixed = np.flatnonzero(np.linalg.norm(scenery.rows[:, 1:3] - ego_xy, axis=1) < SCENERY_WITHIN_M)
    owner = local.owner[chosen]
    rows = np.concatenate([moved(local.rows[chosen], xy[owner], yaw[owner]), scenery.rows[fixed]])
    all_owners = np.concatenate([owner, scenery.owner[fixed]])
    away = np.full(len(scene.things) + scene.scenery_count, np.inf)
    np.minimum.at(away, all_owners, np.linalg.norm(rows[:, 1:3] - ego_xy, axis=1))
    order = np.lexsort((all_owners, away[all_owners]))
    solids = Solids(
        rows[order],
        all_owners[order],
        np.concatenate([local.colour[chosen], scenery.colour[fixed]])[order],
        np.concatenate([local.finish[chosen], scenery.finish[fixed]])[order],
        np.concatenate([local.reflectance[chosen], scenery.reflectance[fixed]])[order],
    )
    speeds = np.concatenate([velocity[owner], np.zeros((len(fixed), 2))])[order]
    return solids, speeds


def take_sweep(scene: Scene, time_s: float, generator: np.random.Generator) -> NDArray[np.float32]:
    """Points (34,720, 5) of the LiDAR sweep that ends at a time, in the LiDAR frame at that time."""
    mounting = MOUNTINGS[LIDAR].ego_from_sensor
    times = time_s + COLUMN_S
    few = np.linspace(0, COLUMNS - 1, 5)
    poses = np.stack([scene.ego_pose(float(times[int(i)])) @ mounting for i in few])
    origin = np.stack([np.interp(np.arange(COLUMNS), few, poses[:, i, 3]) for i in range(3)], axis=1)
    # The rotation changes by a degree at most during a sweep: its entries may be interpolated.
    flat = [np.interp(np.arange(COLUMNS), few, poses[:, i, j]) for i in range(3) for j in range(3)]
    rotation = np.stack(flat, axis=1).reshape(COLUMNS, 3, 3)
    seen = seen_at(scene, time_s)
    solids, velocity = solids_at(scene, seen, origin[-1, :2])
    reach = np.hypot(
        np.maximum(solids.rows[:, 7], solids.rows[:, 8]), np.maximum(solids.rows[:, 8], solids.rows[:, 10])
    )
    away = np.linalg.norm(solids.rows[:, 1:3] - origin[-1, :2], axis=1) - reach
    keep = np.flatnonzero((solids.finish != SHADOW) & (away < FARTHEST_M))
    late = np.append(seen, np.full(scene.scenery_count, time_s))[solids.owner] - time_s
    return sweep(
        SweepInput(
            np.ascontiguousarray(solids.rows[keep]),
            np.ascontiguousarray(velocity[keep]),
            np.ascontiguousarray(late[keep]),
            np.ascontiguousarray(solids.reflectance[keep]),
            np.ascontiguousarray(solids.finish[keep]),
            free_path_m(solids.finish[keep]),
            origin,
            rotation,
            COLUMN_S,
            scene.plan.as_array(),
            scene.plan.relief,
            scene.weather.wetness,
        ),
        generator,
    )


def free_path_m(finish: NDArray[np.int64]) -> NDArray[np.float64]:
    """How far LiDAR beams get into solids of these finishes on average, (P,) metres; 0 where not at all."""
    out = np.zeros(len(finish))
    for name, path in FREE_PATH_M.items():
        out[finish == name] = path
    return out


def take_image(scene: Scene, channel: str, time_s: float, *, width_px: int, film: Film, shift: tuple[int, int]) -> View:
    """What one camera sees at a time."""
    pose = scene.ego_pose(time_s) @ MOUNTINGS[channel].ego_from_sensor
    solids, _ = solids_at(scene, time_s, pose[:2, 3])
    return render(
        ViewInput(
            solids.rows,
            solids.owner,
            solids.colour,
            solids.finish,
            np.ascontiguousarray(pose[:3, 3]),
            np.ascontiguousarray(pose[:3, :3]),
            MOUNTINGS[channel].matrix_px(width_px),
            (image_height_px(width_px), width_px),
            scene.plan.as_array(),
            scene.weather.as_tuple(),
            film.texture,
            film.grain,
        ),
        objects=len(scene.things),
        grain_shift=shift,
    )


def image_height_px(width_px: int) -> int:
    """Height of an image of this width, 16:9."""
    return width_px * FULL_HEIGHT_PX // FULL_WIDTH_PX


def seen_of(scene: Scene, views: list[View]) -> Seen:
    """Sum over the cameras of what is seen of each thing."""
    if len(views) != len(CAMERAS):
        raise ValueError(f"Visibility needs the {len(CAMERAS)} cameras of one keyframe, found {len(views)} views.")
    count = len(scene.things)
    covered = np.sum([view.covered_px[:count] for view in views], axis=0)
    visible = np.sum([view.visible_px[:count] for view in views], axis=0)
    return Seen(np.asarray(covered, dtype=np.int64), np.asarray(visible, dtype=np.int64))


def count_inside(
    points: NDArray[np.float32], sensor_from_box: NDArray[np.float64], lwh_m: tuple[float, float, float]
) -> int:
    """Points of a sweep in a box, borders included, counted in the sensor's frame as nuScenes' devkit does."""
    reach = float(np.linalg.norm(lwh_m)) / 2 + 0.01
    centre = sensor_from_box[:3, 3]
    near = np.flatnonzero((np.abs(points[:, 0] - centre[0]) < reach) & (np.abs(points[:, 1] - centre[1]) < reach))
    # As the devkit: from one corner along three edges, each projection within the edge's length.
    half = np.array(lwh_m) / 2
    corner = sensor_from_box[:3, :3] @ -half + centre
    edges = sensor_from_box[:3, :3] * np.array(lwh_m)
    along = (points[near, :3] - corner) @ edges
    return int(np.sum(np.all((along >= 0) & (along <= np.sum(edges * edges, axis=0)), axis=1)))
