"""Draw a frame: its points, what a model found in it and what the annotators say.

python tools/visualize.py --config configs/nuscenes_mini.yaml --checkpoint zoo:student --sample 0 --save scene.png
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from fusionkd.data.configured import config_beside
from fusionkd.errors import UserError
from fusionkd.visualize.open3d_scene import require_display, save_scene, show_scene
from fusionkd.visualize.scene import SCORE_THRESHOLD, scene_from_frame, summary
from fusionkd.visualize.sources import (
    boxes_from_results,
    find_sample,
    frame_name,
    open_data,
    picture_frame,
    predict,
)
from fusionkd.visualize.surround import save_surround

SUFFIXES = (".png", ".jpg", ".jpeg")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    out = argparse.ArgumentParser(
        prog="visualize",
        description="Draw a frame's points, annotations and predictions. Without --save and --bev a window opens.",
    )
    out.add_argument("--root", help="folder of the data (default: the configuration's, else data/nuscenes)")
    out.add_argument("--version", help="of nuScenes (default: the configuration's, else v1.0-mini)")
    out.add_argument(
        "--sample",
        default="0",
        help="a sample token, the number of a keyframe, or SCENE:NUMBER as in scene-0103:5 (default: %(default)s)",
    )
    who = out.add_mutually_exclusive_group()
    who.add_argument("--checkpoint", help="whose predictions: zoo:NAME, a .ckpt or a .safetensors file")
    who.add_argument("--results", type=Path, help="predictions from a nuScenes results file (JSON)")
    out.add_argument(
        "--config",
        type=Path,
        help="config.yaml of the checkpoint's run, for its data settings (default: the one beside the checkpoint)",
    )
    out.add_argument("--save", type=Path, metavar="PNG", help="write the scene in 3D; needs Open3D, but no display")
    out.add_argument("--bev", type=Path, metavar="PNG", help="write the view from above with the six cameras around it")
    out.add_argument(
        "--score-threshold",
        type=float,
        default=SCORE_THRESHOLD,
        help="leave out predictions below this score (default: %(default)s)",
    )
    return out


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: Without the program's name; None takes those of the process.

    Returns:
        The exit status.

    Raises:
        UserError: If something in the arguments or the data is wrong.
    """
    given = parser().parse_args(arguments)
    for path, option in ((given.save, "--save"), (given.bev, "--bev")):
        if path is not None and path.suffix.lower() not in SUFFIXES:
            raise UserError(f"{option} {path}: a picture's name must end in {', '.join(SUFFIXES)}.")
    if given.save is None and given.bev is None:
        # Said before a model is loaded and has run.
        require_display()
    model = None
    if given.checkpoint is not None:
        # Imported here because pictures of annotations or of a results file need no model.
        from fusionkd.teachers import load_trained

        model, _ = load_trained(given.checkpoint)
        given.config = given.config or config_beside(given.checkpoint)
    data = open_data(given.root, given.version, model=model, config=given.config)
    token = find_sample(data.index, given.sample)
    title, predictions = frame_name(data.index, token), None
    if model is not None:
        title = f"{given.checkpoint} on {title}"
        predictions = predict(model, data, token, score_threshold=given.score_threshold)
    elif given.results is not None:
        title = f"{given.results.name} on {title}"
        predictions = boxes_from_results(given.results, data.index, token)
    frame = picture_frame(data.index, token)
    scene = scene_from_frame(
        frame, predictions, title=title, simulated=data.is_simulated, score_threshold=given.score_threshold
    )
    print(f"{title}: {summary(scene)}.{' The data is simulated.' if scene.simulated else ''}")
    if given.bev is not None:
        save_surround(given.bev, scene, frame)
        print(f"Wrote {given.bev}.")
    if given.save is not None:
        save_scene(given.save, scene)
        print(f"Wrote {given.save}.")
    if given.bev is None and given.save is None:
        show_scene(scene)
    return 0
