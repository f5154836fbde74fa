"""Shapes of trucks, trailers and construction vehicles."""

import numpy as np

from fusionkd.simulation.parts import Colour, Parts, Shape
from fusionkd.simulation.shading import GLASS, LAMP, PAINT
from fusionkd.simulation.vehicles import AMBER, DARK, METAL, TAIL_LAMP, WINDOW, lamps, pick, wheels

TRUCK_PAINTS: tuple[Colour, ...] = ((0.85, 0.85, 0.84), (0.75, 0.16, 0.12), (0.12, 0.25, 0.50), (0.30, 0.42, 0.30))
CARGO_PAINTS: tuple[Colour, ...] = ((0.88, 0.88, 0.86), (0.70, 0.72, 0.74), (0.75, 0.62, 0.40), (0.22, 0.35, 0.58))
WORKS_YELLOW: tuple[Colour, ...] = ((0.90, 0.66, 0.08), (0.88, 0.50, 0.08), (0.85, 0.72, 0.20))


def truck(generator: np.random.Generator, length: float, width: float, height: float) -> Shape:
    """A cab in front of a box, a tarpaulin or an open bed."""
    paint, cargo = pick(generator, TRUCK_PAINTS), pick(generator, CARGO_PAINTS)
    half_y, front = width / 2, length / 2
    cab = min(2.1, 0.34 * length)
    cab_top = min(height, max(2.1, 0.86 * height))
    parts = Parts()
    parts.shadow(length + 0.5, width + 0.5)
    wheels(
        parts,
        (front - 0.9, -0.28 * length, -0.28 * length - 0.95)[: 3 if length > 7.5 else 2],
        half_y - 0.03,
        radius=0.45,
    )
    parts.block(
        (front - cab, front),
        (-half_y + 0.08, half_y - 0.08),
        (0.4, cab_top),
        colour=paint,
        finish=PAINT,
        reflectance=0.4,
        top_x=(front - cab, front - 0.35),
    )
    parts.block(
        (front - 0.62, front - 0.01),
        (-half_y + 0.16, half_y - 0.16),
        (0.5 * cab_top, 0.86 * cab_top),
        colour=WINDOW,
        finish=GLASS,
        reflectance=0.06,
        top_x=(front - 0.62, front - 0.17),
    )
    parts.pair(
        (front - 0.75 * cab, front - 0.45),
        (half_y - 0.12, half_y - 0.06),
        (0.52 * cab_top, 0.84 * cab_top),
        colour=WINDOW,
        finish=GLASS,
        reflectance=0.06,
    )
    parts.block((-front, front - cab), (-half_y + 0.25, half_y - 0.25), (0.55, 0.85), colour=DARK, reflectance=0.15)
    back = front - cab - 0.12
    kind = int(generator.integers(3))
    if kind < 2:
        parts.block(
            (-front + 0.03, back),
            (-half_y, half_y),
            (0.88, height - 0.01),
            colour=cargo,
            reflectance=0.45,
            top_narrower=0.0 if kind == 0 else 0.25,
        )
        parts.block(
            (-front, -front + 0.05),
            (-half_y + 0.15, half_y - 0.15),
            (1.0, height - 0.25),
            colour=METAL,
            reflectance=0.5,
        )
    else:
        side = 0.88 + 0.35 * (height - 0.88)
        parts.block((-front, back), (-half_y, half_y), (0.88, 1.02), colour=DARK, reflectance=0.2)
        parts.pair((-front, back), (half_y - 0.07, half_y), (1.0, side), colour=cargo, reflectance=0.35)
        parts.block((-front, -front + 0.07), (-half_y, half_y), (1.0, side), colour=cargo, reflectance=0.35)
        parts.block(
            (-0.6 * front, 0.7 * back),
            (-half_y + 0.25, half_y - 0.25),
            (1.0, height - 0.02),
            colour=(0.45, 0.36, 0.25),
            top_narrower=0.3,
        )
    lamps(parts, length, half_y - 0.1, (0.6, 0.82), width=0.36)
    return parts.shape()


def trailer(generator: np.random.Generator, length: float, width: float, height: float) -> Shape:
    """A load on wheels far behind and a prop in front: no cab."""
    cargo = pick(generator, CARGO_PAINTS)
    half_y, front = width / 2, length / 2
    axle = -front + 0.18 * length
    floor = min(1.25, 0.36 * height)
    parts = Parts()
    parts.shadow(length + 0.5, width + 0.5)
    wheels(parts, (axle, axle - 1.15, axle + 1.15)[: 3 if length > 8 else 1], half_y - 0.05, radius=0.46)
    parts.block((-front, front), (-half_y + 0.3, half_y - 0.3), (floor - 0.25, floor), colour=DARK, reflectance=0.15)
    parts.pair(
        (front - 0.28 * length, front - 0.28 * length + 0.15),
        (half_y - 0.55, half_y - 0.4),
        (0.0, floor - 0.2),
        colour=METAL,
        reflectance=0.4,
    )
    kind = int(generator.integers(3))
    if kind < 2:
        parts.block((-front + 0.02, front), (-half_y, half_y), (floor, height - 0.01), colour=cargo, reflectance=0.5)
        if kind == 1:
            for x in np.arange(-front + 0.8, front - 0.4, 1.4):
                parts.block(
                    (float(x), float(x) + 0.12),
                    (-half_y - 0.004, half_y + 0.004),
                    (floor, height - 0.02),
                    colour=METAL,
                    reflectance=0.4,
                )
    else:
        parts.block((-front, front), (-half_y, half_y), (floor - 0.1, floor + 0.08), colour=DARK, reflectance=0.2)
        parts.block(
            (-0.85 * front, -0.1 * front),
            (-half_y + 0.15, half_y - 0.15),
            (floor, height - 0.01),
            colour=cargo,
            reflectance=0.4,
        )
        parts.block(
            (0.05 * front, 0.8 * front),
            (-half_y + 0.15, half_y - 0.15),
            (floor, 0.8 * height),
            colour=pick(generator, CARGO_PAINTS),
            reflectance=0.4,
        )
    parts.pair(
        (-front - 0.01, -front + 0.06),
        (half_y - 0.5, half_y - 0.1),
        (floor - 0.3, floor - 0.1),
        colour=TAIL_LAMP,
        finish=LAMP,
        reflectance=0.9,
    )
    parts.block(
        (-front - 0.01, -front + 0.03),
        (-half_y + 0.55, half_y - 0.55),
        (floor - 0.28, floor - 0.12),
        colour=AMBER,
        reflectance=0.9,
    )
    return parts.shape()


def construction_vehicle(generator: np.random.Generator, length: float, width: float, height: float) -> Shape:
    """An excavator on tracks or a wheel loader; boom and bucket point forward."""
    paint = pick(generator, WORKS_YELLOW)
    half_y, front = width / 2, length / 2
    parts = Parts()
    parts.shadow(length + 0.3, width + 0.3)
    if generator.random() < 0.6:
        parts.pair((-front + 0.02, 0.12 * length), (half_y - 0.55, half_y), (0.0, 0.85), colour=DARK, reflectance=0.1)
        parts.block(
            (-front, 0.02 * length),
            (-half_y + 0.1, half_y - 0.1),
            (0.95, 0.58 * height),
            colour=paint,
            reflectance=0.35,
        )
        parts.block(
            (-0.22 * length, 0.10 * length),
            (0.05, half_y - 0.06),
            (0.9, 0.9 * height),
            colour=WINDOW,
            finish=GLASS,
            reflectance=0.07,
            top_x=(-0.22 * length, 0.04 * length),
        )
        parts.block(
            (-0.2 * length, 0.03 * length),
            (0.1, half_y - 0.14),
            (0.88 * height, 0.93 * height),
            colour=paint,
            reflectance=0.35,
        )
        parts.block(
            (-0.02 * length, 0.10 * length),
            (-0.35, 0.0),
            (0.4 * height, height - 0.01),
            colour=paint,
            reflectance=0.35,
            top_x=(0.18 * length, 0.26 * length),
        )
        parts.block(
            (0.36 * length, 0.44 * length),
            (-0.32, -0.03),
            (0.25 * height, height - 0.02),
            colour=paint,
            reflectance=0.35,
            top_x=(0.2 * length, 0.27 * length),
        )
        parts.block(
            (0.30 * length, front),
            (-0.7, 0.4),
            (0.02, 0.30 * height),
            colour=DARK,
            reflectance=0.25,
            top_x=(0.36 * length, 0.46 * length),
        )
    else:
        wheels(parts, (0.16 * length, -0.30 * length), half_y - 0.02, radius=0.24 * height, thickness=0.5)
        parts.block(
            (-front, 0.22 * length),
            (-half_y + 0.35, half_y - 0.35),
            (0.3 * height, 0.55 * height),
            colour=paint,
            reflectance=0.35,
        )
        parts.block(
            (-0.16 * length, 0.08 * length),
            (-half_y + 0.45, half_y - 0.45),
            (0.55 * height, 0.95 * height),
            colour=WINDOW,
            finish=GLASS,
            reflectance=0.07,
            top_x=(-0.15 * length, 0.05 * length),
        )
        parts.block(
            (-0.16 * length, 0.06 * length),
            (-half_y + 0.4, half_y - 0.4),
            (0.93 * height, height - 0.01),
            colour=paint,
            reflectance=0.35,
        )
        parts.pair(
            (0.15 * length, 0.36 * length), (0.3, 0.5), (0.25 * height, 0.5 * height), colour=paint, reflectance=0.35
        )
        parts.block(
            (0.32 * length, front),
            (-half_y, half_y),
            (0.03, 0.34 * height),
            colour=METAL,
            reflectance=0.4,
            top_x=(0.32 * length, 0.4 * length),
        )
    return parts.shape()
