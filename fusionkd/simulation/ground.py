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
        seed: Of the texture and the relief.
        relief: How uneven the ground is for the LiDAR: 0 flat ... 1 as on real streets, see ``ground_height``.
    """

    lanes: int
    bend_amplitude_m: float
    bend_wave: float
    bend_phase_rad: float
    crossings_m: tuple[float, ...]
    plaza: bool
    seed: int
    relief: float = 0.0

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
def ground_height(plan: Any, x: Any, y: Any) -> Any:
    """Height of the ground in metres where ``relief`` is 1; only the LiDAR, whose rings show it, sees it.

    Carriageways are cambered and undulate by a few centimetres, a kerb stands up by a hand's breadth, and land beyond
    the pavement rises or falls. Everything that stands on the ground stands at 0.
    """
    seed = plan[3]
    along = min(max(x, ROAD_FROM_M), ROAD_TO_M - 1.0) - ROAD_FROM_M
    row = int(along)
    cell = PLAN_HEAD + 2 * row
    d = y - plan[cell] - (along - row) * (plan[cell + 2] - plan[cell])
    side = abs(d)
    to_cross = x - plan[cell + 1]
    out = min(side - plan[1], abs(to_cross) - CROSS_HALF_M)
    height = 0.035 * np.sin(0.21 * x + 0.13 * y + seed) + 0.025 * np.sin(0.09 * x - 0.33 * y + 2.1 * seed)
    height += 0.006 * np.sin(1.7 * x + seed) * np.sin(2.3 * y + 3.0 * seed)
    if out < 0.0:
        return height + (0.012 * (0.5 * plan[1] - side) if side < plan[1] else 0.0)
    if out < 0.35:
        return height + 0.13
    if out < PAVEMENT_M:
        return height + 0.04
    block = hash_unit(np.floor(plan[cell + 1]), 1 + (d > 0.0) + 2 * (to_cross > 0.0), seed)
    rise = (1.3 * block - 0.3) * min(0.9, 0.09 * (out - PAVEMENT_M))
    rough = 0.03 * np.sin(0.7 * x + 0.9 * y + seed) + 0.012 * np.sin(2.9 * x - 2.1 * y)
    return 2.0 * height + 0.04 + rise + (0.4 if plan[2] > 0.5 else 1.0) * rough


@njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def hash_unit(a: Any, b: Any, seed: Any) -> Any:
    """A number in [0, 1) that only three whole numbers decide."""
    h = (np.int64(a) * 73856093) ^ (np.int64(b) * 19349663) ^ (np.int64(seed) * 83492791)
    h = (h ^ (h >> 13)) * 1274126177
    h = h ^ (h >> 16)
    return (h & 0xFFFF) / 65536.0
