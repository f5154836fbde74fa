"""Finishes of solids, and the weather that lights them; the colours themselves are in ``surfaces``."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

PLAIN: Final = 0
FACADE: Final = 1
LAMP: Final = 2
GLASS: Final = 3
LEAVES: Final = 4
PAINT: Final = 5
SHADOW: Final = 6
RAIL: Final = 7

FREE_PATH_M: Final = {LEAVES: 0.8, RAIL: 0.09}
"""Finishes that LiDAR beams and looks may pass: how far a beam gets into them on average."""


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
        glare: How strongly a low sun veils what lies around it.
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
    glare: float = 0.0

    def as_tuple(self) -> tuple[float, ...]:
        """What the kernels read, 18 numbers; a tuple, because compiled code keeps its values in registers."""
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
            self.glare,  # 17
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
