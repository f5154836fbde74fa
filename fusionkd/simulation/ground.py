"""The ground: roads with markings, pavements, grass; seen by both sensors through one function.

The town of a scene is a main road that winds along +x and straight roads that cross it. ``GroundPlan`` says where; the
kernels read it as a flat array.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

LANE_M: Final = 3.5
PAVEMENT_M: Final = 3.6
STRIP_M: Final = 3.0
CROSS_HALF_M: Final = 4.2
ZEBRA_NEAR_M: Final = 1.2
ZEBRA_FAR_M: Final = 4.2
STOP_LINE_M: Final = 5.2

PLAN_HEAD: Final = 4
ROAD_FROM_M: Final = -250.0
ROAD_TO_M: Final = 500.0
"""Where the kernels know the main road; it goes on straight beyond."""

ASPHALT: Final = 0
MARKING: Final = 1
PAVEMENT: Final = 2
KERB: Final = 3
GRASS: Final = 4
YELLOW: Final = 5
PLAZA: Final = 6


@dataclass(frozen=True)
class GroundPlan:
    """Where the roads of one scene lie, in the scene's own frame.

    Attributes:
        lanes: Lanes per direction of the main road.
        bend_amplitude_m: The main road's centre line is y = amplitude * sin(wave * x + phase).
        bend_wave: Radians per metre.
        bend_phase_rad: Phase.
        crossings_m: x of the crossing roads' centre lines.
        plaza: Whether blocks are paved rather than grown with grass.
        seed: Of the texture.
    """

    lanes: int
    bend_amplitude_m: float
    bend_wave: float
    bend_phase_rad: float
    crossings_m: tuple[float, ...]
    plaza: bool
    seed: int

    @property
    def half_width_m(self) -> float:
        """Half of the main road with the parking strip along each side."""
        return self.lanes * LANE_M + STRIP_M

    def centre_y_m(self, x_m: NDArray[np.float64]) -> NDArray[np.float64]:
        """Y of the main road's centre line."""
        phase = self.bend_wave * np.asarray(x_m) + self.bend_phase_rad
        return np.asarray(self.bend_amplitude_m * np.sin(phase), dtype=np.float64)

    def heading_rad(self, x_m: NDArray[np.float64]) -> NDArray[np.float64]:
        """Direction of the main road's centre line, towards +x."""
        phase = self.bend_wave * np.asarray(x_m) + self.bend_phase_rad
        return np.asarray(np.arctan(self.bend_amplitude_m * self.bend_wave * np.cos(phase)), dtype=np.float64)

    def as_array(self) -> NDArray[np.float64]:
        """What the kernels read: ``PLAN_HEAD`` numbers, then per metre the centre line's y and the nearest crossing."""
        along = np.arange(ROAD_FROM_M, ROAD_TO_M + 1.0)
        crossings = np.array(self.crossings_m)
        nearest = crossings[np.argmin(np.abs(along[:, None] + 0.5 - crossings), axis=1)]
        table = np.stack([self.centre_y_m(along), nearest], axis=1)
        head = [self.lanes, self.half_width_m, float(self.plaza), float(self.seed)]
        return np.concatenate([head, table.ravel()])


@njit(cache=True, nogil=True, fastmath=True, error_model="numpy", inline="always")
def ground_kind(plan: Any, x: Any, y: Any) -> Any:
    """Kind of ground at a point of the scene's frame."""
    along = min(max(x, ROAD_FROM_M), ROAD_TO_M - 1.0) - ROAD_FROM_M
    row = int(along)
    cell = PLAN_HEAD + 2 * row
    d = y - plan[cell] - (along - row) * (plan[cell + 2] - plan[cell])
    side = abs(d)
    half = plan[1]
    to_cross = x - plan[cell + 1]
    cross = abs(to_cross)
    if side < half and cross < CROSS_HALF_M:
        return ASPHALT
    if side < half:
        return _road_kind(x, d, side, half, cross - CROSS_HALF_M, plan[0] * LANE_M)
    if cross < CROSS_HALF_M:
        return _cross_kind(d, to_cross, cross, side - half)
    out = min(side - half, cross - CROSS_HALF_M)
    if out < 0.25:
        return KERB
    if out < PAVEMENT_M:
        return PAVEMENT
    return PLAZA if plan[2] > 0.5 else GRASS


@njit(cache=True, nogil=True, fastmath=True, error_model="numpy", inline="always")
def _road_kind(x: Any, d: Any, side: Any, half: Any, before: Any, lanes_m: Any) -> Any:
    if ZEBRA_NEAR_M < before < ZEBRA_FAR_M and side < lanes_m:
        return MARKING if (d + 100.0) % 1.2 < 0.6 else ASPHALT
    if STOP_LINE_M - 0.2 < before < STOP_LINE_M + 0.2 and side < lanes_m:
        return MARKING
    if before < STOP_LINE_M:
        return ASPHALT
    if 0.08 < side < 0.24:
        return YELLOW
    if lanes_m > LANE_M + 1.0 and abs(side - LANE_M) < 0.08 and (x + 1000.0) % 9.0 < 3.5:
        return MARKING
    if half - lanes_m > 1.0 and abs(side - lanes_m) < 0.08:
        return MARKING
    return ASPHALT


@njit(cache=True, nogil=True, fastmath=True, error_model="numpy", inline="always")
def _cross_kind(d: Any, to_cross: Any, cross: Any, before: Any) -> Any:
    if ZEBRA_NEAR_M < before < ZEBRA_FAR_M:
        return MARKING if (to_cross + 100.0) % 1.2 < 0.6 else ASPHALT
    if STOP_LINE_M - 0.2 < before < STOP_LINE_M + 0.2:
        return MARKING
    if before > STOP_LINE_M and cross < 0.08 and (d + 1000.0) % 6.0 < 3.0:
        return MARKING
    return ASPHALT


@njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def hash_unit(a: Any, b: Any, seed: Any) -> Any:
    """A number in [0, 1) that only three whole numbers decide."""
    h = (np.int64(a) * 73856093) ^ (np.int64(b) * 19349663) ^ (np.int64(seed) * 83492791)
    h = (h ^ (h >> 13)) * 1274126177
    h = h ^ (h >> 16)
    return (h & 0xFFFF) / 65536.0
