"""What a streaming study says: a table for the terminal and for Markdown, and a picture of the curves."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from fusionkd.metrics import NuScenesFigures
from fusionkd.realtime.streaming_study import MEANS, Point, Study

COLUMNS = ("model", "latency", "factor", "overrun", "moved on", *MEANS, "age", "processed", "blind")
COLOURS = ("#0b6e99", "#c8553d", "#588157", "#7b2d8b", "#b58900", "#444444")


def markdown(studies: Sequence[Study], *, title: str) -> str:
    """All settings as a Markdown table, each model's offline figures first."""
    lines = [f"**{title}**", "", "| " + " | ".join(COLUMNS) + " |", "|" + " --- |" * len(COLUMNS)]
    lines += ["| " + " | ".join(row) + " |" for study in studies for row in _rows(study)]
    return "\n".join(lines) + "\n"


def draw(studies: Sequence[Study], path: Path, *, title: str) -> None:
    """Streaming NDS against the slow-down factor, one panel per overrun policy.

    Args:
        studies: The models.
        path: Picture to write.
        title: Above it.
    """
    policies = list(dict.fromkeys(point.overrun for study in studies for point in study.points))
    figure = Figure(figsize=(6.2 * len(policies), 5.0), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title)
    for column, overrun in enumerate(policies):
        axes = figure.add_subplot(1, len(policies), column + 1, sharey=figure.axes[0] if figure.axes else None)
        for study, colour in zip(studies, _cycle(len(studies))):
            _curves(axes, study, [point for point in study.points if point.overrun == overrun], colour)
        axes.set_title({"skip": "skip: the newest frame wins", "run_on": "run on: frames queue"}[overrun])
        axes.set_xlabel("slow-down factor of the measured latency")
        axes.set_ylabel("NDS (dotted: offline)")
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.25)
    # One for all panels, beside them: the curves of a good model and a bad one leave no corner free.
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


def _curves(axes: Axes, study: Study, points: Sequence[Point], colour: str) -> None:
    median_ms = float(np.median(study.busy_ns)) * 1e-6
    for forward, style in ((True, "-"), (False, "--")):
        chosen = sorted((p for p in points if p.forward == forward), key=lambda point: point.factor)
        label = f"{study.name} ({median_ms:.0f} ms){', moved on' if forward else ''}"
        axes.plot(
            [p.factor for p in chosen], [p.figures.nds for p in chosen], style, color=colour, marker=".", label=label
        )
    axes.axhline(study.offline.nds, color=colour, linestyle=":", linewidth=1)
    if all(point.factor > 0 for point in points):
        axes.set_xscale("log", base=2)
    factors = sorted({point.factor for point in points})
    axes.set_xticks(factors, [f"{factor:g}" for factor in factors])


def _rows(study: Study) -> list[list[str]]:
    latency = f"{np.median(study.busy_ns) * 1e-6:.1f} ms{' modelled' if study.modelled else ''}"
    rows = [[study.name, latency, "", "offline", "", *_means(study.offline), "", "", ""]]
    for point in study.points:
        done = point.replayed
        age = "" if done.blind == 1.0 else f"{np.nanmean(done.age_s) * 1e3:.0f} ms"
        setting = [f"{point.factor:g}", point.overrun, "yes" if point.forward else "no"]
        share = f"{done.processed / done.arrived:.0%}"
        rows.append([study.name, latency, *setting, *_means(point.figures), age, share, f"{done.blind:.0%}"])
    return rows


def _means(figures: NuScenesFigures) -> list[str]:
    named = figures.to_dict()
    return [f"{named[name]:.3f}" for name in MEANS]


def _cycle(count: int) -> list[str]:
    return [COLOURS[number % len(COLOURS)] for number in range(count)]
