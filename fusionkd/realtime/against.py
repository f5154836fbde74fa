"""What a candidate is compared with: a model file, a git revision, or the revision of an earlier report."""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fusionkd.errors import UserError
from fusionkd.realtime.gate import Comparison, Ratio
from fusionkd.realtime.processes import ProcessSide, checked_out, commit_of, git
from fusionkd.realtime.turns import GatePlan, GateResult, Side, run_gate

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
def both_sides(
    baseline: Baseline,
    *,
    repository: Path,
    open_model: Callable[[str | None], tuple[Side, int]],
    worker: Sequence[str],
) -> Iterator[tuple[Side, Side, int]]:
    """Candidate, baseline and the number of frames.

    Two models run in this process. Two revisions run in two processes of the same interpreter, libraries and options,
    which differ in the code alone: the candidate's is that of the working tree, changes that aren't committed included.

    Args:
        baseline: What to compare with.
        repository: The working tree.
        open_model: Opens a model file, or the candidate for None: a side and the number of its frames.
        worker: Command line of a worker (``fusionkd.realtime.gate_worker``) for the candidate's model and frames.

    Raises:
        UserError: If a side can't be opened.
    """
    if baseline.kind == "model":
        candidate, frames = open_model(None)
        yield candidate, open_model(baseline.name)[0], frames
        return
    with ExitStack() as stack:
        tree = stack.enter_context(checked_out(repository, baseline.name))
        sides = [
            stack.enter_context(
                ProcessSide(
                    worker,
                    name=name,
                    folder=repository,
                    environment={"PYTHONPATH": str(folder), "OMP_WAIT_POLICY": "passive"},
                )
            )
            for name, folder in ((f"Revision {baseline.name[:10]}", tree), ("The working tree", top_of(repository)))
        ]
        if sides[0].frames != sides[1].frames:
            raise UserError(
                f"The two revisions read {sides[1].frames} and {sides[0].frames} frames from the same options; there "
                f"is nothing to compare."
            )
        yield sides[1], sides[0], sides[0].frames


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
    """Open both sides and measure them in turns; arguments and errors are those of ``both_sides`` and ``run_gate``."""
    with both_sides(baseline, repository=repository, open_model=open_model, worker=worker) as sides:
        candidate, other, frames = sides
        return run_gate(candidate, other, plan, frames=frames, progress=progress)


def gate_markdown(said: Comparison, baseline: Baseline) -> str:
    """The section of a report."""
    columns = ("figure", "this", "baseline", "ratio", "interval", "tolerated", "verdict")
    rows = [_row(name, ratio) for name, ratio in (("median", said.median), ("p99", said.p99))]
    return "\n".join(
        [
            f"### Relative gate: {said.verdict}",
            "",
            f"Against `{baseline.given}`, in turns in one run: {said.rounds} rounds, {said.frames} frames of each.",
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
