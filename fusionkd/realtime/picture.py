"""A verdict as a picture: the latencies over time, their distribution, and what the stages take."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, StrMethodFormatter
from numpy.typing import NDArray

from fusionkd.realtime.figures import processed_ms
from fusionkd.realtime.trace import LatencyTrace
from fusionkd.realtime.verdict import Verdict
from fusionkd.realtime.wording import flat, headline, is_simulated, number, reached, scenario

BACKGROUND = "#ffffff"
INK = "#1f2933"
QUIET = "#7b8794"
FRAME = "#3d6fa5"
LATE = "#c8352b"
COLD = "#9fb3c8"
COLOUR = {"met": "#2f7d4f", "missed": LATE, "inconclusive": "#b7791f"}
STAGES = ("#27496d", "#3d6fa5", "#7ea8d0", "#4f9d8a", "#9ccfb8", "#e0b04f", "#d98a4b", "#b5566b", "#8a6fae", "#c3b1dd")

_CAPTION = ("device", "gpu", "cpu", "power_mode", "model", "checkpoint", "backend", "precision")
_PARTS = 200


def latency_figure(verdict: Verdict) -> Figure:
    """Timeline, histogram and stages of a verdict's trace, 1400 x 900 pixels; the caption names the machine."""
    figure = Figure(figsize=(14, 9), dpi=100, facecolor=BACKGROUND)
    FigureCanvasAgg(figure)
    figure.text(0.035, 0.975, headline(verdict), color=COLOUR[verdict.status], fontsize=15, weight="bold", va="top")
    figure.text(0.035, 0.938, _caption(verdict), color=QUIET, fontsize=9.5, va="top", parse_math=False)
    _draw_timeline(figure.add_axes((0.05, 0.50, 0.935, 0.355)), verdict)
    _draw_histogram(figure.add_axes((0.05, 0.07, 0.40, 0.34)), verdict)
    _draw_stages(figure.add_axes((0.52, 0.07, 0.305, 0.34)), verdict.trace)
    return figure


def _caption(verdict: Verdict) -> str:
    trace, figures = verdict.trace, verdict.figures
    known = {name.split(".")[-1]: str(value) for name, value in flat(trace.about)}
    named = [f"{name.replace('_', ' ')} {known[name]}" for name in _CAPTION if name in known]
    kinds = [
        word for word, so in (("modelled times", trace.modelled), ("simulated frames", is_simulated(trace.about))) if so
    ]
    machine = " · ".join([*kinds, *named]) or "the trace doesn't name its machine"
    counts = f"{figures.frames:,} frames, {figures.dropped:,} dropped, {len(figures.cold_ms):,} cold"
    return f"{machine}\n{scenario(verdict)} · {counts} · longest run of misses {figures.longest_run:,}"


def _draw_timeline(axes: Axes, verdict: Verdict) -> None:
    trace, deadline = verdict.trace, verdict.contract.deadline_ms
    latency, index, cold = trace.latency_ns / 1e6, trace.arrival_index, trace.cold
    late = latency > deadline
    warm = np.arange(len(latency)) >= cold
    size, wide = (3.0, 3.0) if len(latency) > 3000 else (6.0, 1.6)
    for chosen, colour, label in (
        (~warm, COLD, "cold"),
        (warm & ~late, FRAME, "in time"),
        (warm & late, LATE, "late"),
    ):
        if chosen.any():
            axes.scatter(
                index[chosen],
                latency[chosen],
                s=size * (wide if colour == LATE else 1),
                color=colour,
                linewidths=0,
                label=f"{label} ({np.count_nonzero(chosen):,})",
                rasterized=True,
            )
    top = _top(latency[cold:], deadline)
    _draw_dropped(axes, verdict)
    higher = np.flatnonzero(latency > top)
    if len(higher):
        axes.scatter(
            index[higher],
            np.full(len(higher), 0.985 * top),
            marker="^",
            s=36,
            color=INK,
            zorder=4,
            label=f"higher, up to {number(float(latency.max()))} ms ({len(higher):,})",
        )
    axes.axhline(deadline, color=LATE, linewidth=1.3, linestyle="--")
    axes.set_ylim(0, top)
    last = max(1, trace.arrived - 1)
    axes.set_xlim(-0.01 * last, 1.01 * last)
    _style(axes, "frame", "latency, ms", "From arrival to boxes")
    _name_deadline(axes, deadline)
    if len(latency):
        axes.legend(
            loc="upper right",
            ncols=5,
            fontsize=8.5,
            frameon=False,
            bbox_to_anchor=(1.0, 1.115),
            labelcolor=INK,
            markerscale=2,
        )


def _draw_dropped(axes: Axes, verdict: Verdict) -> None:
    trace = verdict.trace
    dropped = np.setdiff1d(np.arange(trace.arrived), trace.arrival_index, assume_unique=True)
    if len(dropped):
        axes.vlines(
            dropped,
            0,
            0.035,
            color=LATE,
            linewidth=0.8,
            transform=axes.get_xaxis_transform(),
            label=f"dropped ({len(dropped):,})",
        )


def _name_deadline(axes: Axes, deadline: float) -> None:
    axes.annotate(
        f"deadline {deadline:g} ms",
        (0.004, deadline),
        xycoords=("axes fraction", "data"),
        xytext=(0, 3),
        textcoords="offset points",
        color=LATE,
        fontsize=9,
        bbox={"facecolor": BACKGROUND, "edgecolor": "none", "alpha": 0.85, "pad": 1},
        zorder=5,
    )


def _draw_histogram(axes: Axes, verdict: Verdict) -> None:
    latency, deadline = processed_ms(verdict.trace), verdict.contract.deadline_ms
    _style(axes, "latency, ms", "frames", "Distribution, percentiles with their intervals")
    if not len(latency):
        _say_empty(axes)
        return
    bins = np.linspace(*_span(latency, deadline), 90)
    counts, _ = np.histogram(np.minimum(latency, bins[-1]), bins)
    axes.bar(bins[:-1], counts, width=np.diff(bins), align="edge", color=np.where(bins[:-1] >= deadline, LATE, FRAME))
    axes.set_yscale("log")
    # Room above the bars for the percentiles.
    axes.set_ylim(0.7, float(counts.max()) ** 2 + 30)
    axes.set_xlim(bins[0], bins[-1])
    axes.axvline(deadline, color=LATE, linewidth=1.3, linestyle="--")
    percentiles = verdict.figures.percentiles
    for row, figure in enumerate(percentiles):
        height = 0.93 - 0.095 * row
        ends = np.clip([figure.interval_ms.lower, figure.interval_ms.upper, figure.value_ms], bins[0], bins[-1])
        at = axes.get_xaxis_transform()
        axes.plot(ends[:2], [height, height], color=INK, linewidth=2.2, transform=at, solid_capstyle="butt")
        axes.plot(ends[2], height, "o", color=INK, markersize=4.5, transform=at)
        proven = bool(np.isfinite(figure.interval_ms.upper))
        if not proven:
            axes.plot(ends[1], height, ">", color=INK, markersize=7, transform=at, clip_on=False)
        right = ends[2] > (bins[0] + bins[-1]) / 2
        axes.annotate(
            f"p{figure.percent:g}  {reached(figure.value_ms)}{'' if proven else ', no upper bound'}",
            (ends[2], height),
            xycoords=at,
            xytext=(5 if right else -5, 4),
            textcoords="offset points",
            ha="right" if right else "left",
            fontsize=8.5,
            color=INK,
        )


def _draw_stages(axes: Axes, trace: LatencyTrace) -> None:
    _style(axes, "frame", "work, ms", "Where the time goes (means of neighbouring frames)")
    warm, index = trace.stage_ns[trace.cold :] / 1e6, trace.arrival_index[trace.cold :]
    if not len(warm):
        _say_empty(axes)
        return
    rest = trace.uncovered_ns[trace.cold :, None] / 1e6
    means = _means(np.concatenate([warm, rest], axis=1))
    names = [*trace.stages, "in no stage"]
    colours = [STAGES[k % len(STAGES)] for k in range(len(trace.stages))] + ["#cbd2d9"]
    frames = _means(index[:, None].astype(np.float64))[:, 0]
    axes.stackplot(frames, means.T, labels=names, colors=colours, linewidth=0)
    axes.set_xlim(frames[0], max(frames[-1], frames[0] + 1))
    axes.set_ylim(0, 1.08 * float(means.sum(axis=1).max()))
    handles, labels = axes.get_legend_handles_labels()
    share = means.mean(axis=0)
    axes.legend(
        handles[::-1],
        [f"{label}  {number(float(time))} ms" for label, time in zip(labels, share)][::-1],
        loc="upper left",
        bbox_to_anchor=(1.01, 1.02),
        fontsize=8.5,
        frameon=False,
        labelcolor=INK,
        borderaxespad=0,
    )


def _say_empty(axes: Axes) -> None:
    axes.text(0.5, 0.5, "no frame behind the cold ones", color=QUIET, ha="center", transform=axes.transAxes)
    axes.set_xticks([])
    axes.set_yticks([])


def _means(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Means of (N, C) over at most so many equal parts, so that a million frames draw like a thousand."""
    return np.stack([part.mean(axis=0) for part in np.array_split(values, min(_PARTS, len(values)))])


def _top(latency: NDArray[np.float64], deadline: float) -> float:
    """A height that shows deadline and nearly all frames: a single outlier doesn't flatten the rest."""
    high = float(np.quantile(latency, 0.9999)) if len(latency) else deadline
    return 1.15 * min(max(deadline, high), 3 * max(deadline, float(np.median(latency)) if len(latency) else 0))


def _span(latency: NDArray[np.float64], deadline: float) -> tuple[float, float]:
    low, high = min(float(latency.min()), deadline), _top(latency, deadline)
    return low - 0.05 * (high - low), high


def _style(axes: Axes, x: str, y: str, title: str) -> None:
    axes.set_facecolor(BACKGROUND)
    axes.set_title(title, loc="left", fontsize=11, color=INK)
    axes.set_xlabel(x, color=QUIET, fontsize=9)
    axes.set_ylabel(y, color=QUIET, fontsize=9)
    axes.tick_params(colors=QUIET, labelsize=8.5)
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
    axes.grid(axis="y", color="#e4e7eb", linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color("#cbd2d9")
