"""How vehicles move: along their paths, behind each other, stopping at lights and for people.

Everything here lives in the straightened road frame: x along the main road, d to the left of its centre line. The
scene bends it afterwards. Vehicles follow the intelligent driver model (Treiber, Hennecke and Helbing, Phys. Rev. E 62,
2000, eq. 3) behind whatever stands in the corridor before them.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

STEP_S: Final = 0.05
PATH_STEP_M: Final = 1.0

COMFORT_MPS2: Final = 1.6
BRAKE_MPS2: Final = 2.2
HARDEST_MPS2: Final = 6.0
GAP_M: Final = 2.0
HEADWAY_S: Final = 1.2
LOOK_AHEAD_M: Final = 40.0
FREE_M: Final = 1e4
"""The gap of a driver before whom nothing is."""

GREEN_S: Final = 9.0
CYCLE_S: Final = 18.0
ALL_RED_S: Final = 2.0


@dataclass(frozen=True)
class Driver:
    """One vehicle that follows a path.

    Attributes:
        path: (M, 2) points a metre apart, x and d.
        start_m: Where its middle is on the path at the first step.
        wish_mps: The speed it would drive alone.
        length_m: Its length with everything it tows.
        width_m: Its width.
        stops: (arc length of a stop line, number of the crossing, whether it comes along the main road).
        tail_m: How far the end of what it tows lies behind its middle.
    """

    path: NDArray[np.float64]
    start_m: float
    wish_mps: float
    length_m: float
    width_m: float
    stops: tuple[tuple[float, int, bool], ...]
    tail_m: float


def straight(start: tuple[float, float], end: tuple[float, float]) -> NDArray[np.float64]:
    """Path between two points, (M, 2)."""
    length = float(np.hypot(end[0] - start[0], end[1] - start[1]))
    share = np.arange(0.0, length, PATH_STEP_M) / length
    return np.asarray(np.array(start) + share[:, None] * (np.array(end) - np.array(start)), dtype=np.float64)


def turning(
    start: tuple[float, float], corner: tuple[float, float], end: tuple[float, float], radius_m: float
) -> NDArray[np.float64]:
    """Path from start to end by a corner that is cut with a smooth bend, (M, 2), points a metre apart."""
    a, k, b = np.array(start), np.array(corner), np.array(end)
    before, after = (k - a) / np.linalg.norm(k - a), (b - k) / np.linalg.norm(b - k)
    t = np.linspace(0.0, 1.0, 60)[:, None]
    first, last = k - radius_m * before, k + radius_m * after
    bend = (1 - t) ** 2 * first + 2 * t * (1 - t) * k + t**2 * last
    points = np.concatenate([a[None], bend, b[None]])
    along = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    at = np.arange(0.0, along[-1], PATH_STEP_M)
    return np.stack([np.interp(at, along, points[:, 0]), np.interp(at, along, points[:, 1])], axis=1)


def is_green(time_s: float, phase_s: float, *, main: bool) -> bool:
    """Whether the light shows green for the main or the crossing road."""
    now = (time_s + phase_s) % CYCLE_S
    return now < GREEN_S - ALL_RED_S if main else GREEN_S <= now < CYCLE_S - ALL_RED_S


def drive(
    drivers: list[Driver],
    *,
    steps: int,
    phases_s: list[float],
    walkers: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Arc length of each driver at each step.

    Args:
        drivers: All vehicles, the ego car too.
        steps: Number of steps of ``STEP_S``.
        phases_s: Per crossing, where its lights are in their cycle at the first step.
        walkers: (steps, W, 2) people who may step on the road, x and d.

    Returns:
        (N, steps) arc lengths in metres.
    """
    road = _Road(drivers, phases_s)
    at = np.array([d.start_m for d in drivers])
    wish = np.array([d.wish_mps for d in drivers])
    speed = 0.85 * wish
    out = np.empty((len(drivers), steps))
    for step in range(steps):
        out[:, step] = at
        gap, closing = road.gaps(at, speed, walkers[step])
        gap, closing = road.lights(step * STEP_S, at, speed, (gap, closing))
        wanted = GAP_M + np.maximum(0.0, speed * HEADWAY_S + speed * closing / (2 * np.sqrt(COMFORT_MPS2 * BRAKE_MPS2)))
        push = COMFORT_MPS2 * (1 - (speed / wish) ** 4 - (wanted / np.maximum(gap, 0.1)) ** 2)
        push = np.clip(push, -HARDEST_MPS2, COMFORT_MPS2)
        new = np.maximum(speed + STEP_S * push, 0.0)
        new[new < 0.05] = 0.0
        at = at + STEP_S * 0.5 * (speed + new)
        speed = new
    return out


class _Road:
    """What every driver must know of the others."""

    def __init__(self, drivers: list[Driver], phases_s: list[float]) -> None:
        self._drivers = drivers
        self._phases_s = phases_s
        longest = max(len(d.path) for d in drivers)
        self._path = np.stack([np.pad(d.path, ((0, longest - len(d.path)), (0, 0)), mode="edge") for d in drivers])
        self._last = np.array([len(d.path) - 2 for d in drivers])
        self._nose = np.array([d.length_m / 2 for d in drivers])
        self._tail = np.array([d.tail_m for d in drivers])
        self._half_width = np.array([d.width_m / 2 for d in drivers])

    def place(self, at: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Position (N, 2) and direction (N, 2) at arc lengths."""
        index = np.clip(at.astype(np.int64), 0, self._last)
        rows = np.arange(len(at))
        low, high = self._path[rows, index], self._path[rows, index + 1]
        direction = high - low
        direction /= np.maximum(np.linalg.norm(direction, axis=1, keepdims=True), 1e-9)
        return low + (at - index)[:, None] * direction, direction

    def gaps(
        self, at: NDArray[np.float64], speed: NDArray[np.float64], walkers: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Free way before each driver and how fast it shrinks."""
        position, direction = self.place(at)
        n = len(at)
        away = position[None] - position[:, None]  # (N, N, 2) from row to column
        ahead = np.einsum("ijk,ik->ij", away, direction)
        aside = away[..., 1] * direction[:, None, 0] - away[..., 0] * direction[:, None, 1]
        same = direction @ direction.T
        blocked = (
            np.abs(aside) < self._half_width[:, None] + self._half_width[None] * np.maximum(np.abs(same), 0.3) + 0.3
        )
        blocked &= (ahead > 0.5) & (ahead < LOOK_AHEAD_M) & ((same > -0.5) | (ahead < 7.0)) & ~np.eye(n, dtype=bool)
        # The end of a leader is its tail, of a crossing vehicle its flank.
        end = np.where(same > 0.5, self._tail[None], self._half_width[None])
        free = np.where(blocked, ahead - self._nose[:, None] - end, FREE_M)
        leader = np.argmin(free, axis=1)
        gap = free[np.arange(n), leader]
        along = speed[leader] * same[np.arange(n), leader]
        closing = np.where(gap < FREE_M, speed - np.maximum(along, 0.0), 0.0)
        if len(walkers):
            off = walkers[None] - position[:, None]
            front = np.einsum("ijk,ik->ij", off, direction)
            beside = off[..., 1] * direction[:, None, 0] - off[..., 0] * direction[:, None, 1]
            near = (np.abs(beside) < self._half_width[:, None] + 1.2) & (front > self._nose[:, None]) & (front < 25.0)
            person = np.where(near, front - self._nose[:, None] - 0.8, FREE_M).min(axis=1)
            closing = np.where(person < gap, speed, closing)
            gap = np.minimum(gap, person)
        return gap, closing

    def lights(
        self,
        time_s: float,
        at: NDArray[np.float64],
        speed: NDArray[np.float64],
        before: tuple[NDArray[np.float64], NDArray[np.float64]],
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Gap and closing speed with red lights taken for obstacles."""
        gap, closing = before
        for i, driver in enumerate(self._drivers):
            for line, crossing, main in driver.stops:
                way = line - at[i] - self._nose[i]
                brakes = speed[i] ** 2 / (2 * 4.0)
                red = not is_green(time_s, self._phases_s[crossing], main=main)
                stop = way + GAP_M - 0.5
                if red and brakes - 0.5 < way < LOOK_AHEAD_M and stop < gap[i]:
                    gap[i], closing[i] = stop, speed[i]
        return gap, closing
