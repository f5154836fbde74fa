"""Memory that evaluating a results file takes: nuScenes' validation split has 6,019 samples of up to 500 boxes.

    python benchmarks/metric_memory.py                  # writes and reads a file of 1.3 GB
    python benchmarks/metric_memory.py --samples 300    # a small one

The evaluation runs in a process of its own, whose largest resident size the operating system tells.
"""

import argparse
import multiprocessing
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from common import Row, write_result

from fusionkd.metrics import Detections, DetectionTruth, evaluate, read_submission, write_submission

BOXES, ANNOTATIONS, TARGET_MIB = 500, 30, 2048.0


def boxes(rng: np.random.Generator, count: int) -> dict[str, Any]:
    """Columns of random boxes."""
    return {
        "xyz_m": rng.uniform(-50, 50, (count, 3)),
        "lwh_m": rng.uniform(0.5, 5, (count, 3)),
        "yaw_rad": rng.uniform(-3, 3, count),
        "velocity_mps": rng.normal(0, 3, (count, 2)),
        "label": rng.integers(0, 10, count),
        "attribute": np.full(count, -1),
    }


def truth_of(tokens: list[str]) -> DetectionTruth:
    rng, samples = np.random.default_rng(1), len(tokens)
    return DetectionTruth(
        tokens=tuple(tokens),
        ego_xyz_m=np.zeros((samples, 3)),
        start=np.arange(samples + 1) * ANNOTATIONS,
        num_points=np.ones(samples * ANNOTATIONS, np.int64),
        rack_sample=np.zeros(0, np.int64),
        rack_corners_m=np.zeros((0, 4, 3)),
        **boxes(rng, samples * ANNOTATIONS),
    )


def write(path: Path, tokens: list[str]) -> None:
    rng = np.random.default_rng(0)
    start = np.arange(len(tokens) + 1) * BOXES
    columns = boxes(rng, len(tokens) * BOXES)
    found = Detections(tokens=tuple(tokens), start=start, score=rng.random(start[-1]), **columns)
    write_submission(path, found, samples=tokens, use_camera=True, use_lidar=True)


def judge(path: Path, tokens: list[str], answer: Any) -> None:
    begin = time.perf_counter()
    evaluate(truth_of(tokens), read_submission(path).detections)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    answer.put((time.perf_counter() - begin, peak / (2**20 if sys.platform == "darwin" else 2**10)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=6019, help="samples of the split (default 6019)")
    samples = parser.parse_args().samples
    tokens = [f"{i:032x}" for i in range(samples)]
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "results.json"
        writer = context.Process(target=write, args=(path, tokens))
        writer.start()
        writer.join()
        answer = context.Queue()
        judge_process = context.Process(target=judge, args=(path, tokens, answer))
        judge_process.start()
        seconds, peak_mib = answer.get()
        judge_process.join()
        size_mib = path.stat().st_size / 2**20
    what = f"results JSON of {samples:,} x {BOXES} boxes ({size_mib:,.0f} MiB) to all figures"
    rows = [
        Row(f"{what}, peak memory", peak_mib, "MiB", target=TARGET_MIB, better="lower"),
        Row(f"{what}, time", seconds, "s", better="lower"),
    ]
    write_result("metric_memory", rows, simulated=True, packages=("numba",))


if __name__ == "__main__":
    main()
