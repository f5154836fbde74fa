"""``fusionkd simulate``: write a simulated driving world as a nuScenes v1.0 dataset."""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

from fusionkd.simulation.settings import WorldSettings
from fusionkd.simulation.writing import write_world


def parser() -> argparse.ArgumentParser:
    """The command line."""
    standard = WorldSettings()
    out = argparse.ArgumentParser(
        prog="fusionkd simulate", description="Write a simulated driving world as a nuScenes v1.0 dataset."
    )
    out.add_argument("--out", type=Path, required=True, help="folder of the dataset; made whole or not at all")
    out.add_argument("--scenes", type=int, default=standard.scenes, help="scenes (default: %(default)s)")
    out.add_argument("--seed", type=int, default=standard.seed, help="decides everything (default: %(default)s)")
    out.add_argument(
        "--keyframes", type=int, default=standard.keyframes_per_scene, help="per scene, 2 Hz (default: %(default)s)"
    )
    out.add_argument(
        "--image-width", type=int, default=standard.image_width_px, help="pixels, 16:9 (default: %(default)s)"
    )
    out.add_argument("--camera-sweeps", action="store_true", help="also write images between keyframes, 12 Hz")
    out.add_argument("--version", default="auto", help="auto, v1.0-mini or v1.0-trainval (default: %(default)s)")
    out.add_argument("--val-scenes", type=int, help="scenes with names of the validation split (default: 15-20 %%)")
    out.add_argument("--class-mix", default=standard.class_mix, help="flat or nuscenes (default: %(default)s)")
    out.add_argument(
        "--look-alike",
        type=float,
        default=standard.look_alike,
        help="share of vehicles and cycles whose outline doesn't tell the class (default: %(default)s)",
    )
    out.add_argument(
        "--tables-only", action="store_true", help="no sensor files: metadata for tests of scale, points modelled"
    )
    out.add_argument("--workers", type=int, help="processes (default: one per core)")
    return out


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status.

    Raises:
        UserError: If a setting is wrong or the folder holds something else.
    """
    given = parser().parse_args(arguments)
    start = time.monotonic()
    settings = WorldSettings(
        scenes=given.scenes,
        seed=given.seed,
        keyframes_per_scene=given.keyframes,
        image_width_px=given.image_width,
        camera_sweeps=given.camera_sweeps,
        version=given.version,
        val_scenes=given.val_scenes,
        class_mix=given.class_mix,
        look_alike=given.look_alike,
        tables_only=given.tables_only,
    )
    write_world(given.out, settings, workers=given.workers)
    frames = settings.scenes * settings.keyframes_per_scene
    print(f"A simulated {settings.version} of {settings.scenes} scenes, {frames} keyframes, is in {given.out}.")
    print(f"It took {time.monotonic() - start:.0f} s.")
    return 0
