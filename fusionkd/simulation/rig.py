"""The sensors of the simulated car: nuScenes' rig with rounded figures."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fusionkd.geometry import CAMERAS, rigid_from_quaternion
from fusionkd.geometry.transforms import quaternion_from_yaw

BEAMS: Final = 32
COLUMNS: Final = 1085
LOWEST_BEAM_RAD: Final = float(np.deg2rad(-30.67))
BEAM_STEP_RAD: Final = float(np.deg2rad((10.67 + 30.67) / 31))
FIRST_AZIMUTH_RAD: Final = float(np.deg2rad(-172.2))
COLUMN_STEP_RAD: Final = float(np.deg2rad(367.4 / 1084))
COLUMN_PERIOD: Final = 2 * np.pi / COLUMN_STEP_RAD
SWEEP_US: Final = 50_000
"""One turn; a sweep covers a little more than one."""
KEYFRAME_US: Final = 500_000
SWEEPS_PER_KEYFRAME: Final = KEYFRAME_US // SWEEP_US
IMAGES_PER_KEYFRAME: Final = 6

FULL_WIDTH_PX: Final = 1600
FULL_HEIGHT_PX: Final = 900

LIDAR: Final = "LIDAR_TOP"


@dataclass(frozen=True)
class Mounting:
    """Where a sensor stands in the ego frame, and for a camera its matrix at 1600 x 900.

    Attributes:
        translation_m: Position.
        rotation_wxyz: Quaternion, scalar first.
        focal_px: Focal length at 1600 x 900; 0 for the LiDAR.
        centre_px: Principal point at 1600 x 900.
        offset_us: When the sensor's keyframe image is taken, relative to the end of the LiDAR sweep. A camera fires
            when the LiDAR's beam passes the middle of its view.
    """

    translation_m: tuple[float, float, float]
    rotation_wxyz: tuple[float, float, float, float]
    focal_px: float = 0.0
    centre_px: tuple[float, float] = (0.0, 0.0)
    offset_us: int = 0

    @property
    def ego_from_sensor(self) -> NDArray[np.float64]:
        """(4, 4) mounting."""
        return rigid_from_quaternion(self.rotation_wxyz, self.translation_m)

    def matrix_px(self, width_px: int) -> NDArray[np.float64]:
        """(3, 3) camera matrix of an image of this width; pixel i covers [i, i + 1)."""
        scale = width_px / FULL_WIDTH_PX
        out = np.eye(3)
        out[0, 0] = out[1, 1] = self.focal_px * scale
        out[0, 2], out[1, 2] = self.centre_px[0] * scale, self.centre_px[1] * scale
        return out


def _unit(*wxyz: float) -> tuple[float, float, float, float]:
    w, x, y, z = np.array(wxyz) / np.linalg.norm(wxyz)
    return (float(w), float(x), float(y), float(z))


MOUNTINGS: Final[dict[str, Mounting]] = {
    "CAM_FRONT_LEFT": Mounting(
        (1.524, 0.495, 1.509), _unit(0.6757, -0.6736, 0.2121, -0.2112), 1272.6, (826.6, 479.8), -43_000
    ),
    "CAM_FRONT": Mounting(
        (1.701, 0.016, 1.511), _unit(0.4998, -0.5030, 0.4998, -0.4974), 1266.4, (816.3, 491.5), -35_500
    ),
    "CAM_FRONT_RIGHT": Mounting(
        (1.551, -0.493, 1.496), _unit(0.2060, -0.2027, 0.6825, -0.6714), 1260.8, (808.0, 495.3), -27_600
    ),
    "CAM_BACK_LEFT": Mounting(
        (1.036, 0.485, 1.591), _unit(0.6924, -0.7032, -0.1165, 0.1120), 1256.7, (792.1, 492.8), -500
    ),
    "CAM_BACK": Mounting(
        (0.028, 0.003, 1.579), _unit(0.5038, -0.4974, -0.4942, 0.5045), 809.2, (829.2, 481.8), -10_400
    ),
    "CAM_BACK_RIGHT": Mounting(
        (1.015, -0.481, 1.562), _unit(0.1228, -0.1324, -0.7004, 0.6905), 1259.5, (807.3, 501.2), -20_100
    ),
    LIDAR: Mounting((0.94, 0.0, 1.84), quaternion_from_yaw(-np.pi / 2)),
}
"""Per channel, its mounting (rounded from a published nuScenes calibration)."""

CHANNELS: Final = (*CAMERAS, LIDAR)
