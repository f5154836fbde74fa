"""Shapes of people, cycles, cones and barriers."""

from itertools import pairwise

import numpy as np

from fusionkd.simulation.parts import Colour, Parts, Shape
from fusionkd.simulation.shading import LAMP, PAINT
from fusionkd.simulation.vehicles import AMBER, DARK, HEADLAMP, METAL, TAIL_LAMP, TYRE, pick

CLOTHES: tuple[Colour, ...] = (
    (0.15, 0.17, 0.30),
    (0.55, 0.12, 0.12),
    (0.80, 0.80, 0.78),
    (0.12, 0.12, 0.13),
    (0.20, 0.40, 0.25),
    (0.75, 0.60, 0.20),
    (0.35, 0.28, 0.45),
)
TROUSERS: tuple[Colour, ...] = ((0.12, 0.14, 0.22), (0.10, 0.10, 0.10), (0.40, 0.36, 0.28), (0.30, 0.32, 0.34))
SKINS: tuple[Colour, ...] = ((0.80, 0.60, 0.48), (0.55, 0.38, 0.26), (0.36, 0.24, 0.17))
HAIRS: tuple[Colour, ...] = ((0.08, 0.06, 0.05), (0.30, 0.20, 0.10), (0.55, 0.45, 0.28))
HI_VIS: tuple[Colour, ...] = ((0.95, 0.45, 0.06), (0.75, 0.90, 0.10))
CONE_ORANGE: Colour = (0.92, 0.32, 0.06)
WHITE: Colour = (0.90, 0.90, 0.88)
MOTORCYCLE_PAINTS: tuple[Colour, ...] = ((0.60, 0.06, 0.06), (0.10, 0.10, 0.12), (0.10, 0.20, 0.50), (0.70, 0.70, 0.70))
BICYCLE_PAINTS: tuple[Colour, ...] = ((0.15, 0.15, 0.16), (0.15, 0.45, 0.65), (0.75, 0.25, 0.10), (0.80, 0.80, 0.78))


def _head(parts: Parts, generator: np.random.Generator, x: float, top: float, *, helmet: Colour | None = None) -> None:
    """A face in front, hair or a helmet behind."""
    parts.ball((x + 0.02, 0.0, top - 0.13), (0.10, 0.085, 0.125), colour=pick(generator, SKINS), reflectance=0.3)
    parts.ball(
        (x - 0.02, 0.0, top - 0.11), (0.11, 0.10, 0.11), colour=helmet or pick(generator, HAIRS), reflectance=0.25
    )


def pedestrian(
    generator: np.random.Generator, length: float, width: float, height: float, *, moving: bool, worker: bool = False
) -> Shape:
    """Legs, torso, arms and a head; some carry a bag on the back."""
    shirt = pick(generator, HI_VIS if worker else CLOTHES)
    reflectance = 0.8 if worker else float(generator.uniform(0.1, 0.45))
    half_y = width / 2
    hips, neck = 0.48 * height, 0.84 * height
    stride = 0.42 * length if moving else 0.1 * length
    parts = Parts()
    parts.shadow(length * 0.9, width * 0.9)
    trousers = pick(generator, TROUSERS)
    for y, x in ((0.09, stride), (-0.09, -stride)):
        parts.block(
            (x - 0.09, x + 0.09),
            (y - 0.07, y + 0.07),
            (0.0, hips),
            colour=trousers,
            reflectance=0.2,
            top_x=(-0.09, 0.09),
        )
    parts.block((-0.12, 0.13), (-half_y * 0.62, half_y * 0.62), (hips, neck), colour=shirt, reflectance=reflectance)
    for y, x in ((half_y - 0.06, -stride), (-half_y + 0.06, stride)):
        parts.block(
            (0.7 * x - 0.05, 0.7 * x + 0.06),
            (y - 0.05, y + 0.05),
            (0.45 * height, neck - 0.03),
            colour=shirt,
            reflectance=reflectance,
            top_x=(-0.05, 0.06),
        )
    if generator.random() < 0.35 and not worker:
        parts.block(
            (-0.30, -0.11),
            (-0.15, 0.15),
            (0.56 * height, 0.82 * height),
            colour=pick(generator, CLOTHES),
            reflectance=0.2,
        )
    _head(parts, generator, 0.0, height, helmet=(0.92, 0.85, 0.2) if worker else None)
    return parts.shape()


def add_rider(
    parts: Parts,
    generator: np.random.Generator,
    seat_x: float,
    seat_z: float,
    height: float,
    *,
    clothes: tuple[Colour, ...] = CLOTHES,
    helmet: bool = True,
) -> None:
    """Add somebody who sits at a place, leans forward and reaches ``height``."""
    shirt = pick(generator, clothes)
    shoulders = height - 0.27
    parts.block(
        (seat_x - 0.14, seat_x + 0.14),
        (-0.2, 0.2),
        (seat_z, shoulders),
        colour=shirt,
        reflectance=0.3,
        top_x=(seat_x - 0.02, seat_x + 0.24),
    )
    for y in (0.15, -0.15):
        parts.block(
            (seat_x + 0.12, seat_x + 0.32),
            (y - 0.07, y + 0.07),
            (seat_z - 0.55, seat_z + 0.06),
            colour=pick(generator, TROUSERS),
            reflectance=0.2,
            top_x=(seat_x - 0.05, seat_x + 0.2),
        )
        parts.block(
            (seat_x + 0.42, seat_x + 0.52),
            (y * 1.3 - 0.05, y * 1.3 + 0.05),
            (seat_z + 0.18, shoulders),
            colour=shirt,
            reflectance=0.3,
            top_x=(seat_x + 0.08, seat_x + 0.2),
        )
    _head(parts, generator, seat_x + 0.2, height, helmet=pick(generator, clothes) if helmet else None)


def motorcycle(generator: np.random.Generator, length: float, width: float, height: float, *, rider: bool) -> Shape:
    """Fat wheels, a tank and engine between them, a seat, a lamp in front."""
    paint = pick(generator, MOTORCYCLE_PAINTS)
    half_x, half_y = length / 2, width / 2
    seat = min(0.8, 0.66 * height)
    parts = Parts()
    parts.shadow(length, width)
    for x in (half_x - 0.31, -half_x + 0.31):
        parts.block(
            (x - 0.29, x + 0.29), (-0.08, 0.08), (0.0, 0.6), colour=TYRE, reflectance=0.06, top_x=(x - 0.2, x + 0.2)
        )
    parts.block((-0.22 * length, 0.2 * length), (-0.19, 0.19), (0.22, 0.62), colour=METAL, reflectance=0.5)
    parts.block(
        (-0.04 * length, 0.26 * length),
        (-0.17, 0.17),
        (0.55, seat + 0.14),
        colour=paint,
        finish=PAINT,
        reflectance=0.6,
        top_x=(0.0, 0.2 * length),
    )
    parts.block((-0.42 * length, 0.02 * length), (-0.14, 0.14), (seat - 0.14, seat), colour=DARK, reflectance=0.1)
    parts.block(
        (0.24 * length, 0.30 * length), (-half_y, half_y), (seat + 0.14, seat + 0.24), colour=METAL, reflectance=0.5
    )
    parts.block(
        (0.27 * length, 0.36 * length),
        (-0.14, 0.14),
        (0.6, min(height, seat + 0.3)),
        colour=paint,
        finish=PAINT,
        reflectance=0.5,
        top_x=(0.24 * length, 0.30 * length),
    )
    parts.block(
        (0.34 * length, 0.38 * length), (-0.09, 0.09), (0.66, 0.82), colour=HEADLAMP, finish=LAMP, reflectance=0.8
    )
    parts.block(
        (-half_x + 0.1, -half_x + 0.2),
        (-0.09, 0.09),
        (seat - 0.12, seat - 0.02),
        colour=TAIL_LAMP,
        finish=LAMP,
        reflectance=0.9,
    )
    if rider:
        add_rider(parts, generator, -0.13 * length, seat, height)
    return parts.shape()


def bicycle(generator: np.random.Generator, length: float, width: float, height: float, *, rider: bool) -> Shape:
    """Thin large wheels, a frame of tubes, a high saddle."""
    paint = pick(generator, BICYCLE_PAINTS)
    half_x, half_y = length / 2, width / 2
    saddle = min(0.92, height - 0.08)
    parts = Parts()
    parts.shadow(length, width * 0.5)
    for x in (half_x - 0.34, -half_x + 0.34):
        parts.block(
            (x - 0.33, x + 0.33),
            (-0.025, 0.025),
            (0.0, 0.66),
            colour=TYRE,
            reflectance=0.08,
            top_x=(x - 0.22, x + 0.22),
        )
    parts.block((-0.2 * length, 0.22 * length), (-0.02, 0.02), (0.60, 0.66), colour=paint, reflectance=0.5)
    parts.block(
        (0.0, 0.06), (-0.02, 0.02), (0.28, 0.64), colour=paint, reflectance=0.5, top_x=(0.19 * length, 0.22 * length)
    )
    parts.block(
        (-0.02, 0.04),
        (-0.02, 0.02),
        (0.28, saddle - 0.05),
        colour=paint,
        reflectance=0.5,
        top_x=(-0.16 * length, -0.13 * length),
    )
    parts.block((-0.20 * length, -0.06 * length), (-0.07, 0.07), (saddle - 0.06, saddle), colour=DARK, reflectance=0.1)
    parts.block(
        (0.2 * length, 0.24 * length), (-half_y, half_y), (saddle + 0.02, saddle + 0.07), colour=DARK, reflectance=0.2
    )
    parts.block((0.21 * length, 0.24 * length), (-0.02, 0.02), (0.6, saddle + 0.04), colour=paint, reflectance=0.5)
    if rider:
        add_rider(parts, generator, -0.13 * length, saddle, height, helmet=bool(generator.random() < 0.5))
    return parts.shape()


def traffic_cone(generator: np.random.Generator, length: float, width: float, height: float) -> Shape:
    """A square foot, an orange cone, white bands."""
    half = min(length, width) / 2
    radius, tip = 0.72 * half, 0.16 * half
    parts = Parts()
    parts.block((-length / 2, length / 2), (-width / 2, width / 2), (0.0, 0.05), colour=DARK, reflectance=0.15)
    bands = (0.05, 0.34, 0.52, 0.66, 0.80, 1.0)
    for number, (low, high) in enumerate(pairwise(bands)):
        ends = (radius + (tip - radius) * low, radius + (tip - radius) * high)
        white = number % 2 == 1
        parts.cone(
            (0.0, 0.0),
            ends,
            (low * height, high * height),
            colour=WHITE if white else CONE_ORANGE,
            reflectance=0.95 if white else 0.45,
        )
    return parts.shape()


def barrier(
    generator: np.random.Generator, length: float, width: float, height: float, *, kind: int, red: bool
) -> Shape:
    """A water-filled plastic element (kind 0), a concrete wall (1) or a striped board on feet (2).

    As in nuScenes the heading stands across the barrier: ``width`` runs along it.
    """
    half_x, half_y = length / 2, width / 2
    parts = Parts()
    if kind == 2:
        parts.pair((-half_x, half_x), (half_y - 0.3, half_y - 0.2), (0.0, 0.1), colour=DARK, reflectance=0.2)
        parts.pair((-0.04, 0.04), (half_y - 0.29, half_y - 0.21), (0.0, height - 0.02), colour=METAL, reflectance=0.4)
        count = max(4, int(width / 0.3))
        for number in range(count):
            y0, y1 = -half_y + width * number / count, -half_y + width * (number + 1) / count
            colour = WHITE if number % 2 else (0.85, 0.15, 0.08)
            for low, high in ((0.68, 0.99), (0.28, 0.5)):
                parts.block((-0.05, 0.05), (y0, y1), (low * height, high * height), colour=colour, reflectance=0.8)
        parts.ball((0.0, half_y - 0.25, height - 0.06), (0.05, 0.05, 0.05), colour=AMBER, finish=LAMP)
        return parts.shape()
    parts.shadow(length, width)
    colour = (0.62, 0.61, 0.58) if kind == 1 else ((0.85, 0.22, 0.12) if red else WHITE)
    tone = float(generator.uniform(0.88, 1.08))
    colour = (colour[0] * tone, colour[1] * tone, colour[2] * tone)
    reflectance = 0.3 if kind == 1 else 0.5
    narrow = 0.3 * half_x
    parts.block(
        (-half_x, half_x),
        (-half_y, half_y),
        (0.0, 0.4 * height),
        colour=colour,
        reflectance=reflectance,
        top_x=(-narrow * 1.6, narrow * 1.6),
    )
    parts.block(
        (-narrow * 1.6, narrow * 1.6),
        (-half_y, half_y),
        (0.4 * height, height - 0.01),
        colour=colour,
        reflectance=reflectance,
        top_x=(-narrow, narrow),
    )
    return parts.shape()
