"""Where rays meet the solids that everything in the simulated world is made of.

A solid is one row of a (P, 12) float64 array, upright and turned about +z only:

    kind, x, y, z_low, z_high, cos_yaw, sin_yaw, a, b, c, d, e

``BLOCK``: a box whose top may be smaller than its bottom and shifted along its own x axis, which makes windscreens,
bonnets and booms: a = half length below, b = half length above, c = shift of the top, d, e = half widths below, above.
``BALL``: an ellipsoid with half axes a, b across and (z_high - z_low) / 2 upwards.
``CONE``: an upright cone stump with radius a below and b above.
``SHADE``: like BLOCK; the cameras see it as a shadow on the ground, the LiDAR not at all.
"""

from typing import Any, Final

import numpy as np
from numba import njit

BLOCK: Final = 0
BALL: Final = 1
CONE: Final = 2
SHADE: Final = 3

SOLID_COLUMNS: Final = 12
MISS: Final = 1e30


@njit(cache=True, nogil=True, fastmath=True, error_model="numpy", inline="always")
def hit_solid(solids: Any, i: Any, ox: Any, oy: Any, oz: Any, dx: Any, dy: Any, dz: Any) -> Any:
    """Ray parameter and face normal of the first hit from outside.

    Args:
        solids: (P, 12) float64, see the module.
        i: Row of the solid.
        ox: Ray origin less the solid's x and y, turned into the solid's axes.
        oy: The same.
        oz: Ray origin's z.
        dx: Ray direction in the solid's axes; its length sets the unit of the result.
        dy: The same.
        dz: The same.

    Returns:
        (t, normal x, normal y, normal z) with the normal in the solid's axes and not normalised; t is ``MISS``
        where the ray passes by.
    """
    kind = solids[i, 0]
    z_low = solids[i, 3]
    z_high = solids[i, 4]
    if kind == 0.0 or kind == 3.0:
        return _hit_block(solids, i, ox, oy, oz, dx, dy, dz, z_low, z_high)
    if kind == 1.0:
        return _hit_ball(solids[i, 7], solids[i, 8], ox, oy, oz, dx, dy, dz, z_low, z_high)
    return _hit_cone(solids[i, 7], solids[i, 8], ox, oy, oz, dx, dy, dz, z_low, z_high)


@njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def _hit_block(
    solids: Any, i: Any, ox: Any, oy: Any, oz: Any, dx: Any, dy: Any, dz: Any, z_low: Any, z_high: Any
) -> Any:
    """Six half spaces n.p <= m; the ray is inside between the last entry and the first exit."""
    height = z_high - z_low
    front = (solids[i, 9] + solids[i, 8] - solids[i, 7]) / height
    back = (solids[i, 9] - solids[i, 8] + solids[i, 7]) / height
    side = (solids[i, 11] - solids[i, 10]) / height
    oz -= z_low
    t_in = 0.0
    t_out = MISS
    face = -1
    for plane in range(6):
        if plane == 0:
            room, speed = solids[i, 7] - (ox - front * oz), dx - front * dz
        elif plane == 1:
            room, speed = solids[i, 7] + (ox - back * oz), back * dz - dx
        elif plane == 2:
            room, speed = solids[i, 10] - (oy - side * oz), dy - side * dz
        elif plane == 3:
            room, speed = solids[i, 10] + (oy + side * oz), -dy - side * dz
        elif plane == 4:
            room, speed = height - oz, dz
        else:
            room, speed = oz, -dz
        if speed > 1e-12:
            t = room / speed
            if t < t_out:
                t_out = t
        elif speed < -1e-12:
            t = room / speed
            if t > t_in:
                t_in = t
                face = plane
        elif room < 0.0:
            return MISS, 0.0, 0.0, 0.0
        if t_in > t_out:
            return MISS, 0.0, 0.0, 0.0
    if face < 0:
        return MISS, 0.0, 0.0, 0.0
    if face == 0:
        return t_in, 1.0, 0.0, -front
    if face == 1:
        return t_in, -1.0, 0.0, back
    if face == 2:
        return t_in, 0.0, 1.0, -side
    if face == 3:
        return t_in, 0.0, -1.0, -side
    return t_in, 0.0, 0.0, (1.0 if face == 4 else -1.0)


@njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def _hit_ball(a: Any, b: Any, ox: Any, oy: Any, oz: Any, dx: Any, dy: Any, dz: Any, z_low: Any, z_high: Any) -> Any:
    c = 0.5 * (z_high - z_low)
    px, py, pz = ox / a, oy / b, (oz - 0.5 * (z_low + z_high)) / c
    qx, qy, qz = dx / a, dy / b, dz / c
    qq = qx * qx + qy * qy + qz * qz
    pq = px * qx + py * qy + pz * qz
    root = pq * pq - qq * (px * px + py * py + pz * pz - 1.0)
    if root < 0.0:
        return MISS, 0.0, 0.0, 0.0
    t = (-pq - np.sqrt(root)) / qq
    if t <= 0.0:
        return MISS, 0.0, 0.0, 0.0
    return t, (px + t * qx) / a, (py + t * qy) / b, (pz + t * qz) / c


@njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def _hit_cone(
    low: Any, high: Any, ox: Any, oy: Any, oz: Any, dx: Any, dy: Any, dz: Any, z_low: Any, z_high: Any
) -> Any:
    slope = (high - low) / (z_high - z_low)
    radius = low + slope * (oz - z_low)
    grow = slope * dz
    qq = dx * dx + dy * dy - grow * grow
    pq = ox * dx + oy * dy - radius * grow
    root = pq * pq - qq * (ox * ox + oy * oy - radius * radius)
    if dz < 0.0 and oz > z_high:
        t = (z_high - oz) / dz
        x, y = ox + t * dx, oy + t * dy
        if x * x + y * y <= high * high:
            return t, 0.0, 0.0, 1.0
    if root < 0.0 or qq <= 1e-12:
        return MISS, 0.0, 0.0, 0.0
    t = (-pq - np.sqrt(root)) / qq
    z = oz + t * dz
    if t <= 0.0 or z < z_low or z > z_high:
        return MISS, 0.0, 0.0, 0.0
    r = radius + t * grow
    return t, ox + t * dx, oy + t * dy, -slope * r
