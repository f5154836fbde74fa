"""Triangles for a three-dimensional scene: lines as thin beams, footprints, solid boxes; pure numpy."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fusionkd.geometry import Boxes3D
from fusionkd.visualize.scene import Rgb

_BEAM_FACES = np.array([[0, 1, 2, 3], [4, 7, 6, 5], [0, 4, 5, 1], [1, 5, 6, 2], [2, 6, 7, 3], [3, 7, 4, 0]])
_SIDE_SHADE = (0.45, 1.0, 0.7, 0.6, 0.7, 0.8)


@dataclass(frozen=True)
class Mesh:
    """Coloured triangles.

    Attributes:
        vertices_m: (V, 3) float64.
        triangles: Rows of vertices, (T, 3) int32.
        vertex_rgb: (V, 3) float64 in 0..1.
    """

    vertices_m: NDArray[np.float64]
    triangles: NDArray[np.int32]
    vertex_rgb: NDArray[np.float64]

    @staticmethod
    def joined(parts: Sequence["Mesh"]) -> "Mesh":
        """All triangles of several meshes."""
        first = np.cumsum([0, *(len(part.vertices_m) for part in parts)])
        empty = Mesh(np.zeros((0, 3)), np.zeros((0, 3), np.int32), np.zeros((0, 3)))
        every = [empty, *parts]
        return Mesh(
            np.concatenate([part.vertices_m for part in every]),
            np.concatenate([empty.triangles, *(part.triangles + np.int32(f) for part, f in zip(parts, first))]),
            np.concatenate([part.vertex_rgb for part in every]),
        )


def beams(segments_m: NDArray[np.float64], *, radius_m: NDArray[np.float64], rgb: Rgb) -> Mesh:
    """Line segments as beams of square section: lines of any width, which OpenGL itself no longer draws.

    Args:
        segments_m: (S, 2, 3).
        radius_m: Half the width of each, (S,); beams reach that far past their ends, so that corners close.
        rgb: Colour of all.
    """
    along = segments_m[:, 1] - segments_m[:, 0]
    length = np.linalg.norm(along, axis=1)
    keep = length > 1e-6
    segments_m, radius_m = segments_m[keep], radius_m[keep]
    along = along[keep] / length[keep, None]
    # Any direction that isn't along the beam will do; upright ones take x.
    helper = np.where(np.abs(along[:, 2:]) > 0.9, np.array([1.0, 0, 0]), np.array([0, 0, 1.0]))
    across = np.cross(along, helper)
    across /= np.linalg.norm(across, axis=1, keepdims=True)
    up = np.cross(across, along)
    size = radius_m[:, None]
    ring = np.stack([across + up, up - across, -across - up, across - up], axis=1) * size[:, None]  # (S, 4, 3)
    start = (segments_m[:, 0] - along * size)[:, None] + ring
    end = (segments_m[:, 1] + along * size)[:, None] + ring
    vertices = np.concatenate([start, end], axis=1)  # (S, 8, 3)
    faces = (np.arange(len(vertices))[:, None, None] * 8 + _BEAM_FACES).reshape(-1, 4)
    flat = vertices.reshape(-1, 3)
    return Mesh(flat, _triangles(faces), np.tile(np.array(rgb), (len(flat), 1)))


def footprints(boxes: Boxes3D, *, rgb: Rgb) -> Mesh:
    """The ground under boxes, (2 triangles each)."""
    corners = boxes.corners()[:, :4].astype(np.float64)
    faces = np.arange(4 * len(boxes)).reshape(-1, 4)
    flat = corners.reshape(-1, 3)
    return Mesh(flat, _triangles(faces), np.tile(np.array(rgb), (len(flat), 1)))


def solid_boxes(boxes: Boxes3D, *, rgb: Rgb) -> Mesh:
    """Boxes with faces, each side in a shade of its own so that edges show without any light."""
    corners = boxes.corners().astype(np.float64)
    vertices = corners[:, _BEAM_FACES].reshape(-1, 3)  # four of each face's own
    shade = np.tile(np.repeat(_SIDE_SHADE, 4), len(boxes))
    faces = np.arange(len(vertices)).reshape(-1, 4)
    return Mesh(vertices, _triangles(faces), shade[:, None] * np.array(rgb))


def arrows(boxes: Boxes3D, *, min_speed_mps: float) -> NDArray[np.float64]:
    """Where moving boxes will be in a second: three line segments each on the ground, (3 M, 2, 3)."""
    speed = np.linalg.norm(boxes.velocity_mps, axis=1)
    moving = boxes.select(speed > min_speed_mps)
    start = moving.xyz_m.astype(np.float64)
    start[:, 2] -= moving.lwh_m[:, 2] / 2
    way = np.concatenate([moving.velocity_mps, np.zeros((len(moving), 1))], axis=1).astype(np.float64)
    end = start + way
    back = -way / np.maximum(np.linalg.norm(way, axis=1, keepdims=True), 1e-9)
    side = np.stack([-back[:, 1], back[:, 0], back[:, 2]], axis=1)
    head = [np.stack([end, end + 0.8 * back + sign * 0.4 * side], axis=1) for sign in (1, -1)]
    return np.concatenate([np.stack([start, end], axis=1), *head])


def rings(radii_m: Sequence[float], *, height_m: float) -> NDArray[np.float64]:
    """Circles around the origin as line segments, (S, 2, 3)."""
    angle = np.linspace(0, 2 * np.pi, 145)
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    points = [np.concatenate([r * circle, np.full((len(angle), 1), height_m)], axis=1) for r in radii_m]
    return np.concatenate([np.stack([p[:-1], p[1:]], axis=1) for p in points])


def _triangles(faces: NDArray[np.int64]) -> NDArray[np.int32]:
    """Two triangles of each face of four vertices."""
    return np.asarray(faces[:, [[0, 1, 2], [0, 2, 3]]].reshape(-1, 3), dtype=np.int32)
