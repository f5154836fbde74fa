"""The relative gate in anger: the student's code against itself, and against a commit that makes it slower.

    python benchmarks/gate.py                                    # 20 runs of each; wants an idle machine, and time
    python benchmarks/gate.py --runs 1 --most-starts 6           # only to see that it works

Everything happens in a clone of this repository's HEAD. The slower commit appends a busy wait to the pipeline which
lasts 5 % of each frame's own time. Both sides run as processes, in turns, as in a pull request.
"""

import argparse
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from common import Row, write_result

from fusionkd.realtime.against import gate_against, parse_against
from fusionkd.realtime.backends import Running
from fusionkd.realtime.gate import Comparison
from fusionkd.realtime.gate_subject import GateSubject
from fusionkd.realtime.processes import git
from fusionkd.realtime.turns import GatePlan

REPOSITORY = Path(__file__).resolve().parent.parent
PIPELINE = "fusionkd/deploy/pipeline.py"
SLOWER = """

import time as _time

_in_time = Pipeline.__call__


def _slower(self, raw, clock=NO_CLOCK):
    begin = _time.perf_counter_ns()
    boxes = _in_time(self, raw, clock)
    end = _time.perf_counter_ns()
    while _time.perf_counter_ns() < end + {share} * (end - begin):
        pass
    return boxes


Pipeline.__call__ = _slower
"""


def clone(folder: Path) -> Path:
    """This repository's HEAD in another folder."""
    git(REPOSITORY, "clone", "--quiet", "--no-hardlinks", str(REPOSITORY), str(folder / "repository"))
    return folder / "repository"


def commit_slower(repository: Path, share: float) -> None:
    """A commit on top that makes every frame slower by a share of its time."""
    path = repository / PIPELINE
    path.write_text(path.read_text() + SLOWER.format(share=share))
    author = ["-c", "user.name=benchmark", "-c", "user.email=benchmark@example.org", "-c", "commit.gpgsign=false"]
    git(repository, *author, "commit", "--quiet", "--all", "--message", f"Slower by {share:.0%}")


def gates(repository: Path, revision: str, subject: GateSubject, *, plan: GatePlan, runs: int) -> list[Comparison]:
    """What the gate says, run after run, of the clone's working tree against a revision."""
    said = []
    for run in range(runs):
        begin_s = time.perf_counter()
        baseline = parse_against(f"rev:{revision}", repository=repository)
        seeded = replace(plan, seed=run)
        result = gate_against(baseline, seeded, repository=repository, open_model=subject.open, worker=subject.worker())
        said.append(result.comparison)
        median, took_s = result.comparison.median, time.perf_counter() - begin_s
        print(
            f"{revision} {run}: {result.comparison.verdict}, ratio {median.value:.4f} ({median.low:.4f} to "
            f"{median.high:.4f}), {result.comparison.starts} starts, {took_s:.0f} s",
            flush=True,
        )
    return said


def rows_of(said: Sequence[Comparison], *, what: str, wanted: str, target: float) -> list[Row]:
    share = sum(one.verdict == wanted for one in said) / len(said)
    ratios = np.array([one.median.value for one in said])
    undecided = sum(one.verdict == "inconclusive" for one in said)
    return [
        Row(f"{what}: runs that say {wanted}", 100 * share, "%", target=100 * target),
        Row(f"{what}: undecided runs", undecided, f"of {len(said)}", better="lower"),
        Row(f"{what}: ratio of medians, median of the runs", float(np.median(ratios)), "", better="lower"),
        Row(f"{what}: largest distance from it", float(np.abs(ratios - np.median(ratios)).max()), "", better="lower"),
        Row(f"{what}: starts, median of the runs", float(np.median([one.starts for one in said])), "", better="lower"),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--source", default="zoo:student")
    parser.add_argument("--backend", default="onnxruntime")
    parser.add_argument("--slow-down", type=float, default=0.05)
    parser.add_argument("--most-starts", type=int, default=GatePlan().most_starts)
    parser.add_argument("--root", type=Path, help="data (default: the main job's, else a small simulated world)")
    parser.add_argument("--version")
    given = parser.parse_args()
    plan = GatePlan(first_starts=min(GatePlan().first_starts, given.most_starts), most_starts=given.most_starts)
    subject = GateSubject(given.source, Running(given.backend), root=given.root, version=given.version)
    with tempfile.TemporaryDirectory() as folder, subject.with_frames() as ready:
        repository = clone(Path(folder))
        same = gates(repository, "HEAD", ready, plan=plan, runs=given.runs)
        commit_slower(repository, given.slow_down)
        slower = gates(repository, "HEAD~1", ready, plan=plan, runs=given.runs)
        simulated = (ready.root / "simulated.json").is_file() if ready.root else True
    rows = rows_of(same, what="unchanged code", wanted="not slower", target=1.0)
    rows += rows_of(slower, what=f"a commit slower by {given.slow_down:.0%}", wanted="slower", target=0.95)
    write_result("gate", rows, simulated=simulated, packages=("onnxruntime", "torch"))


if __name__ == "__main__":
    main()
