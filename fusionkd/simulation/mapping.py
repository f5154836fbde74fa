"""The semantic prior of a scene: where its roads and pavements are, as an image."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numba import njit

from fusionkd.geometry import invert_rigid
from fusionkd.simulation.ground import GRASS, PLAZA, ground_kind
from fusionkd.simulation.scene import MAP_M, Scene


def write_map(path: Path, scene: Scene) -> None:
    """Roads and pavements as nuScenes' semantic prior, ten pixels a metre."""
    coarse = 0.5
    cells = round(MAP_M / coarse)
    mask = _paved(scene.plan.as_array(), invert_rigid(scene.global_from_scene), cells, coarse)
    fine = cv2.resize(mask[::-1], None, fx=10 * coarse, fy=10 * coarse, interpolation=cv2.INTER_NEAREST)
    done, data = cv2.imencode(".png", fine, [cv2.IMWRITE_PNG_COMPRESSION, 4])
    if not done:
        raise RuntimeError(f"OpenCV could not encode the map {path}.")
    path.write_bytes(data.tobytes())


@njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def _paved(plan: Any, scene_from_global: Any, cells: int, cell_m: float) -> Any:
    out = np.zeros((cells, cells), np.uint8)
    for row in range(cells):
        for column in range(cells):
            gx, gy = (column + 0.5) * cell_m, (row + 0.5) * cell_m
            x = scene_from_global[0, 0] * gx + scene_from_global[0, 1] * gy + scene_from_global[0, 3]
            y = scene_from_global[1, 0] * gx + scene_from_global[1, 1] * gy + scene_from_global[1, 3]
            if ground_kind(plan, x, y) not in (GRASS, PLAZA):
                out[row, column] = 255
    return out
