"""nuScenes detection figures."""
