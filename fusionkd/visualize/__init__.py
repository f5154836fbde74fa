"""Pictures of frames and predictions: one scene description, drawn by matplotlib, Open3D and W&B."""

from fusionkd.visualize.bev import bev_figure, save_bev
from fusionkd.visualize.open3d_scene import save_scene, show_scene
from fusionkd.visualize.scene import BoxSet, Scene, scene_from_frame, summary, tally
from fusionkd.visualize.sources import picture_frame
from fusionkd.visualize.surround import save_bev_figure, save_surround
from fusionkd.visualize.wandb_pictures import WandbPictures

__all__ = [
    "BoxSet",
    "Scene",
    "WandbPictures",
    "bev_figure",
    "picture_frame",
    "save_bev",
    "save_bev_figure",
    "save_scene",
    "save_surround",
    "scene_from_frame",
    "show_scene",
    "summary",
    "tally",
]
