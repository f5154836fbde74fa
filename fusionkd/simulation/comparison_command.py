"""``fusionkd compare-worlds``: how like a simulated world is to real frames, in figures and pictures."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from fusionkd.errors import UserError
from fusionkd.simulation.comparison import Comparison, compare, save_pictures
from fusionkd.simulation.comparison_frames import Root

SHOWN_VALUES = 8


def parser() -> argparse.ArgumentParser:
    """The command line."""
    out = argparse.ArgumentParser(
        prog="fusionkd compare-worlds",
        description="Print a simulated world beside real frames; both in nuScenes' format. Largest difference first.",
    )
    out.add_argument("--real", type=Path, required=True, help="folder of the real frames")
    out.add_argument("--simulated", type=Path, required=True, help="folder of the simulated world")
    out.add_argument("--out", type=Path, required=True, help="folder for comparison.json and the pictures")
    out.add_argument("--real-version", help="tables of the real root (default: the only ones there)")
    out.add_argument("--simulated-version", help="tables of the simulated root (default: the only ones there)")
    out.add_argument(
        "--leave-out",
        nargs="*",
        default=[],
        metavar="WORD",
        help="leave out scenes whose description holds a word, as night or rain when the real frames are dry days",
    )
    out.add_argument("--pictures", type=int, default=4, help="pairs of pictures of each kind (default: %(default)s)")
    return out


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status.

    Raises:
        UserError: If a root can't be compared or the pictures can't be written.
    """
    given = parser().parse_args(arguments)
    if given.pictures < 0:
        raise UserError(f"--pictures must be 0 or more, found {given.pictures}.")
    words = tuple(given.leave_out)
    real = Root(given.real, version=given.real_version, leave_out=words)
    simulated = Root(given.simulated, version=given.simulated_version, leave_out=words)
    found = compare(real, simulated)
    for line in table(found):
        print(line)
    try:
        given.out.mkdir(parents=True, exist_ok=True)
        path = given.out / "comparison.json"
        path.write_text(json.dumps(found.as_dict(), indent=1) + "\n")
        print(f"Wrote {path}.")
        save_pictures(given.out, real, simulated, count=given.pictures)
    except OSError as error:
        raise UserError(f"The comparison can't be written to {given.out}: {error}.") from error
    return 0


def table(found: Comparison) -> list[str]:
    """Lines for a terminal: distance, statistic, and the first values of both worlds."""
    lines = [
        f"{found.keyframes[0]} real keyframes beside {found.keyframes[1]} simulated ones; 0 is equal, 1 is unlike."
    ]
    for difference in found.differences:
        moved = "" if difference.wasserstein is None else f"  (moved by {difference.wasserstein:.3g})"
        lines.append(f"{difference.distance:6.3f}  {difference.name}{moved}")
        if len(difference.labels) <= SHOWN_VALUES:
            for label, a, b in zip(difference.labels, difference.real, difference.simulated):
                lines.append(f"          {label:<14} real {a:10.3f}   simulated {b:10.3f}")
    lines += [f"skipped  {text}" for text in found.skipped]
    return lines
