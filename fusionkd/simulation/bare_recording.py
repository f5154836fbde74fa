"""A scene's tables without its sensor files: metadata for tests of scale."""

from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from fusionkd.simulation.camera import View
from fusionkd.simulation.recording import SceneRecorder
from fusionkd.simulation.rig import BEAM_STEP_RAD, COLUMN_STEP_RAD, LIDAR, SWEEP_US
from fusionkd.simulation.sensing import Seen

UNHIDDEN_PX: Final = 10_000
ANSWERED: Final = 0.5
"""Share of the beams towards a box that are modelled to be answered by it."""


class BareSceneRecorder(SceneRecorder):
    """Writes the rows of a scene as if its files had been written; the map is a single grey square.

    LiDAR points in a box are modelled from the angle under which it is seen, and everything counts as visible.
    """

    def _lidar(self, sweep: int, sample: str, *, is_key: bool) -> NDArray[np.float32]:
        time_us = self.first_us + sweep * SWEEP_US
        self._add_data(LIDAR, time_us, self._file(LIDAR, time_us, is_key=is_key), sample, is_key=is_key)
        return np.zeros((0, 5), np.float32)

    def _image(self, channel: str, keyframe: int, step: int, sample: str) -> View:
        time_us, is_key = self._image_us(channel, keyframe, step), step == 0
        self._add_data(channel, time_us, self._file(channel, time_us, is_key=is_key), sample, is_key=is_key)
        none = np.zeros(0, np.int64)
        return View(np.zeros((0, 0, 3), np.uint8), np.zeros((0, 0), np.float32), np.zeros((0, 0), np.int32), none, none)

    def _seen(self, views: list[View]) -> Seen:
        pixels = np.full(len(self.scene.things), UNHIDDEN_PX)
        return Seen(pixels, pixels)

    def _count(
        self, points: NDArray[np.float32], lidar_from_box: NDArray[np.float64], lwh_m: tuple[float, float, float]
    ) -> int:
        away = max(float(np.linalg.norm(lidar_from_box[:2, 3])), 2.0)
        steradians = lwh_m[2] * 0.5 * (lwh_m[0] + lwh_m[1]) / away**2
        return int(ANSWERED * steradians / (BEAM_STEP_RAD * COLUMN_STEP_RAD))

    def _map(self, path: Path) -> None:
        done, data = cv2.imencode(".png", np.full((8, 8), 255, np.uint8))
        if not done:
            raise RuntimeError(f"OpenCV could not encode the map {path}.")
        path.write_bytes(data.tobytes())
