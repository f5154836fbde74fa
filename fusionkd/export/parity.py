"""Whether an exported network answers what the trained one does."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from fusionkd.deploy import NO_CLOCK, Candidates, Clock, DeploySpec, finish
from fusionkd.deploy.prepare import Inputs
from fusionkd.errors import UserError
from fusionkd.geometry import Boxes3D

MATCH_M = 1.0
"""Boxes of one class whose centres are closer are the same box."""


class NamedNetwork(Protocol):
    """A network whose answers can be asked for by name: ``OnnxNetwork``, ``TorchNetwork``."""

    def __call__(self, inputs: Mapping[str, NDArray[Any]], clock: Clock = NO_CLOCK) -> Candidates:
        """The candidates of a frame."""

    def run(self, inputs: Mapping[str, NDArray[Any]], outputs: Sequence[str]) -> list[NDArray[Any]]:
        """Some of the answers."""


@dataclass(frozen=True)
class Tolerance:
    """How far an exported network may be off.

    Attributes:
        relative: Of any map: mean absolute error over mean absolute value.
        centre_m: Distance of matched boxes' centres, the 95th percentile.
        score: Difference of matched boxes' scores, the 95th percentile.
        unmatched: Share of clear boxes that the other side lacks; a box is clear if it scores higher than the
            threshold by ``clear``.
        clear: Margin over the score threshold.
    """

    relative: float
    centre_m: float
    score: float
    unmatched: float
    clear: float


TOLERANCES = {
    "fp32": Tolerance(relative=1e-4, centre_m=1e-3, score=1e-4, unmatched=0.0, clear=1e-3),
    "fp16": Tolerance(relative=1e-2, centre_m=0.05, score=0.01, unmatched=0.02, clear=0.02),
    "int8": Tolerance(relative=0.2, centre_m=0.4, score=0.1, unmatched=0.1, clear=0.1),
}
"""By precision. Those of eight bits only catch what is broken: what it costs, the figures must say."""


@dataclass(frozen=True)
class OutputParity:
    """One output over all frames.

    Attributes:
        name: Of the output.
        max_abs: Largest absolute difference.
        relative: Mean absolute difference over mean absolute value of the reference.
    """

    name: str
    max_abs: float
    relative: float


@dataclass(frozen=True)
class BoxParity:
    """The final boxes over all frames.

    Attributes:
        reference: Boxes of the reference.
        found: Boxes of the exported network.
        matched: Pairs of one class within ``MATCH_M``.
        unmatched: Share of clear boxes, of both sides, that have no partner.
        centre_m: 95th percentile of the pairs' distance, metres.
        max_centre_m: The largest.
        score: 95th percentile of the pairs' difference of scores.
        max_score: The largest.
    """

    reference: int
    found: int
    matched: int
    unmatched: float
    centre_m: float
    max_centre_m: float
    score: float
    max_score: float


@dataclass(frozen=True)
class ParityReport:
    """The comparison of two networks.

    Attributes:
        frames: Frames compared.
        outputs: Per map.
        boxes: Of the final boxes.
        tolerance: What is allowed.
        simulated: Whether the frames were simulated; None for made-up ones.
    """

    frames: int
    outputs: tuple[OutputParity, ...]
    boxes: BoxParity
    tolerance: Tolerance
    simulated: bool | None

    @property
    def broken(self) -> list[str]:
        """What is out of tolerance, in words; empty where all is well."""
        allowed, boxes = self.tolerance, self.boxes
        found = [(f"relative error of {o.name}", o.relative, allowed.relative) for o in self.outputs]
        found += [
            ("distance of the boxes' centres in metres", boxes.centre_m, allowed.centre_m),
            ("difference of the boxes' scores", boxes.score, allowed.score),
            ("share of boxes without a partner", boxes.unmatched, allowed.unmatched),
        ]
        # Written so that NaN is broken too.
        return [f"{what} is {value:.3g}, allowed is {limit:.3g}" for what, value, limit in found if not value <= limit]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {**asdict(self), "broken": self.broken}

    def table(self, title: str) -> Table:
        """The report as rich draws it."""
        what = {True: "simulated frames", False: "real frames", None: "made-up frames"}[self.simulated]
        table = Table(title=f"{title}, {self.frames} {what}")
        for column in ("output", "largest error", "relative error", "allowed"):
            table.add_column(column, justify="left" if column == "output" else "right")
        for o in self.outputs:
            table.add_row(o.name, f"{o.max_abs:.2e}", f"{o.relative:.2e}", f"{self.tolerance.relative:.0e}")
        boxes, allowed = self.boxes, self.tolerance
        count = f"boxes: {boxes.matched} of {boxes.reference} and {boxes.found} matched; unmatched clear ones"
        table.add_row(count, "", f"{boxes.unmatched:.1%}", f"{allowed.unmatched:.0%}")
        table.add_row(
            "centres, m (95 %)", f"{boxes.max_centre_m:.2e}", f"{boxes.centre_m:.2e}", f"{allowed.centre_m:g}"
        )
        table.add_row("scores (95 %)", f"{boxes.max_score:.2e}", f"{boxes.score:.2e}", f"{allowed.score:g}")
        return table


def compare_networks(
    reference: NamedNetwork,
    other: NamedNetwork,
    frames: Iterable[Inputs],
    *,
    spec: DeploySpec,
    outputs: Sequence[str],
    tolerance: Tolerance,
    simulated: bool | None = None,
) -> ParityReport:
    """Run two networks on the same inputs and compare maps and boxes.

    Args:
        reference: The trained network.
        other: The exported one.
        frames: Inputs of ``prepare``.
        spec: How candidates become boxes.
        outputs: Maps that both have.
        tolerance: What is allowed.
        simulated: Whether the frames are simulated; None for made-up ones.

    Raises:
        UserError: If there is no frame.
    """
    errors: dict[str, list[tuple[float, float, float]]] = {name: [] for name in outputs}
    pairs: list[tuple[Boxes3D, Boxes3D]] = []
    for frame in frames:
        wanted, found = reference.run(frame, outputs), other.run(frame, outputs)
        for name, a, b in zip(outputs, wanted, found):
            difference = np.abs(b.astype(np.float64) - a)
            errors[name].append((float(difference.max()), float(difference.mean()), float(np.abs(a).mean())))
        pairs.append((finish(reference(frame), spec), finish(other(frame), spec)))
    if not pairs:
        raise UserError("A comparison needs at least one frame, found none.")
    compared = []
    for name, rows in errors.items():
        largest, off, size = np.asarray(rows).T
        compared.append(OutputParity(name, float(largest.max()), float(off.mean() / max(size.mean(), 1e-12))))
    boxes = compare_boxes(pairs, clear_score=spec.selection.score_threshold + tolerance.clear)
    return ParityReport(len(pairs), tuple(compared), boxes, tolerance, simulated)


def compare_boxes(frames: Sequence[tuple[Boxes3D, Boxes3D]], *, clear_score: float) -> BoxParity:
    """Compare the boxes of frames, reference first.

    Args:
        frames: Boxes of both sides per frame.
        clear_score: Boxes that score lower may lack a partner: they stand at the threshold.
    """
    distance_m: list[float] = []
    score: list[float] = []
    clear = alone = 0
    for reference, found in frames:
        partners = match_boxes(reference, found)
        for a, b in partners:
            distance_m.append(float(np.linalg.norm(reference.xyz_m[a] - found.xyz_m[b])))
            score.append(float(abs(reference.score[a] - found.score[b])))
        for side, boxes in ((0, reference), (1, found)):
            matched = {pair[side] for pair in partners}
            rows = [row for row in range(len(boxes)) if boxes.score[row] > clear_score]
            clear += len(rows)
            alone += sum(row not in matched for row in rows)
    return BoxParity(
        reference=sum(len(reference) for reference, _ in frames),
        found=sum(len(found) for _, found in frames),
        matched=len(distance_m),
        unmatched=alone / max(clear, 1),
        centre_m=_percentile(distance_m),
        max_centre_m=max(distance_m, default=0.0),
        score=_percentile(score),
        max_score=max(score, default=0.0),
    )


def match_boxes(reference: Boxes3D, found: Boxes3D) -> list[tuple[int, int]]:
    """Pairs of boxes of one class within ``MATCH_M``, the nearest first, each box at most once."""
    apart_m = np.linalg.norm(reference.xyz_m[:, None] - found.xyz_m[None], axis=2)  # (R, F)
    apart_m[reference.label[:, None] != found.label[None]] = np.inf
    pairs: list[tuple[int, int]] = []
    taken: tuple[set[int], set[int]] = (set(), set())
    for flat in np.argsort(apart_m, axis=None, kind="stable"):
        a, b = (int(row) for row in np.unravel_index(flat, apart_m.shape))
        if not apart_m[a, b] < MATCH_M:
            break
        if a not in taken[0] and b not in taken[1]:
            pairs.append((a, b))
            taken[0].add(a)
            taken[1].add(b)
    return pairs


def _percentile(values: Sequence[float]) -> float:
    return float(np.percentile(values, 95)) if values else 0.0
