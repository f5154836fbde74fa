"""The nuScenes detection metric beside nuscenes-devkit's DetectionEval, on one thread, in turns in one process.

    python benchmarks/metric.py                                                    # a seeded world
    python benchmarks/metric.py --root DATA/nuscenes --results results_nusc.json   # real annotations and results

Before anything is timed, every figure of the two must be equal to 1e-9. Both sides start from tables that are
loaded already: the devkit from its ``NuScenes`` object, fusionkd from its arrays.
"""

import argparse
import json
import tempfile
from collections.abc import Callable
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
from common import Row, compare, result_name, use_one_thread, write_result
from numpy.typing import NDArray
from nuscenes import NuScenes
from nuscenes.eval.common.config import config_factory
from nuscenes.eval.detection.evaluate import DetectionEval
from nuscenes.utils.splits import mini_val

from fusionkd.data import NuScenesIndex
from fusionkd.data.splits import scenes_of
from fusionkd.geometry import DETECTION_CLASSES
from fusionkd.metrics import ATTRIBUTES, Detections, DetectionTruth, evaluate, read_submission, write_submission

SAMPLES = 81
ANNOTATIONS = 55
DETECTIONS = 95
CATEGORY = {
    "car": "vehicle.car",
    "truck": "vehicle.truck",
    "construction_vehicle": "vehicle.construction",
    "bus": "vehicle.bus.rigid",
    "trailer": "vehicle.trailer",
    "barrier": "movable_object.barrier",
    "motorcycle": "vehicle.motorcycle",
    "bicycle": "vehicle.bicycle",
    "pedestrian": "human.pedestrian.adult",
    "traffic_cone": "movable_object.trafficcone",
}
SHARE = [0.4, 0.08, 0.02, 0.02, 0.03, 0.12, 0.02, 0.02, 0.2, 0.09]


class SeededWorld:
    """As many annotations and detections as mini_val has, with what the devkit asks a NuScenes object for."""

    version = "v1.0-mini"

    def __init__(self, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        n, m = SAMPLES * ANNOTATIONS, SAMPLES * DETECTIONS
        self.tokens = [f"{i:032x}" for i in range(SAMPLES)]
        self.ego_xyz_m = rng.uniform(300, 900, (SAMPLES, 3)) * [1, 1, 0]
        self.columns = self._boxes(rng, np.repeat(np.arange(SAMPLES), ANNOTATIONS), np.empty((n, 3)))
        # Four detections of five lie near an annotation of their sample.
        source = (np.repeat(np.arange(SAMPLES), DETECTIONS) * ANNOTATIONS) + rng.integers(0, ANNOTATIONS, m)
        found = rng.random(m) < 0.8
        boxes = self._boxes(rng, np.repeat(np.arange(SAMPLES), DETECTIONS), np.empty((m, 3)))
        for name in ("xyz_m", "lwh_m", "yaw_rad", "label"):
            boxes[name][found] = self.columns[name][source[found]]
        boxes["xyz_m"] += rng.normal(0, 0.7, (m, 3))
        del boxes["sample"]
        start = np.arange(SAMPLES + 1) * DETECTIONS
        self.detections = Detections(tuple(self.tokens), start, score=rng.random(m), **boxes)
        self.points = rng.integers(0, 20, n)
        self.sample = [{"token": token, "scene_token": mini_val[0]} for token in self.tokens]
        self.attribute = [{"token": name, "name": name} for name in ATTRIBUTES]
        half = self.columns["yaw_rad"] / 2
        self.wxyz = np.stack([np.cos(half), np.zeros(n), np.zeros(n), np.sin(half)], axis=1)
        self.notes = [self._note(i) for i in range(n)]

    def _boxes(
        self, rng: np.random.Generator, sample: NDArray[np.int64], xyz_m: NDArray[np.float64]
    ) -> dict[str, NDArray[Any]]:
        n = len(sample)
        xyz_m[:] = self.ego_xyz_m[sample] + rng.normal(0, 22, (n, 3)) * [1, 1, 0.02]
        return {
            "sample": sample,
            "xyz_m": xyz_m,
            "lwh_m": rng.uniform(0.5, 5, (n, 3)),
            "yaw_rad": rng.uniform(-np.pi, np.pi, n),
            "velocity_mps": rng.normal(0, 3, (n, 2)),
            "label": rng.choice(len(SHARE), n, p=SHARE),
            "attribute": rng.integers(0, len(ATTRIBUTES), n),
        }

    def _note(self, i: int) -> dict[str, Any]:
        return {
            "translation": self.columns["xyz_m"][i].tolist(),
            "size": self.columns["lwh_m"][i, [1, 0, 2]].tolist(),
            "rotation": self.wxyz[i].tolist(),
            "category_name": CATEGORY[DETECTION_CLASSES[self.columns["label"][i]]],
            "attribute_tokens": [ATTRIBUTES[self.columns["attribute"][i]]],
            "num_lidar_pts": int(self.points[i]),
            "num_radar_pts": 0,
            "token": i,
        }

    def get(self, table: str, token: Any) -> dict[str, Any]:
        """The row, as ``NuScenes.get`` gives it."""
        if table == "sample_annotation":
            return self.notes[token]
        if table == "scene":
            return {"name": token}
        row = int(token, 16)
        notes = range(row * ANNOTATIONS, (row + 1) * ANNOTATIONS)
        return {
            "anns": notes,
            "scene_token": mini_val[0],
            "data": {"LIDAR_TOP": token},
            "ego_pose_token": token,
            "translation": self.ego_xyz_m[row].tolist(),
        }

    def box_velocity(self, token: int) -> NDArray[np.float64]:
        """As ``NuScenes.box_velocity``."""
        return np.append(self.columns["velocity_mps"][token], 0.0)

    def truth(self) -> DetectionTruth:
        """The annotations, from arrays."""
        columns = {name: values for name, values in self.columns.items() if name != "yaw_rad"}
        return DetectionTruth.from_annotations(
            tokens=self.tokens,
            ego_xyz_m=self.ego_xyz_m,
            wxyz=self.wxyz,
            num_points=self.points,
            is_rack=np.zeros(len(self.points), np.bool_),
            **columns,
        )


def compare_on(
    results: Path, *, nusc: Any, split: str, truth_from_tables: Callable[[], DetectionTruth], rounds: int
) -> list[Row]:
    """Rows for one results file."""
    config = config_factory("detection_cvpr_2019")
    with tempfile.TemporaryDirectory() as folder:

        def load() -> DetectionEval:
            with redirect_stderr(StringIO()):  # the devkit draws a progress bar, asked to be silent or not
                return DetectionEval(nusc, config, str(results), split, folder, verbose=False)

        devkit = load()
        truth = truth_from_tables()
        detections = read_submission(results, samples=truth.tokens).detections
        check(evaluate(truth, detections).to_dict(), json.loads(json.dumps(devkit.evaluate()[0].serialize())))
        size = f"{len(detections):,} boxes of {len(truth)} samples ({results.parent.name})"

        def from_file() -> None:
            evaluate(truth_from_tables(), read_submission(results).detections)

        return [
            compare(
                f"arrays to all figures, {size}",
                lambda: evaluate(truth, detections),
                devkit.evaluate,  # without its filters, which it ran when loading
                peer_name="devkit DetectionEval.evaluate",
                rounds=rounds,
                target=200.0,
            ),
            compare(
                f"results JSON to all figures, {size}",
                from_file,
                lambda: load().evaluate(),
                peer_name="devkit DetectionEval, loading and evaluate",
                rounds=rounds,
                target=10.0,
            ),
        ]


def check(figures: dict[str, float], summary: dict[str, Any]) -> None:
    """Every figure equal to the devkit's, or an AssertionError that names it."""
    errors = {"ATE": "trans_err", "ASE": "scale_err", "AOE": "orient_err", "AVE": "vel_err", "AAE": "attr_err"}
    expected = {"mAP": summary["mean_ap"], "NDS": summary["nd_score"]}
    for error, key in errors.items():
        expected[f"m{error}"] = summary["tp_errors"][key]
        expected |= {f"{error}/{name}": summary["label_tp_errors"][name][key] for name in DETECTION_CLASSES}
    for name, aps in summary["label_aps"].items():
        expected |= {f"AP/{name}@{limit}": ap for limit, ap in aps.items()}
    for name, value in expected.items():
        np.testing.assert_allclose(figures[name], value, rtol=0, atol=1e-9, err_msg=name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, help="nuScenes root with the tables of --version")
    parser.add_argument("--version", default="v1.0-mini", help="version of the tables (default v1.0-mini)")
    parser.add_argument("--split", default="mini_val", help="split of the results (default mini_val)")
    parser.add_argument("--results", type=Path, nargs="+", help="results files of that split")
    parser.add_argument("--rounds", type=int, default=9, help="calls of each side per row (default 9)")
    options = parser.parse_args()
    if (options.root is None) != (options.results is None):
        parser.error("--root and --results belong together: give both, or neither for a seeded world.")
    use_one_thread()
    if options.root is None:
        world = SeededWorld()
        with tempfile.TemporaryDirectory(prefix="seeded-") as folder:
            path = Path(folder) / "seeded world" / "results.json"
            write_submission(path, world.detections, samples=world.tokens, use_camera=True, use_lidar=True)
            rows = compare_on(path, nusc=world, split="mini_val", truth_from_tables=world.truth, rounds=options.rounds)
    else:
        nusc = NuScenes(options.version, str(options.root), verbose=False)
        index = NuScenesIndex.load(options.root, options.version)
        scenes = scenes_of(index, options.split)
        rows = [
            row
            for path in options.results
            for row in compare_on(
                path,
                nusc=nusc,
                split=options.split,
                truth_from_tables=lambda: DetectionTruth.from_index(index, scenes),
                rounds=options.rounds,
            )
        ]
    name = result_name("metric", simulated=options.root is None)
    write_result(name, rows, simulated=options.root is None, packages=("numba", "nuscenes-devkit"))


if __name__ == "__main__":
    main()
