"""Building an object from solids in its own frame: x forward, y left, z up from the ground below its middle."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fusionkd.simulation.rays import BALL, BLOCK, CONE, SHADE, SOLID_COLUMNS
from fusionkd.simulation.shading import PLAIN, SHADOW

Colour = tuple[float, float, float]


@dataclass(frozen=True)
class Shape:
    """Solids of one object in its own frame.

    Attributes:
        solids: (P, 12) float64 of ``rays``.
        colour: (P, 3) float64, 0..1.
        finish: (P,) int64 of ``shading``.
        reflectance: (P,) float64, 0..1, for the LiDAR.
    """

    solids: NDArray[np.float64]
    colour: NDArray[np.float64]
    finish: NDArray[np.int64]
    reflectance: NDArray[np.float64]


class Parts:
    """Collects the solids of one shape."""

    def __init__(self) -> None:
        self._solids: list[list[float]] = []
        self._colour: list[Colour] = []
        self._finish: list[int] = []
        self._reflectance: list[float] = []

    def _add(self, row: list[float], colour: Colour, finish: int, reflectance: float) -> None:
        self._solids.append(row)
        self._colour.append(colour)
        self._finish.append(finish)
        self._reflectance.append(reflectance)

    def block(
        self,
        x: tuple[float, float],
        y: tuple[float, float],
        z: tuple[float, float],
        *,
        colour: Colour,
        finish: int = PLAIN,
        reflectance: float = 0.3,
        top_x: tuple[float, float] | None = None,
        top_narrower: float = 0.0,
    ) -> None:
        """A box from two x, two y and two z; the top may have its own x range and be narrower on both sides."""
        top = top_x or x
        half, half_top = (x[1] - x[0]) / 2, (top[1] - top[0]) / 2
        middle = (x[0] + x[1]) / 2
        half_y = (y[1] - y[0]) / 2
        shift = (top[0] + top[1]) / 2 - middle
        row = [BLOCK, middle, (y[0] + y[1]) / 2, *z, 1.0, 0.0, half, half_top, shift, half_y, half_y - top_narrower]
        self._add(row, colour, finish, reflectance)

    def pair(
        self,
        x: tuple[float, float],
        y: tuple[float, float],
        z: tuple[float, float],
        *,
        colour: Colour,
        finish: int = PLAIN,
        reflectance: float = 0.3,
    ) -> None:
        """The same box on the left (as given) and mirrored on the right."""
        self.block(x, y, z, colour=colour, finish=finish, reflectance=reflectance)
        self.block(x, (-y[1], -y[0]), z, colour=colour, finish=finish, reflectance=reflectance)

    def ball(
        self,
        centre: tuple[float, float, float],
        half: tuple[float, float, float],
        *,
        colour: Colour,
        finish: int = PLAIN,
        reflectance: float = 0.3,
    ) -> None:
        """An ellipsoid."""
        row = [BALL, centre[0], centre[1], centre[2] - half[2], centre[2] + half[2], 1.0, 0.0, half[0], half[1]]
        self._add([*row, 0.0, 0.0, 0.0], colour, finish, reflectance)

    def cone(
        self,
        centre: tuple[float, float],
        radius: tuple[float, float],
        z: tuple[float, float],
        *,
        colour: Colour,
        finish: int = PLAIN,
        reflectance: float = 0.3,
    ) -> None:
        """An upright cone stump with a radius below and one above."""
        row = [CONE, *centre, *z, 1.0, 0.0, *radius, 0.0, 0.0, 0.0]
        self._add(row, colour, finish, reflectance)

    def shadow(self, length_m: float, width_m: float) -> None:
        """The dark ground below an object."""
        row = [SHADE, 0.0, 0.0, 0.0, 0.004, 1.0, 0.0, length_m / 2, length_m / 2, 0.0, width_m / 2, width_m / 2]
        self._add(row, (0.0, 0.0, 0.0), SHADOW, 0.0)

    def shape(self) -> Shape:
        """What was collected."""
        return Shape(
            np.array(self._solids, dtype=np.float64).reshape(-1, SOLID_COLUMNS),
            np.array(self._colour, dtype=np.float64).reshape(-1, 3),
            np.array(self._finish, dtype=np.int64),
            np.array(self._reflectance, dtype=np.float64),
        )
