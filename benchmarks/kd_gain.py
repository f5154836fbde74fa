"""What teachers are worth: distilled students beside the tuned control, on the simulated world.

The world has other seeds than the teachers' and the default world. Few scenes are labelled, the others are logs without
labels, unless a study says otherwise. First the control and the distilled student are tuned on one seed: the learning
rate of each over the same four, with and without augmentation. Every study takes them as tuned there.
A seed draws other labelled scenes, another order and another initialisation; differences are paired by seed.

Studies (``--studies``; all of them by default, in this order):

    tune       the learning rates and the augmentation, on one seed
    gain       distilled beside control
    teachers   L, C, F, L+C and L+C+F
    labels     both with every scene labelled
    steps      both with 2 and 4 times the steps: was the control only under-trained?
    logs       distilled without the unlabelled frames
    terms      each term alone, beside the control and beside the control with more of the same loss on labels
    family     every term of the library alone, taught by the fused teacher
    weightings three teachers under every weighting
    deliveries label-free, pseudo-labels alone, self, mean teacher, mutual

Every finished training is kept in ``benchmarks/results/kd_gain/`` and is not run again, so the benchmark can be
interrupted and grown:

    python benchmarks/kd_gain.py                            # everything that is missing, then the tables
    python benchmarks/kd_gain.py --studies gain --seeds 3 4 # more seeds of one study
    python benchmarks/kd_gain.py --minutes 60               # begin no training after an hour
    python benchmarks/kd_gain.py --table                    # only the tables
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import kd_gain_arms as arms
import kd_gain_family as family
import numpy as np
import yaml
from common import RESULTS
from kd_gain_arms import Arm
from kd_gain_tables import write_tables

from fusionkd.simulation import WorldSettings, write_world

REPOSITORY = Path(__file__).resolve().parent.parent
KEPT = RESULTS / "kd_gain"
WORLD = WorldSettings(scenes=34, val_scenes=10, seed=2000, keyframes_per_scene=20, image_width_px=512)
LABELLED_SCENES = 2


@dataclass(frozen=True)
class Run:
    """One training.

    Attributes:
        arm: How.
        seed: Of the labelled scenes, the order and the initialisation.
    """

    arm: Arm
    seed: int

    @property
    def path(self) -> Path:
        """Where its result is kept."""
        return KEPT / f"{self.arm.name}-seed{self.seed}.json"

    @property
    def is_kept(self) -> bool:
        """Whether it has been run; stops where it was run with another main job."""
        return self.path.is_file() and bool(self.result)

    @property
    def result(self) -> dict[str, Any]:
        """What it reached."""
        content: dict[str, Any] = json.loads(self.path.read_text())
        if content.get("config") != arms.DIGEST:
            raise SystemExit(
                f"{self.path} was trained with another configs/nuscenes_mini.yaml and can't be compared with today's. "
                f"Move it into a folder of its own."
            )
        return content


def train_scenes(root: Path) -> list[str]:
    """Scenes of the world that aren't kept for validation."""
    from nuscenes.utils.splits import train

    scenes = json.loads((root / WORLD.version / "scene.json").read_text())
    return sorted(scene["name"] for scene in scenes if scene["name"] in set(train))


def labelled_scenes(names: Sequence[str], run: Run) -> list[str]:
    """The scenes whose labels a run may use."""
    if not run.arm.few_labels:
        return list(names)
    return sorted(np.random.default_rng(run.seed).choice(names, LABELLED_SCENES, replace=False).tolist())


def overlay(run: Run, root: Path, folder: Path) -> dict[str, Any]:
    """All that a run sets over the main job's configuration."""
    data = {
        "root": str(root),
        "version": WORLD.version,
        "labelled_scenes": labelled_scenes(train_scenes(root), run),
        "num_workers": 1,
        "seed": run.seed,
    }
    average = {"class_path": "fusionkd.tasks.StudentAverage", "init_args": {"decay": 0.99}}
    keep = {"class_path": "kd_gain_figures.KeepFigures", "init_args": {"path": str(folder / "figures.json")}}
    trainer = {
        "max_steps": run.arm.steps,
        "val_check_interval": run.arm.steps,
        "default_root_dir": str(folder),
        "logger": False,
        "callbacks": [average, keep],
    }
    whole = {"seed_everything": run.seed, "trainer": trainer, "data": {"init_args": data}}
    return arms.merged(arms.merged(whole, run.arm.overlay), {"model": {"check_frames": 0}})


def fill_cache(root: Path, jobs: int) -> None:
    """Ask the teachers once about every frame, for all runs; asks for what is missing alone."""
    model = {"teachers": arms.cached(arms.ALL, arms.CACHE), "terms": family.everything_read(), "check_frames": 0}
    model["remember_teachers"] = False
    # With all labels, so that the answers at every annotated object are there whichever scenes a run has labels of.
    data = {"root": str(root), "version": WORLD.version}
    data |= dict.fromkeys(("labelled_scenes", "unlabelled_scenes", "unlabelled_per_batch"))
    settings = {"model": model, "data": {"init_args": data}}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "overlay.yaml"
        path.write_text(yaml.safe_dump(settings))
        command = [sys.executable, "tools/cache_teachers.py", "--config", str(arms.CONFIG), "--config", str(path)]
        shares = [
            subprocess.Popen(command, cwd=REPOSITORY, env=_alone() | {"RANK": str(rank), "WORLD_SIZE": str(jobs)})
            for rank in range(jobs)
        ]
        ended = [share.wait() for share in shares]
        if any(ended):
            raise SystemExit("The teachers' answers couldn't be kept; see above.")


def _alone() -> dict[str, str]:
    """The environment of one of several processes: two side by side beat two threads in one."""
    return os.environ | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}


def execute(run: Run, root: Path) -> None:
    """Train and keep the figures; nothing is kept of a run that failed."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        settings = overlay(run, root, folder)
        (folder / "overlay.yaml").write_text(yaml.safe_dump(settings))
        command = [sys.executable, "tools/train.py", "fit", "--config", str(arms.CONFIG)]
        command += ["--config", str(folder / "overlay.yaml")]
        environment = _alone()
        environment["PYTHONPATH"] = os.pathsep.join([str(REPOSITORY / "benchmarks"), os.environ.get("PYTHONPATH", "")])
        log, begun = folder / "log.txt", time.monotonic()
        with log.open("w") as output:
            done = subprocess.run(
                command, cwd=REPOSITORY, env=environment, stdout=output, stderr=subprocess.STDOUT, check=False
            )
        if done.returncode != 0:
            raise SystemExit(f"{run.arm.name}, seed {run.seed} failed:\n{log.read_text()[-3000:]}")
        reached = json.loads((folder / "figures.json").read_text())
    data = settings["data"]["init_args"]
    result = {
        "arm": run.arm.name,
        "seed": run.seed,
        "steps": run.arm.steps,
        "labelled_scenes": data["labelled_scenes"],
        "overlay": run.arm.overlay,
        "world": WORLD.as_dict(),
        "config": arms.DIGEST,
        "seconds": round(time.monotonic() - begun, 1),
        **reached,
    }
    KEPT.mkdir(parents=True, exist_ok=True)
    partial = run.path.with_suffix(".partial")
    partial.write_text(json.dumps(result, indent=1) + "\n")
    partial.rename(run.path)
    figures = reached["figures"]
    print(
        f"{run.arm.name}, seed {run.seed}: mAP {figures['mAP']:.3f}, NDS {figures['NDS']:.3f} (simulated), "
        f"{result['seconds']:.0f} s",
        flush=True,
    )


def tuning() -> dict[str, list[Arm]]:
    """What each kind is tuned over."""
    kinds = {
        "control": [arms.control(augmented=augmented) for augmented in (False, True)],
        "distilled": [arms.taught("L+C+F", arms.ALL, augmented=augmented) for augmented in (False, True)],
    }
    return {
        name: [arms.at_rate(arm, lr) for arm in tries for lr in arms.LEARNING_RATES] for name, tries in kinds.items()
    }


def tuned() -> dict[str, Arm]:
    """The arm of each kind with the best NDS on the first seed."""
    first = arms.SEEDS[0]
    return {kind: max(tries, key=lambda arm: _nds(Run(arm, first))) for kind, tries in tuning().items()}


def studies() -> dict[str, list[Arm]]:
    """The arms of each study after ``tune``, which must have ended."""
    best = tuned()
    control, distilled = best["control"], best["distilled"]
    lr = distilled.overlay["model"]["optimizer"]["lr"]
    augmented = distilled.overlay["data"]["init_args"]["bev_augmentation"] is not None
    taught = partial(arms.taught, augmented=augmented)
    sets = [arms.at_rate(taught(name, who), lr) for name, who in arms.TEACHER_SETS.items()]
    alone = [arms.at_rate(taught(f"only-{term}", arms.ALL, [term]), lr) for term in arms.TERMS]
    return {
        "gain": [control, distilled],
        "teachers": [control, *sets],
        "labels": [arms.with_all_labels(control), arms.with_all_labels(distilled)],
        "steps": [arms.longer(arm, factor) for factor in (2, 4) for arm in (control, distilled)],
        "logs": [control, arms.labelled_frames_only(distilled), distilled],
        "terms": [control, *alone, *(arms.twin(control, term) for term in arms.TWINS)],
        "family": [arms.at_rate(arm, lr) for arm in family.every_term(augmented=augmented)],
        "weightings": [arms.at_rate(arm, lr) for arm in family.every_weighting(augmented=augmented)],
        "deliveries": [arms.at_rate(arm, lr) for arm in family.every_delivery()],
    }


def _see_tuned() -> None:
    """Stop where a tuning run is missing: nothing can be compared before."""
    runs = [Run(arm, arms.SEEDS[0]) for tries in tuning().values() for arm in tries]
    missing = [run.path.stem for run in runs if not run.is_kept]
    if missing:
        raise SystemExit(f"Not tuned yet, run again to go on; missing: {', '.join(missing)}.")


def _nds(run: Run) -> float:
    return float(run.result["figures"]["NDS"])


def main() -> None:
    """Run what is missing, print and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=REPOSITORY / "data" / "simulated-kd-gain", help="the world")
    parser.add_argument("--studies", nargs="+", help="which, after tune (default: all)")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(arms.SEEDS))
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no training after so long")
    parser.add_argument("--jobs", type=int, default=2, help="trainings side by side")
    parser.add_argument("--only", choices=("control", "distilled"), help="tune this kind alone, and stop there")
    parser.add_argument("--table", action="store_true", help="train nothing")
    given = parser.parse_args()
    until = time.monotonic() + 60 * given.minutes

    def train(runs: Sequence[Run]) -> None:
        def one(run: Run) -> None:
            if time.monotonic() < until and not run.is_kept:
                execute(run, given.root)

        with ThreadPoolExecutor(given.jobs) as pool:
            list(pool.map(one, {run.path: run for run in runs}.values()))

    if not given.table:
        if not (given.root / WORLD.version).is_dir():
            write_world(given.root, WORLD)
        kinds = [given.only] if given.only else list(tuning())
        if given.only != "control":
            fill_cache(given.root, given.jobs)
        train([Run(arm, arms.SEEDS[0]) for kind in kinds for arm in tuning()[kind]])
        if given.only:
            return
        _see_tuned()
        for name in given.studies or list(studies()):
            train([Run(arm, seed) for seed in given.seeds for arm in studies()[name]])
    _see_tuned()
    best = tuned()
    write_tables(KEPT, control=best["control"].name, distilled=best["distilled"].name)


if __name__ == "__main__":
    main()
