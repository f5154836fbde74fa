"""Traffic: the ego car and the vehicles on the main and the crossing roads."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from fusionkd.simulation.catalogue import SIZES_M
from fusionkd.simulation.crowd import Crowd, draw_class
from fusionkd.simulation.ground import CROSS_HALF_M, LANE_M, STOP_LINE_M, GroundPlan
from fusionkd.simulation.roadside import park_and_walk
from fusionkd.simulation.settings import ClassMix
from fusionkd.simulation.town import EAST_M, WEST_M, lane_d_m, near_crossing
from fusionkd.simulation.traffic import Driver, straight, turning

MOVING_MIX: Final[dict[str, dict[str, float]]] = {
    "flat": {"car": 0.34, "truck": 0.14, "bus": 0.20, "trailer": 0.14, "motorcycle": 0.09, "bicycle": 0.09},
    "nuscenes": {"car": 0.78, "truck": 0.09, "bus": 0.03, "trailer": 0.02, "motorcycle": 0.04, "bicycle": 0.04},
}
WISH_MPS: Final[dict[str, tuple[float, float]]] = {
    "car": (6.5, 11.5),
    "truck": (6.0, 9.5),
    "bus": (5.5, 9.0),
    "trailer": (5.5, 9.0),
    "motorcycle": (6.5, 11.5),
    "bicycle": (3.0, 5.5),
}
EGO_NOSE_M, EGO_TAIL_M = 3.4, 0.8
"""The ego frame lies at the rear axle."""


def populate(generator: np.random.Generator, plan: GroundPlan, mix: ClassMix, *, look_alike: float = 0.0) -> Crowd:
    """Fill one scene."""
    crowd = Crowd(look_alike)
    _ego(generator, plan, crowd)
    _main_traffic(generator, plan, mix, crowd)
    _cross_traffic(generator, plan, mix, crowd)
    park_and_walk(generator, plan, mix, crowd)
    return crowd


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
    thing = crowd.make(generator, name, rider=kind in ("motorcycle", "bicycle"))
    length, width = thing.lwh_m[0], thing.lwh_m[1]
    tail, tow = length / 2, None
    if kind == "trailer":
        trailer = crowd.make(generator, "trailer")
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
