"""A simulated driving world, written as nuScenes v1.0 files."""
