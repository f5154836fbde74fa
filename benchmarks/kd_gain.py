"""What teachers are worth: a distilled student beside the tuned control, on the simulated world.

The world has other seeds than the teachers' and the default world. Few scenes are labelled, others are
logs without labels. First both arms are tuned on one seed: the learning rate of each over the same three,
the control also with and without augmentation. Then both are trained on the same seeds, each of which draws
other labelled scenes, another order and another initialisation. Both take equally many steps of equally many
frames and have the same loss forms on labels. The distilled student isn't augmented, so that each frame's
teachers are asked once.

Every finished run is kept in ``benchmarks/results/kd_gain/`` and is not run again, so the benchmark can be
interrupted and grown:

    python benchmarks/kd_gain.py                     # everything that is missing, then the table
    python benchmarks/kd_gain.py --seeds 0 1 2 3 4   # more seeds
    python benchmarks/kd_gain.py --steps 400         # shorter trainings, kept apart
    python benchmarks/kd_gain.py --table             # only the table
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from common import RESULTS, Row, t_interval, write_result
from numpy.typing import NDArray

from fusionkd.simulation import WorldSettings, write_world

REPOSITORY = Path(__file__).resolve().parent.parent
RUNS = RESULTS / "kd_gain"
WORLD = WorldSettings(scenes=34, val_scenes=10, seed=2000, keyframes_per_scene=20, image_width_px=512)
LABELLED_SCENES = 2
KINDS = {
    "distilled": ("--config", "configs/nuscenes_mini.yaml"),
    "control": ("--config", "configs/nuscenes_mini.yaml", "--config", "configs/students/control_mini.yaml"),
}
LEARNING_RATES = (2e-3, 4e-3, 8e-3)
AUGMENTATION = '{"flip_x": 0.5, "flip_y": 0.5, "max_rotation_rad": 0.3925, "scale": [0.95, 1.05]}'
FIGURES = ("mAP", "NDS", "mATE", "mASE", "mAOE", "mAVE", "mAAE")


@dataclass(frozen=True)
class Run:
    """One training.

    Attributes:
        arm: Name of the setting.
        seed: Of the labelled scenes, the order and the initialisation.
        steps: Of its optimiser.
        options: Of ``tools/train.py fit``.
    """

    arm: str
    seed: int
    steps: int
    options: tuple[str, ...]

    @property
    def path(self) -> Path:
        """Where its result is kept."""
        return RUNS / f"steps{self.steps}" / f"{self.arm}-seed{self.seed}.json"


def labelled_scenes(names: list[str], seed: int) -> list[str]:
    """The scenes whose labels a seed may use."""
    return sorted(np.random.default_rng(seed).choice(names, LABELLED_SCENES, replace=False).tolist())


def train_scenes(root: Path) -> list[str]:
    """Scenes of the world that aren't kept for validation."""
    from nuscenes.utils.splits import train

    scenes = json.loads((root / WORLD.version / "scene.json").read_text())
    return sorted(scene["name"] for scene in scenes if scene["name"] in set(train))


def execute(run: Run, root: Path) -> None:
    """Train and keep the figures; nothing is kept of a run that failed."""
    scenes = labelled_scenes(train_scenes(root), run.seed)
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "tools/train.py", "fit", *run.options]
        command += ["--data.init_args.root", str(root), "--data.init_args.version", WORLD.version]
        command += ["--data.init_args.labelled_scenes", json.dumps(scenes), "--data.init_args.num_workers", "1"]
        command += ["--data.init_args.seed", str(run.seed), "--seed_everything", str(run.seed)]
        command += ["--trainer.max_steps", str(run.steps), "--trainer.val_check_interval", str(run.steps)]
        command += ["--trainer.default_root_dir", folder, "--trainer.logger", "false"]
        # One thread per process: two runs side by side beat two threads in one.
        environment = os.environ | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}
        log = Path(folder) / "log.txt"
        with log.open("w") as output:
            done = subprocess.run(
                command, cwd=REPOSITORY, env=environment, stdout=output, stderr=subprocess.STDOUT, check=False
            )
        if done.returncode != 0:
            raise SystemExit(f"{run.arm}, seed {run.seed} failed:\n{log.read_text()[-3000:]}")
        report = json.loads((Path(folder) / "report.json").read_text())
    result = {
        "arm": run.arm,
        "seed": run.seed,
        "simulated": report["simulated"],
        "steps": run.steps,
        "labelled_scenes": scenes,
        "options": list(run.options),
        "figures": {row["name"]: row["figures"] for row in report["rows"]},
        "training": report["training"],
    }
    run.path.parent.mkdir(parents=True, exist_ok=True)
    partial = run.path.with_suffix(".partial")
    partial.write_text(json.dumps(result, indent=1) + "\n")
    partial.rename(run.path)
    student = student_figures(run)
    print(f"{run.arm}, seed {run.seed}: mAP {student['mAP']:.3f}, NDS {student['NDS']:.3f} (simulated)", flush=True)


def student_figures(run: Run) -> dict[str, float]:
    """The figures of a finished run's student."""
    figures: dict[str, dict[str, float]] = json.loads(run.path.read_text())["figures"]
    return next(values for name, values in figures.items() if name in ("student", "distilled student"))


def tuning_runs(kind: str, steps: int) -> list[Run]:
    """A kind of training at each learning rate on the first seed; the control also with BEV augmentation."""
    runs = []
    for lr in LEARNING_RATES:
        options = (*KINDS[kind], "--model.optimizer.lr", f"{lr:g}")
        runs.append(Run(f"{kind}-lr{lr:g}", 0, steps, options))
        if kind == "control":
            augmented = (*options, "--data.init_args.bev_augmentation", AUGMENTATION)
            runs.append(Run(f"{kind}-lr{lr:g}-augmented", 0, steps, augmented))
    return runs


def best(runs: list[Run]) -> Run:
    """The run with the best NDS."""
    return max(runs, key=lambda run: student_figures(run)["NDS"])


def arms(seeds: list[int], steps: int) -> dict[str, list[Run]]:
    """Each kind with its best options, on every seed."""
    tuned = {kind: best(tuning_runs(kind, steps)) for kind in KINDS}
    return {kind: [replace(run, seed=seed) for seed in seeds] for kind, run in tuned.items()}


def paired(runs: dict[str, list[Run]], figure: str) -> NDArray[np.float64]:
    """Distilled minus control per seed, in points of a hundred."""
    distilled, control = (np.array([student_figures(run)[figure] for run in runs[kind]]) for kind in KINDS)
    return np.asarray(100 * (distilled - control))


def table(runs: dict[str, list[Run]]) -> list[Row]:
    """Means of both arms and their paired differences."""
    seeds = len(runs["control"])
    rows = []
    for figure in FIGURES:
        distilled, control = (float(np.mean([student_figures(run)[figure] for run in runs[kind]])) for kind in KINDS)
        better = "higher" if figure in ("mAP", "NDS") else "lower"
        rows.append(Row(f"{figure}, distilled", distilled, "", "tuned control", control, better=better))
    for figure in ("mAP", "NDS"):
        gain = paired(runs, figure)
        rows.append(
            Row(
                f"{figure}, distilled minus control, {seeds} seeds of {runs['control'][0].steps} steps",
                float(gain.mean()),
                "points",
                target=4.0,
                interval=t_interval(gain),
            )
        )
        rows.append(Row(f"{figure}, the same on the seed that gained least", float(gain.min()), "points"))
    return rows


def main() -> None:
    """Run what is missing, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=REPOSITORY / "data" / "simulated-kd-gain", help="the world")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=800, help="of each training")
    parser.add_argument("--jobs", type=int, default=2, help="trainings side by side")
    parser.add_argument("--table", action="store_true", help="train nothing")
    given = parser.parse_args()

    def tuning() -> list[Run]:
        return [run for kind in KINDS for run in tuning_runs(kind, given.steps)]

    def trained() -> list[Run]:
        return [run for runs in arms(given.seeds, given.steps).values() for run in runs]

    if not given.table:
        if not (given.root / WORLD.version).is_dir():
            write_world(given.root, WORLD)
        for stage in (tuning, trained):
            missing = [run for run in stage() if not run.path.is_file()]
            with ThreadPoolExecutor(given.jobs) as pool:
                list(pool.map(lambda run: execute(run, given.root), missing))
    write_result("kd_gain", table(arms(given.seeds, given.steps)), simulated=True)


if __name__ == "__main__":
    main()
