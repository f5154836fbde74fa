"""Shapes of what stands beside the roads and is not annotated."""

import numpy as np

from fusionkd.simulation.parts import Colour, Parts, Shape
from fusionkd.simulation.shading import FACADE, LAMP, LEAVES, RAIL
from fusionkd.simulation.vehicles import METAL, pick

WALLS: tuple[Colour, ...] = (
    (0.44, 0.33, 0.29),
    (0.62, 0.60, 0.56),
    (0.46, 0.47, 0.49),
    (0.70, 0.68, 0.65),
    (0.34, 0.36, 0.39),
    (0.52, 0.46, 0.39),
)
LEAF_GREENS: tuple[Colour, ...] = ((0.17, 0.21, 0.12), (0.21, 0.25, 0.14), (0.25, 0.26, 0.15), (0.28, 0.24, 0.16))
BARK: Colour = (0.24, 0.20, 0.17)
STONE: Colour = (0.50, 0.49, 0.46)
LIGHT_RED: Colour = (0.90, 0.10, 0.08)


def _dull(generator: np.random.Generator, median: float) -> float:
    """A reflectance, log-normal: most surfaces are dark, a few are bright."""
    return float(min(0.7, median * np.exp(0.7 * generator.normal())))


def building(generator: np.random.Generator, length: float, depth: float, height: float) -> Shape:
    """A block with windows; pilasters, a canopy, a set-back upper floor or a wing give its front relief."""
    parts = Parts()
    wall, reflectance = pick(generator, WALLS), _dull(generator, 0.22)
    half_x, half_y = length / 2, depth / 2
    parts.block(
        (-half_x, half_x), (-half_y, half_y), (0.0, height), colour=wall, finish=FACADE, reflectance=reflectance
    )
    if generator.random() < 0.4:
        parts.block(
            (-0.7 * half_x, 0.7 * half_x),
            (-0.7 * half_y, 0.7 * half_y),
            (height, height + float(generator.uniform(3, 9))),
            colour=pick(generator, WALLS),
            finish=FACADE,
            reflectance=reflectance,
        )
    base = (0.7 * wall[0], 0.7 * wall[1], 0.7 * wall[2])
    if generator.random() < 0.5:
        parts.block(
            (-half_x - 0.12, half_x + 0.12),
            (-half_y - 0.12, half_y + 0.12),
            (0.0, float(generator.uniform(0.5, 1.2))),
            colour=base,
            reflectance=_dull(generator, 0.2),
        )
    if generator.random() < 0.6:
        step, deep = float(generator.uniform(3.0, 7.0)), float(generator.uniform(0.2, 0.6))
        top = height if generator.random() < 0.5 else 0.5 * height
        for x in np.arange(-half_x + 0.5, half_x - 0.4, step):
            parts.block(
                (float(x), float(x) + 0.5), (-half_y - deep, half_y + deep), (0.0, top), colour=base, reflectance=0.25
            )
    if generator.random() < 0.5:
        z, out = float(generator.uniform(2.6, 3.6)), float(generator.uniform(0.5, 0.95))
        parts.block((-half_x, half_x), (-half_y - out, half_y + out), (z, z + 0.3), colour=METAL, reflectance=0.3)
    if generator.random() < 0.35:
        x = float(generator.uniform(-0.6, 0.2)) * half_x
        parts.block(
            (x, x + 0.35 * length),
            (-half_y - 0.9, half_y + 0.9),
            (0.0, 0.8 * height),
            colour=pick(generator, WALLS),
            finish=FACADE,
            reflectance=_dull(generator, 0.22),
        )
    return parts.shape()


def tree(generator: np.random.Generator, *, scale: float = 1.0) -> Shape:
    """A trunk and a crown of several balls that beams and looks get into."""
    parts = Parts()
    trunk, crown = float(generator.uniform(1.5, 3.0)) * scale, float(generator.uniform(1.0, 2.3)) * scale
    green, reflectance = pick(generator, LEAF_GREENS), _dull(generator, 0.22)
    parts.cone((0, 0), (float(generator.uniform(0.09, 0.22)), 0.08), (0, trunk + crown), colour=BARK, reflectance=0.15)
    for _ in range(int(generator.integers(3, 6))):
        x, y = generator.normal(0, 0.5 * crown, 2)
        half = crown * float(generator.uniform(0.5, 0.95))
        centre = (float(x), float(y), trunk + crown * float(generator.uniform(0.5, 1.5)))
        tone = float(generator.uniform(0.75, 1.2))
        colour = (green[0] * tone, green[1] * tone, green[2] * tone)
        parts.ball(centre, (half, half, 0.8 * half), colour=colour, finish=LEAVES, reflectance=reflectance)
    return parts.shape()


def bushes(generator: np.random.Generator, length: float) -> Shape:
    """A row of shrubs of uneven height along x."""
    parts = Parts()
    height, reflectance = float(generator.uniform(0.6, 1.6)), _dull(generator, 0.22)
    green = pick(generator, LEAF_GREENS)
    x = -length / 2
    while x < length / 2:
        half = max(0.6, height * float(generator.uniform(0.5, 0.9)))
        top = height * float(generator.uniform(0.7, 1.1))
        parts.ball(
            (x, float(generator.normal(0, 0.25)), 0.45 * top),
            (half, half, 0.6 * top),
            colour=green,
            finish=LEAVES,
            reflectance=reflectance,
        )
        x += 1.7 * half
    return parts.shape()


def hedge(generator: np.random.Generator, length: float) -> Shape:
    """A clipped hedge along x."""
    parts = Parts()
    parts.block(
        (-length / 2, length / 2),
        (-0.4, 0.4),
        (0.0, float(generator.uniform(0.6, 1.4))),
        colour=pick(generator, LEAF_GREENS),
        finish=LEAVES,
        reflectance=_dull(generator, 0.22),
        top_narrower=0.1,
    )
    return parts.shape()


def fence(generator: np.random.Generator, length: float, *, kind: int) -> Shape:
    """Along x: a low wall (kind 0), a wall with a railing on it (1), a railing (2) or a guard rail (3)."""
    parts = Parts()
    half = length / 2
    wall = float(generator.uniform(0.3, 0.9)) if kind < 2 else 0.0
    if wall > 0.0:
        parts.block((-half, half), (-0.13, 0.13), (0.0, wall), colour=STONE, reflectance=_dull(generator, 0.2))
    if kind in (1, 2):
        top = wall + float(generator.uniform(0.5, 1.0))
        parts.block((-half, half), (-0.02, 0.02), (wall, top), colour=METAL, finish=RAIL, reflectance=0.3)
        parts.block((-half, half), (-0.03, 0.03), (top, top + 0.06), colour=METAL, reflectance=0.35)
    if kind == 3:
        parts.block((-half, half), (-0.04, 0.04), (0.42, 0.74), colour=METAL, reflectance=0.45)
    if kind > 0:
        for x in np.arange(-half, half, 2.4):
            parts.block((float(x), float(x) + 0.09), (-0.06, 0.06), (0.0, wall + 0.75), colour=METAL, reflectance=0.3)
    return parts.shape()


def lamp_post(*, lit: bool) -> Shape:
    """The arm points to the left, over the road when the post stands on its right."""
    parts = Parts()
    parts.cone((0, 0), (0.11, 0.06), (0, 7.2), colour=METAL, reflectance=0.4)
    parts.block((-0.05, 0.05), (0.0, 2.0), (7.0, 7.12), colour=METAL, reflectance=0.4)
    colour = (1.0, 0.92, 0.70) if lit else (0.7, 0.7, 0.68)
    parts.block((-0.12, 0.12), (1.5, 2.1), (6.92, 7.05), colour=colour, finish=LAMP if lit else 0)
    return parts.shape()


def traffic_light(generator: np.random.Generator) -> Shape:
    """A post with one light that shows towards -x."""
    parts = Parts()
    parts.cone((0, 0), (0.09, 0.07), (0, 3.6), colour=METAL, reflectance=0.4)
    parts.block((-0.15, 0.15), (-0.16, 0.16), (2.6, 3.6), colour=(0.1, 0.1, 0.1), reflectance=0.2)
    colour = LIGHT_RED if generator.random() < 0.5 else (0.1, 0.8, 0.3)
    parts.block((-0.17, -0.14), (-0.09, 0.09), (3.2, 3.4), colour=colour, finish=LAMP)
    return parts.shape()


def sign(generator: np.random.Generator) -> Shape:
    """A post with a plate that throws light back."""
    parts = Parts()
    parts.cone((0, 0), (0.035, 0.035), (0, 2.3), colour=METAL, reflectance=0.4)
    colour: Colour = ((0.85, 0.12, 0.1), (0.1, 0.25, 0.65), (0.9, 0.9, 0.88))[int(generator.integers(3))]
    half = float(generator.uniform(0.25, 0.4))
    parts.block((-0.03, 0.03), (-half, half), (2.3 - 2 * half, 2.3), colour=colour, reflectance=0.95)
    return parts.shape()


def clutter(generator: np.random.Generator) -> Shape:
    """Things of about a person's size that are nobody: bins, hydrants, cabinets, posts."""
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
