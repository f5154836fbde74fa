"""Sun, clouds, rain, haze, glare and night: what one scene's light and air are like."""

from typing import Final

import numpy as np

from fusionkd.simulation.shading import Weather

SHARES: Final[dict[str, float]] = {
    "sun": 0.30,
    "clouds": 0.20,
    "haze": 0.07,
    "sun, glare": 0.09,
    "rain": 0.14,
    "night": 0.13,
    "night, rain": 0.07,
}
"""How often each weather is drawn; the names stand in the scenes' descriptions."""

BLUE, GREY = (0.42, 0.55, 0.74), (0.66, 0.68, 0.71)


def draw_weather(generator: np.random.Generator) -> Weather:
    """One scene's weather."""
    names = list(SHARES)
    name = names[int(generator.choice(len(names), p=np.array(list(SHARES.values()))))]
    turn = float(generator.uniform(0, 2 * np.pi))
    height = float(generator.uniform(0.06, 0.16)) if name == "sun, glare" else float(generator.uniform(0.35, 1.1))
    sun = (np.cos(turn) * np.cos(height), np.sin(turn) * np.cos(height), np.sin(height))
    exposure = float(generator.uniform(0.85, 1.15))
    wet = float(generator.uniform(0.4, 1.0)) if "rain" in name else 0.0
    if name == "sun":
        cloud = float(generator.uniform(0.3, 0.85))
        return Weather(name, sun, 0.80, 0.40, 0.0015, BLUE, (0.80, 0.84, 0.88), cloud, 0.0, 0.0, 0.012, exposure)
    if name == "clouds":
        return Weather(name, sun, 0.10, 0.66, 0.0025, GREY, (0.84, 0.85, 0.86), 0.95, 0.0, 0.0, 0.014, exposure)
    if name == "haze":
        low = (0.80, 0.80, 0.78)
        return Weather(name, sun, 0.2, 0.58, 0.014, (0.70, 0.71, 0.72), low, 0.6, 0.0, 0.0, 0.014, exposure)
    if name == "sun, glare":
        low = (0.93, 0.86, 0.74)
        return Weather(name, sun, 0.85, 0.26, 0.003, BLUE, low, 0.4, 0.0, 0.0, 0.016, exposure, 2.2)
    if name == "rain":
        low = (0.66, 0.68, 0.70)
        return Weather(name, sun, 0.0, 0.52, 0.010, (0.52, 0.54, 0.57), low, 1.0, wet, 0.0, 0.026, exposure)
    dark = float(generator.uniform(0.025, 0.07))
    lamps = float(generator.uniform(0.35, 0.65))
    noise = 0.030 if name == "night" else 0.038
    low = (0.06, 0.055, 0.06)
    return Weather(name, sun, 0.0, dark, 0.005, (0.01, 0.012, 0.025), low, 0.2, wet, lamps, noise, exposure)
