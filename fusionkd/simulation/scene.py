"""One scene: everything in it as functions of time, in the scene's own frame."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fusionkd.geometry import rigid_from_yaw
from fusionkd.simulation.catalogue import Thing
from fusionkd.simulation.crowd import Crowd, Walker
from fusionkd.simulation.ground import GroundPlan
from fusionkd.simulation.parts import Shape
from fusionkd.simulation.population import populate
from fusionkd.simulation.rays import SOLID_COLUMNS
from fusionkd.simulation.settings import ClassMix
from fusionkd.simulation.shading import Weather
from fusionkd.simulation.town import Placed, draw_plan, furnish
from fusionkd.simulation.traffic import STEP_S, Driver, drive
from fusionkd.simulation.weather import draw_weather

MAP_M: Final = 500.0
"""Side of a scene's map in the global frame; the scene lies in its middle."""
MIDDLE_M: Final = (105.0, 0.0)
"""The point of the scene's frame that lies in the middle of the map."""


@dataclass(frozen=True)
class Tracks:
    """Where N things are at steps of ``STEP_S`` from ``start_s``.

    Attributes:
        start_s: Time of the first step.
        xy_m: (N, T, 2).
        yaw_rad: (N, T), continuous.
    """

    start_s: float
    xy_m: NDArray[np.float64]
    yaw_rad: NDArray[np.float64]

    def at(self, time_s: NDArray[np.float64] | float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Positions (N, 2) and yaws (N,) at one time or at a time for each thing (N,)."""
        index, share = self._locate(time_s)
        rows = np.arange(len(self.xy_m))
        low, high = self.xy_m[rows, index], self.xy_m[rows, index + 1]
        yaw_low, yaw_high = self.yaw_rad[rows, index], self.yaw_rad[rows, index + 1]
        return low + share[:, None] * (high - low), yaw_low + share * (yaw_high - yaw_low)

    def velocity_at(self, time_s: NDArray[np.float64] | float) -> NDArray[np.float64]:
        """Velocities (N, 2) in metres per second."""
        index, _ = self._locate(time_s)
        rows = np.arange(len(self.xy_m))
        return np.asarray((self.xy_m[rows, index + 1] - self.xy_m[rows, index]) / STEP_S, dtype=np.float64)

    def _locate(self, time_s: NDArray[np.float64] | float) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        step = np.broadcast_to((np.asarray(time_s) - self.start_s) / STEP_S, len(self.xy_m))
        index = np.clip(step.astype(np.int64), 0, self.xy_m.shape[1] - 2)
        return index, np.asarray(step - index, dtype=np.float64)


@dataclass(frozen=True)
class Solids:
    """Shapes put into the scene; the rows of several sensors' inputs.

    Attributes:
        rows: (P, 12) of ``rays``.
        owner: (P,) number of the object.
        colour: (P, 3).
        finish: (P,).
        reflectance: (P,).
    """

    rows: NDArray[np.float64]
    owner: NDArray[np.int64]
    colour: NDArray[np.float64]
    finish: NDArray[np.int64]
    reflectance: NDArray[np.float64]


@dataclass(frozen=True)
class Scene:
    """All that the sensors need.

    Attributes:
        plan: Roads.
        weather: Light and air.
        things: The N annotated objects.
        tracks: Their movement.
        ego: The movement of the one ego car (N = 1).
        local: Solids of the things in their own frames; ``owner`` is the thing.
        scenery: Solids that never move, in the scene's frame; ``owner`` counts from N.
        scenery_count: Number of scenery's objects.
        global_from_scene: (4, 4).
        sway: (4,) amplitudes and phases of the ego car's pitching and rolling.
    """

    plan: GroundPlan
    weather: Weather
    things: tuple[Thing, ...]
    tracks: Tracks
    ego: Tracks
    local: Solids
    scenery: Solids
    scenery_count: int
    global_from_scene: NDArray[np.float64]
    sway: NDArray[np.float64]

    def ego_pose(self, time_s: float) -> NDArray[np.float64]:
        """(4, 4) scene from ego; the car pitches and rolls by a fraction of a degree."""
        xy, yaw = self.ego.at(time_s)
        pose = rigid_from_yaw(float(yaw[0]), (*xy[0], 0.0))
        pitch = self.sway[0] * np.sin(5.1 * time_s + self.sway[2])
        roll = self.sway[1] * np.sin(3.7 * time_s + self.sway[3])
        tilt = np.eye(4)
        # First roll about x, then pitch about y.
        tilt[:3, :3] = np.array(
            [
                [np.cos(pitch), np.sin(pitch) * np.sin(roll), np.sin(pitch) * np.cos(roll)],
                [0.0, np.cos(roll), -np.sin(roll)],
                [-np.sin(pitch), np.cos(pitch) * np.sin(roll), np.cos(pitch) * np.cos(roll)],
            ]
        )
        return np.asarray(pose @ tilt)


def build_scene(generator: np.random.Generator, *, duration_s: float, mix: ClassMix, look_alike: float = 0.5) -> Scene:
    """Draw one scene.

    Args:
        generator: Decides everything.
        duration_s: From the first sweep to the last keyframe; time 0 is the first sweep's end.
        mix: Which classes are how frequent.
        look_alike: The setting of that name.
    """
    plan, weather = draw_plan(generator), draw_weather(generator)
    placed = furnish(generator, plan, weather, look_alike=look_alike)
    crowd = populate(generator, plan, mix, look_alike=look_alike)
    steps = int(np.ceil(duration_s / STEP_S)) + 8
    things, tracks, ego = _tracks(generator, plan, crowd, steps)
    turn = float(generator.uniform(-np.pi, np.pi))
    middle = rigid_from_yaw(turn, (0, 0, 0))[:3, :3] @ np.array([*MIDDLE_M, 0.0])
    return Scene(
        plan,
        weather,
        things,
        tracks,
        ego,
        _local_solids(things),
        place_scenery(placed, first_owner=len(things)),
        len(placed),
        rigid_from_yaw(turn, np.array([MAP_M / 2, MAP_M / 2, 0.0]) - middle),
        np.array([*generator.uniform(0.001, 0.005, 2), *generator.uniform(0, 2 * np.pi, 2)]),
    )


def _bend(
    plan: GroundPlan, xd: NDArray[np.float64], direction: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Positions and yaws in the scene of points and directions of the straightened road."""
    slope = np.tan(plan.heading_rad(xd[..., 0]))
    xy = np.stack([xd[..., 0], xd[..., 1] + plan.centre_y_m(xd[..., 0])], axis=-1)
    yaw = np.arctan2(direction[..., 1] + slope * direction[..., 0], direction[..., 0])
    return xy, yaw


def _tracks(
    generator: np.random.Generator, plan: GroundPlan, crowd: Crowd, steps: int
) -> tuple[tuple[Thing, ...], Tracks, Tracks]:
    """Everybody's movement; time 0 is at the fourth step."""
    start = -3 * STEP_S
    time = STEP_S * np.arange(steps)
    ways = [_walk(walker, time) for walker in crowd.walkers]
    on_road = [way for way, walker in zip(ways, crowd.walkers) if walker.on_road]
    phases = [float(phase) for phase in generator.uniform(0, 18, len(plan.crossings_m))]
    walkers = np.stack(on_road, axis=1) if on_road else np.zeros((steps, 0, 2))
    arcs = drive(crowd.drivers, steps=steps, phases_s=phases, walkers=walkers)
    things: list[Thing] = []
    places: list[tuple[NDArray[np.float64], NDArray[np.float64]]] = []
    ego = _bend(plan, *_follow(crowd.drivers[0], arcs[0]))
    for driver, thing, tow, arc in zip(crowd.drivers, crowd.driven, crowd.towed, arcs):
        if thing is not None:
            things.append(thing)
            places.append(_bend(plan, *_follow(driver, arc)))
        if tow is not None:
            things.append(tow[0])
            places.append(_bend(plan, *_follow(driver, arc - tow[1])))
    for walker, way in zip(crowd.walkers, ways):
        things.append(walker.thing)
        places.append(_bend(plan, way, np.broadcast_to(np.array(walker.direction), way.shape)))
    for resident in crowd.residents:
        things.append(resident.thing)
        xd = np.broadcast_to(np.array([resident.x_m, resident.d_m]), (steps, 2))
        xy, yaw = _bend(plan, xd, np.broadcast_to(np.array([1.0, 0.0]), (steps, 2)))
        places.append((xy, yaw + resident.yaw_rad))
    return (
        tuple(things),
        Tracks(start, np.stack([xy for xy, _ in places]), np.unwrap(np.stack([yaw for _, yaw in places]), axis=1)),
        Tracks(start, ego[0][None], np.unwrap(ego[1][None], axis=1)),
    )


def _walk(walker: Walker, time_s: NDArray[np.float64]) -> NDArray[np.float64]:
    """(T, 2) x and d of a person who starts walking at a time, within half a second."""
    late = time_s - walker.from_s
    way = walker.speed_mps * np.where(late < 0.5, np.maximum(late, 0.0) ** 2, late - 0.25)
    if walker.from_s <= 0.0:
        way = walker.speed_mps * late
    return np.asarray(np.array(walker.start_m) + way[:, None] * np.array(walker.direction), dtype=np.float64)


def _follow(driver: Driver, arc_m: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Points (T, 2) and directions (T, 2) along a driver's path; it goes on straight beyond both ends."""
    path = driver.path
    index = np.clip(np.floor(arc_m).astype(np.int64), 0, len(path) - 2)
    step = path[index + 1] - path[index]
    step = step / np.linalg.norm(step, axis=1, keepdims=True)
    place = path[index] + (arc_m - index)[:, None] * step
    # The direction is blended over a metre, so that the yaw does not jump from one piece of the path to the next.
    node = np.gradient(path, axis=0)
    share = np.clip(arc_m - index, 0.0, 1.0)[:, None]
    return place, node[index] * (1 - share) + node[index + 1] * share


def _stack(shapes: list[Shape], first_owner: int) -> Solids:
    if not shapes:
        empty = np.zeros(0)
        return Solids(
            np.zeros((0, SOLID_COLUMNS)), empty.astype(np.int64), np.zeros((0, 3)), empty.astype(np.int64), empty
        )
    counts = [len(shape.solids) for shape in shapes]
    return Solids(
        np.concatenate([shape.solids for shape in shapes]),
        np.repeat(np.arange(first_owner, first_owner + len(shapes)), counts),
        np.concatenate([shape.colour for shape in shapes]),
        np.concatenate([shape.finish for shape in shapes]),
        np.concatenate([shape.reflectance for shape in shapes]),
    )


def _local_solids(things: tuple[Thing, ...]) -> Solids:
    return _stack([thing.shape for thing in things], 0)


def place_scenery(placed: list[Placed], *, first_owner: int) -> Solids:
    """Scenery's solids in the scene's frame."""
    solids = _stack([shape for shape, *_ in placed], first_owner)
    where = np.array([[x, y, yaw] for _, x, y, yaw in placed]).reshape(-1, 3)[solids.owner - first_owner]
    rows = moved(solids.rows, where[:, :2], where[:, 2])
    return Solids(rows, solids.owner, solids.colour, solids.finish, solids.reflectance)


def moved(rows: NDArray[np.float64], xy_m: NDArray[np.float64], yaw_rad: NDArray[np.float64]) -> NDArray[np.float64]:
    """Solids (P, 12) turned by yaw (P,) and then moved by xy (P, 2)."""
    cos, sin = np.cos(yaw_rad), np.sin(yaw_rad)
    out = rows.copy()
    out[:, 1] = xy_m[:, 0] + cos * rows[:, 1] - sin * rows[:, 2]
    out[:, 2] = xy_m[:, 1] + sin * rows[:, 1] + cos * rows[:, 2]
    out[:, 5] = cos * rows[:, 5] - sin * rows[:, 6]
    out[:, 6] = sin * rows[:, 5] + cos * rows[:, 6]
    return out
