"""Colours of solids, ground and sky under a weather."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from fusionkd.simulation.ground import GRASS, KERB, MARKING, PAVEMENT, PLAZA, YELLOW, ground_kind, hash_unit
from fusionkd.simulation.rays import CONE

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
        exposure: What the camera multiplies all light with.
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
    exposure: float = 1.0

    def as_tuple(self) -> tuple[float, ...]:
        """What the kernels read, 17 numbers; a tuple, because compiled code keeps its values in registers."""
        values = (
            *self.sun,  # 0-2
            self.sun_strength,  # 3
            self.ambient,  # 4
            self.haze_per_m,  # 5
            *self.sky_high,  # 6-8
            *self.sky_low,  # 9-11
            self.cloud,  # 12
            self.wetness,  # 13
            self.headlights,  # 14
            self.noise,  # 15
            self.exposure,  # 16
        )
        return tuple(float(value) for value in values)


def smooth_noise(generator: np.random.Generator) -> NDArray[np.float32]:
    """Noise of several sizes in one tile that repeats, (256, 256) float32 from 0 to 1."""
    waves = np.fft.fftfreq(256) * 256
    size = np.hypot(waves[:, None], waves[None, :])
    size[0, 0] = 1.0
    phases = np.exp(2j * np.pi * generator.random((256, 256)))
    field = np.real(np.fft.ifft2(phases / size**1.7 * (size < 60)))
    # Ranks instead of values: equally much of every grey.
    ranks = np.empty(field.size)
    ranks[np.argsort(field, axis=None, kind="stable")] = np.arange(field.size) / field.size
    return np.asarray(ranks.reshape(field.shape), dtype=np.float32)


@njit(cache=True, nogil=True, fastmath=True, error_model="numpy", inline="always")
def _look_up(texture: Any, x: Any, y: Any) -> Any:
    """Texture at a point in texels, blended from four."""
    ix, iy = np.floor(x), np.floor(y)
    fx, fy = x - ix, y - iy
    x0, y0 = int(ix) & 255, int(iy) & 255
    x1, y1 = (x0 + 1) & 255, (y0 + 1) & 255
    low = texture[y0, x0] * (1.0 - fx) + texture[y0, x1] * fx
    high = texture[y1, x0] * (1.0 - fx) + texture[y1, x1] * fx
    return low * (1.0 - fy) + high * fy


@njit(cache=True, nogil=True, fastmath=True, error_model="numpy", inline="always")
def shade_sky(dx: Any, dy: Any, dz: Any, light: Any, texture: Any) -> Any:
    """Sky in a direction of the scene's frame."""
    length = np.sqrt(dx * dx + dy * dy + dz * dz)
    flat = dz + 0.12 * length
    # One division gives both 1 / length, for the slope, and 1 / flat, for the plane of the clouds.
    share = 1.0 / (length * flat)
    up = max(dz * flat * share, 0.0)
    mix = min(1.0, 1.8 * up)
    red = light[9] + (light[6] - light[9]) * mix
    green = light[10] + (light[7] - light[10]) * mix
    blue = light[11] + (light[8] - light[11]) * mix
    # Clouds on a plane high above; the tile is 14 of its units wide.
    scale = 18.0 * length * share
    cloud = _look_up(texture, dx * scale, dy * scale)
    cover = min(1.0, max(0.0, (cloud - 1.0 + light[12]) * 2.5)) * min(1.0, 6.0 * up)
    white = 0.45 * light[9] + 0.55 * min(1.0, light[4] + 0.35 * light[3]) * (0.8 + 0.2 * cloud)
    return red + (white - red) * cover, green + (white - green) * cover, blue + (white - blue) * cover


@njit(cache=True, nogil=True, fastmath=True, error_model="numpy", inline="always")
def shade_ground(plan: Any, origin: Any, dx: Any, dy: Any, t: Any, light: Any, texture: Any, shadow: Any) -> Any:
    """Ground that a ray meets at parameter t."""
    x, y = origin[0] + t * dx, origin[1] + t * dy
    kind = ground_kind(plan, x, y)
    coarse = texture[int(y * 4.0 + 4096.0) & 255, int(x * 4.0 + 4096.0 + plan[3]) & 255] - 0.5
    # Fine grain fades where a pixel covers more than one of its texels.
    fade = 1.0 / (1.0 + 0.006 * t * t)
    fine = fade * (texture[int(y * 57.0 + 65536.0) & 255, int(x * 57.0 + 65536.0) & 255] - 0.5)
    value = 0.33 + 0.07 * fine + 0.10 * coarse
    red, green, blue = value, value, value * 1.02
    if kind == MARKING:
        red = green = blue = 0.82 + 0.15 * coarse
    elif kind == YELLOW:
        red, green, blue = 0.75, 0.57, 0.16
    elif kind in (PAVEMENT, PLAZA):
        tile = 0.05 * fade if (int(x / 1.2 + 4096.0) + int(y / 1.2 + 4096.0)) % 2 == 0 else 0.0
        value = 0.50 + 0.07 * fine + 0.10 * coarse + tile
        red, green, blue = value, value * 0.97, value * 0.92
    elif kind == KERB:
        red = green = blue = 0.66
    elif kind == GRASS:
        value = 1.0 + 0.7 * fine + 0.7 * coarse
        red, green, blue = 0.24 * value, 0.33 * value, 0.13 * value
    wet = light[13]
    if wet > 0.0:
        dark = 1.0 - 0.35 * wet
        red = red * dark + 0.12 * wet * light[9]
        green = green * dark + 0.12 * wet * light[10]
        blue = blue * dark + 0.12 * wet * light[11]
    level = light[4] + light[3] * light[2]
    if shadow:
        level *= 0.5
    # Headlights and street lamps make the night bright near by.
    level += light[14] / (1.0 + 0.012 * t * t)
    return red * level, green * level, blue * level


@njit(cache=True, nogil=True, fastmath=True, error_model="numpy", inline="always")
def _normal(solids: Any, i: Any, face: Any, x: Any, y: Any, z: Any) -> Any:
    """Unit normal, in the solid's axes, at a point of its surface; ``face`` of ``raster``."""
    if face == 4:
        return 0.0, 0.0, 1.0
    if face == 5:
        return 0.0, 0.0, -1.0
    height = solids[i, 4] - solids[i, 3]
    nx, ny, nz = 0.0, 0.0, 0.0
    if face == 0:
        nx, nz = 1.0, -(solids[i, 9] + solids[i, 8] - solids[i, 7]) / height
    elif face == 1:
        nx, nz = -1.0, (solids[i, 9] - solids[i, 8] + solids[i, 7]) / height
    elif face < 4:
        ny, nz = (1.0 if face == 2 else -1.0), -(solids[i, 11] - solids[i, 10]) / height
    elif solids[i, 0] == CONE:
        nx, ny = x, y
        nz = -(solids[i, 8] - solids[i, 7]) / height * np.sqrt(x * x + y * y)
    else:
        nx, ny = x / solids[i, 7] ** 2, y / solids[i, 8] ** 2
        nz = (z - 0.5 * (solids[i, 3] + solids[i, 4])) * 4.0 / height**2
    scale = 1.0 / np.sqrt(nx * nx + ny * ny + nz * nz + 1e-12)
    return nx * scale, ny * scale, nz * scale


@njit(cache=True, nogil=True, fastmath=True, error_model="numpy", inline="always")
def shade_solid(
    solids: Any, i: Any, face: Any, colour: Any, finish: Any, origin: Any, dx: Any, dy: Any, dz: Any, t: Any, light: Any
) -> Any:
    """Solid i where a ray of the scene's frame meets its face at parameter t."""
    red, green, blue = colour[i, 0], colour[i, 1], colour[i, 2]
    if finish == LAMP:
        return red, green, blue
    cos, sin = solids[i, 5], solids[i, 6]
    px, py = origin[0] + t * dx - solids[i, 1], origin[1] + t * dy - solids[i, 2]
    x, y, z = cos * px + sin * py, cos * py - sin * px, origin[2] + t * dz
    nx, ny, nz = _normal(solids, i, face, x, y, z)
    gx, gy = cos * nx - sin * ny, sin * nx + cos * ny
    sun = max(gx * light[0] + gy * light[1] + nz * light[2], 0.0)
    # Light from the sky and back from the ground: faces that look down are darker.
    level = light[4] * (0.78 + 0.22 * nz) + light[3] * sun + light[14] / (1.0 + 0.012 * t * t)
    if finish == FACADE:
        red, green, blue, level = _facade(i, x, y, z, nx, ny, red, green, blue, level, light)
    elif finish == LEAVES:
        value = 0.55 + 0.9 * hash_unit(np.floor(x * 5.0), np.floor(y * 5.0) + 57.0 * np.floor(z * 5.0), i)
        red, green, blue = red * value, green * value, blue * value
    elif finish in (GLASS, PAINT):
        # A mirror image of the sky, the stronger the flatter one looks.
        facing = abs(gx * dx + gy * dy + nz * dz) / np.sqrt(dx * dx + dy * dy + dz * dz)
        mirror = (0.08 if finish == PAINT else 0.22) + 0.5 * (1.0 - facing) ** 4
        if nz < -0.2:
            mirror = 0.0
        keep = level * (1.0 - mirror)
        return red * keep + mirror * light[9], green * keep + mirror * light[10], blue * keep + mirror * light[11]
    return red * level, green * level, blue * level


@njit(cache=True, nogil=True, fastmath=True, error_model="numpy", inline="always")
def _facade(
    i: Any, x: Any, y: Any, z: Any, nx: Any, ny: Any, red: Any, green: Any, blue: Any, level: Any, light: Any
) -> Any:
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
