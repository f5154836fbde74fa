"""What every benchmark shares: fair timing, the machine's description, tables and result files.

A result file is ``benchmarks/results/NAME.json``; ``docs/make_tables.py`` makes the documentation's
tables from it:

    {name, command, machine, versions, date, simulated,
     rows: [{what, value, unit, peer, peer_value, ratio, target, better, interval}]}

Run a benchmark on an idle machine; the load at its end is part of the machine's description.
"""

import datetime
import json
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy import stats

from fusionkd.realtime.machine import machine as describe_machine
from fusionkd.realtime.machine import versions as installed_versions

RESULTS = Path(__file__).resolve().parent / "results"
BOOTSTRAPS = 2000
MIN_WIDTH = 130


@dataclass(frozen=True)
class Row:
    """One figure, beside a peer's where there is one.

    Attributes:
        what: What was measured, in words.
        value: The figure; None where it isn't known yet, which ``what`` explains.
        unit: Its unit.
        peer: What it is compared with.
        peer_value: The peer's figure in the same unit.
        ratio: How many times better than the peer, median over the rounds.
        target: The ratio (or the value, where there is no peer) that is aimed at.
        better: "higher" or "lower": which way ``ratio``, or ``value`` without a peer, is better.
        interval: 95 % interval of ``ratio``, or of ``value`` without a peer.
    """

    what: str
    value: float | None
    unit: str
    peer: str | None = None
    peer_value: float | None = None
    ratio: float | None = None
    target: float | None = None
    better: str = "higher"
    interval: tuple[float, float] | None = None


def bootstrap_interval(values: NDArray[np.float64], *, seed: int = 0) -> tuple[float, float]:
    """95 % percentile interval of the median."""
    draws = np.random.default_rng(seed).integers(0, len(values), (BOOTSTRAPS, len(values)))
    low, high = np.percentile(np.median(values[draws], axis=1), [2.5, 97.5])
    return float(low), float(high)


def t_interval(values: NDArray[np.float64]) -> tuple[float, float] | None:
    """95 % interval of the mean by Student's t; None for a single value."""
    if len(values) < 2:
        return None
    half = float(stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)))
    return float(values.mean()) - half, float(values.mean()) + half


def compare(
    what: str,
    ours: Callable[[], object],
    peer: Callable[[], object],
    *,
    peer_name: str,
    rounds: int,
    target: float | None = None,
) -> Row:
    """Times both in turns in one process, so that both see the same clock, caches and neighbours.

    Each round times one call of each, and which goes first alternates; the first call of each is not
    counted (it compiles and fills caches). The ratio is the median of the rounds' ratios, not the
    ratio of two medians.
    """
    ours(), peer()
    seconds = np.empty((rounds, 2))
    for k in range(rounds):
        order = ((0, ours), (1, peer)) if k % 2 == 0 else ((1, peer), (0, ours))
        for column, call in order:
            start = time.perf_counter()
            call()
            seconds[k, column] = time.perf_counter() - start
    ratios = seconds[:, 1] / seconds[:, 0]
    value_ms, peer_ms = np.median(seconds, axis=0) * 1e3
    return Row(
        what=what,
        value=float(value_ms),
        unit="ms",
        peer=peer_name,
        peer_value=float(peer_ms),
        ratio=float(np.median(ratios)),
        target=target,
        interval=bootstrap_interval(ratios),
    )


def use_one_thread() -> None:
    """Keeps BLAS, OpenMP and torch to one thread, so that a ratio compares code and not thread pools."""
    import torch
    from threadpoolctl import threadpool_limits

    torch.set_num_threads(1)
    threadpool_limits(1)


def machine() -> dict[str, str]:
    """The machine in words: processor, cores, memory, accelerator, system, load."""
    import torch

    known = describe_machine("cuda" if torch.cuda.is_available() else "cpu")
    described = {
        "cpu": known["cpu"],
        "cores": f"{known['cores']} cores",
        "memory": f"{known['memory_gib']} GiB" if "memory_gib" in known else "",
        "gpu": known.get("gpu", "no GPU"),
        "system": known["system"],
        "load": f"load {known['load']:.1f} at the end" if "load" in known else "",
    }
    return {name: text for name, text in described.items() if text}


def versions(*packages: str) -> dict[str, str]:
    """Python's version and those of the packages that are installed."""
    return installed_versions(("fusionkd", "numpy", *packages))


def command_line() -> str:
    """The command that runs this benchmark again, from the repository's root; other folders lie in ``DATA``."""
    script, *arguments = (Path(text) if Path(text).is_absolute() else text for text in sys.argv)
    root = RESULTS.parent.parent
    script = Path(script).resolve()
    shown = script.relative_to(root).as_posix() if script.is_relative_to(root) else script.name
    return shlex.join(["python", shown, *(_place(text) if isinstance(text, Path) else text for text in arguments)])


def _place(path: Path) -> str:
    root = RESULTS.parent.parent
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else f"DATA/{path.name}"


def result_name(name: str, *, simulated: bool) -> str:
    """The name of a result file whose input may be simulated or real: both are kept, side by side."""
    return name if simulated else f"{name}_real"


def print_table(title: str, rows: Sequence[Row]) -> None:
    """The rows as a table on the terminal."""
    table = Table(title=title)
    for heading in ("what", "ours", "peer", "peer's", "ratio", "95 % interval", "target"):
        table.add_column(heading, justify="left" if heading in ("what", "peer") else "right")
    for row in rows:
        table.add_row(
            row.what,
            "" if row.value is None else f"{row.value:.4g} {row.unit}",
            row.peer or "",
            "" if row.peer_value is None else f"{row.peer_value:.4g} {row.unit}",
            "" if row.ratio is None else f"{row.ratio:.3g}",
            "" if row.interval is None else f"{row.interval[0]:.3g} to {row.interval[1]:.3g}",
            "" if row.target is None else f"{row.target:.3g}",
        )
    console = Console()
    console.width = max(console.width, MIN_WIDTH)  # a pipe has no width; 80 columns would break every cell
    console.print(table)


def write_result(name: str, rows: Sequence[Row], *, simulated: bool, packages: Sequence[str] = ()) -> Path:
    """Prints the rows and writes ``benchmarks/results/NAME.json``.

    Args:
        name: Name of the result file and of its table in the documentation.
        rows: The figures.
        simulated: Whether the input was simulated.
        packages: Packages whose versions matter for the figures.
    """
    result: dict[str, Any] = {
        "name": name,
        "command": command_line(),
        "machine": machine(),
        "versions": versions(*packages),
        "date": datetime.date.today().isoformat(),
        "simulated": simulated,
        "rows": [asdict(row) for row in rows],
    }
    print_table(f"{name} (simulated input)" if simulated else name, rows)
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(f"written: benchmarks/results/{path.name}")
    return path
