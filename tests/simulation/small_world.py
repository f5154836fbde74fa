"""Settings of the world that the tests share."""

from fusionkd.simulation import WorldSettings

SETTINGS = WorldSettings(scenes=2, seed=3, keyframes_per_scene=3, image_width_px=160, camera_sweeps=True)
