"""What teachers are worth: a distilled student beside the tuned control, on the simulated world.

The world has other seeds than the teachers' and the default world. Few scenes are labelled, others are
logs without labels. First the control's learning rate and augmentation are tuned (one seed), then every
arm is trained on the same seeds, each of which draws other labelled scenes, another order and another
initialisation. All arms take equally many steps of equally many frames, have the same learning rate and the
same loss forms on labels. Augmentation is the control's advantage alone: without it each frame's teachers
are asked once.

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
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from common import RESULTS, Row, write_result
from numpy.typing import NDArray
from scipy import stats

from fusionkd.simulation import WorldSettings, write_world

REPOSITORY = Path(__file__).resolve().parent.parent
RUNS = RESULTS / "kd_gain"
WORLD = WorldSettings(scenes=34, val_scenes=10, seed=2000, keyframes_per_scene=20, image_width_px=512)
LABELLED_SCENES = 2
CONTROL = ("--config", "configs/nuscenes_mini.yaml", "--config", "configs/students/control_mini.yaml")
DISTILLED = ("--config", "configs/nuscenes_mini.yaml")
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


def tuning_runs(steps: int) -> list[Run]:
    """The control at each learning rate, with and without BEV augmentation, on the first seed."""
    runs = []
    for lr in LEARNING_RATES:
        rate = ("--model.optimizer.lr", f"{lr:g}")
        augmented = ("--data.init_args.bev_augmentation", AUGMENTATION)
        runs.append(Run(f"tune-lr{lr:g}", 0, steps, (*CONTROL, *rate)))
        runs.append(Run(f"tune-lr{lr:g}-augmented", 0, steps, (*CONTROL, *rate, *augmented)))
    return runs


def best(runs: list[Run]) -> Run:
    """The run with the best NDS."""
    return max(runs, key=lambda run: student_figures(run)["NDS"])


def arms(seeds: list[int], steps: int) -> list[Run]:
    """Every arm on every seed: the control with its best options, the student with the same learning rate."""
    control = best(tuning_runs(steps)).options
    lr = control[control.index("--model.optimizer.lr") + 1]
    settings: dict[str, tuple[str, ...]] = {
        "control": control,
        "distilled": (*DISTILLED, "--model.optimizer.lr", lr),
    }
    return [Run(arm, seed, steps, options) for seed in seeds for arm, options in settings.items()]


def paired(runs: list[Run], seeds: list[int], figure: str) -> NDArray[np.float64]:
    """Distilled minus control per seed, in points of a hundred."""
    value = {(run.arm, run.seed): student_figures(run)[figure] for run in runs}
    return np.array([100 * (value["distilled", seed] - value["control", seed]) for seed in seeds])


def mean_figure(runs: list[Run], arm: str, figure: str) -> float:
    """Mean over an arm's seeds."""
    return float(np.mean([student_figures(run)[figure] for run in runs if run.arm == arm]))


def t_interval(values: NDArray[np.float64]) -> tuple[float, float] | None:
    """95 % interval of the mean by Student's t; None for a single value."""
    if len(values) < 2:
        return None
    half = float(stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)))
    return float(values.mean()) - half, float(values.mean()) + half


def table(runs: list[Run], seeds: list[int]) -> list[Row]:
    """Means of both arms and their paired differences."""
    trained = f"{len(seeds)} seeds of {runs[0].steps} steps"
    rows = []
    for figure in FIGURES:
        distilled, control = (mean_figure(runs, arm, figure) for arm in ("distilled", "control"))
        better = "higher" if figure in ("mAP", "NDS") else "lower"
        rows.append(Row(f"{figure}, distilled", distilled, "", "tuned control", control, better=better))
    for figure in ("mAP", "NDS"):
        gain = paired(runs, seeds, figure)
        rows.append(
            Row(
                f"{figure}, distilled minus control, {trained}",
                float(gain.mean()),
                "points",
                target=4.0,
                interval=t_interval(gain),
            )
        )
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
    if not given.table:
        if not (given.root / WORLD.version).is_dir():
            write_world(given.root, WORLD)
        for stage in (lambda: tuning_runs(given.steps), lambda: arms(given.seeds, given.steps)):
            missing = [run for run in stage() if not run.path.is_file()]
            with ThreadPoolExecutor(given.jobs) as pool:
                list(pool.map(lambda run: execute(run, given.root), missing))
    write_result("kd_gain", table(arms(given.seeds, given.steps), given.seeds), simulated=True)


if __name__ == "__main__":
    main()
