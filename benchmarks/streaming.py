"""Streaming accuracy of the shipped student beside its teachers: who is better when the world goes on meanwhile?

On a simulated world of another seed than the teachers' and the student's, images at 12 Hz, LiDAR at 20 Hz, exact truth
at every sweep. All models' latencies are measured frame by frame in turns in one run, then replayed:

    python benchmarks/streaming.py                    # an idle machine, some ten minutes
    python benchmarks/streaming.py --trial            # a few frames, to see whether it runs; writes no result

A slow-down factor stands for a slower computer: at 4 every model takes four times as long.
"""

import argparse
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from common import RESULTS, Row, print_table, write_result

from fusionkd.realtime.streaming_command import main as streaming
from fusionkd.simulation import WorldSettings, write_world

REPOSITORY = Path(__file__).resolve().parent.parent
MODELS = ("zoo:student", "zoo:lidar", "zoo:camera", "zoo:fused")
FACTORS = ("0", "0.5", "1", "2", "4", "8")
WORLD = WorldSettings(scenes=2, val_scenes=2, seed=3100, keyframes_per_scene=30, image_width_px=512, camera_sweeps=True)
TRIAL_WORLD = WorldSettings(scenes=1, val_scenes=1, seed=3100, keyframes_per_scene=3, image_width_px=512)
PICTURE = REPOSITORY / "docs" / "pictures" / "streaming.png"


def rows(content: dict[str, Any]) -> list[Row]:
    """The student beside each teacher offline, and beside the best of them at every factor and policy."""
    student, *teachers = content["models"]
    table = [Row(f"median latency, {m['name']}", m["latency"]["median_ms"], "ms") for m in content["models"]]
    table += [_row("offline NDS", student, teacher, "offline", None) for teacher in teachers]
    for number, point in enumerate(student["streaming"]):
        # All models have the same settings in the same order.
        best = max(teachers, key=lambda model: model["streaming"][number]["figures"]["NDS"])
        moved = "moved on" if point["forward"] else "as computed"
        what = f"streaming NDS, latency x {point['factor']:g}, {point['overrun']}, {moved}"
        table.append(_row(what, student, best, "streaming", number))
    return table


def _row(what: str, student: dict[str, Any], teacher: dict[str, Any], kind: str, number: int | None) -> Row:
    ours, theirs = (
        (model[kind] if number is None else model[kind][number]["figures"])["NDS"] for model in (student, teacher)
    )
    name = teacher["name"] if number is None else f"best teacher: {teacher['name']}"
    return Row(f"{what}, {student['name']}", ours, "", name, theirs, ours / theirs if theirs else None)


def main() -> None:
    """Write the world where it is absent, measure, replay, print and write the table and the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=REPOSITORY / "data" / "simulated-streaming", help="the world")
    parser.add_argument("--frames", type=int, default=300, help="to time of each model (default: %(default)s)")
    parser.add_argument("--models", nargs="+", default=list(MODELS), help="the student first (default: %(default)s)")
    parser.add_argument("--trial", action="store_true", help="few frames, no result file")
    given = parser.parse_args()
    world = TRIAL_WORLD if given.trial else WORLD
    root = given.root.with_name(f"{given.root.name}-trial") if given.trial else given.root
    write_world(root, world)
    with tempfile.TemporaryDirectory() as folder:
        arguments = ["--root", str(root), "--version", world.version, "--out", folder, "--factors", *FACTORS]
        streaming([*arguments, "--checkpoint", *given.models, "--measure", "3" if given.trial else str(given.frames)])
        content = json.loads((Path(folder) / "streaming.json").read_text())
        if given.trial:
            print_table("streaming, a trial (simulated input)", rows(content))
            return
        # Before the result, so that neither is there without the other.
        PICTURE.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(Path(folder) / "streaming.png", PICTURE)
        (RESULTS / "streaming").mkdir(parents=True, exist_ok=True)
        shutil.copy(Path(folder) / "streaming.json", RESULTS / "streaming" / "curves.json")
    write_result("streaming", rows(content), simulated=True, packages=("torch", "numba", "opencv-python-headless"))


if __name__ == "__main__":
    main()
