"""A pinhole camera: solids, ground and sky to pixels, with exact occlusion.

Two passes: the first finds the nearest solid of every pixel, the second shades every pixel once.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from fusionkd.simulation.raster import FACES, find_nearest
from fusionkd.simulation.shading import SHADOW
from fusionkd.simulation.surfaces import shade_ground, shade_sky, shade_solid

NEAR_M: Final = 0.2


@dataclass(frozen=True)
class ViewInput:
    """What one image sees.

    Attributes:
        solids: (P, 12) float64 in the scene's frame at the image's time; all of one object together.
        owner: (P,) int64, number of the object a solid belongs to.
        colour: (P, 3) 0..1.
        finish: (P,) int64 of ``shading``.
        origin_m: (3,) place of the camera in the scene's frame.
        rotation: (3, 3) scene from camera.
        matrix_px: (3, 3) camera matrix.
        size_px: (height, width).
        plan: ``GroundPlan.as_array()``.
        light: ``Weather.as_tuple()``.
        texture: (256, 256) float32 smooth noise 0..1 that repeats, for clouds and surfaces.
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
    light: tuple[float, ...]
    texture: NDArray[np.float32]
    grain: NDArray[np.float32]


@dataclass(frozen=True)
class View:
    """An image and what is seen of each object in it.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        nearness: (H, W) float32, reciprocal depth in 1/m along the optical axis, 0 for ground and sky.
        owner: (H, W) int32, the object seen, -1 for ground and sky.
        covered_px: (objects,) pixels of the image that each object would cover if nothing stood before it.
        visible_px: (objects,) pixels in which it is seen.
    """

    image: NDArray[np.uint8]
    nearness: NDArray[np.float32]
    owner: NDArray[np.int32]
    covered_px: NDArray[np.int64]
    visible_px: NDArray[np.int64]


def render(scene: ViewInput, *, objects: int, grain_shift: tuple[int, int] = (0, 0)) -> View:
    """Take one image.

    Args:
        scene: What the camera sees.
        objects: How many objects are counted: those whose number is less.
        grain_shift: Where the noise of this image starts in ``grain``.
    """
    height, width = scene.size_px
    nearness = np.zeros((height, width), np.float32)
    nearest = np.full((height, width), -1, np.int32)
    covered = np.zeros(objects, np.int64)
    visible = np.zeros(objects, np.int64)
    matrix = scene.matrix_px
    pinhole = np.array([matrix[0, 0], matrix[0, 2], matrix[1, 2]])
    find_nearest(
        scene.solids,
        scene.owner,
        scene.finish,
        scene.origin_m,
        scene.rotation,
        pinhole,
        pixel_rectangles(scene),
        nearness,
        nearest,
        np.full((height, width), -1, np.int32),
        covered,
    )
    image = np.empty((height, width, 3), np.uint8)
    owner = np.empty((height, width), np.int32)
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
        scene.texture,
        scene.grain,
        np.array(grain_shift, np.int64),
        nearness,
        nearest,
        owner,
        visible,
        image,
    )
    return View(image, nearness, owner, covered, visible)


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


@njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def _shade(
    solids: Any,
    owner: Any,
    colour: Any,
    finish: Any,
    origin: Any,
    rotation: Any,
    pinhole: Any,
    plan: Any,
    light: Any,
    texture: Any,
    grain: Any,
    shift: Any,
    nearness: Any,
    nearest: Any,
    seen: Any,
    visible: Any,
    image: Any,
) -> Any:
    height, width = nearest.shape
    for v in range(height):
        b = (v + 0.5 - pinhole[2]) / pinhole[0]
        rx = rotation[0, 1] * b + rotation[0, 2]
        ry = rotation[1, 1] * b + rotation[1, 2]
        rz = rotation[2, 1] * b + rotation[2, 2]
        for u in range(width):
            a = (u + 0.5 - pinhole[1]) / pinhole[0]
            dx, dy, dz = rx + rotation[0, 0] * a, ry + rotation[1, 0] * a, rz + rotation[2, 0] * a
            i = nearest[v, u] // FACES
            seen[v, u] = -1
            if i >= 0 and finish[i] != SHADOW:
                seen[v, u] = owner[i]
                if owner[i] < visible.shape[0]:
                    visible[owner[i]] += 1
                t = 1.0 / nearness[v, u]
                face = nearest[v, u] % FACES
                red, green, blue = shade_solid(
                    solids, i, face, colour, finish[i], origin, dx, dy, dz, t, light, texture
                )
            elif dz < -1e-4:
                nearness[v, u] = 0.0
                t = -origin[2] / dz
                red, green, blue = shade_ground(plan, origin, dx, dy, t, light, texture, i >= 0)
            else:
                t = 0.0
                red, green, blue = shade_sky(dx, dy, dz, light, texture)
            # Haze takes the place of light with distance; this is close to the exponential and quicker.
            thick = t * light[5]
            clear = 1.0 / (1.0 + thick + 0.5 * thick * thick)
            noise = light[15] * grain[(v + shift[0]) & 255, (u + shift[1]) & 255]
            clear_faded = clear * light[16]
            haze = (1.0 - clear) * light[16]
            veil = 0.0
            if light[17] > 0.0:
                near_sun = (dx * light[0] + dy * light[1] + dz * light[2]) / np.sqrt(1.0 + a * a + b * b)
                if near_sun > 0.0:
                    veil = light[17] * (0.35 * near_sun**6 + 2.0 * near_sun**80)
            image[v, u, 0] = _tone(red * clear_faded + light[9] * haze + veil, noise)
            image[v, u, 1] = _tone(green * clear_faded + light[10] * haze + veil, noise)
            image[v, u, 2] = _tone(blue * clear_faded + light[11] * haze + veil, noise)


@njit(cache=True, nogil=True, fastmath=True, error_model="numpy", inline="always")
def _tone(value: Any, noise: Any) -> Any:
    """A camera's curve: linear in the shadows, bending before white."""
    curved = value * (1.25 - 0.25 * value) if value < 1.5 else 1.0
    return np.uint8(min(255.0, max(0.0, 255.0 * (curved + noise))))
