"""The index beside the devkit's ``NuScenes`` constructor: the first time, from the tables, and every later time.

    python benchmarks/index.py --scenes 850                       # simulated tables without sensor files
    python benchmarks/index.py --root DATA --version v1.0-mini    # your own

The devkit takes some ten gigabytes of memory for 850 scenes.
"""

import argparse
import shutil
import tempfile
from pathlib import Path

from common import Row, compare, write_result
from nuscenes import NuScenes

from fusionkd.data import NuScenesIndex
from fusionkd.data.cache import cache_folder
from fusionkd.simulation import WorldSettings, write_world


def rows_for(root: Path, version: str, rounds: int) -> list[Row]:
    """Both times for one version."""

    def first() -> None:
        (cache_folder(root) / f"index-{version}.arrays").unlink(missing_ok=True)
        NuScenesIndex.load(root, version)

    def devkit() -> None:
        NuScenes(version, str(root), verbose=False)

    index = NuScenesIndex.load(root, version)
    size = f"{len(index.scene_names)} scenes, {len(index):,} keyframes, {len(index.annotations):,} boxes"
    name = "devkit NuScenes(...)"
    once = compare(f"{size}: first time", first, devkit, peer_name=name, rounds=rounds, target=1.0)

    def later() -> None:
        NuScenesIndex.load(root, version)

    again = compare(f"{size}: later", later, devkit, peer_name=name, rounds=rounds, target=100.0)
    return [once, again]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, help="nuScenes root; its tables are copied, its files are not read")
    parser.add_argument("--version", default="v1.0-mini", help="version of the tables (default v1.0-mini)")
    parser.add_argument("--scenes", type=int, nargs="+", default=[10], help="scenes of the simulated tables")
    parser.add_argument("--rounds", type=int, default=5, help="calls of each side per row (default 5)")
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
                rows += rows_for(root, settings.version, given.rounds)
    write_result("index", rows, simulated=given.root is None, packages=("nuscenes-devkit", "orjson"))


if __name__ == "__main__":
    main()
