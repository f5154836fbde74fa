"""What a candidate is compared with: a model file, a git revision, or the revision of an earlier report."""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from fusionkd.errors import UserError
from fusionkd.realtime.gate import Comparison, Ratio
from fusionkd.realtime.processes import ProcessSide, checked_out, commit_of, git
from fusionkd.realtime.turns import GatePlan, GateResult, Pair, Side, quiet, run_gate

REVISION = "rev:"
"""``--against rev:main`` names a git revision, anything else a file."""

_COMMIT = re.compile(r"[0-9a-f]{7,64}")


@dataclass(frozen=True)
class Baseline:
    """What to compare with.

    Attributes:
        kind: ``model``: other weights with the same code; ``revision``: other code.
        name: The model file, or the commit.
        given: What the user wrote.
    """

    kind: Literal["model", "revision"]
    name: str
    given: str


def parse_against(text: str, *, repository: Path) -> Baseline:
    """What ``--against`` names.

    Numbers of an earlier run are never compared, not even those of this machine: it was another hour. Of a report
    only the revision is taken, and measured again.

    Args:
        text: ``zoo:NAME``, a checkpoint, an ONNX file, ``rev:REVISION`` or a report (``.json``) of check_deadline.
        repository: Where revisions are looked up.

    Raises:
        UserError: If there is no such file or revision, or a report doesn't name its revision.
    """
    if text.startswith(REVISION):
        return Baseline("revision", commit_of(repository, text[len(REVISION) :]), text)
    path = Path(text)
    if not text.startswith("zoo:") and not path.is_file():
        raise UserError(
            f"--against {text}: there is no such file. Give a checkpoint, an ONNX file, a report, or rev:REVISION."
        )
    if path.suffix != ".json":
        return Baseline("model", text, text)
    commit = _revision_of(path)
    return Baseline("revision", commit_of(repository, commit), text)


@contextmanager
def models_in_turns(open_model: Callable[[str | None], tuple[Side, int]], name: str, first: bool) -> Iterator[Pair]:
    """Two models in this process.

    Args:
        open_model: Opens a model file, or the candidate for None: a side and the number of its frames.
        name: The baseline's model.
        first: Whether the candidate is opened first.
    """
    opened = {which: open_model(which) for which in ((None, name) if first else (name, None))}
    with quiet():
        yield opened[None][0], opened[name][0], opened[None][1]


@contextmanager
def trees_in_turns(trees: tuple[Path, Path], worker: Sequence[str], first: bool) -> Iterator[Pair]:
    """Two revisions in processes of the same interpreter, libraries and options, which differ in the code alone.

    Args:
        trees: Files of the candidate and of the baseline.
        worker: Command line of a worker (``fusionkd.realtime.gate_subject``).
        first: Whether the candidate is started first.

    Raises:
        UserError: If a worker fails, or the two read different numbers of frames.
    """
    names = ("The candidate", "The baseline's revision")
    sides: dict[str, ProcessSide] = {}
    with ExitStack() as stack:
        for name, tree in list(zip(names, trees))[:: 1 if first else -1]:
            # Python looks for modules where it runs before it looks in PYTHONPATH, so the worker runs in its tree.
            environment = {"PYTHONPATH": str(tree), "OMP_WAIT_POLICY": "passive"}
            sides[name] = stack.enter_context(ProcessSide(worker, name=name, folder=tree, environment=environment))
        candidate, baseline = (sides[name] for name in names)
        if candidate.frames != baseline.frames:
            raise UserError(
                f"The two revisions read {candidate.frames} and {baseline.frames} frames from the same options; there "
                f"is nothing to compare."
            )
        yield candidate, baseline, candidate.frames


def top_of(repository: Path) -> Path:
    """The root of the working tree."""
    return Path(git(repository, "rev-parse", "--show-toplevel"))


def revision_here(folder: Path) -> str | None:
    """The commit whose code is in a folder; None where it was changed since, or there is no repository."""
    try:
        return None if git(folder, "status", "--porcelain", "--", ".") else commit_of(folder, "HEAD")
    except UserError:
        return None


def gate_against(
    baseline: Baseline,
    plan: GatePlan,
    *,
    repository: Path,
    open_model: Callable[[str | None], tuple[Side, int]],
    worker: Sequence[str],
    progress: Callable[[Comparison], object] = lambda comparison: None,
) -> GateResult:
    """Start both sides again and again and measure them in turns.

    Args:
        baseline: What to compare with.
        plan: How long to measure, and what counts as slower.
        repository: The working tree: the candidate's code, changes that aren't committed included.
        open_model: Of ``models_in_turns``.
        worker: Of ``trees_in_turns``.
        progress: Called with what each look says.

    Raises:
        UserError: If a side can't run.
    """
    if baseline.kind == "model":
        return run_gate(partial(models_in_turns, open_model, baseline.name), plan, progress=progress)
    with checked_out(repository, baseline.name) as tree:
        return run_gate(partial(trees_in_turns, (top_of(repository), tree), worker), plan, progress=progress)


def gate_markdown(said: Comparison, baseline: Baseline) -> str:
    """The section of a report."""
    columns = ("figure", "this", "baseline", "ratio", "interval", "tolerated", "verdict")
    rows = [_row(name, ratio) for name, ratio in (("median", said.median), ("p99", said.p99))]
    return "\n".join(
        [
            f"### Relative gate: {said.verdict}",
            "",
            f"Against `{baseline.given}`, in turns in one run: {said.starts} starts, {said.frames} frames of each.",
            "",
            f"| {' | '.join(columns)} |",
            f"| {' | '.join(['---'] * len(columns))} |",
            *rows,
            "",
            f"Intervals at {said.confidence:.0%}, {said.looks} looks allowed for. The absolute times are those of this "
            f"machine in these minutes; only the ratio speaks of the code.",
            "",
        ]
    )


def _row(name: str, ratio: Ratio) -> str:
    cells = (
        name,
        f"{ratio.candidate_ms:.2f} ms",
        f"{ratio.baseline_ms:.2f} ms",
        f"{ratio.value:.3f}",
        f"{ratio.low:.3f} to {ratio.high:.3f}",
        f"{1 + ratio.tolerance:.2f}",
        ratio.verdict,
    )
    return f"| {' | '.join(cells)} |"


def _revision_of(path: Path) -> str:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"--against {path} can't be read as a report: {error}.") from None
    about = content.get("about") if isinstance(content, dict) else None
    commit = about.get("revision") if isinstance(about, dict) else None
    if not isinstance(commit, str) or not _COMMIT.fullmatch(commit):
        raise UserError(
            f"--against {path}: the report doesn't name the git revision it was made from, and times of an earlier "
            f"run, on another machine or in another hour, can't be compared. Give rev:REVISION or the model file."
        )
    return commit
