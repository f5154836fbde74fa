"""The index beside the devkit's ``NuScenes`` constructor: the first time, from the tables, and every later time.

    python benchmarks/index.py                                    # simulated tables of 10 and of 850 scenes
    python benchmarks/index.py --scenes 100 --rounds 2            # others
    python benchmarks/index.py --root DATA --version v1.0-mini    # your own

The devkit takes some ten gigabytes of memory for 850 scenes.
"""

import argparse
import gc
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
from common import Row, bootstrap_interval, result_name, write_result
from numpy.typing import NDArray
from nuscenes import NuScenes

from fusionkd.data import NuScenesIndex
from fusionkd.data.cache import cache_folder
from fusionkd.simulation import WorldSettings, write_world

LARGE = 400
"""Scenes from which on half the rounds must do."""


def rows_for(root: Path, version: str, rounds: int) -> list[Row]:
    """Both times for one version; the devkit, which takes minutes for 850 scenes, is called once per round for both."""

    def first() -> None:
        (cache_folder(root) / f"index-{version}.arrays").unlink(missing_ok=True)
        NuScenesIndex.load(root, version)

    def later() -> None:
        NuScenesIndex.load(root, version)

    def devkit() -> None:
        NuScenes(version, str(root), verbose=False)

    first()  # imports, and the tables into the system's cache; the devkit has nothing else that a first call would fill
    index = NuScenesIndex.load(root, version)
    size = f"{len(index.scene_names)} scenes, {len(index):,} keyframes, {len(index.annotations):,} boxes"
    seconds = np.empty((rounds, 3))
    for k in range(rounds):
        order = ((0, first), (1, later), (2, devkit))
        for column, call in order if k % 2 == 0 else order[::-1]:
            gc.collect()  # what the call before left is not cleared away on this one's time
            start = time.perf_counter()
            call()
            seconds[k, column] = time.perf_counter() - start
    return [
        ratio_row(f"{size}: {name}", seconds[:, [column, 2]], target)
        for column, name, target in ((0, "first time", 1.0), (1, "later", 100.0))
    ]


def ratio_row(what: str, seconds: NDArray[np.float64], target: float) -> Row:
    """Ours and the devkit's seconds (rounds, 2), as ``compare`` gives them."""
    ratios = seconds[:, 1] / seconds[:, 0]
    ours_ms, devkit_ms = np.median(seconds, axis=0) * 1e3
    return Row(
        what,
        float(ours_ms),
        "ms",
        peer="devkit NuScenes(...)",
        peer_value=float(devkit_ms),
        ratio=float(np.median(ratios)),
        target=target,
        interval=bootstrap_interval(ratios),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, help="nuScenes root; its tables are copied, its files are not read")
    parser.add_argument("--version", default="v1.0-mini", help="version of the tables (default v1.0-mini)")
    parser.add_argument("--scenes", type=int, nargs="+", default=[10, 850], help="scenes of the simulated tables")
    parser.add_argument("--rounds", type=int, default=5, help="calls of each side (default 5; of 850 scenes half)")
    given = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        if given.root is not None:
            root = Path(folder) / "copy"
            shutil.copytree(given.root / given.version, root / given.version)
            shutil.copytree(given.root / "maps", root / "maps")
            rows = rows_for(root, given.version, given.rounds)
        else:
            for scenes in given.scenes:
                root = Path(folder) / f"{scenes}"
                settings = WorldSettings(scenes=scenes, tables_only=True)
                write_world(root, settings)
                # Half the rounds where a round takes minutes.
                rows += rows_for(root, settings.version, given.rounds if scenes < LARGE else -(-given.rounds // 2))
                shutil.rmtree(root)
    name = result_name("index", simulated=given.root is None)
    write_result(name, rows, simulated=given.root is None, packages=("nuscenes-devkit", "orjson"))


if __name__ == "__main__":
    main()
