"""What stands still and is not annotated: houses, trees, fences, poles, look-alikes; and where the roads lie."""

import numpy as np

from fusionkd.simulation import alike
from fusionkd.simulation.ground import CROSS_HALF_M, LANE_M, PAVEMENT_M, GroundPlan
from fusionkd.simulation.parts import Parts, Shape
from fusionkd.simulation.rays import BLOCK
from fusionkd.simulation.shading import Weather
from fusionkd.simulation.street_shapes import (
    building,
    bushes,
    clutter,
    fence,
    hedge,
    lamp_post,
    sign,
    traffic_light,
    tree,
)

WEST_M, EAST_M = -110.0, 340.0
"""Ends of the furnished part of the main road."""

Placed = tuple[Shape, float, float, float]
"""A shape and where it stands: x, y and yaw in the scene's frame."""


def draw_plan(generator: np.random.Generator) -> GroundPlan:
    """The roads of one scene."""
    crossings = [float(generator.uniform(-75, -55)), float(generator.uniform(28, 60))]
    crossings.append(crossings[1] + float(generator.uniform(95, 125)))
    crossings.append(crossings[2] + float(generator.uniform(95, 125)))
    return GroundPlan(
        lanes=int(generator.integers(1, 3)),
        bend_amplitude_m=float(generator.uniform(0.0, 7.0)),
        bend_wave=2 * np.pi / float(generator.uniform(220.0, 320.0)),
        bend_phase_rad=float(generator.uniform(0, 2 * np.pi)),
        crossings_m=tuple(crossings),
        plaza=bool(generator.random() < 0.45),
        seed=int(generator.integers(1, 10_000)),
        relief=float(generator.uniform(0.6, 1.5)),
    )


def furnish(
    generator: np.random.Generator, plan: GroundPlan, weather: Weather, *, look_alike: float = 0.5
) -> list[Placed]:
    """Everything that stands beside the roads of a scene, and its shadows."""
    out: list[Placed] = []
    night = weather.headlights > 0
    for side in (-1, 1):
        _houses(generator, plan, side, out)
        _edge_of_plots(generator, plan, side, out)
        _roadside(generator, plan, side, out, night=night)
        _look_alikes(generator, plan, side, out, look_alike)
    for crossing in plan.crossings_m:
        _corners(generator, plan, crossing, out)
        _side_street(generator, plan, crossing, out)
    if weather.sun_strength > 0.3:
        out += [shade for placed in out for shade in _shadow(placed, weather)]
    return out


def _shadow(placed: Placed, weather: Weather) -> list[Placed]:
    """The sun's shadow of something high, as a rectangle on the ground."""
    shape, x, y, yaw = placed
    rows = shape.solids
    height = float(rows[:, 4].max())
    if height < 2.6:
        return []
    flat = float(np.hypot(weather.sun[0], weather.sun[1]))
    away = np.array([-weather.sun[0], -weather.sun[1]]) / flat
    length = min(height * flat / weather.sun[2], 60.0)
    turn = float(np.arctan2(away[1], away[0]))
    solid = rows[0] if rows[0, 0] == BLOCK else rows[-1]
    half_x, half_y = float(solid[7]), float(solid[10] if solid[0] == BLOCK else solid[8])
    if len(rows) <= 3 and solid[0] != BLOCK:
        half_x = half_y = 0.12
    cos, sin = abs(np.cos(turn - yaw)), abs(np.sin(turn - yaw))
    along, across = half_x * cos + half_y * sin, half_x * sin + half_y * cos
    start = 0.0 if rows[0, 0] == BLOCK else 0.5 * length
    middle = (start + length) / 2
    parts = Parts()
    parts.shadow(length - start + along, 1.8 * across)
    return [(parts.shape(), x + float(middle * away[0]), y + float(middle * away[1]), turn)]


def _along_road(plan: GroundPlan, x: float, d: float, turn: float = 0.0) -> tuple[float, float, float]:
    """Place in the scene of a point of the straightened road."""
    at = np.array([x])
    return (x, float(plan.centre_y_m(at)[0]) + d, float(plan.heading_rad(at)[0]) + turn)


def near_crossing(plan: GroundPlan, x: float, margin_m: float) -> bool:
    """Whether x lies within a crossing road and a margin on both sides of it."""
    return any(abs(x - crossing) < CROSS_HALF_M + margin_m for crossing in plan.crossings_m)


def _houses(generator: np.random.Generator, plan: GroundPlan, side: int, out: list[Placed]) -> None:
    """A row along the main road, a higher one behind it, and rows along the crossing roads."""
    front = plan.half_width_m + PAVEMENT_M
    setback = float(generator.uniform(1.0, 9.0))
    share = float(generator.choice([0.3, 0.65, 0.9]))
    x = WEST_M
    while x < EAST_M:
        length, depth = float(generator.uniform(9, 28)), float(generator.uniform(9, 15))
        middle = x + length / 2
        if not near_crossing(plan, middle, length / 2 + PAVEMENT_M + 1.0) and generator.random() < share:
            height = float(generator.uniform(5, 20))
            own = setback + float(generator.uniform(0, 1.5))
            out.append(
                (
                    building(generator, length, depth, height),
                    *_along_road(plan, middle, side * (front + own + depth / 2)),
                )
            )
        elif not near_crossing(plan, middle, length / 2 + 1.0):
            _garden(generator, plan, side, out, (x, x + length, front + setback))
        x += length + (float(generator.uniform(0, 3)) if generator.random() < 0.6 else float(generator.uniform(4, 14)))
    x = WEST_M
    while x < EAST_M:
        length = float(generator.uniform(18, 40))
        if not near_crossing(plan, x + length / 2, length / 2 + PAVEMENT_M + 1.0):
            shape = building(generator, length, 14.0, float(generator.uniform(10, 34)))
            out.append((shape, *_along_road(plan, x + length / 2, side * (front + 42))))
        x += length + float(generator.uniform(3, 25))
    for crossing in plan.crossings_m:
        for across in (-1, 1):
            d = front + 55.0
            while d < 130.0:
                length = float(generator.uniform(12, 30))
                shape = building(generator, length, 12.0, float(generator.uniform(6, 24)))
                at = crossing + across * (CROSS_HALF_M + PAVEMENT_M + 8.0 + float(generator.uniform(0, 4)))
                centre = float(plan.centre_y_m(np.array([crossing]))[0])
                out.append((shape, at, centre + side * (d + length / 2), np.pi / 2))
                d += length + float(generator.uniform(2, 12))


def _garden(
    generator: np.random.Generator, plan: GroundPlan, side: int, out: list[Placed], where: tuple[float, float, float]
) -> None:
    """Trees, shrubs and a fence on a plot without a house, from x to x and from d on."""
    west, east, front = where
    for _ in range(int(0.35 * (east - west))):
        x, d = float(generator.uniform(west, east)), front + float(generator.uniform(0.5, 26.0))
        luck = generator.random()
        if luck < 0.6:
            shape = tree(generator, scale=float(generator.uniform(0.8, 1.6)))
        elif luck < 0.85:
            shape = bushes(generator, float(generator.uniform(2, 7)))
        else:
            shape = clutter(generator)
        out.append((shape, *_along_road(plan, x, side * d, float(generator.uniform(-0.5, 0.5)))))
    if generator.random() < 0.5:
        shape = fence(generator, east - west, kind=int(generator.integers(3)))
        d = front + float(generator.uniform(3, 20))
        out.append((shape, *_along_road(plan, (west + east) / 2, side * d)))


def _edge_of_plots(generator: np.random.Generator, plan: GroundPlan, side: int, out: list[Placed]) -> None:
    """What divides the pavement from the plots: for long stretches a wall, a railing, shrubs, or nothing."""
    back = plan.half_width_m + PAVEMENT_M + 0.45
    x = WEST_M
    while x < EAST_M:
        stretch = float(generator.uniform(15, 60))
        kind = int(generator.integers(8))
        end = x + stretch
        while x < end:
            piece = float(generator.uniform(5, 9)) if kind > 3 else 8.0
            if kind < 6 and not near_crossing(plan, x + piece / 2, piece / 2 + PAVEMENT_M):
                if kind < 4:
                    shape = fence(generator, piece, kind=kind)
                else:
                    shape = hedge(generator, piece) if kind == 4 else bushes(generator, piece - 1.0)
                out.append((shape, *_along_road(plan, x + piece / 2, side * back)))
            x += piece


def _look_alikes(
    generator: np.random.Generator, plan: GroundPlan, side: int, out: list[Placed], look_alike: float
) -> None:
    """Statues, bollards and planters, near the kerb where people walk past them."""
    x = WEST_M
    while x < EAST_M and look_alike > 0.0:
        x += float(generator.gamma(2.0, 5.5)) / look_alike
        luck = generator.random()
        if near_crossing(plan, x, 9.0):
            continue
        if luck < 0.45:
            out_m = float(generator.uniform(0.5, 0.9)) if generator.random() < 0.6 else PAVEMENT_M + 0.1
            turn = float(generator.uniform(-np.pi, np.pi))
            out.append((alike.statue(generator), *_along_road(plan, x, side * (plan.half_width_m + out_m), turn)))
        elif luck < 0.75:
            for number in range(int(generator.integers(1, 4))):
                place = _along_road(plan, x + 1.6 * number, side * (plan.half_width_m + 0.35))
                out.append((alike.bollard(generator), *place))
        else:
            for number in range(int(generator.integers(1, 3))):
                place = _along_road(plan, x + 2.9 * number, side * (plan.half_width_m + 0.4), np.pi / 2)
                out.append((alike.planter(generator), *place))


def _side_street(generator: np.random.Generator, plan: GroundPlan, crossing: float, out: list[Placed]) -> None:
    """Trees and fences along a crossing road."""
    centre = float(plan.centre_y_m(np.array([crossing]))[0])
    for side in (-1, 1):
        for across in (-1, 1):
            at = crossing + across * (CROSS_HALF_M + PAVEMENT_M + 0.6)
            for d in np.arange(plan.half_width_m + 10.0, 100.0, 9.0):
                luck = generator.random()
                if luck < 0.45:
                    place = (at + across * float(generator.uniform(0.4, 3.0)), centre + side * float(d), 0.0)
                    out.append((tree(generator), *place))
                elif luck < 0.65:
                    shape = fence(generator, 8.5, kind=int(generator.integers(4)))
                    out.append((shape, at, centre + side * float(d), np.pi / 2))


def _roadside(generator: np.random.Generator, plan: GroundPlan, side: int, out: list[Placed], *, night: bool) -> None:
    kerb, back = plan.half_width_m + 0.7, plan.half_width_m + PAVEMENT_M
    green = generator.uniform(0.2, 1.0)
    for x in np.arange(WEST_M, EAST_M, 27.0):
        at = float(x + generator.uniform(-3, 3))
        if not near_crossing(plan, at, 4.0):
            turn = np.pi if side > 0 else 0.0
            out.append((lamp_post(lit=night), *_along_road(plan, at, side * kerb, turn)))
    for x in np.arange(WEST_M, EAST_M, 9.0):
        at = float(x + generator.uniform(-2, 2))
        if near_crossing(plan, at, 4.5):
            continue
        luck = generator.random()
        if luck < 0.40 * green:
            d = kerb + 0.2 if generator.random() < 0.4 else back + float(generator.uniform(0.8, 2.5))
            out.append((tree(generator), *_along_road(plan, at, side * d)))
        elif luck < 0.50 * green:
            out.append((hedge(generator, float(generator.uniform(3, 7))), *_along_road(plan, at, side * (back + 0.6))))
        elif luck > 0.90:
            out.append((clutter(generator), *_along_road(plan, at, side * (kerb + float(generator.uniform(0, 2.4))))))
        elif luck > 0.84:
            out.append((sign(generator), *_along_road(plan, at, side * kerb, np.pi if side > 0 else 0.0)))


def _corners(generator: np.random.Generator, plan: GroundPlan, crossing: float, out: list[Placed]) -> None:
    for side in (-1, 1):
        for across in (-1, 1):
            x = crossing + across * (CROSS_HALF_M + 0.8)
            turn = 0.0 if across > 0 else np.pi
            out.append((traffic_light(generator), *_along_road(plan, x, side * (plan.half_width_m + 0.8), turn)))


def lane_d_m(plan: GroundPlan, lane: int, *, forward: bool) -> float:
    """D of the middle of a lane of the main road, counted from the middle; people drive on the right."""
    offset = (lane + 0.5) * LANE_M
    return -offset if forward else offset
