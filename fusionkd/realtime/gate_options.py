"""The relative gate's part of a command: its options, its run, its section of the report."""

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fusionkd.realtime.against import Baseline, gate_against, gate_markdown, parse_against
from fusionkd.realtime.gate import Comparison
from fusionkd.realtime.turns import GatePlan, GateResult

if TYPE_CHECKING:  # a command's help needs no PyTorch
    from fusionkd.realtime.gate_subject import GateSubject

STATUS = {"not slower": 0, "slower": 1, "inconclusive": 2}
"""Exit status of each verdict, as for deadlines: met, missed, inconclusive."""


@dataclass(frozen=True)
class GateReport:
    """A gate's run.

    Attributes:
        baseline: What was compared with.
        result: What came out.
    """

    baseline: Baseline
    result: GateResult

    @property
    def status(self) -> int:
        """Exit status: 0 not slower, 1 slower, 2 inconclusive."""
        return STATUS[self.result.comparison.verdict]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for a report's JSON."""
        return {"against": vars(self.baseline), **self.result.comparison.to_dict()}

    def to_markdown(self) -> str:
        """A section, for a pull request."""
        return gate_markdown(self.result.comparison, self.baseline)

    def write(self, folder: Path) -> None:
        """Write ``gate.json`` into a folder, and the section at the end of its ``report.md``."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "gate.json").write_text(json.dumps(self.to_dict(), indent=2) + "\n", encoding="utf-8")
        with open(folder / "report.md", "a", encoding="utf-8") as page:
            page.write(f"\n{self.to_markdown()}")


def worst_status(*statuses: int) -> int:
    """Of several exit statuses: 1 if any is missed or slower, else 2 if any is inconclusive, else 0."""
    return next((status for status in (3, 1, 2) if status in statuses), 0)


def add_gate_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--against`` and what belongs to it."""
    group = parser.add_argument_group("relative gate", "is this slower than something else, in turns in one run?")
    group.add_argument(
        "--against",
        metavar="BASELINE",
        help="a checkpoint, an ONNX file, rev:REVISION (the same model with that git revision's code), or a report, "
        "whose revision is measured again",
    )
    plan = GatePlan()
    group.add_argument(
        "--tolerance",
        type=float,
        default=plan.tolerance,
        help="accepted slow-down of the median (default: %(default)s)",
    )
    group.add_argument(
        "--tail-tolerance",
        type=float,
        default=plan.tail_tolerance,
        help="accepted slow-down of the p99 (default: %(default)s)",
    )
    group.add_argument(
        "--most-starts",
        type=int,
        default=plan.most_starts,
        help="starts of both sides after which to stop undecided (default: %(default)s)",
    )


def run_gate_options(given: argparse.Namespace, subject: "GateSubject", repository: Path | None = None) -> GateReport:
    """Run the gate that the options ask for.

    Args:
        given: Parsed options of ``add_gate_options``, with ``against`` set.
        subject: The candidate.
        repository: Where revisions are looked up; None for the current folder.

    Raises:
        UserError: If something in the options is wrong or a side can't run.
    """
    repository = repository or Path.cwd()
    plan = GatePlan(
        tolerance=given.tolerance,
        tail_tolerance=given.tail_tolerance,
        first_starts=min(GatePlan().first_starts, given.most_starts),
        most_starts=given.most_starts,
    )
    baseline = parse_against(given.against, repository=repository)
    with subject.with_frames() as ready:
        result = gate_against(
            baseline, plan, repository=repository, open_model=ready.open, worker=ready.worker(), progress=_tell
        )
    return GateReport(baseline, result)


def _tell(said: Comparison) -> None:
    print(f"gate: {said.starts} starts, ratio {said.median.value:.3f}, {said.verdict}", file=sys.stderr, flush=True)
