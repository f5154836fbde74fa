"""Colours of solids, ground and sky under a weather."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from fusionkd.simulation.ground import GRASS, KERB, MARKING, PAVEMENT, PLAZA, YELLOW, ground_kind, hash_unit
from fusionkd.simulation.rays import hit_solid

PLAIN: Final = 0
FACADE: Final = 1
LAMP: Final = 2
GLASS: Final = 3
LEAVES: Final = 4
PAINT: Final = 5
SHADOW: Final = 6


@dataclass(frozen=True)
class Weather:
    """Light and air of one scene.

    Attributes:
        name: Word for the scene's description.
        sun: Unit vector towards the sun in the scene's frame.
        sun_strength: 0 under clouds.
        ambient: Light from everywhere.
        haze_per_m: Share of light lost per metre.
        sky_high: Colour overhead.
        sky_low: Colour at the horizon, and of the haze.
        cloud: 0 clear ... 1 covered.
        wetness: 0 dry ... 1 pouring.
        headlights: Light of the ego car's own lamps.
        noise: Deviation of the image noise, of full scale.
    """

    name: str
    sun: tuple[float, float, float]
    sun_strength: float
    ambient: float
    haze_per_m: float
    sky_high: tuple[float, float, float]
    sky_low: tuple[float, float, float]
    cloud: float
    wetness: float
    headlights: float
    noise: float

    def as_array(self) -> NDArray[np.float64]:
        """What the kernels read, 17 numbers."""
        return np.array(
            [
                *self.sun,  # 0-2
                self.sun_strength,  # 3
                self.ambient,  # 4
                self.haze_per_m,  # 5
                *self.sky_high,  # 6-8
                *self.sky_low,  # 9-11
                self.cloud,  # 12
                self.wetness,  # 13
                self.headlights,  # 14
                0.0,  # 15
                self.noise,  # 16
            ],
            dtype=np.float64,
        )


@njit(cache=True, nogil=True, fastmath=True)
def _noise(x, y, seed):  # type: ignore[no-untyped-def]
    """Smooth noise in [0, 1): hashed corners of the unit grid, blended."""
    ix, iy = np.floor(x), np.floor(y)
    fx, fy = x - ix, y - iy
    fx, fy = fx * fx * (3.0 - 2.0 * fx), fy * fy * (3.0 - 2.0 * fy)
    low = hash_unit(ix, iy, seed) * (1.0 - fx) + hash_unit(ix + 1.0, iy, seed) * fx
    high = hash_unit(ix, iy + 1.0, seed) * (1.0 - fx) + hash_unit(ix + 1.0, iy + 1.0, seed) * fx
    return low * (1.0 - fy) + high * fy


@njit(cache=True, nogil=True, fastmath=True)
def shade_sky(dx, dy, dz, light):  # type: ignore[no-untyped-def]
    """Sky in a direction of the scene's frame."""
    length = np.sqrt(dx * dx + dy * dy + dz * dz)
    up = max(dz / length, 0.0)
    mix = min(1.0, 1.8 * up)
    red = light[9] + (light[6] - light[9]) * mix
    green = light[10] + (light[7] - light[10]) * mix
    blue = light[11] + (light[8] - light[11]) * mix
    scale = 1.5 / (up + 0.12) / length
    x, y = dx * scale, dy * scale
    cloud = 0.6 * _noise(x, y, 7) + 0.4 * _noise(2.7 * x, 2.7 * y, 8)
    cover = min(1.0, max(0.0, (cloud - 0.75 + 0.5 * light[12]) * 3.0)) * min(1.0, 6.0 * up)
    white = 0.55 * light[9] + 0.45 * (light[4] + 0.35 * light[3])
    return red + (white - red) * cover, green + (white - green) * cover, blue + (white - blue) * cover


@njit(cache=True, nogil=True, fastmath=True)
def shade_ground(plan, origin, dx, dy, t, light, shadow):  # type: ignore[no-untyped-def]
    """Ground that a ray meets at parameter t."""
    x, y = origin[0] + t * dx, origin[1] + t * dy
    kind = ground_kind(plan, x, y)
    seed = int(plan[6])
    fine = hash_unit(np.floor(x * 9.0), np.floor(y * 9.0), seed) - 0.5
    coarse = _noise(0.35 * x, 0.35 * y, seed + 1) - 0.5
    fine *= 1.0 / (1.0 + (t / 14.0) ** 2)
    value = 0.33 + 0.05 * fine + 0.07 * coarse
    red, green, blue = value, value, value * 1.02
    if kind == MARKING:
        red = green = blue = 0.78 + 0.1 * coarse
    elif kind == YELLOW:
        red, green, blue = 0.72, 0.55, 0.16
    elif kind == PAVEMENT or kind == PLAZA:
        tile = 0.06 if (np.floor(x / 1.2) + np.floor(y / 1.2)) % 2.0 < 1.0 else 0.0
        value = 0.50 + 0.05 * fine + 0.08 * coarse + tile / (1.0 + (t / 25.0) ** 2)
        red, green, blue = value, value * 0.97, value * 0.92
    elif kind == KERB:
        red = green = blue = 0.62
    elif kind == GRASS:
        value = 0.9 + 0.5 * fine + 0.5 * coarse
        red, green, blue = 0.24 * value, 0.33 * value, 0.13 * value
    wet = light[13]
    if wet > 0.0:
        dark = 1.0 - 0.35 * wet
        red = red * dark + 0.10 * wet * light[9]
        green = green * dark + 0.10 * wet * light[10]
        blue = blue * dark + 0.10 * wet * light[11]
    level = light[4] + light[3] * max(light[2], 0.0)
    if shadow:
        level = 0.55 * light[4] if light[3] > 0.05 else 0.75 * level
    level += light[14] * _lamp_light(x - origin[0], y - origin[1], plan, t)
    return red * level, green * level, blue * level


@njit(cache=True, nogil=True, fastmath=True)
def _lamp_light(x, y, plan, t):  # type: ignore[no-untyped-def]
    """Street lamps and headlights at night: bright near by."""
    return 1.0 / (1.0 + 0.012 * (x * x + y * y))


@njit(cache=True, nogil=True, fastmath=True)
def shade_solid(solids, i, colour, finish, origin, dx, dy, dz, t_hit, light):  # type: ignore[no-untyped-def]
    """Solid i where a ray of the scene's frame meets it."""
    red, green, blue = colour[i, 0], colour[i, 1], colour[i, 2]
    if finish == LAMP:
        return red, green, blue
    cos, sin = solids[i, 5], solids[i, 6]
    px, py = origin[0] - solids[i, 1], origin[1] - solids[i, 2]
    ox, oy = cos * px + sin * py, cos * py - sin * px
    lx, ly = cos * dx + sin * dy, cos * dy - sin * dx
    t, nx, ny, nz = hit_solid(solids, i, ox, oy, origin[2], lx, ly, dz)
    length = max(np.sqrt(nx * nx + ny * ny + nz * nz), 1e-9)
    nx, ny, nz = nx / length, ny / length, nz / length
    gx, gy = cos * nx - sin * ny, sin * nx + cos * ny
    x, y, z = ox + t * lx, oy + t * ly, origin[2] + t * dz
    sun = max(gx * light[0] + gy * light[1] + nz * light[2], 0.0)
    # Light from the sky and from the ground: faces that look down are darker.
    level = light[4] * (0.75 + 0.25 * nz) + light[3] * sun
    level += light[14] / (1.0 + 0.012 * t * t)
    if finish == FACADE:
        red, green, blue, level = _facade(i, x, y, z, nx, ny, red, green, blue, level, light)
    elif finish == LEAVES:
        value = 0.55 + 0.9 * hash_unit(np.floor(x * 5.0), np.floor(y * 5.0) + 57.0 * np.floor(z * 5.0), i)
        red, green, blue = red * value, green * value, blue * value
    elif finish == GLASS or finish == PAINT:
        # A mirror image of the sky, the more the flatter one looks.
        ray = np.sqrt(lx * lx + ly * ly + dz * dz)
        facing = abs(nx * lx + ny * ly + nz * dz) / ray
        mirror = (0.10 if finish == PAINT else 0.25) + 0.5 * (1.0 - facing) ** 4
        if nz < -0.2:
            mirror = 0.0
        red = red * level * (1.0 - mirror) + mirror * light[9]
        green = green * level * (1.0 - mirror) + mirror * light[10]
        blue = blue * level * (1.0 - mirror) + mirror * light[11]
        return red, green, blue
    return red * level, green * level, blue * level


@njit(cache=True, nogil=True, fastmath=True)
def _facade(i, x, y, z, nx, ny, red, green, blue, level, light):  # type: ignore[no-untyped-def]
    """Rows of windows on a wall; some are lit at night."""
    along = y if abs(nx) > abs(ny) else x
    pitch_w = 2.2 + 1.6 * hash_unit(i, 1, 3)
    pitch_h = 2.9 + 0.8 * hash_unit(i, 2, 3)
    column, row = np.floor(along / pitch_w), np.floor(z / pitch_h)
    across, up = along / pitch_w - column, z / pitch_h - row
    if 0.2 < across < 0.8 and 0.3 < up < 0.82:
        lit = hash_unit(column, row, i)
        if light[14] > 0.0 and lit > 0.72:
            return 0.85, 0.7, 0.42, 0.8
        shade = 0.35 + 0.4 * lit
        return 0.4 * shade + 0.2 * light[9], 0.45 * shade + 0.2 * light[10], 0.52 * shade + 0.2 * light[11], level
    grime = 0.9 + 0.15 * hash_unit(np.floor(along * 2.0), np.floor(z * 2.0), i)
    return red * grime, green * grime, blue * grime, level
