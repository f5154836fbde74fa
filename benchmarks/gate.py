"""The relative gate in anger: the student's code against itself, and against a commit that makes it slower.

    python benchmarks/gate.py                                    # 20 runs of each; wants an idle machine, and hours
    python benchmarks/gate.py --minutes 60                       # as many as fit
    python benchmarks/gate.py --runs 1 --most-starts 6 --trial   # only to see that it works

Every run is kept in ``benchmarks/results/gate/runs.json`` and not made again, so the table grows. Everything happens in
a clone of this repository's HEAD. The slower commit appends a busy wait to the pipeline which
lasts 5 % of each frame's own time. Both sides run as processes, in turns, as in a pull request.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from common import RESULTS, Row, machine, print_table, write_result

from fusionkd.realtime.against import gate_against, parse_against
from fusionkd.realtime.backends import Running
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


@dataclass(frozen=True)
class Kept:
    """What the gate said in one run.

    Attributes:
        slower: By how much the candidate was slower, 0 for unchanged code.
        seed: Of the run.
        verdict: Of the gate.
        ratio: Of the medians, candidate over baseline.
        low: Lower end of its interval.
        high: Upper end.
        starts: How often both were started.
        seconds: How long that took.
        subject: Model and backend.
        revision: Of the code that was measured.
        machine: Where.
    """

    slower: float
    seed: int
    verdict: str
    ratio: float
    low: float
    high: float
    starts: int
    seconds: float
    subject: str
    revision: str
    machine: str


class Runs:
    """The runs that were made, in a file.

    Args:
        path: The file.
        until_s: Of the monotonic clock: no run begins later.
    """

    def __init__(self, path: Path, *, until_s: float = float("inf")) -> None:
        self.path, self._until_s = path, until_s
        self.made = [Kept(**content) for content in json.loads(path.read_text())] if path.is_file() else []

    def of(self, slower: float, subject: str) -> list[Kept]:
        """Those of one kind."""
        return [kept for kept in self.made if (kept.slower, kept.subject) == (slower, subject)]

    def wanted(self, slower: float, subject: str, count: int) -> Iterator[int]:
        """Seeds that are missing, until the time is up."""
        there = {kept.seed for kept in self.of(slower, subject)}
        for seed in range(count):
            if seed not in there and time.monotonic() < self._until_s:
                yield seed

    def keep(self, kept: Kept) -> None:
        """Write one more."""
        self.made.append(kept)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_suffix(".partial")
        partial.write_text(json.dumps([asdict(one) for one in self.made], indent=1) + "\n")
        partial.replace(self.path)


def gate_once(repository: Path, subject: GateSubject, *, slower: float, plan: GatePlan) -> Kept:
    """What the gate says of the clone's working tree."""
    begin_s = time.perf_counter()
    baseline = parse_against("rev:HEAD~1" if slower else "rev:HEAD", repository=repository)
    result = gate_against(baseline, plan, repository=repository, open_model=subject.open, worker=subject.worker())
    found, median = result.comparison, result.comparison.median
    kept = Kept(
        slower,
        plan.seed,
        found.verdict,
        median.value,
        median.low,
        median.high,
        found.starts,
        round(time.perf_counter() - begin_s, 1),
        name_of(subject),
        git(REPOSITORY, "rev-parse", "--short", "HEAD").strip(),
        machine()["cpu"],
    )
    print(
        f"slower by {slower:.0%}, run {plan.seed}: {kept.verdict}, ratio {kept.ratio:.4f} ({kept.low:.4f} to "
        f"{kept.high:.4f}), {kept.starts} starts, {kept.seconds:.0f} s",
        flush=True,
    )
    return kept


def name_of(subject: GateSubject) -> str:
    """What was run."""
    return f"{subject.source}, {subject.running.backend}"


def rows_of(said: Sequence[Kept], *, what: str, wanted: str, target: float) -> list[Row]:
    if not said:
        return [Row(f"{what}: no runs yet", None, "")]
    share = sum(one.verdict == wanted for one in said) / len(said)
    ratios = np.array([one.ratio for one in said])
    undecided = sum(one.verdict == "inconclusive" for one in said)
    return [
        Row(f"{what}: runs that say {wanted}", 100 * share, f"% of {len(said)}", target=100 * target),
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
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no run after so long")
    parser.add_argument("--trial", action="store_true", help="keep nothing")
    given = parser.parse_args()
    first = min(GatePlan().first_starts, given.most_starts)
    subject = GateSubject(given.source, Running(given.backend), root=given.root, version=given.version)
    with tempfile.TemporaryDirectory() as folder, subject.with_frames() as ready:
        path = Path(folder) / "runs.json" if given.trial else RESULTS / "gate" / "runs.json"
        runs = Runs(path, until_s=time.monotonic() + 60 * given.minutes)
        repository = clone(Path(folder))
        for slower in (0.0, given.slow_down):
            if slower:
                commit_slower(repository, slower)
            for seed in runs.wanted(slower, name_of(ready), given.runs):
                plan = GatePlan(first_starts=first, most_starts=given.most_starts, seed=seed)
                runs.keep(gate_once(repository, ready, slower=slower, plan=plan))
        simulated = (ready.root / "simulated.json").is_file() if ready.root else True
    same, changed = (runs.of(slower, name_of(subject)) for slower in (0.0, given.slow_down))
    rows = rows_of(same, what="unchanged code", wanted="not slower", target=1.0)
    rows += rows_of(changed, what=f"a commit slower by {given.slow_down:.0%}", wanted="slower", target=0.95)
    if given.trial:
        print_table("gate, a trial (not written)", rows)
    else:
        write_result("gate", rows, simulated=simulated, packages=("onnxruntime", "torch"))


if __name__ == "__main__":
    main()
