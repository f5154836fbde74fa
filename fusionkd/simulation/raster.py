"""Which solid each pixel of a camera sees.

All rays of a camera start at one point. For such rays the reciprocal of the depth at which a plane is met is linear in
the pixel's column and row. So the entry into a convex block is the least of the front planes' reciprocals, its exit the
greatest of the back planes', and the pixels of a row that meet the block are one interval whose ends are known without
trying any. Balls and cones solve their quadratic pixel by pixel.
"""

from typing import Any

import numpy as np
from numba import njit

from fusionkd.simulation.ground import hash_unit
from fusionkd.simulation.rays import BALL, BLOCK, MISS, SHADE, hit_solid
from fusionkd.simulation.shading import LEAVES, RAIL, SHADOW
from fusionkd.simulation.surfaces import mark_of

FACES = 8
"""``nearest`` holds FACES * row + face: faces 0-5 of a block (+x, -x, +y, -y, +z, -z), 6 of a round solid."""
ROUND = 6


@njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def find_nearest(
    solids: Any,
    owner: Any,
    finish: Any,
    origin: Any,
    rotation: Any,
    pinhole: Any,
    rectangles: Any,
    nearness: Any,
    nearest: Any,
    stamp: Any,
    covered: Any,
) -> Any:
    """Draw all solids into the buffers of one image.

    Args:
        solids: (P, 12) of ``rays``, all of one object together.
        owner: (P,) number of the object; those from ``len(covered)`` on are not counted.
        finish: (P,) of ``shading``.
        origin: (3,) of the camera.
        rotation: (3, 3) scene from camera.
        pinhole: (3,) focal length, centre column and row.
        rectangles: (P, 4) first and last column, first and last row to try.
        nearness: (H, W) float32, reciprocal depth, 0 at first.
        nearest: (H, W) int32, what is seen, -1 at first; see ``FACES``.
        stamp: (H, W) int32, the last object counted in the pixel, -1 at first.
        covered: (N,) int64, pixels each object would cover if nothing stood before it; added to.
    """
    plane = np.empty((6, 4))
    turn = np.empty((3, 3))
    for i in range(solids.shape[0]):
        if rectangles[i, 1] < rectangles[i, 0] or rectangles[i, 3] < rectangles[i, 2]:
            continue
        cos, sin = solids[i, 5], solids[i, 6]
        px, py = origin[0] - solids[i, 1], origin[1] - solids[i, 2]
        ox, oy, oz = cos * px + sin * py, cos * py - sin * px, origin[2]
        # Direction in the solid's axes = turn @ (column, row, 1).
        for j in range(3):
            x = cos * rotation[0, j] + sin * rotation[1, j]
            y = cos * rotation[1, j] - sin * rotation[0, j]
            turn[0, j], turn[1, j], turn[2, j] = x, y, rotation[2, j]
        for k in range(3):
            a, b = turn[k, 0] / pinhole[0], turn[k, 1] / pinhole[0]
            turn[k, 2] += a * (0.5 - pinhole[1]) + b * (0.5 - pinhole[2])
            turn[k, 0], turn[k, 1] = a, b
        # The optical axis in the solid's axes.
        depth_z = (
            cos * rotation[0, 2] + sin * rotation[1, 2],
            cos * rotation[1, 2] - sin * rotation[0, 2],
            rotation[2, 2],
        )
        counted = owner[i] < covered.shape[0] and finish[i] != SHADOW
        number = owner[i] if counted else -1
        if solids[i, 0] == BLOCK or solids[i, 0] == SHADE:
            fronts = _planes(solids, i, ox, oy, oz, turn, plane)
            if fronts > 0:
                eye = (ox, oy, oz, finish[i], _nearest_possible(solids, i, ox, oy, oz, depth_z, number))
                _fill_block(
                    solids, i, fronts, plane, eye, turn, rectangles[i], number, nearness, nearest, stamp, covered
                )
        else:
            eye = (ox, oy, oz, finish[i], _nearest_possible(solids, i, ox, oy, oz, depth_z, number))
            fill = (solids, i, eye, turn, rectangles[i], number, nearness, nearest, stamp, covered)
            if solids[i, 0] == BALL:
                _fill_ball(*fill)
            else:
                _fill_cone(*fill)


@njit(cache=True, nogil=True, fastmath=True, error_model="numpy", inline="always")
def _nearest_possible(solids: Any, i: Any, ox: Any, oy: Any, oz: Any, axis: Any, number: Any) -> Any:
    """Reciprocal depth that no point of a solid exceeds, so that pixels with something nearer need no try.

    Without bound for solids that are counted: those are tried in every pixel.
    """
    if number >= 0:
        return 1e30
    reach_x = max(solids[i, 7], solids[i, 8] + abs(solids[i, 9]))
    reach_y = max(reach_x if solids[i, 0] == 2.0 else solids[i, 8], max(solids[i, 10], solids[i, 11]))
    half_z = 0.5 * (solids[i, 4] - solids[i, 3])
    depth = -ox * axis[0] - oy * axis[1] + (0.5 * (solids[i, 3] + solids[i, 4]) - oz) * axis[2]
    depth -= reach_x * abs(axis[0]) + reach_y * abs(axis[1]) + half_z * abs(axis[2])
    return 1.0 / depth if depth > 0.01 else 1e30


@njit(cache=True, nogil=True, fastmath=True, error_model="numpy", inline="always")
def _is_hole(finish: Any, top: Any, mark: Any, x: Any, y: Any, z: Any, sparse: Any) -> Any:
    """Whether one looks between the bars of a railing, or through leaves at a point where ``sparse`` of all miss."""
    if finish == RAIL:
        return (7.0 * x + 4096.0) % 1.0 > 0.3 and z < top - 0.06
    return hash_unit(np.floor(x * 6.0), np.floor(y * 6.0) + 57.0 * np.floor(z * 6.0), mark) < sparse


@njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def _planes(solids: Any, i: Any, ox: Any, oy: Any, oz: Any, turn: Any, plane: Any) -> Any:
    """Reciprocal depth of a block's faces, front ones first: face, then factors of column, row and 1.

    Returns:
        How many faces look at the camera.
    """
    height = solids[i, 4] - solids[i, 3]
    front = (solids[i, 9] + solids[i, 8] - solids[i, 7]) / height
    back = (solids[i, 9] - solids[i, 8] + solids[i, 7]) / height
    side = (solids[i, 11] - solids[i, 10]) / height
    z = oz - solids[i, 3]
    first, last = 0, 5
    for face in range(6):
        if face == 0:
            nx, ny, nz, room = 1.0, 0.0, -front, solids[i, 7] - ox + front * z
        elif face == 1:
            nx, ny, nz, room = -1.0, 0.0, back, solids[i, 7] + ox - back * z
        elif face == 2:
            nx, ny, nz, room = 0.0, 1.0, -side, solids[i, 10] - oy + side * z
        elif face == 3:
            nx, ny, nz, room = 0.0, -1.0, -side, solids[i, 10] + oy + side * z
        elif face == 4:
            nx, ny, nz, room = 0.0, 0.0, 1.0, height - z
        else:
            nx, ny, nz, room = 0.0, 0.0, -1.0, z
        if room < -1e-9:
            row = first
            first += 1
        else:
            row = last
            last -= 1
            room = max(room, 1e-9)
        plane[row, 0] = face
        for j in range(3):
            plane[row, 1 + j] = (nx * turn[0, j] + ny * turn[1, j] + nz * turn[2, j]) / room
    return first


@njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def _fill_block(
    solids: Any,
    i: Any,
    fronts: Any,
    plane: Any,
    eye: Any,
    turn: Any,
    rectangle: Any,
    number: Any,
    nearness: Any,
    nearest: Any,
    stamp: Any,
    covered: Any,
) -> Any:
    porous = eye[3] == LEAVES or eye[3] == RAIL
    mark = mark_of(solids, i)
    for v in range(rectangle[2], rectangle[3] + 1):
        low, high = float(rectangle[0]), float(rectangle[1])
        for f in range(fronts):
            # Before the camera, and entered before any exit.
            for e in range(fronts - 1, 6):
                slope = plane[f, 1]
                value = plane[f, 2] * v + plane[f, 3]
                if e >= fronts:
                    slope -= plane[e, 1]
                    value -= plane[e, 2] * v + plane[e, 3]
                if slope > 1e-15:
                    low = max(low, -value / slope)
                elif slope < -1e-15:
                    high = min(high, -value / slope)
                elif value <= 0.0:
                    high = -1.0
        for u in range(int(np.ceil(low)), int(np.floor(high)) + 1):
            if nearness[v, u] >= eye[4]:
                continue
            best = 1e30
            face = 0
            for f in range(fronts):
                value = plane[f, 1] * u + plane[f, 2] * v + plane[f, 3]
                if value < best:
                    best = value
                    face = int(plane[f, 0])
            if number >= 0 and stamp[v, u] != number:
                stamp[v, u] = number
                covered[number] += 1
            if best > nearness[v, u]:
                if porous:
                    t = 1.0 / best
                    x = eye[0] + t * (turn[0, 0] * u + turn[0, 1] * v + turn[0, 2])
                    y = eye[1] + t * (turn[1, 0] * u + turn[1, 1] * v + turn[1, 2])
                    z = eye[2] + t * (turn[2, 0] * u + turn[2, 1] * v + turn[2, 2])
                    if _is_hole(eye[3], solids[i, 4], mark, x, y, z, 0.12):
                        continue
                nearness[v, u] = best
                nearest[v, u] = FACES * i + face


@njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def _fill_ball(
    solids: Any,
    i: Any,
    eye: Any,
    turn: Any,
    rectangle: Any,
    number: Any,
    nearness: Any,
    nearest: Any,
    stamp: Any,
    covered: Any,
) -> Any:
    """An ellipsoid, scaled to a unit ball: the quadratic's factors are polynomials of the column."""
    half_z = 0.5 * (solids[i, 4] - solids[i, 3])
    px, py, pz = eye[0] / solids[i, 7], eye[1] / solids[i, 8], (eye[2] - solids[i, 3]) / half_z - 1.0
    beyond = px * px + py * py + pz * pz - 1.0
    ax, ay, az = turn[0, 0] / solids[i, 7], turn[1, 0] / solids[i, 8], turn[2, 0] / half_z
    porous = eye[3] == LEAVES
    mark = mark_of(solids, i)
    for v in range(rectangle[2], rectangle[3] + 1):
        bx = (turn[0, 1] * v + turn[0, 2]) / solids[i, 7]
        by = (turn[1, 1] * v + turn[1, 2]) / solids[i, 8]
        bz = (turn[2, 1] * v + turn[2, 2]) / half_z
        q2, q1, q0 = ax * ax + ay * ay + az * az, 2.0 * (ax * bx + ay * by + az * bz), bx * bx + by * by + bz * bz
        p1, p0 = px * ax + py * ay + pz * az, px * bx + py * by + pz * bz
        for u in range(rectangle[0], rectangle[1] + 1):
            pq = p0 + p1 * u
            qq = q0 + u * (q1 + q2 * u)
            root = pq * pq - qq * beyond
            if root < 0.0 or nearness[v, u] >= eye[4]:
                continue
            t = (-pq - np.sqrt(root)) / qq
            if t <= 0.0:
                continue
            if number >= 0 and stamp[v, u] != number:
                stamp[v, u] = number
                covered[number] += 1
            if nearness[v, u] * t < 1.0:
                if porous:
                    x = eye[0] + t * (turn[0, 0] * u + turn[0, 1] * v + turn[0, 2])
                    y = eye[1] + t * (turn[1, 0] * u + turn[1, 1] * v + turn[1, 2])
                    z = eye[2] + t * (turn[2, 0] * u + turn[2, 1] * v + turn[2, 2])
                    # Ragged at the rim, where a look only grazes the leaves, and dense in the middle.
                    rim = 1.0 - root / qq
                    if _is_hole(LEAVES, 0.0, mark, x, y, z, 0.06 + 0.74 * rim**4):
                        continue
                nearness[v, u] = 1.0 / t
                nearest[v, u] = FACES * i + ROUND


@njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def _fill_cone(
    solids: Any,
    i: Any,
    eye: Any,
    turn: Any,
    rectangle: Any,
    number: Any,
    nearness: Any,
    nearest: Any,
    stamp: Any,
    covered: Any,
) -> Any:
    for v in range(rectangle[2], rectangle[3] + 1):
        for u in range(rectangle[0], rectangle[1] + 1):
            if nearness[v, u] >= eye[4]:
                continue
            dx = turn[0, 0] * u + turn[0, 1] * v + turn[0, 2]
            dy = turn[1, 0] * u + turn[1, 1] * v + turn[1, 2]
            dz = turn[2, 0] * u + turn[2, 1] * v + turn[2, 2]
            t, _, _, _ = hit_solid(solids, i, eye[0], eye[1], eye[2], dx, dy, dz)
            if t >= MISS:
                continue
            if number >= 0 and stamp[v, u] != number:
                stamp[v, u] = number
                covered[number] += 1
            if 1.0 / t > nearness[v, u]:
                nearness[v, u] = 1.0 / t
                nearest[v, u] = FACES * i + ROUND
