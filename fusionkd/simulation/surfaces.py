"""Colours of solids, ground and sky under a weather."""

from typing import Any

import numpy as np
from numba import njit

from fusionkd.simulation.ground import GRASS, KERB, MARKING, PAVEMENT, PLAZA, YELLOW, ground_kind, hash_unit
from fusionkd.simulation.rays import CONE
from fusionkd.simulation.shading import FACADE, GLASS, LAMP, LEAVES, PAINT


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
def _texel(texture: Any, x: Any, y: Any) -> Any:
    """Texture at the nearest texel, from -0.5 to 0.5."""
    return texture[int(y + 65536.0) & 255, int(x + 65536.0) & 255] - 0.5


@njit(cache=True, nogil=True, fastmath=True, error_model="numpy", inline="always")
def mark_of(solids: Any, i: Any) -> Any:
    """A number that stands for a solid in every frame: its row changes with what is near."""
    return np.int64(solids[i, 7] * 977.0) + 31 * np.int64(solids[i, 4] * 379.0)


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
    if cloud - 0.87 + light[12] <= 0.0:
        return red, green, blue
    inner = _look_up(texture, dx * scale * 3.1 + 40.0, dy * scale * 3.1)
    cover = min(1.0, max(0.0, (cloud + 0.25 * inner - 1.12 + light[12]) * 2.5)) * min(1.0, 6.0 * up)
    bright = min(1.0, light[4] + 0.6 * light[3] + 0.05)
    white = 0.35 * light[9] + 0.65 * bright * (1.25 - 0.75 * cloud * (0.6 + 0.6 * inner))
    return red + (white - red) * cover, green + (white - green) * cover, blue + (white - blue) * cover


@njit(cache=True, nogil=True, fastmath=True, error_model="numpy", inline="always")
def shade_ground(plan: Any, origin: Any, dx: Any, dy: Any, t: Any, light: Any, texture: Any, shadow: Any) -> Any:
    """Ground that a ray meets at parameter t."""
    x, y = origin[0] + t * dx, origin[1] + t * dy
    kind = ground_kind(plan, x, y)
    coarse = _texel(texture, x * 4.0 + plan[3], y * 4.0)
    # Fine grain fades where a pixel covers more than one of its texels.
    fade = 1.0 / (1.0 + 0.004 * t * t)
    fine, grit = 0.0, 0.0
    if fade > 0.2:
        fine = fade * _texel(texture, x * 57.0, y * 57.0)
        grit = fade * _texel(texture, x * 31.0 + 97.0, y * 31.0)
    wide = _texel(texture, x * 1.3, y * 1.3 + plan[3])
    if kind in (PAVEMENT, PLAZA):
        joint = (x * 0.83 + 4096.0) % 1.0 < 0.03 or (y * 0.83 + 4096.0) % 1.0 < 0.03
        slab = hash_unit(np.floor(x * 0.83), np.floor(y * 0.83), 3) - 0.5
        value = 0.52 + 0.06 * fine + 0.05 * grit + 0.10 * coarse + 0.09 * slab - (0.22 * fade if joint else 0.0)
        red, green, blue = value, value * 0.97, value * 0.93
    elif kind == GRASS:
        value = 1.05 + 0.4 * fine + 0.6 * coarse + 0.5 * grit
        dry = min(1.0, max(0.0, 0.4 + 1.4 * wide))
        red, green, blue = (0.20 + 0.16 * dry) * value, (0.25 + 0.09 * dry) * value, (0.13 + 0.08 * dry) * value
    elif kind == KERB:
        value = 0.60 - (0.3 * fade if ((x + y) * 0.9 + 4096.0) % 1.0 < 0.05 else 0.0) + 0.2 * coarse
        red, green, blue = value, value, value * 0.97
    else:
        # Asphalt: repaired patches, cracks along the lines of a smooth field, oil in the lanes.
        patch = hash_unit(np.floor(x * 0.17), np.floor(y * 0.31), np.int64(plan[3]))
        value = 0.40 + 0.05 * fine + 0.04 * grit + 0.09 * coarse + 0.10 * wide
        value *= 0.78 if patch < 0.10 else (1.14 if patch > 0.93 else 1.0)
        if fade > 0.25 and wide > -0.1 and abs(_look_up(texture, x * 5.0, y * 5.0) - 0.5) < 0.012:
            value *= 1.0 - 0.4 * fade
        red, green, blue = value, value, value * 1.02
        if kind == MARKING:
            red = green = blue = 0.74 + 0.25 * coarse + 0.25 * grit
        elif kind == YELLOW:
            worn = 1.0 + 0.4 * coarse + 0.4 * grit
            red, green, blue = 0.68 * worn, 0.54 * worn, 0.24 * worn
    wet = light[13]
    if wet > 0.0:
        # Puddles mirror the sky, the rest is dark.
        mirror = wet * (0.10 + (0.35 if coarse + wide > 0.25 else 0.0))
        dark = 1.0 - 0.40 * wet
        red = red * dark + mirror * light[9]
        green = green * dark + mirror * light[10]
        blue = blue * dark + mirror * light[11]
    level = light[4] + light[3] * light[2]
    if shadow:
        level = 0.72 * light[4]
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
    solids: Any,
    i: Any,
    face: Any,
    colour: Any,
    finish: Any,
    origin: Any,
    dx: Any,
    dy: Any,
    dz: Any,
    t: Any,
    light: Any,
    texture: Any,
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
    # Light from the sky and back from the ground: faces that look down or stand low are darker.
    level = light[4] * (0.72 + 0.22 * nz + 0.06 * min(z, 1.0)) + light[3] * sun + light[14] / (1.0 + 0.012 * t * t)
    if finish == FACADE:
        red, green, blue, level = _facade(
            mark_of(solids, i), x, y, z, nx, ny, t, red, green, blue, level, light, texture
        )
    elif finish == LEAVES:
        mark = mark_of(solids, i)
        small = hash_unit(np.floor(x * 11.0), np.floor(y * 11.0) + 57.0 * np.floor(z * 11.0), mark)
        large = _texel(texture, 23.0 * (x + y), 23.0 * z)
        value = 0.45 + 0.80 * small + 0.6 * large
        red, green, blue = red * value, green * value, blue * value
    elif finish in (GLASS, PAINT):
        # A mirror image of the sky or of the dark street, the stronger the flatter one looks.
        length = np.sqrt(dx * dx + dy * dy + dz * dz)
        cosine = (gx * dx + gy * dy + nz * dz) / length
        mirror = (0.08 if finish == PAINT else 0.25) + 0.5 * (1.0 - abs(cosine)) ** 4
        up = dz / length - 2.0 * cosine * nz
        sky = 1.0 if up > 0.04 else (0.45 if up > -0.05 else 0.28 * light[4])
        keep = level * (1.0 - mirror)
        mirror *= sky
        return red * keep + mirror * light[9], green * keep + mirror * light[10], blue * keep + mirror * light[11]
    else:
        level *= 1.0 + 0.12 * _texel(texture, 19.0 * (x + y), 19.0 * z)
    return red * level, green * level, blue * level


@njit(cache=True, nogil=True, fastmath=True, error_model="numpy", inline="always")
def _facade(
    mark: Any,
    x: Any,
    y: Any,
    z: Any,
    nx: Any,
    ny: Any,
    t: Any,
    red: Any,
    green: Any,
    blue: Any,
    level: Any,
    light: Any,
    texture: Any,
) -> Any:
    """A wall with windows: a curtain of glass, bands of windows or single ones; shops below; some are lit at night."""
    along = y if abs(nx) > abs(ny) else x
    style = hash_unit(mark, 5, 3)
    pitch_w = 1.2 + 2.2 * hash_unit(mark, 1, 3)
    pitch_h = 2.9 + 0.8 * hash_unit(mark, 2, 3)
    column, row = np.floor(along / pitch_w), np.floor(z / pitch_h)
    across, up = along / pitch_w - column, z / pitch_h - row
    fade = 1.0 / (1.0 + 0.0006 * t * t)
    frame = False
    if row == 0.0 and hash_unit(mark, 9, 3) < 0.6:
        glass = 0.04 < across < 0.96 and 0.08 < up < 0.72
        if 0.76 < up < 0.93:
            sign = hash_unit(np.floor(column / 3.0), mark, 7)
            return 0.25 + 0.5 * sign, 0.62 - 0.45 * sign, 0.2 + 0.4 * (sign * 7.0 % 1.0), 0.8 * level
    elif style < 0.3:
        glass = across > 0.05 and up > 0.06 and not 0.28 < up < 0.31
    elif style < 0.55:
        glass = 0.32 < up < 0.8 and across > 0.06
    else:
        glass = 0.24 < across < 0.76 and 0.28 < up < 0.82 and abs(across - 0.5) > 0.025
        frame = not glass and 0.2 < across < 0.8 and 0.24 < up < 0.86
    if glass:
        lit = hash_unit(column, row, mark)
        if light[14] > 0.0 and lit > 0.72:
            return 0.85, 0.7, 0.42, 0.7
        # What the pane mirrors: sky, or the dark fronts opposite.
        scene = _texel(texture, along * 2.3 + 31.0 * lit, z * 2.3)
        mirror = 0.10 + 0.20 * lit + (0.30 if scene > 0.12 else 0.0)
        shade = 0.06 + 0.16 * lit
        own = max(level, 0.05)
        return (
            shade + mirror * light[9] / own,
            1.05 * shade + mirror * light[10] / own,
            (1.12 * shade + mirror * light[11] / own),
            level,
        )
    if frame:
        return 0.75, 0.74, 0.71, level
    grain = 1.0 + 0.22 * _texel(texture, along * 9.0, z * 1.7) + 0.3 * fade * _texel(texture, along * 61.0, z * 61.0)
    if style >= 0.55:
        course = np.floor(z * 5.0)
        brick = hash_unit(np.floor(along * 2.6 + 0.5 * (course % 2.0)), course, mark) - 0.5
        grain += fade * (0.35 * brick - (0.2 if z * 5.0 - course < 0.15 else 0.0))
    elif up < 0.05:
        grain *= 0.7
    return red * grain, green * grain, blue * grain, level
