"""Boxes as line segments, in space and in camera images."""

import numpy as np
from numpy.typing import NDArray

from fusionkd.geometry import Boxes3D, CameraRig

EDGES: tuple[tuple[int, int], ...] = (
    (0, 1),
    (1, 2),
    (2, 3),
    (3, 0),
    (4, 5),
    (5, 6),
    (6, 7),
    (7, 4),
    (0, 4),
    (1, 5),
    (2, 6),
    (3, 7),
)
"""The twelve edges of ``Boxes3D.corners``."""

NEAREST_M = 0.1
"""Depth of the plane at which lines are cut that run past the camera."""


def box_segments(boxes: Boxes3D) -> NDArray[np.float64]:
    """The edges of boxes and a line from the bottom's centre to its front, which shows the heading.

    Returns:
        Ends in metres, (N, 13, 2, 3).
    """
    corners = boxes.corners().astype(np.float64)
    edges = corners[:, np.array(EDGES)]  # (N, 12, 2, 3)
    front = corners[:, [0, 3]].mean(axis=1)
    centre = corners[:, :4].mean(axis=1)
    return np.concatenate([edges, np.stack([centre, front], axis=1)[:, None]], axis=1)


def project_segments(rig: CameraRig, camera: int, segments_m: NDArray[np.float64]) -> NDArray[np.float64]:
    """Line segments of the ego frame in one camera's image, cut at the image plane.

    Args:
        rig: The cameras.
        camera: Which of them.
        segments_m: Ends in the ego frame, (..., 2, 3).

    Returns:
        Ends in pixels, (..., 2, 2); NaN for segments wholly behind the camera.
    """
    shape = segments_m.shape[:-2]
    ends = segments_m.reshape(-1, 2, 3)  # (S, 2, 3)
    ones = np.ones((*ends.shape[:2], 1))
    # (u * d, v * d, d) is linear in the point, so a cut there is a cut in space.
    scaled = np.concatenate([ends, ones], axis=2) @ rig.image_from_ego[camera][:3].T  # (S, 2, 3)
    depth = scaled[..., 2]
    cut = _cut(scaled, depth)
    cut[np.all(depth < NEAREST_M, axis=1)] = np.nan
    return (cut[..., :2] / cut[..., 2:]).reshape(*shape, 2, 2)


def in_image(pixels: NDArray[np.float64], size_px: tuple[int, int]) -> NDArray[np.bool_]:
    """Whether any segment of each box reaches into the image.

    Args:
        pixels: Segments of N boxes, (N, S, 2, 2), NaN for those behind the camera.
        size_px: (height, width).

    Returns:
        (N,) bool.
    """
    low, high = np.fmin(pixels[..., 0, :], pixels[..., 1, :]), np.fmax(pixels[..., 0, :], pixels[..., 1, :])
    size = np.array([size_px[1], size_px[0]])
    with np.errstate(invalid="ignore"):
        return np.asarray(np.any(np.all((high >= 0) & (low <= size), axis=-1), axis=-1), dtype=np.bool_)


def _cut(scaled: NDArray[np.float64], depth: NDArray[np.float64]) -> NDArray[np.float64]:
    """Move the end behind the nearest plane onto it, for segments that cross it."""
    out = scaled.copy()
    for near, far in ((0, 1), (1, 0)):
        crosses = (depth[:, near] < NEAREST_M) & (depth[:, far] >= NEAREST_M)
        share = (NEAREST_M - depth[crosses, near]) / (depth[crosses, far] - depth[crosses, near])
        start, end = scaled[crosses, near], scaled[crosses, far]
        out[crosses, near] = start + share[:, None] * (end - start)
    return out
