"""From what each beam of the LiDAR meets to a point: range noise, intensity, lost echoes.

Intensities are those of a calibrated spinning LiDAR: 0 to 100 the diffuse reflectance in per cent, whatever the range,
and above 100 surfaces that throw light back to where it came from. What the range costs is the echo itself: a surface
is only answered up to ``DARK_RANGE_M`` times the root of its reflectance.
"""

from typing import Any, Final

import numpy as np
from numba import njit

from fusionkd.simulation.ground import (
    GRASS,
    KERB,
    MARKING,
    PAVEMENT,
    PLAZA,
    YELLOW,
    ground_height,
    ground_kind,
    hash_unit,
)
from fusionkd.simulation.rays import hit_solid
from fusionkd.simulation.rig import BEAMS, COLUMNS
from fusionkd.simulation.shading import FACADE, GLASS, LEAVES

DARK_RANGE_M: Final = 140.0
"""How far a perfectly white surface would be answered; real sweeps have no echo darker than (range / 140 m)^2."""
RANGE_NOISE_M: Final = 0.01
FARTHEST_M: Final = 105.0
RETRO: Final = 0.75
"""From this reflectance on a surface is a retroreflector."""


@njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def _solid_incidence(solids: Any, i: Any, velocity: Any, late: Any, origin: Any, a: Any, direction: Any) -> Any:
    cos, sin = solids[i, 5], solids[i, 6]
    px = origin[a, 0] - solids[i, 1] - velocity[i, 0] * late
    py = origin[a, 1] - solids[i, 2] - velocity[i, 1] * late
    dx = cos * direction[0] + sin * direction[1]
    dy = cos * direction[1] - sin * direction[0]
    _, nx, ny, nz = hit_solid(solids, i, cos * px + sin * py, cos * py - sin * px, origin[a, 2], dx, dy, direction[2])
    return abs(nx * dx + ny * dy + nz * direction[2]) / max(np.sqrt(nx * nx + ny * ny + nz * nz), 1e-9)


@njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def _ground_reflectance(kind: Any, x: Any, y: Any, wetness: Any) -> Any:
    value = 0.085
    if kind in (MARKING, YELLOW):
        value = 0.42
    elif kind == PAVEMENT:
        value = 0.15
    elif kind == KERB:
        value = 0.22
    elif kind == PLAZA:
        value = 0.17
    elif kind == GRASS:
        value = 0.28
    # Patches of a few metres.
    patch = 0.55 + 1.1 * hash_unit(np.floor(0.31 * x), np.floor(0.27 * y), 11) ** 2
    return value * patch * (1.0 - 0.6 * wetness)


@njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def _own_car(direction: Any) -> Any:
    """Range at which a beam of the LiDAR frame ends on the ego car, or 0: its roof or a bar before or behind it."""
    if direction[2] > -0.15:
        return 0.0
    t = 0.28 / -direction[2]
    if (direction[0] * t / 0.46) ** 2 + (direction[1] * t / 0.74) ** 2 < 1.0:
        return t
    for y, low, high in ((1.42, -0.78, -0.55), (-1.05, -0.5, -0.36)):
        t = y / direction[1] if direction[1] * y > 0.0 else 0.0
        if t > 0.0 and abs(t * direction[0]) < 0.45 and low < t * direction[2] < high:
            return t
    return 0.0


@njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def _ground_range(plan: Any, relief: Any, origin: Any, a: Any, direction: Any) -> Any:
    """Range of the uneven ground, from one step from the flat one, or two where beams graze it."""
    t = -origin[a, 2] / direction[2]
    if relief > 0.0 and t < FARTHEST_M:
        for _ in range(1 if t < 9.0 else 2):
            height = relief * ground_height(plan, origin[a, 0] + t * direction[0], origin[a, 1] + t * direction[1])
            t = min((origin[a, 2] - height) / -direction[2], FARTHEST_M + 1.0)
    return t


@njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def _through_glass(finish: Any, x: Any, y: Any, z: Any, luck: Any) -> Any:
    """What windows do: -1 where the echo is lost, else how far behind the surface it comes from."""
    if finish == FACADE:
        pane = hash_unit(np.floor(0.45 * x), np.floor(0.45 * y), np.floor(0.33 * z))
        if pane < 0.45:
            return -1.0 if luck < 0.55 else 0.12 + (2.5 * (luck - 0.9) / 0.1 if luck > 0.9 else 0.0)
        return 0.35 if pane > 0.9 else 0.0
    return -1.0 if finish == GLASS and luck < 0.5 else 0.0


@njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def find_echoes(
    best: Any,
    owner: Any,
    solids: Any,
    velocity: Any,
    seen: Any,
    reflectance: Any,
    finish: Any,
    origin: Any,
    directions: Any,
    local: Any,
    column_s: Any,
    end: Any,
    plan: Any,
    relief: Any,
    wetness: Any,
    noise: Any,
    luck: Any,
    out: Any,
) -> Any:
    """Points of one sweep.

    Args:
        best: (A, K) range of the nearest solid along each beam.
        owner: (A, K) its row.
        solids: (P, 12) of ``rays``.
        velocity: (P, 2) of each solid.
        seen: (P,) time for which ``solids`` holds.
        reflectance: (P,).
        finish: (P,) of ``shading``.
        origin: (A, 3) of the sensor.
        directions: (A, K, 3) of the beams in the scene's frame.
        local: (A, K, 3) of the beams in the LiDAR frame.
        column_s: (A,) time of each column.
        end: (3, 3) scene from LiDAR at the sweep's end.
        plan: ``GroundPlan.as_array()``.
        relief: See ``ground_height``.
        wetness: 0 dry ... 1 pouring.
        noise: (A, K, 2) of unit deviation: of the range, of the intensity.
        luck: (A, K, 3) uniform.
        out: (A, K, 5) float32, written.
    """
    for a in range(COLUMNS):
        for k in range(BEAMS):
            direction = directions[a, k]
            t = best[a, k]
            i = owner[a, k]
            if direction[2] < -1e-6:
                flat = _ground_range(plan, relief, origin, a, direction)
                if flat < t:
                    t = flat
                    i = -2
            x, y, z = origin[a, 0] + t * direction[0], origin[a, 1] + t * direction[1], origin[a, 2] + t * direction[2]
            incidence, bright, behind = 1.0, 0.0, 0.0
            if i >= 0:
                bright = reflectance[i]
                if finish[i] != LEAVES:
                    incidence = _solid_incidence(solids, i, velocity, column_s[a] - seen[i], origin, a, direction)
                behind = _through_glass(finish[i], x, y, z, luck[a, k, 1])
            elif i == -2:
                incidence = -direction[2]
                bright = _ground_reflectance(ground_kind(plan, x, y), x, y, wetness)
            # Speckle; the rough ground answers equally at any angle.
            answer = bright * np.exp(0.45 * noise[a, k, 1])
            if i >= 0 and bright < RETRO:
                answer *= 0.2 + 0.6 * incidence
            reach = DARK_RANGE_M * (np.exp(-0.012 * wetness * t) if wetness > 0.0 else 1.0)
            lost = luck[a, k, 0] < 0.008 + 0.1 * wetness or behind < 0.0 or t > FARTHEST_M
            lost = lost or bright * (0.3 + 0.7 * incidence) * (0.7 + 0.6 * luck[a, k, 1]) < (t / reach) ** 2
            t += RANGE_NOISE_M * noise[a, k, 0] + max(behind, 0.0)
            if wetness > 0.0 and luck[a, k, 0] > 1.0 - 0.012 * wetness:
                # Rain drops answer now and then.
                t = min(t, 1.5 + 12.0 * luck[a, k, 1] ** 2)
                answer = 0.02
                lost = False
            own = _own_car(local[a, k])
            if own > 0.0:
                t = own
                lost = False
            elif lost:
                t = 0.4 * luck[a, k, 1]
                answer = 0.01
            x = origin[a, 0] + t * direction[0] - origin[COLUMNS - 1, 0]
            y = origin[a, 1] + t * direction[1] - origin[COLUMNS - 1, 1]
            z = origin[a, 2] + t * direction[2] - origin[COLUMNS - 1, 2]
            for axis in range(3):
                out[a, k, axis] = end[0, axis] * x + end[1, axis] * y + end[2, axis] * z
            value = min(100.0, 100.0 * answer) if bright < RETRO else 100.0 + 180.0 * answer
            out[a, k, 3] = min(255.0, np.floor(value))
            out[a, k, 4] = k
