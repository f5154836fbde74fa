"""Who is in a scene: traffic, parked vehicles, road works, people; in the straightened road frame.

Each helper adds ``Resident`` records (standing) or ``Driver`` and walker records (moving) to a ``Crowd``.
"""

from dataclasses import dataclass, field
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from fusionkd.simulation.catalogue import SIZES_M, Thing, make_thing
from fusionkd.simulation.ground import CROSS_HALF_M, LANE_M, STOP_LINE_M, STRIP_M, GroundPlan
from fusionkd.simulation.town import EAST_M, WEST_M, lane_d_m, near_crossing
from fusionkd.simulation.traffic import Driver, straight, turning

ClassMix = Literal["flat", "nuscenes"]

MOVING_MIX: Final[dict[str, dict[str, float]]] = {
    "flat": {"car": 0.34, "truck": 0.14, "bus": 0.20, "trailer": 0.14, "motorcycle": 0.09, "bicycle": 0.09},
    "nuscenes": {"car": 0.78, "truck": 0.09, "bus": 0.03, "trailer": 0.02, "motorcycle": 0.04, "bicycle": 0.04},
}
PARKED_MIX: Final[dict[str, dict[str, float]]] = {
    "flat": {"car": 0.21, "truck": 0.14, "bus": 0.17, "trailer": 0.28, "construction_vehicle": 0.20},
    "nuscenes": {"car": 0.84, "truck": 0.09, "bus": 0.01, "trailer": 0.04, "construction_vehicle": 0.02},
}
WISH_MPS: Final[dict[str, tuple[float, float]]] = {
    "car": (6.5, 11.5),
    "truck": (6.0, 9.5),
    "bus": (5.5, 9.0),
    "trailer": (5.5, 9.0),
    "motorcycle": (6.5, 11.5),
    "bicycle": (3.0, 5.5),
}
BAY_D_M: Final = STRIP_M / 2
EGO_NOSE_M, EGO_TAIL_M = 3.4, 0.8
"""The ego frame lies at the rear axle."""


@dataclass(frozen=True)
class Resident:
    """A thing that stands still at x, d, turned against the road by yaw."""

    thing: Thing
    x_m: float
    d_m: float
    yaw_rad: float


@dataclass(frozen=True)
class Walker:
    """A person on a straight way.

    Attributes:
        thing: The person.
        start_m: x and d at the first step.
        direction: Unit vector.
        speed_mps: Walking speed.
        from_s: When the walk begins; the person stands before.
        on_road: Whether the way crosses a carriageway, so that drivers look out.
    """

    thing: Thing
    start_m: tuple[float, float]
    direction: tuple[float, float]
    speed_mps: float
    from_s: float
    on_road: bool


@dataclass
class Crowd:
    """All objects of a scene while it is being filled.

    ``drivers[i]`` moves ``driven[i]``; what it tows, if anything, is ``towed[i]`` with the distance behind it.
    The ego car is driver 0 and has no thing.
    """

    residents: list[Resident] = field(default_factory=list)
    walkers: list[Walker] = field(default_factory=list)
    drivers: list[Driver] = field(default_factory=list)
    driven: list[Thing | None] = field(default_factory=list)
    towed: list[tuple[Thing, float] | None] = field(default_factory=list)


def populate(generator: np.random.Generator, plan: GroundPlan, mix: ClassMix) -> Crowd:
    """Fill one scene."""
    crowd = Crowd()
    _ego(generator, plan, crowd)
    _main_traffic(generator, plan, mix, crowd)
    _cross_traffic(generator, plan, mix, crowd)
    for side in (-1, 1):
        _parking(generator, plan, mix, side, crowd)
        _pavement(generator, plan, mix, side, crowd)
    _zebra_people(generator, plan, crowd)
    return crowd


def draw_class(generator: np.random.Generator, mix: dict[str, float]) -> str:
    """One class by its share."""
    names = list(mix)
    weights = np.array([mix[name] for name in names])
    return names[int(generator.choice(len(names), p=weights / weights.sum()))]


def _main_stops(plan: GroundPlan, *, forward: bool) -> tuple[tuple[float, int, bool], ...]:
    """Stop lines along a lane of the main road that runs from end to end."""
    back = CROSS_HALF_M + STOP_LINE_M
    if forward:
        return tuple((c - back - WEST_M, j, True) for j, c in enumerate(plan.crossings_m))
    return tuple((EAST_M - c - back, j, True) for j, c in enumerate(plan.crossings_m))


def _ego(generator: np.random.Generator, plan: GroundPlan, crowd: Crowd) -> None:
    lane = int(generator.integers(plan.lanes))
    d = lane_d_m(plan, lane, forward=True)
    path = straight((WEST_M, d), (EAST_M, d))
    stops = _main_stops(plan, forward=True)
    luck = generator.random()
    if luck < 0.07:
        x = plan.crossings_m[1] - LANE_M / 2
        path = turning((WEST_M, d), (x, d), (x, -140.0), 7.0)
    elif luck < 0.14:
        x = plan.crossings_m[1] + LANE_M / 2
        path = turning((WEST_M, d), (x, d), (x, 140.0), 9.0)
    wish = float(generator.uniform(6.0, 10.5))
    crowd.drivers.append(
        Driver(path, -WEST_M, wish, 2 * EGO_NOSE_M, 1.75, stops[:2] if luck < 0.14 else stops, EGO_TAIL_M)
    )
    crowd.driven.append(None)
    crowd.towed.append(None)


def _add_driver(
    generator: np.random.Generator,
    crowd: Crowd,
    kind: str,
    route: tuple[NDArray[np.float64], float, tuple[tuple[float, int, bool], ...]],
) -> float:
    """One vehicle on a path with its start and stops; returns the length it takes."""
    path, start, stops = route
    name = "truck" if kind == "trailer" else kind
    thing = make_thing(generator, name, rider=kind in ("motorcycle", "bicycle"))
    length, width = thing.lwh_m[0], thing.lwh_m[1]
    tail, tow = length / 2, None
    if kind == "trailer":
        trailer = make_thing(generator, "trailer")
        behind = length / 2 + trailer.lwh_m[0] / 2 + 0.6
        tail, tow = behind + trailer.lwh_m[0] / 2, (trailer, behind)
        width = max(width, trailer.lwh_m[1])
    low, high = WISH_MPS[kind]
    crowd.drivers.append(Driver(path, start, float(generator.uniform(low, high)), length, width, stops, tail))
    crowd.driven.append(thing)
    crowd.towed.append(tow)
    return length / 2 + tail


def _main_traffic(generator: np.random.Generator, plan: GroundPlan, mix: ClassMix, crowd: Crowd) -> None:
    ego_d = crowd.drivers[0].path[0, 1]
    density = float(generator.uniform(0.6, 1.3))
    for forward in (True, False):
        for lane in range(plan.lanes):
            d = lane_d_m(plan, lane, forward=forward)
            at = float(generator.uniform(22, 40))
            while at < EAST_M - WEST_M - 15.0:
                kind = draw_class(generator, MOVING_MIX[mix])
                edge = kind == "bicycle" and lane == plan.lanes - 1
                own = d + (0.95 if edge else 0.0) * np.sign(d) + float(generator.normal(0, 0.12))
                ends = ((WEST_M, own), (EAST_M, own)) if forward else ((EAST_M, own), (WEST_M, own))
                path, stops = straight(*ends), _main_stops(plan, forward=forward)
                x = WEST_M + at if forward else EAST_M - at
                long = SIZES_M[kind][0][0] + (8.0 if kind == "trailer" else 0.0)
                clear = abs(d - ego_d) > 1.0 or abs(x) > 10.0 + long
                if clear and not near_crossing(plan, x, 1.0):
                    if (
                        forward
                        and lane == plan.lanes - 1
                        and kind in ("car", "motorcycle")
                        and generator.random() < 0.25
                    ):
                        path, stops = _right_turn(plan, x, own, stops)
                    at += _add_driver(generator, crowd, kind, (path, at, stops))
                at += 4.0 + float(generator.gamma(2.0, 9.0)) / density


def _right_turn(
    plan: GroundPlan, x: float, d: float, stops: tuple[tuple[float, int, bool], ...]
) -> tuple[NDArray[np.float64], tuple[tuple[float, int, bool], ...]]:
    """Path that leaves the main road to the right at the next crossing."""
    ahead = [j for j, c in enumerate(plan.crossings_m) if c > x + 14.0]
    if not ahead:
        return straight((WEST_M, d), (EAST_M, d)), stops
    corner = plan.crossings_m[ahead[0]] - LANE_M / 2
    return turning((WEST_M, d), (corner, d), (corner, -140.0), 6.5), stops[: ahead[0] + 1]


def _cross_traffic(generator: np.random.Generator, plan: GroundPlan, mix: ClassMix, crowd: Crowd) -> None:
    far = 110.0
    line = far - plan.half_width_m - STOP_LINE_M
    for j, crossing in enumerate(plan.crossings_m):
        for up in (True, False):
            x = crossing + (LANE_M / 2 if up else -LANE_M / 2)
            ends = ((x, -far), (x, far)) if up else ((x, far), (x, -far))
            at = float(generator.uniform(40, 75))
            while at < line + far:
                kind = draw_class(generator, MOVING_MIX[mix])
                if abs(at - far) > plan.half_width_m + 12.0 and generator.random() < 0.55:
                    at += _add_driver(generator, crowd, kind, (straight(*ends), at, ((line, j, False),)))
                at += 5.0 + float(generator.gamma(2.0, 8.0))


def _parking(generator: np.random.Generator, plan: GroundPlan, mix: ClassMix, side: int, crowd: Crowd) -> None:
    """The strip along one side: vehicles, gaps and road works."""
    occupied = float(generator.uniform(0.3, 0.65))
    works = float(generator.uniform(0.12, 0.24)) if mix == "flat" else 0.05
    x = WEST_M + float(generator.uniform(0, 8))
    d = side * (plan.lanes * LANE_M + BAY_D_M)
    while x < EAST_M:
        luck = generator.random()
        if luck < works:
            x += _works(generator, plan, crowd, (x, d, side))
        elif luck < works + occupied:
            kind = draw_class(generator, PARKED_MIX[mix])
            thing = make_thing(generator, kind, parked=True)
            length = thing.lwh_m[0]
            middle = x + length / 2
            if not near_crossing(plan, middle, length / 2 + STOP_LINE_M):
                turned = (side > 0) != (generator.random() < 0.12)
                yaw = (np.pi if turned else 0.0) + float(generator.normal(0, 0.03))
                crowd.residents.append(Resident(thing, middle, d + float(generator.normal(0, 0.1)), yaw))
            x += length + float(generator.uniform(0.6, 2.5))
        else:
            x += float(generator.uniform(5, 12))


def _works(generator: np.random.Generator, plan: GroundPlan, crowd: Crowd, at: tuple[float, float, int]) -> float:
    """A works zone on the strip from x on: barriers along the lane, cones before and behind, perhaps an excavator."""
    x0, d, side = at
    length = float(generator.uniform(11, 20))
    if near_crossing(plan, x0 + length / 2, length / 2 + STOP_LINE_M):
        return 6.0
    edge = d - side * (BAY_D_M - 0.35)
    variant = str(generator.choice(["plastic", "concrete", "board"]))
    if generator.random() < 0.5:
        x = x0 + 3.0
        while x < x0 + length - 4.8:
            thing = make_thing(generator, "barrier", variant=variant)
            along = thing.lwh_m[1]
            yaw = -side * np.pi / 2 + float(generator.normal(0, 0.05))
            crowd.residents.append(Resident(thing, x + along / 2, edge + float(generator.normal(0, 0.06)), yaw))
            x += along + float(generator.uniform(0.05, 0.4))
    for x in (x0 + 0.5, x0 + 1.8, x0 + length - 1.6, x0 + length - 0.4):
        if generator.random() < 0.5:
            out = edge + side * float(generator.uniform(0.0, 2.0))
            crowd.residents.append(Resident(make_thing(generator, "traffic_cone"), x, out, 0.0))
    if generator.random() < 0.75:
        thing = make_thing(generator, "construction_vehicle", parked=True)
        yaw = float(generator.choice([0.0, np.pi])) + float(generator.normal(0, 0.08))
        crowd.residents.append(Resident(thing, x0 + length / 2, d + side * 0.95, yaw))
    if generator.random() < 0.4:
        person = make_thing(generator, "pedestrian", variant="worker")
        where = d + side * (BAY_D_M - 0.3)
        crowd.residents.append(Resident(person, x0 + 1.2, where, float(generator.uniform(-3, 3))))
    return length + 1.0


def _pavement(generator: np.random.Generator, plan: GroundPlan, mix: ClassMix, side: int, crowd: Crowd) -> None:
    """People alone and in groups, cycles left standing, single cones."""
    inner = plan.half_width_m
    sparse = 1.0 if mix == "flat" else 0.7
    x = WEST_M
    while x < EAST_M:
        x += float(generator.gamma(2.0, 13.0 * sparse))
        luck = generator.random()
        if luck < 0.36 or (mix == "nuscenes" and luck < 0.8):
            _group(generator, crowd, (x, side * (inner + float(generator.uniform(1.3, 3.0)))))
        elif luck < 0.93:
            kind = "motorcycle" if generator.random() < 0.5 else "bicycle"
            away = float(generator.uniform(0.6, 1.1))
            yaw = side * (np.pi / 2 + float(generator.normal(0, 0.3))) * float(generator.choice([-1, 1]))
            for number in range(int(generator.integers(1, 4))):
                if near_crossing(plan, x + number * 0.95, 0.5):
                    continue
                own = yaw + float(generator.normal(0, 0.08))
                thing = make_thing(generator, kind, parked=True)
                crowd.residents.append(Resident(thing, x + number * 0.95, side * (inner + away + 0.4), own))
        else:
            thing = make_thing(generator, "traffic_cone")
            crowd.residents.append(Resident(thing, x, side * (inner + float(generator.uniform(-0.6, 1.0))), 0.0))


def _group(generator: np.random.Generator, crowd: Crowd, at: tuple[float, float]) -> None:
    """One to four people who walk or stand together."""
    walks = generator.random() < 0.65
    heading = float(generator.choice([-1.0, 1.0]))
    speed = float(generator.uniform(0.8, 1.7))
    from_s = float(generator.uniform(2, 14)) if generator.random() < 0.15 else 0.0
    for number in range(int(generator.choice([1, 2, 3, 4], p=[0.5, 0.3, 0.12, 0.08]))):
        variant = "child" if generator.random() < 0.08 else ""
        thing = make_thing(generator, "pedestrian", moving=walks, variant=variant)
        x = at[0] + 0.8 * (number // 2) + float(generator.normal(0, 0.15))
        d = at[1] + 0.75 * (number % 2) + float(generator.normal(0, 0.1))
        if walks:
            crowd.walkers.append(Walker(thing, (x, d), (heading, 0.0), speed, from_s, False))
        else:
            crowd.residents.append(Resident(thing, x, d, float(generator.uniform(-np.pi, np.pi))))


def _zebra_people(generator: np.random.Generator, plan: GroundPlan, crowd: Crowd) -> None:
    """People who cross the main road at a crossing."""
    for crossing in plan.crossings_m:
        for across in (-1, 1):
            for _ in range(int(generator.choice([0, 1, 2], p=[0.5, 0.35, 0.15]))):
                side = float(generator.choice([-1.0, 1.0]))
                x = crossing + across * (CROSS_HALF_M + 2.7 + float(generator.uniform(-0.9, 0.9)))
                start = side * (plan.half_width_m + float(generator.uniform(0.8, 2.5)))
                thing = make_thing(generator, "pedestrian", moving=True)
                from_s = float(generator.uniform(0, 16))
                speed = float(generator.uniform(1.0, 1.7))
                crowd.walkers.append(Walker(thing, (x, start), (0.0, -side), speed, from_s, True))
