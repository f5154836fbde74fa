"""Shapes of cars and buses: front and back differ in outline and in colour."""

import numpy as np

from fusionkd.simulation.parts import Colour, Parts, Shape
from fusionkd.simulation.shading import GLASS, LAMP, PAINT

TYRE: Colour = (0.06, 0.06, 0.065)
WINDOW: Colour = (0.10, 0.12, 0.14)
DARK: Colour = (0.13, 0.13, 0.14)
HUB: Colour = (0.40, 0.41, 0.42)
METAL: Colour = (0.45, 0.46, 0.48)
HEADLAMP: Colour = (0.95, 0.95, 0.88)
TAIL_LAMP: Colour = (0.80, 0.06, 0.05)
AMBER: Colour = (0.95, 0.55, 0.08)

CAR_PAINTS: tuple[Colour, ...] = (
    (0.78, 0.79, 0.80),
    (0.55, 0.57, 0.60),
    (0.10, 0.10, 0.11),
    (0.85, 0.86, 0.86),
    (0.50, 0.07, 0.07),
    (0.10, 0.18, 0.42),
    (0.28, 0.30, 0.32),
    (0.32, 0.40, 0.30),
    (0.60, 0.50, 0.34),
)
BUS_PAINTS: tuple[Colour, ...] = ((0.80, 0.20, 0.15), (0.90, 0.90, 0.88), (0.15, 0.45, 0.35), (0.92, 0.70, 0.15))


def pick(generator: np.random.Generator, colours: tuple[Colour, ...]) -> Colour:
    """One of several colours, a little lighter or darker."""
    chosen = colours[int(generator.integers(len(colours)))]
    factor = float(generator.uniform(0.85, 1.1))
    return (min(1.0, chosen[0] * factor), min(1.0, chosen[1] * factor), min(1.0, chosen[2] * factor))


def wheels(parts: Parts, at_x: tuple[float, ...], half_y: float, *, radius: float, thickness: float = 0.24) -> None:
    """Pairs of wheels; blocks narrower above look round enough from a few metres on."""
    for x in at_x:
        for y in ((half_y - thickness, half_y), (-half_y, thickness - half_y)):
            parts.block(
                (x - radius * 0.9, x + radius * 0.9),
                y,
                (0.0, 2 * radius),
                colour=TYRE,
                reflectance=0.05,
                top_x=(x - radius * 0.6, x + radius * 0.6),
            )
        hub = 0.45 * radius
        parts.block(
            (x - hub, x + hub),
            (-half_y - 0.004, half_y + 0.004),
            (radius - hub, radius + hub),
            colour=HUB,
            reflectance=0.2,
        )


def lamps(parts: Parts, length: float, half_y: float, z: tuple[float, float], *, width: float = 0.34) -> None:
    """White lamps in front, red ones behind."""
    front, back = length / 2, -length / 2
    parts.pair(
        (front - 0.08, front + 0.01), (half_y - width, half_y - 0.03), z, colour=HEADLAMP, finish=LAMP, reflectance=0.8
    )
    parts.pair(
        (back - 0.01, back + 0.08), (half_y - width, half_y - 0.03), z, colour=TAIL_LAMP, finish=LAMP, reflectance=0.9
    )


def car(generator: np.random.Generator, length: float, width: float, height: float) -> Shape:
    """A saloon, hatchback, estate or van."""
    paint = pick(generator, CAR_PAINTS)
    # Shares of the length: foot and top of windscreen, top and foot of rear window.
    outlines = (
        (0.22, 0.06, -0.22, -0.36),
        (0.24, 0.06, -0.38, -0.47),
        (0.26, 0.10, -0.44, -0.49),
        (0.38, 0.22, -0.46, -0.49),
    )
    bonnet, roof, tail, boot = outlines[int(generator.integers(4))]
    shine = float(generator.uniform(0.15, 0.7))
    half_y, belt = width / 2, 0.56 * height
    parts = Parts()
    parts.shadow(length + 0.5, width + 0.5)
    wheels(parts, (0.31 * length, -0.29 * length), half_y, radius=0.33)
    parts.block(
        (boot * length - 0.005, length / 2),
        (-half_y + 0.05, half_y - 0.05),
        (0.20, 0.50 * height),
        colour=paint,
        finish=PAINT,
        reflectance=shine,
        top_x=(boot * length, 0.47 * length),
    )
    parts.block(
        (-length / 2, bonnet * length),
        (-half_y + 0.03, half_y - 0.03),
        (0.24, belt + 0.02),
        colour=paint,
        finish=PAINT,
        reflectance=shine,
        top_narrower=0.03,
    )
    parts.block(
        (boot * length, bonnet * length),
        (-half_y + 0.05, half_y - 0.05),
        (belt, height - 0.05),
        colour=WINDOW,
        finish=GLASS,
        reflectance=0.06,
        top_x=(tail * length, roof * length),
        top_narrower=0.16,
    )
    parts.block(
        (tail * length, roof * length),
        (-half_y + 0.2, half_y - 0.2),
        (height - 0.07, height - 0.01),
        colour=paint,
        finish=PAINT,
        reflectance=shine,
    )
    parts.block(
        (tail * length + 0.3 * (boot - tail) * length, tail * length + 0.06),
        (-half_y + 0.09, half_y - 0.09),
        (belt, height - 0.02),
        colour=paint,
        finish=PAINT,
        reflectance=shine,
        top_narrower=0.1,
    )
    parts.block(
        (length / 2 - 0.1, length / 2 + 0.012),
        (-half_y + 0.42, half_y - 0.42),
        (0.34, 0.48 * height),
        colour=DARK,
        reflectance=0.2,
    )
    lamps(parts, length, half_y, (0.36 * height, 0.46 * height))
    return parts.shape()


def bus(generator: np.random.Generator, length: float, width: float, height: float) -> Shape:
    """One long body with a band of windows and a big windscreen."""
    paint = pick(generator, BUS_PAINTS)
    half_y, front = width / 2, length / 2
    parts = Parts()
    parts.shadow(length + 0.5, width + 0.5)
    wheels(parts, (front - 2.2, -front + 2.6), half_y - 0.02, radius=0.48)
    parts.block(
        (-front + 0.01, front - 0.02),
        (-half_y + 0.03, half_y - 0.03),
        (0.32, height - 0.12),
        colour=paint,
        finish=PAINT,
        reflectance=0.45,
    )
    parts.block(
        (-front + 0.6, front - 0.8),
        (-half_y, half_y),
        (0.42 * height, 0.76 * height),
        colour=WINDOW,
        finish=GLASS,
        reflectance=0.07,
    )
    for x in np.arange(-front + 2.0, front - 1.5, 1.9):
        parts.block(
            (float(x), float(x) + 0.14),
            (-half_y - 0.004, half_y + 0.004),
            (0.42 * height, 0.76 * height),
            colour=DARK,
            reflectance=0.2,
        )
    parts.block(
        (front - 0.3, front),
        (-half_y + 0.12, half_y - 0.12),
        (0.33 * height, 0.80 * height),
        colour=WINDOW,
        finish=GLASS,
        reflectance=0.07,
    )
    parts.block(
        (front - 0.3, front + 0.01),
        (-half_y + 0.5, half_y - 0.5),
        (0.84 * height, 0.92 * height),
        colour=AMBER,
        finish=LAMP,
        reflectance=0.5,
    )
    parts.block(
        (-front, -front + 0.2),
        (-half_y + 0.45, half_y - 0.45),
        (0.5 * height, 0.74 * height),
        colour=WINDOW,
        finish=GLASS,
        reflectance=0.07,
    )
    parts.block(
        (-0.35 * length, 0.2 * length),
        (-half_y + 0.4, half_y - 0.4),
        (height - 0.14, height - 0.01),
        colour=METAL,
        reflectance=0.4,
    )
    lamps(parts, length, half_y - 0.05, (0.55, 0.85), width=0.4)
    return parts.shape()
