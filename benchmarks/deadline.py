"""Each teacher, the teachers together and the student, by every CPU backend, frame by frame in turns.

    python benchmarks/deadline.py --frames 3700          # hours; what is done is kept and gone on with
    python benchmarks/deadline.py --frames 5             # a trial
    python benchmarks/deadline.py --root DATA/nuscenes   # real frames

A frame is sensor bytes in memory to boxes. In every round each model runs the same frame by each backend, in an order
drawn anew, so that the machine's neighbours hit all alike. Times are kept in ``--work`` every few rounds, together with
the exported files: an interrupted run goes on where it stopped.
"""

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import Row, print_table, write_result
from numpy.typing import NDArray

from fusionkd.data import NuScenesDataModule
from fusionkd.data.configured import configured_data
from fusionkd.deploy import NO_CLOCK, Pipeline, RawFrame, load, prepare
from fusionkd.export import raw_frame
from fusionkd.export.evaluation import evaluate_pipelines
from fusionkd.export.onnx import export_onnx, exportable
from fusionkd.export.parity import compare_boxes
from fusionkd.export.precision import to_int8
from fusionkd.export.spec import Trained, open_trained
from fusionkd.realtime import percentile, percentile_interval
from fusionkd.realtime.clock import SpanClock
from fusionkd.realtime.networks import CompiledNetwork, EagerNetwork
from fusionkd.realtime.profile import frame_cost_ns

REPOSITORY = Path(__file__).resolve().parent.parent
MODELS = ("student", "lidar", "camera", "fused")
TEACHERS = ("lidar", "camera", "fused")
BACKENDS = ("eager", "compile", "onnxruntime", "onnxruntime fixed rig", "onnxruntime int8")
PERCENTS = (50.0, 99.0, 99.9)
KEEP_EVERY = 20
FEWEST_ROUNDS = 100
STAGES = 16
"""Stages of an eager student's frame."""
CALIBRATION = 24
CLEAR_SCORE = 0.15
"""Parity looks at boxes well above the threshold of 0.05."""


@dataclass(frozen=True)
class Arm:
    """One model in one backend."""

    model: str
    backend: str
    pipeline: Pipeline

    @property
    def name(self) -> str:
        """For the table."""
        return f"{self.model}, {self.backend}"


class Rounds:
    """Times of all arms, kept in a file from time to time.

    Args:
        path: The file; what it holds is gone on with if arms and threads are the same.
        arms: Names of the columns.
        threads: CPU threads of the networks.
    """

    def __init__(self, path: Path, arms: Sequence[str], *, threads: int) -> None:
        self.path = path
        self.header = json.dumps({"arms": list(arms), "threads": threads})
        self.busy_ns: list[list[int]] = []
        self.covered_ns: list[list[int]] = []
        if path.exists():
            with np.load(path, allow_pickle=False) as file:
                if str(file["header"]) == self.header:
                    self.busy_ns, self.covered_ns = file["busy_ns"].tolist(), file["covered_ns"].tolist()
                    print(f"{len(self.busy_ns)} rounds of {path} are gone on with.", flush=True)

    def add(self, busy_ns: list[int], covered_ns: list[int]) -> None:
        """One round; every few rounds the file is written."""
        self.busy_ns.append(busy_ns)
        self.covered_ns.append(covered_ns)
        if len(self.busy_ns) % KEEP_EVERY == 0:
            self.keep()

    def keep(self) -> None:
        """Write the file, whole or not at all."""
        partial = self.path.with_suffix(".partial.npz")
        np.savez(partial, header=self.header, busy_ns=self.busy_ns, covered_ns=self.covered_ns)
        partial.replace(self.path)


def exported(
    trained: Trained, backends: Sequence[str], work: Path, calibration: Callable[[], list[RawFrame]]
) -> Iterator[tuple[str, Path]]:
    """Files of a model by backend, made where they aren't there yet."""
    name = trained.checkpoint.removeprefix("zoo:")
    for backend in backends:
        path = work / f"{name}-{backend.replace(' ', '-')}.onnx"
        if not backend.startswith("onnx") or (trained.spec.camera is None and "rig" in backend):
            continue
        if not path.exists():
            print(f"exporting: {path.name}", flush=True)
            if "int8" in backend:
                with_maps = work / f"{name}-maps.onnx"
                export_onnx(exportable(trained), with_maps, maps=True)
                to_int8(with_maps, path, [prepare(raw, trained.spec) for raw in calibration()])
            else:
                rig = calibration()[0] if "rig" in backend else None
                export_onnx(exportable(trained, fixed_rig=rig), path)
        yield backend, path


def arms_of(
    model: str, backends: Sequence[str], *, work: Path, calibration: Callable[[int], list[RawFrame]], threads: int
) -> Iterator[Arm]:
    """A shipped model in all backends that can run it."""
    trained = open_trained(f"zoo:{model}")
    if "eager" in backends:
        yield Arm(model, "eager", Pipeline(trained.spec, EagerNetwork(trained.model, trained.spec), threads))
    if "compile" in backends:
        yield Arm(model, "compile", Pipeline(trained.spec, CompiledNetwork(trained.model, trained.spec), threads))
    for backend, path in exported(trained, backends, work, lambda: calibration(trained.spec.num_sweeps)):
        yield Arm(model, backend, load(path, threads=threads))


def timed(call: Callable[[Any], object], clock: SpanClock | None = None) -> tuple[int, int]:
    """Nanoseconds of a frame, and of its stages."""
    clock = clock or SpanClock(1)
    begin = clock.begin()
    call(clock)
    finish = clock.end()
    return finish - begin, int(clock.recorded()[1].sum())


def measure(arms: Sequence[Arm], frames: Sequence[RawFrame], rounds: Rounds, *, count: int) -> None:
    """Fill up to ``count`` rounds; the last column is the first arm's without a clock, for the profiler's own cost."""
    probe = arms[0]
    for arm in arms:
        print(f"warming up: {arm.name}", flush=True)
        for raw in frames[:3]:
            arm.pipeline(raw)
    while len(rounds.busy_ns) < count:
        raw = frames[len(rounds.busy_ns) % len(frames)]
        busy, covered = [0] * (len(arms) + 1), [0] * (len(arms) + 1)
        for column in np.random.default_rng(len(rounds.busy_ns)).permutation(len(arms) + 1):
            if column == len(arms):
                busy[column], _ = timed(lambda _clock, raw=raw: probe.pipeline(raw, NO_CLOCK))
            else:
                pipeline = arms[column].pipeline
                busy[column], covered[column] = timed(lambda clock, raw=raw, run=pipeline: run(raw, clock))
        rounds.add(busy, covered)
    rounds.keep()


def latency_rows(name: str, times_ms: NDArray[np.float64]) -> list[Row]:
    """Percentiles with their distribution-free intervals; an interval without upper bound is left out."""
    rows = []
    for percent in PERCENTS:
        bounds = percentile_interval(times_ms, percent, 0.95)
        interval = (bounds.lower, bounds.upper) if np.isfinite(bounds.upper) else None
        rows.append(Row(f"{name}: p{percent:g}", percentile(times_ms, percent), "ms", interval=interval))
    return rows


def best(times_ms: dict[str, NDArray[np.float64]], model: str) -> str:
    """The backend with a model's smallest p99."""
    return min((name for name in times_ms if name.startswith(f"{model},")), key=lambda n: percentile(times_ms[n], 99))


def target_row(times_ms: dict[str, NDArray[np.float64]]) -> Row:
    """The student's best p99 beside the fused teacher's best; the interval resamples whole rounds."""
    ours, theirs = best(times_ms, "student"), best(times_ms, "fused")
    draws = np.random.default_rng(0).integers(0, len(times_ms[ours]), (2000, len(times_ms[ours])))
    ratios = [percentile(times_ms[theirs][rows], 99) / percentile(times_ms[ours][rows], 99) for rows in draws]
    p99, peer_p99 = percentile(times_ms[ours], 99), percentile(times_ms[theirs], 99)
    low, high = np.percentile(ratios, [2.5, 97.5])
    what = f"p99, best backends: {ours}"
    return Row(what, p99, "ms", theirs, peer_p99, peer_p99 / p99, 4.0, interval=(float(low), float(high)))


def profiler_rows(arms: Sequence[Arm], rounds: Rounds) -> list[Row]:
    """What the profiler costs, in turns with frames that aren't profiled, and what its stages cover."""
    busy, covered = np.asarray(rounds.busy_ns, np.float64), np.asarray(rounds.covered_ns, np.float64)
    plain = busy[:, -1]
    share = 100 * (busy[:, 0] - plain) / np.median(plain)
    draws = np.random.default_rng(0).integers(0, len(share), (2000, len(share)))
    low, high = np.percentile(np.median(share[draws], axis=1), [2.5, 97.5])
    coverage = 100 * covered[:, :-1].sum(axis=0) / busy[:, :-1].sum(axis=0)
    worst = int(coverage.argmin())
    cost_ns = frame_cost_ns([f"stage {k}" for k in range(STAGES)], SpanClock(50))
    name, interval = arms[0].name, (float(low), float(high))
    without, writing = float(np.median(share)), 100 * cost_ns / float(np.median(plain))
    return [
        Row(f"frames with a clock beside without, {name}", without, "%", None, None, None, 0.5, "lower", interval),
        Row(f"writing the stages down, {name}", writing, "%", None, None, None, 0.5, "lower"),
        Row(f"time that lies in stages, least of all arms: {arms[worst].name}", float(coverage[worst]), "%", target=99),
    ]


def quality_rows(arms: Sequence[Arm], data: NuScenesDataModule, frames: Sequence[RawFrame], scenes: int) -> list[Row]:
    """NDS of every arm on the same frames, and how far its boxes are from those of eager PyTorch."""
    rows = []
    reference = {arm.model: [arm.pipeline(raw) for raw in frames[:10]] for arm in arms if arm.backend == "eager"}
    for arm in arms:
        if arm.backend == "eager" or arm.model not in reference:
            continue
        pairs = [(wanted, arm.pipeline(raw)) for wanted, raw in zip(reference[arm.model], frames)]
        parity = compare_boxes(pairs, clear_score=CLEAR_SCORE)
        rows.append(Row(f"{arm.name}: centres beside eager, 95 % of boxes", 1e3 * parity.centre_m, "mm"))
        rows.append(Row(f"{arm.name}: clear boxes without a partner", 100 * parity.unmatched, "%"))
    if scenes:
        # Fixed rigs are exported of one frame; ego motion between the sensors makes every frame's a little different.
        records = [r for name in data.scenes("val")[:scenes] for r in data.index.records([name])]
        dataset = data.dataset(records, num_sweeps=max(arm.pipeline.spec.num_sweeps for arm in arms))
        figures = evaluate_pipelines({arm.name: arm.pipeline for arm in arms}, dataset, records)
        rows += [Row(f"{name}: NDS on {len(records)} frames", found["NDS"], "") for name, found in figures.items()]
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", help="nuScenes or a simulated world (default: the main job's, written if absent)")
    parser.add_argument("--version", help="of nuScenes (default: the main job's)")
    parser.add_argument("--frames", type=int, default=400, help="rounds (default %(default)s: p99; p99.9 wants 3700)")
    parser.add_argument("--scenes", type=int, default=2, help="validation scenes for NDS; 0 leaves it out")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads (default %(default)s)")
    parser.add_argument("--models", nargs="+", default=MODELS, choices=MODELS)
    parser.add_argument("--backends", nargs="+", default=BACKENDS, choices=BACKENDS)
    parser.add_argument("--work", type=Path, default=REPOSITORY / "runs" / "deadline-benchmark")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    options.work.mkdir(parents=True, exist_ok=True)
    given = {key: value for key in ("root", "version") if (value := getattr(options, key)) is not None}
    # All scenes of the split, whatever the main job labels; images are decoded from their files.
    given |= {"labelled_scenes": None, "unlabelled_scenes": None, "unlabelled_per_batch": None, "cache_images_gb": 0}
    data = configured_data(REPOSITORY / "configs" / "nuscenes_mini.yaml", given)
    data.prepare_data()

    def frames_of(stage: Any, num_sweeps: int, count: int) -> list[RawFrame]:
        records = data.records(stage)
        rows = np.linspace(0, len(records) - 1, count).astype(int)
        return [raw_frame(data.dataset(records, num_sweeps=num_sweeps), records[row]) for row in rows]

    arms = [
        arm
        for model in options.models
        for arm in arms_of(
            model,
            options.backends,
            work=options.work,
            calibration=lambda num_sweeps: frames_of("train", num_sweeps, CALIBRATION),
            threads=options.threads,
        )
    ]
    frames = frames_of("val", max(arm.pipeline.spec.num_sweeps for arm in arms), 10)
    rounds = Rounds(options.work / "rounds.npz", [arm.name for arm in arms], threads=options.threads)
    measure(arms, frames, rounds, count=options.frames)
    busy_ms = np.asarray(rounds.busy_ns, np.float64) * 1e-6
    times_ms = {arm.name: busy_ms[:, column] for column, arm in enumerate(arms)}
    rows = [row for name, times in times_ms.items() for row in latency_rows(name, times)]
    for backend in options.backends:
        parts = [times_ms.get(f"{teacher}, {backend}") for teacher in TEACHERS]
        if backend != "onnxruntime fixed rig" and all(part is not None for part in parts):
            rows += latency_rows(f"three teachers one after another, {backend}", np.sum(parts, axis=0))
    if {"student", "fused"} <= set(options.models):
        rows.insert(0, target_row(times_ms))
    rows += profiler_rows(arms, rounds)
    rows += quality_rows(arms, data, frames, options.scenes)
    if options.frames < FEWEST_ROUNDS:
        print_table(f"a trial of {options.frames} rounds, not written", rows)
    else:
        packages = ("torch", "onnxruntime", "numba", "opencv-python-headless")
        write_result("deadline", rows, simulated=data.is_simulated, packages=packages)


if __name__ == "__main__":
    main()
