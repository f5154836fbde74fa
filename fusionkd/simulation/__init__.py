"""A simulated driving world, written as nuScenes v1.0 files."""

from fusionkd.simulation.settings import WorldSettings
from fusionkd.simulation.writing import write_world

__all__ = ["WorldSettings", "write_world"]
