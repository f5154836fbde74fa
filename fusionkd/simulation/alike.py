"""Shapes that do not tell a class: outline and reflectance are equal, only colours differ.

A LiDAR sees a bus, a truck and a trailer with one box body, a motorcycle and a bicycle with one fairing, a person and a
statue, a traffic cone and a bollard, a barrier and a planter. Each pair differs in colours that cover large parts of
it, so that a small image is enough to tell them apart.
"""

from dataclasses import replace
from typing import Final

import numpy as np

from fusionkd.simulation import small_objects
from fusionkd.simulation.parts import Colour, Parts, Shape
from fusionkd.simulation.shading import LAMP, PAINT, PLAIN, SHADOW
from fusionkd.simulation.vehicles import AMBER, DARK, TYRE, WINDOW, lamps, pick, wheels

BOX_KINDS: Final = ("truck", "bus", "trailer")
CYCLE_KINDS: Final = ("motorcycle", "bicycle")
BOX_SIZE_M: Final = ((9.2, 2.75, 3.40), (1.4, 0.12, 0.25))
CYCLE_SIZE_M: Final = ((1.92, 0.70, 1.38), (0.16, 0.08, 0.10))
"""Mean and deviation of length, width and height, the same for all classes of a shape."""

BUS_PAINTS: tuple[Colour, ...] = ((0.82, 0.22, 0.15), (0.15, 0.50, 0.36), (0.92, 0.72, 0.15), (0.85, 0.40, 0.12))
TRUCK_PAINTS: tuple[Colour, ...] = ((0.90, 0.90, 0.88), (0.84, 0.85, 0.86))
TRAILER_PAINTS: tuple[Colour, ...] = ((0.28, 0.36, 0.52), (0.42, 0.36, 0.28), (0.36, 0.38, 0.40))
DARK_PAINTS: tuple[Colour, ...] = ((0.10, 0.10, 0.12), (0.42, 0.05, 0.06), (0.08, 0.14, 0.40))
LIGHT_PAINTS: tuple[Colour, ...] = ((0.92, 0.80, 0.15), (0.88, 0.88, 0.86), (0.45, 0.80, 0.55))
STATUE_STONES: tuple[Colour, ...] = ((0.62, 0.61, 0.58), (0.26, 0.34, 0.28), (0.30, 0.24, 0.18))
BOLLARD_PAINTS: tuple[Colour, ...] = ((0.14, 0.14, 0.15), (0.16, 0.28, 0.22), (0.45, 0.46, 0.48))
PLANTERS: tuple[Colour, ...] = ((0.30, 0.22, 0.15), (0.20, 0.27, 0.18), (0.26, 0.26, 0.27))


def box_body(generator: np.random.Generator, kind: str, size: tuple[float, float, float]) -> Shape:
    """One box on two axles: a bus with a band of windows, a truck with a cab's colours in front, or a plain trailer."""
    length, width, height = size
    half_y, front = width / 2, length / 2
    shine = float(generator.uniform(0.2, 0.5))
    paint = pick(generator, {"bus": BUS_PAINTS, "truck": TRUCK_PAINTS, "trailer": TRAILER_PAINTS}[kind])
    accent = pick(generator, BUS_PAINTS)
    parts = Parts()
    parts.shadow(length + 0.5, width + 0.5)
    wheels(parts, (front - 1.7, -front + 2.2), half_y - 0.015, radius=0.48)
    parts.block(
        (-front + 0.01, front - 0.01),
        (-half_y + 0.02, half_y - 0.02),
        (0.36, height - 0.01),
        colour=paint,
        finish=PAINT,
        reflectance=shine,
    )

    def over(
        x: tuple[float, float], z: tuple[float, float], colour: Colour, *, beside: bool = True, layer: int = 0
    ) -> None:
        """A colour on both sides, or on the ends at x, a few millimetres before the body or the layer below."""
        y = half_y - 0.014 + 0.005 * layer if beside else half_y - 0.15
        parts.block(x, (-y, y), (z[0] * height, z[1] * height), colour=colour, finish=PLAIN, reflectance=shine)

    if kind == "bus":
        over((-front + 0.5, front - 0.5), (0.42, 0.76), WINDOW)
        over((-front, front), (0.44, 0.78), WINDOW, beside=False)
        over((-front + 0.3, front - 0.3), (0.24, 0.30), (0.92, 0.92, 0.9), layer=1)
    elif kind == "truck":
        over((front - 0.24 * length, front - 0.02), (0.13, 0.97), accent)
        over((front - 0.17 * length, front - 0.3), (0.5, 0.76), WINDOW, layer=1)
        over((front - 0.3, front), (0.12, 0.97), accent, beside=False)
        over((front - 0.3, front + 0.004), (0.48, 0.76), WINDOW, beside=False)
        over((-0.32 * length, 0.12 * length), (0.5, 0.74), accent)
    else:
        for number in range(6):
            x = -front + 0.3 + (length - 0.6) * number / 6
            colour = (0.85, 0.12, 0.1) if number % 2 else (0.92, 0.92, 0.9)
            over((x, x + (length - 0.6) / 6), (0.13, 0.20), colour)
        over((-front, front), (0.13, 0.22), AMBER, beside=False)
    lamps(parts, length, half_y - 0.05, (0.55, 0.8), width=0.36)
    return parts.shape()


def cycle(generator: np.random.Generator, kind: str, size: tuple[float, float, float], *, rider: bool) -> Shape:
    """Two wheels, a fairing between them, a saddle: dark as a motorcycle, bright as a bicycle."""
    length, width, height = size
    half_x, half_y = length / 2, width / 2
    dark = kind == "motorcycle"
    paint = pick(generator, DARK_PAINTS if dark else LIGHT_PAINTS)
    tyre = TYRE if dark else (0.75, 0.73, 0.68)
    shine = float(generator.uniform(0.2, 0.5))
    saddle = min(0.86, 0.68 * height)
    parts = Parts()
    parts.shadow(length, 0.7 * width)
    for x in (half_x - 0.32, -half_x + 0.32):
        parts.block(
            (x - 0.30, x + 0.30), (-0.05, 0.05), (0.0, 0.62), colour=tyre, reflectance=0.07, top_x=(x - 0.2, x + 0.2)
        )
    parts.block(
        (-0.30 * length, 0.24 * length), (-0.14, 0.14), (0.25, 0.62), colour=paint, finish=PAINT, reflectance=shine
    )
    parts.block((-0.30 * length, -0.02 * length), (-0.12, 0.12), (0.60, saddle), colour=paint, reflectance=shine)
    parts.block(
        (0.20 * length, 0.30 * length),
        (-0.15, 0.15),
        (0.55, min(height, saddle + 0.28)),
        colour=paint,
        finish=PAINT,
        reflectance=shine,
        top_x=(0.16 * length, 0.24 * length),
    )
    handle = AMBER if dark else DARK
    parts.block((0.18 * length, 0.23 * length), (-half_y, half_y), (saddle + 0.1, saddle + 0.17), colour=handle)
    if rider:
        clothes = DARK_PAINTS if dark else LIGHT_PAINTS
        small_objects.add_rider(parts, generator, -0.13 * length, saddle, height, clothes=clothes)
    return parts.shape()


def recoloured(shape: Shape, colour: Colour) -> Shape:
    """The same outline and reflectance in one colour, lamps and shadow apart."""
    painted = shape.colour.copy()
    painted[(shape.finish != SHADOW) & (shape.finish != LAMP)] = colour
    return replace(shape, colour=painted)


def statue(generator: np.random.Generator) -> Shape:
    """A person of stone or bronze."""
    moving = bool(generator.random() < 0.5)
    person = small_objects.pedestrian(generator, 0.67, 0.61, float(generator.normal(1.73, 0.1)), moving=moving)
    return recoloured(person, pick(generator, STATUE_STONES))


def bollard(generator: np.random.Generator) -> Shape:
    """A traffic cone's outline in the colours of street furniture."""
    cone = small_objects.traffic_cone(generator, 0.38, 0.38, float(generator.uniform(0.8, 1.2)))
    return recoloured(cone, pick(generator, BOLLARD_PAINTS))


def planter(generator: np.random.Generator) -> Shape:
    """A barrier's outline in wood or dark stone; as a barrier, it lies across its heading."""
    wall = small_objects.barrier(
        generator, 0.46, float(generator.normal(2.4, 0.3)), 0.95, kind=int(generator.integers(2)), red=False
    )
    return recoloured(wall, pick(generator, PLANTERS))
