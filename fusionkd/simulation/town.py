"""What stands still and is not annotated: houses, trees, poles, hedges, signs; and the weather."""

import numpy as np

from fusionkd.simulation.ground import CROSS_HALF_M, LANE_M, PAVEMENT_M, GroundPlan
from fusionkd.simulation.parts import Colour, Parts, Shape
from fusionkd.simulation.shading import FACADE, LAMP, LEAVES, Weather
from fusionkd.simulation.vehicles import METAL, pick

WEST_M, EAST_M = -110.0, 340.0
"""Ends of the furnished part of the main road."""

WALLS: tuple[Colour, ...] = (
    (0.58, 0.36, 0.28),
    (0.70, 0.66, 0.58),
    (0.52, 0.53, 0.55),
    (0.76, 0.72, 0.66),
    (0.40, 0.42, 0.46),
    (0.64, 0.50, 0.36),
)
LEAF_GREENS: tuple[Colour, ...] = ((0.16, 0.26, 0.10), (0.22, 0.32, 0.12), (0.26, 0.30, 0.10))
BARK: Colour = (0.28, 0.22, 0.17)
LIGHT_RED: Colour = (0.90, 0.10, 0.08)

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
    )


def draw_weather(generator: np.random.Generator) -> Weather:
    """Sun, clouds, rain, haze or night."""
    turn, height = float(generator.uniform(0, 2 * np.pi)), float(generator.uniform(0.35, 1.1))
    sun = (np.cos(turn) * np.cos(height), np.sin(turn) * np.cos(height), np.sin(height))
    blue, grey = (0.30, 0.50, 0.82), (0.62, 0.65, 0.69)
    kind = generator.choice(["sun", "cloud", "rain", "haze", "night"], p=[0.44, 0.24, 0.12, 0.08, 0.12])
    if kind == "sun":
        return Weather("sun", sun, 0.75, 0.50, 0.0015, blue, (0.74, 0.81, 0.90), 0.45, 0.0, 0.0, 0.010)
    if kind == "cloud":
        return Weather("clouds", sun, 0.12, 0.78, 0.0025, grey, (0.80, 0.82, 0.84), 1.0, 0.0, 0.0, 0.012)
    if kind == "rain":
        wet = float(generator.uniform(0.4, 1.0))
        return Weather("rain", sun, 0.0, 0.62, 0.009, (0.48, 0.50, 0.53), (0.62, 0.64, 0.66), 1.0, wet, 0.0, 0.022)
    if kind == "haze":
        return Weather("haze", sun, 0.2, 0.65, 0.014, (0.66, 0.68, 0.70), (0.76, 0.76, 0.74), 0.6, 0.0, 0.0, 0.012)
    return Weather("night", sun, 0.0, 0.10, 0.004, (0.01, 0.012, 0.03), (0.05, 0.05, 0.08), 0.2, 0.0, 0.75, 0.030)


def _building(generator: np.random.Generator, length: float, depth: float, height: float) -> Shape:
    """A block with windows, sometimes with a set-back upper floor and a ground floor of another colour."""
    parts = Parts()
    wall = pick(generator, WALLS)
    half_x, half_y = length / 2, depth / 2
    parts.block((-half_x, half_x), (-half_y, half_y), (0.0, height), colour=wall, finish=FACADE, reflectance=0.35)
    if generator.random() < 0.4:
        parts.block(
            (-0.7 * half_x, 0.7 * half_x),
            (-0.7 * half_y, 0.7 * half_y),
            (height, height + float(generator.uniform(3, 9))),
            colour=pick(generator, WALLS),
            finish=FACADE,
            reflectance=0.35,
        )
    if generator.random() < 0.5:
        base = (0.7 * wall[0], 0.7 * wall[1], 0.7 * wall[2])
        parts.block(
            (-half_x - 0.12, half_x + 0.12),
            (-half_y - 0.12, half_y + 0.12),
            (0.0, float(generator.uniform(0.8, 3.6))),
            colour=base,
            reflectance=0.3,
        )
    return parts.shape()


def _tree(generator: np.random.Generator) -> Shape:
    parts = Parts()
    trunk, crown = float(generator.uniform(1.6, 3.0)), float(generator.uniform(1.2, 2.6))
    green = pick(generator, LEAF_GREENS)
    parts.cone((0, 0), (float(generator.uniform(0.12, 0.22)), 0.1), (0, trunk + crown), colour=BARK, reflectance=0.25)
    for _ in range(3):
        x, y = generator.normal(0, 0.35 * crown, 2)
        half = crown * float(generator.uniform(0.6, 1.0))
        centre = (float(x), float(y), trunk + crown * float(generator.uniform(0.7, 1.3)))
        parts.ball(centre, (half, half, 0.9 * half), colour=green, finish=LEAVES, reflectance=0.32)
    return parts.shape()


def _hedge(generator: np.random.Generator, length: float) -> Shape:
    parts = Parts()
    height = float(generator.uniform(0.6, 1.4))
    colour = pick(generator, LEAF_GREENS)
    parts.block(
        (-length / 2, length / 2),
        (-0.4, 0.4),
        (0.0, height),
        colour=colour,
        finish=LEAVES,
        reflectance=0.3,
        top_narrower=0.1,
    )
    return parts.shape()


def _lamp_post(*, lit: bool) -> Shape:
    """The arm points to the left, over the road when the post stands on its right."""
    parts = Parts()
    parts.cone((0, 0), (0.11, 0.06), (0, 7.2), colour=METAL, reflectance=0.4)
    parts.block((-0.05, 0.05), (0.0, 2.0), (7.0, 7.12), colour=METAL, reflectance=0.4)
    colour = (1.0, 0.92, 0.70) if lit else (0.7, 0.7, 0.68)
    parts.block((-0.12, 0.12), (1.5, 2.1), (6.92, 7.05), colour=colour, finish=LAMP if lit else 0)
    return parts.shape()


def _traffic_light(generator: np.random.Generator) -> Shape:
    parts = Parts()
    parts.cone((0, 0), (0.09, 0.07), (0, 3.6), colour=METAL, reflectance=0.4)
    parts.block((-0.15, 0.15), (-0.16, 0.16), (2.6, 3.6), colour=(0.1, 0.1, 0.1), reflectance=0.2)
    colour = LIGHT_RED if generator.random() < 0.5 else (0.1, 0.8, 0.3)
    parts.block((-0.17, -0.14), (-0.09, 0.09), (3.2, 3.4), colour=colour, finish=LAMP)
    return parts.shape()


def _sign(generator: np.random.Generator) -> Shape:
    parts = Parts()
    parts.cone((0, 0), (0.035, 0.035), (0, 2.3), colour=METAL, reflectance=0.4)
    colour: Colour = ((0.85, 0.12, 0.1), (0.1, 0.25, 0.65), (0.9, 0.9, 0.88))[int(generator.integers(3))]
    half = float(generator.uniform(0.25, 0.4))
    parts.block((-0.03, 0.03), (-half, half), (2.3 - 2 * half, 2.3), colour=colour, reflectance=0.95)
    return parts.shape()


def _clutter(generator: np.random.Generator) -> Shape:
    """Things of a person's size that are nobody: bins, hydrants, boxes, bollards."""
    parts = Parts()
    kind = int(generator.integers(4))
    if kind == 0:
        parts.cone((0, 0), (0.28, 0.3), (0, 0.95), colour=(0.16, 0.25, 0.18), reflectance=0.25)
    elif kind == 1:
        parts.cone((0, 0), (0.14, 0.12), (0, 0.75), colour=(0.7, 0.12, 0.08), reflectance=0.4)
    elif kind == 2:
        height = float(generator.uniform(1.0, 1.7))
        parts.block((-0.35, 0.35), (-0.25, 0.25), (0, height), colour=(0.45, 0.47, 0.46), reflectance=0.35)
    else:
        parts.cone((0, 0), (0.09, 0.09), (0, 1.0), colour=(0.3, 0.3, 0.3), reflectance=0.6)
    return parts.shape()


def furnish(generator: np.random.Generator, plan: GroundPlan, weather: Weather) -> list[Placed]:
    """Everything that stands beside the roads of a scene."""
    out: list[Placed] = []
    night = weather.headlights > 0
    for side in (-1, 1):
        _houses(generator, plan, side, out)
        _roadside(generator, plan, side, out, night=night)
    for crossing in plan.crossings_m:
        _corners(generator, plan, crossing, out)
    return out


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
    x = WEST_M
    while x < EAST_M:
        length, depth = float(generator.uniform(9, 28)), float(generator.uniform(9, 15))
        middle = x + length / 2
        if not near_crossing(plan, middle, length / 2 + PAVEMENT_M + 1.0) and generator.random() < 0.85:
            height = float(generator.uniform(5, 20))
            own = setback + float(generator.uniform(0, 1.5))
            out.append(
                (
                    _building(generator, length, depth, height),
                    *_along_road(plan, middle, side * (front + own + depth / 2)),
                )
            )
        x += length + (float(generator.uniform(0, 3)) if generator.random() < 0.6 else float(generator.uniform(4, 14)))
    x = WEST_M
    while x < EAST_M:
        length = float(generator.uniform(18, 40))
        if not near_crossing(plan, x + length / 2, length / 2 + PAVEMENT_M + 1.0):
            shape = _building(generator, length, 14.0, float(generator.uniform(10, 34)))
            out.append((shape, *_along_road(plan, x + length / 2, side * (front + 42))))
        x += length + float(generator.uniform(3, 25))
    for crossing in plan.crossings_m:
        for across in (-1, 1):
            d = front + 55.0
            while d < 130.0:
                length = float(generator.uniform(12, 30))
                shape = _building(generator, length, 12.0, float(generator.uniform(6, 24)))
                at = crossing + across * (CROSS_HALF_M + PAVEMENT_M + 8.0 + float(generator.uniform(0, 4)))
                centre = float(plan.centre_y_m(np.array([crossing]))[0])
                out.append((shape, at, centre + side * (d + length / 2), np.pi / 2))
                d += length + float(generator.uniform(2, 12))


def _roadside(generator: np.random.Generator, plan: GroundPlan, side: int, out: list[Placed], *, night: bool) -> None:
    kerb, back = plan.half_width_m + 0.7, plan.half_width_m + PAVEMENT_M
    green = generator.uniform(0.2, 1.0)
    for x in np.arange(WEST_M, EAST_M, 27.0):
        at = float(x + generator.uniform(-3, 3))
        if not near_crossing(plan, at, 4.0):
            turn = np.pi if side > 0 else 0.0
            out.append((_lamp_post(lit=night), *_along_road(plan, at, side * kerb, turn)))
    for x in np.arange(WEST_M, EAST_M, 9.0):
        at = float(x + generator.uniform(-2, 2))
        if near_crossing(plan, at, 4.5):
            continue
        luck = generator.random()
        if luck < 0.40 * green:
            d = kerb + 0.2 if generator.random() < 0.4 else back + float(generator.uniform(0.8, 2.5))
            out.append((_tree(generator), *_along_road(plan, at, side * d)))
        elif luck < 0.55 * green:
            out.append((_hedge(generator, float(generator.uniform(3, 7))), *_along_road(plan, at, side * (back + 0.6))))
        elif luck > 0.90:
            out.append((_clutter(generator), *_along_road(plan, at, side * (kerb + float(generator.uniform(0, 2.4))))))
        elif luck > 0.84:
            out.append((_sign(generator), *_along_road(plan, at, side * kerb, np.pi if side > 0 else 0.0)))


def _corners(generator: np.random.Generator, plan: GroundPlan, crossing: float, out: list[Placed]) -> None:
    for side in (-1, 1):
        for across in (-1, 1):
            x = crossing + across * (CROSS_HALF_M + 0.8)
            turn = 0.0 if across > 0 else np.pi
            out.append((_traffic_light(generator), *_along_road(plan, x, side * (plan.half_width_m + 0.8), turn)))


def lane_d_m(plan: GroundPlan, lane: int, *, forward: bool) -> float:
    """D of the middle of a lane of the main road, counted from the middle; people drive on the right."""
    offset = (lane + 0.5) * LANE_M
    return -offset if forward else offset
