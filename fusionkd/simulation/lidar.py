"""A spinning LiDAR with 32 beams: one sweep over solids and ground."""

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from fusionkd.simulation.echoes import find_echoes
from fusionkd.simulation.rays import MISS, hit_solid
from fusionkd.simulation.rig import (
    BEAM_STEP_RAD,
    BEAMS,
    COLUMN_PERIOD,
    COLUMN_STEP_RAD,
    COLUMNS,
    FIRST_AZIMUTH_RAD,
    LOWEST_BEAM_RAD,
)


@dataclass(frozen=True)
class SweepInput:
    """What one sweep meets.

    Attributes:
        solids: (P, 12) float64 in the scene's frame at the time ``seen_s`` of each solid, sorted near to far.
        velocity_mps: (P, 2) of each solid.
        seen_s: (P,) the time relative to the sweep's end for which ``solids`` holds.
        reflectance: (P,) 0..1; above 0.75 the surface throws light back to where it came from.
        finish: (P,) of ``shading``.
        free_path_m: (P,) how far a beam gets into a porous solid on average; 0 for solid ones.
        origin_m: (A, 3) the sensor's place at each column.
        rotation: (A, 3, 3) scene from LiDAR at each column.
        column_s: (A,) each column's time relative to the sweep's end, <= 0.
        plan: ``GroundPlan.as_array()``.
        relief: How uneven the ground is, see ``ground.ground_height``.
        wetness: 0 dry ... 1 pouring rain.
    """

    solids: NDArray[np.float64]
    velocity_mps: NDArray[np.float64]
    seen_s: NDArray[np.float64]
    reflectance: NDArray[np.float64]
    finish: NDArray[np.int64]
    free_path_m: NDArray[np.float64]
    origin_m: NDArray[np.float64]
    rotation: NDArray[np.float64]
    column_s: NDArray[np.float64]
    plan: NDArray[np.float64]
    relief: float
    wetness: float


def sweep(scene: SweepInput, generator: np.random.Generator) -> NDArray[np.float32]:
    """Points of one sweep, (A * 32, 5) float32: x, y, z, intensity, ring in the LiDAR frame at the sweep's end.

    As in nuScenes every beam has its row: one without an echo, or with an echo from the car's own roof, lies within
    a metre of the sensor, where every reader drops it. Points are corrected for the motion of the ego car but not for
    that of others.

    Args:
        scene: What the sweep meets.
        generator: Source of range noise and drop-outs.
    """
    noise = generator.standard_normal((COLUMNS, BEAMS, 2), dtype=np.float32)
    luck = generator.random((COLUMNS, BEAMS, 3), dtype=np.float32)
    local = beam_directions()
    directions = np.einsum("aij,akj->aki", scene.rotation, local)
    best, owner = nearest_solids(scene, directions, luck[..., 2])
    out = np.empty((COLUMNS, BEAMS, 5), np.float32)
    find_echoes(
        best,
        owner,
        scene.solids,
        scene.velocity_mps,
        scene.seen_s,
        scene.reflectance,
        scene.finish,
        scene.origin_m,
        directions,
        local,
        scene.column_s,
        scene.rotation[-1],
        scene.plan,
        scene.relief,
        scene.wetness,
        noise,
        luck,
        out,
    )
    return out.reshape(-1, 5)  # (A * 32, 5)


def nearest_solids(
    scene: SweepInput, directions: NDArray[np.float64], luck: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    """Range of the nearest solid along each beam and its row, both (A, 32); ``MISS`` and -1 where there is none.

    Args:
        scene: What the sweep meets.
        directions: (A, 32, 3) unit directions in the scene's frame.
        luck: (A, 32) uniform numbers that decide how far beams get into porous solids.
    """
    best = np.full((COLUMNS, BEAMS), MISS)
    owner = np.full((COLUMNS, BEAMS), -1, np.int32)
    _mark_solids(
        scene.solids,
        scene.velocity_mps,
        scene.seen_s,
        scene.free_path_m,
        scene.origin_m,
        directions,
        scene.column_s,
        luck,
        best,
        owner,
    )
    return best, owner


def column_of(azimuth_rad: NDArray[Any]) -> NDArray[np.float64]:
    """Column, not rounded, in which the sweep passes an azimuth of the LiDAR frame."""
    return np.asarray(((FIRST_AZIMUTH_RAD - azimuth_rad) % (2 * np.pi)) / COLUMN_STEP_RAD, dtype=np.float64)


@cache
def beam_directions() -> NDArray[np.float64]:
    """Unit directions of all beams in the LiDAR frame, (A, 32, 3)."""
    azimuth = FIRST_AZIMUTH_RAD - COLUMN_STEP_RAD * np.arange(COLUMNS)
    elevation = LOWEST_BEAM_RAD + BEAM_STEP_RAD * np.arange(BEAMS)
    flat = np.cos(elevation)
    x = np.cos(azimuth)[:, None] * flat
    y = np.sin(azimuth)[:, None] * flat
    return np.stack([x, y, np.broadcast_to(np.sin(elevation), x.shape)], axis=-1)


@njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def _mark_solid(
    solids: Any,
    i: Any,
    velocity: Any,
    seen: Any,
    free_path: Any,
    origin: Any,
    directions: Any,
    column_s: Any,
    luck: Any,
    best: Any,
    owner: Any,
) -> Any:
    """Let one solid shorten the beams that may meet it."""
    reach = np.sqrt((max(solids[i, 7], solids[i, 8] + abs(solids[i, 9]))) ** 2 + max(solids[i, 10], solids[i, 11]) ** 2)
    if solids[i, 0] == 1.0 or solids[i, 0] == 2.0:
        reach = max(solids[i, 7], solids[i, 8])
    middle = COLUMNS // 2
    rx = solids[i, 1] - origin[middle, 0]
    ry = solids[i, 2] - origin[middle, 1]
    oz = origin[middle, 2]
    away = np.sqrt(rx * rx + ry * ry)
    near = max(away - reach - 1.0, 0.3)
    far = away + reach + 1.0
    # The middle column's lowest beam says where the sensor looked in the middle of the sweep; the car's turning and
    # driving since then, and the solid's, are in the margin.
    turn = np.arctan2(directions[middle, 0, 1], directions[middle, 0, 0])
    column = middle + ((turn - np.arctan2(ry, rx)) % (2 * np.pi)) / COLUMN_STEP_RAD
    spread = np.pi if away <= reach + 1.0 else np.arcsin(reach / away) + 0.5 / (away - reach)
    margin = spread / COLUMN_STEP_RAD + 3.0
    high = solids[i, 4] - oz
    low = solids[i, 3] - oz
    top = np.arctan2(high, near if high > 0.0 else far)
    bottom = np.arctan2(low, far if low > 0.0 else near)
    k0 = max(0, int(np.floor((bottom - LOWEST_BEAM_RAD) / BEAM_STEP_RAD)) - 1)
    k1 = min(BEAMS - 1, int(np.ceil((top - LOWEST_BEAM_RAD) / BEAM_STEP_RAD)) + 1)
    if k0 > k1:
        return
    cos, sin = solids[i, 5], solids[i, 6]
    for wrap in range(-1, 1):
        a0 = max(0, int(np.floor(column - margin + wrap * COLUMN_PERIOD)))
        a1 = min(COLUMNS - 1, int(np.ceil(column + margin + wrap * COLUMN_PERIOD)))
        for a in range(a0, a1 + 1):
            late = column_s[a] - seen[i]
            px = origin[a, 0] - solids[i, 1] - velocity[i, 0] * late
            py = origin[a, 1] - solids[i, 2] - velocity[i, 1] * late
            ox = cos * px + sin * py
            oy = cos * py - sin * px
            for k in range(k0, k1 + 1):
                if best[a, k] <= near - 0.5:
                    continue
                gx, gy, dz = directions[a, k, 0], directions[a, k, 1], directions[a, k, 2]
                dx, dy = cos * gx + sin * gy, cos * gy - sin * gx
                t, _, _, _ = hit_solid(solids, i, ox, oy, origin[a, 2], dx, dy, dz)
                if t < best[a, k] and free_path[i] > 0.0:
                    # Met among leaves or bars after a random way; a beam that comes out behind goes on. The way out
                    # is where a ray that flies back enters.
                    beyond = t + 100.0
                    back, _, _, _ = hit_solid(
                        solids, i, ox + beyond * dx, oy + beyond * dy, origin[a, 2] + beyond * dz, -dx, -dy, -dz
                    )
                    t -= free_path[i] * np.log(max((luck[a, k] + 0.618034 * i) % 1.0, 1e-6))
                    if t > beyond - back:
                        continue
                if t < best[a, k]:
                    best[a, k] = t
                    owner[a, k] = i


@njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def _mark_solids(
    solids: Any,
    velocity: Any,
    seen: Any,
    free_path: Any,
    origin: Any,
    directions: Any,
    column_s: Any,
    luck: Any,
    best: Any,
    owner: Any,
) -> Any:
    for i in range(solids.shape[0]):
        _mark_solid(solids, i, velocity, seen, free_path, origin, directions, column_s, luck, best, owner)
