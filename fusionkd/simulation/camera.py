"""A pinhole camera: solids, ground and sky to pixels, with exact occlusion.

Two passes: the first finds for every pixel the nearest solid, drawing each into its own pixel rectangle, nearest
object first; the second shades every pixel once.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from fusionkd.simulation.rays import MISS, hit_solid
from fusionkd.simulation.shading import shade_ground, shade_sky, shade_solid

NEAR_M: Final = 0.2


@dataclass(frozen=True)
class ViewInput:
    """What one image sees.

    Attributes:
        solids: (P, 12) float64 in the scene's frame at the image's time; all of one object together, near objects
            first.
        owner: (P,) int64, number of the object a solid belongs to, 0 <= owner < objects.
        colour: (P, 3) 0..1.
        finish: (P,) int64 of ``shading``.
        origin_m: (3,) place of the camera in the scene's frame.
        rotation: (3, 3) scene from camera.
        matrix_px: (3, 3) camera matrix.
        size_px: (height, width).
        plan: ``GroundPlan.as_array()``.
        light: ``Weather.as_array()``.
        grain: (256, 256) float32 noise of unit deviation.
    """

    solids: NDArray[np.float64]
    owner: NDArray[np.int64]
    colour: NDArray[np.float64]
    finish: NDArray[np.int64]
    origin_m: NDArray[np.float64]
    rotation: NDArray[np.float64]
    matrix_px: NDArray[np.float64]
    size_px: tuple[int, int]
    plan: NDArray[np.float64]
    light: NDArray[np.float64]
    grain: NDArray[np.float32]


@dataclass(frozen=True)
class View:
    """An image and what is seen of each object in it.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        depth_m: (H, W) float32 along the optical axis, ``inf`` where only sky or ground is seen.
        owner: (H, W) int32, the object seen, -1 for ground and sky.
        covered_px: (objects,) pixels of the image that each object would cover if nothing stood before it.
        visible_px: (objects,) pixels in which it is seen.
    """

    image: NDArray[np.uint8]
    depth_m: NDArray[np.float32]
    owner: NDArray[np.int32]
    covered_px: NDArray[np.int64]
    visible_px: NDArray[np.int64]


def render(scene: ViewInput, *, objects: int, grain_shift: tuple[int, int] = (0, 0)) -> View:
    """Take one image.

    Args:
        scene: What the camera sees.
        objects: How many objects ``owner`` counts.
        grain_shift: Where the noise of this image starts in ``grain``.
    """
    height, width = scene.size_px
    depth = np.full((height, width), np.inf, np.float32)
    nearest = np.full((height, width), -1, np.int32)
    covered = np.zeros(objects, np.int64)
    visible = np.zeros(objects, np.int64)
    stamp = np.full((height, width), -1, np.int32)
    rectangles = pixel_rectangles(scene)
    matrix = scene.matrix_px
    pinhole = np.array([matrix[0, 0], matrix[0, 2], matrix[1, 2]])
    _find(
        scene.solids,
        scene.owner,
        scene.finish,
        scene.origin_m,
        scene.rotation,
        pinhole,
        rectangles,
        depth,
        nearest,
        stamp,
        covered,
    )
    image = np.empty((height, width, 3), np.uint8)
    _shade(
        scene.solids,
        scene.owner,
        scene.colour,
        scene.finish,
        scene.origin_m,
        scene.rotation,
        pinhole,
        scene.plan,
        scene.light,
        scene.grain,
        np.array(grain_shift, np.int64),
        depth,
        nearest,
        visible,
        image,
    )
    seen = np.where(nearest >= 0, scene.owner[np.maximum(nearest, 0)] if len(scene.owner) else -1, -1)
    return View(image, depth, seen.astype(np.int32), covered, visible)


def pixel_rectangles(scene: ViewInput) -> NDArray[np.int64]:
    """First and last column, first and last row of the pixels that each solid may cover, (P, 4); empty if behind."""
    solids = scene.solids
    height, width = scene.size_px
    reach_x = np.maximum(solids[:, 7], solids[:, 8] + np.abs(solids[:, 9]))
    reach_y = np.maximum(solids[:, 10], solids[:, 11])
    ball, cone = solids[:, 0] == 1, solids[:, 0] == 2
    reach_x = np.where(ball, solids[:, 7], np.where(cone, np.maximum(solids[:, 7], solids[:, 8]), reach_x))
    reach_y = np.where(ball, solids[:, 8], np.where(cone, reach_x, reach_y))
    sign = np.array([[1, 1], [1, -1], [-1, 1], [-1, -1]])
    local_x, local_y = sign[:, 0] * reach_x[:, None], sign[:, 1] * reach_y[:, None]  # (P, 4)
    cos, sin = solids[:, 5, None], solids[:, 6, None]
    x = solids[:, 1, None] + cos * local_x - sin * local_y
    y = solids[:, 2, None] + sin * local_x + cos * local_y
    corners = np.empty((len(solids), 8, 3))
    corners[:, :4, 0] = corners[:, 4:, 0] = x
    corners[:, :4, 1] = corners[:, 4:, 1] = y
    corners[:, :4, 2], corners[:, 4:, 2] = solids[:, 3, None], solids[:, 4, None]
    seen = (corners - scene.origin_m) @ scene.rotation  # (P, 8, 3) camera frame
    matrix = scene.matrix_px
    z = seen[..., 2]
    safe = np.maximum(z, NEAR_M)
    u = matrix[0, 0] * seen[..., 0] / safe + matrix[0, 2]
    v = matrix[1, 1] * seen[..., 1] / safe + matrix[1, 2]
    out = np.stack([u.min(1) - 1, u.max(1) + 1, v.min(1) - 1, v.max(1) + 1], axis=1)
    # A corner beside or behind the camera projects to nowhere: such a solid may cover the whole image.
    crosses = (z.min(1) < NEAR_M) & (z.max(1) >= NEAR_M)
    out[crosses] = [0, width, 0, height]
    out[z.max(1) < NEAR_M] = [0, -2, 0, -2]
    limit = np.array([width - 1, width - 1, height - 1, height - 1])
    rounded = np.floor(np.clip(out, -10, 1e6)).astype(np.int64)
    rounded[:, 0::2] = np.maximum(rounded[:, 0::2], 0)
    rounded[:, 1::2] = np.minimum(rounded[:, 1::2], limit[1::2])
    return np.asarray(rounded, dtype=np.int64)


@njit(cache=True, nogil=True, fastmath=True)
def _find(solids, owner, finish, origin, rotation, pinhole, rectangles, depth, nearest, stamp, covered):  # type: ignore[no-untyped-def]
    for i in range(solids.shape[0]):
        u0, u1, v0, v1 = rectangles[i, 0], rectangles[i, 1], rectangles[i, 2], rectangles[i, 3]
        if u1 < u0 or v1 < v0:
            continue
        cos, sin = solids[i, 5], solids[i, 6]
        px, py = origin[0] - solids[i, 1], origin[1] - solids[i, 2]
        ox, oy, oz = cos * px + sin * py, cos * py - sin * px, origin[2]
        counts = finish[i] != 6
        number = owner[i]
        for v in range(v0, v1 + 1):
            b = (v + 0.5 - pinhole[2]) / pinhole[0]
            rx = rotation[0, 1] * b + rotation[0, 2]
            ry = rotation[1, 1] * b + rotation[1, 2]
            rz = rotation[2, 1] * b + rotation[2, 2]
            for u in range(u0, u1 + 1):
                a = (u + 0.5 - pinhole[1]) / pinhole[0]
                gx, gy, gz = rx + rotation[0, 0] * a, ry + rotation[1, 0] * a, rz + rotation[2, 0] * a
                t, _, _, _ = hit_solid(solids, i, ox, oy, oz, cos * gx + sin * gy, cos * gy - sin * gx, gz)
                if t >= MISS:
                    continue
                if counts and stamp[v, u] != number:
                    stamp[v, u] = number
                    covered[number] += 1
                if t < depth[v, u]:
                    depth[v, u] = t
                    nearest[v, u] = i


@njit(cache=True, nogil=True, fastmath=True)
def _shade(
    solids, owner, colour, finish, origin, rotation, pinhole, plan, light, grain, shift, depth, nearest, visible, image
):  # type: ignore[no-untyped-def]
    height, width = depth.shape
    for v in range(height):
        b = (v + 0.5 - pinhole[2]) / pinhole[0]
        rx = rotation[0, 1] * b + rotation[0, 2]
        ry = rotation[1, 1] * b + rotation[1, 2]
        rz = rotation[2, 1] * b + rotation[2, 2]
        for u in range(width):
            a = (u + 0.5 - pinhole[1]) / pinhole[0]
            dx, dy, dz = rx + rotation[0, 0] * a, ry + rotation[1, 0] * a, rz + rotation[2, 0] * a
            i = nearest[v, u]
            t = depth[v, u]
            if i >= 0 and finish[i] != 6:
                visible[owner[i]] += 1
                red, green, blue = shade_solid(solids, i, colour, finish[i], origin, dx, dy, dz, t, light)
            elif dz < -1e-4:
                t = -origin[2] / dz
                red, green, blue = shade_ground(plan, origin, dx, dy, t, light, i >= 0)
                if i >= 0:
                    nearest[v, u] = -1
                    depth[v, u] = np.inf
            else:
                red, green, blue = shade_sky(dx, dy, dz, light)
                t = 0.0
            # Haze takes the place of light with distance.
            clear = np.exp(-t * light[5])
            noise = light[16] * grain[(v + shift[0]) & 255, (u + shift[1]) & 255]
            fade = 1.0 - 0.12 * ((2.0 * u / width - 1.0) ** 2 + (2.0 * v / height - 1.0) ** 2)
            image[v, u, 0] = _tone((red * clear + light[9] * (1.0 - clear)) * fade, noise)
            image[v, u, 1] = _tone((green * clear + light[10] * (1.0 - clear)) * fade, noise)
            image[v, u, 2] = _tone((blue * clear + light[11] * (1.0 - clear)) * fade, noise)


@njit(cache=True, nogil=True, fastmath=True, inline="always")
def _tone(value, noise):  # type: ignore[no-untyped-def]
    return np.uint8(min(255.0, max(0.0, 255.0 * (value + noise))))
