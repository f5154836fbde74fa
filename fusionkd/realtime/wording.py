"""Words and numbers that all reports share."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from fusionkd.realtime.pwcet import Pwcet
from fusionkd.realtime.statistics import Bounds
from fusionkd.realtime.verdict import Verdict

PROBABILITIES = (1e-3, 1e-4, 1e-5, 1e-6)
"""Exceedance probabilities of a frame for which the worst case is told, where the frames reach so far."""


def flat(about: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The entries of nested mappings, their names joined by dots."""
    for name, value in about.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def is_simulated(about: Mapping[str, Any]) -> bool:
    """Whether an entry ``simulated`` of the description says that the frames came from a simulated world."""
    return any(name.split(".")[-1] == "simulated" and bool(value) for name, value in flat(about))


def headline(verdict: Verdict) -> str:
    """The verdict in one line."""
    contract, figures = verdict.contract, verdict.figures
    kind = ", ".join(
        word
        for word, so in (("modelled", verdict.trace.modelled), ("simulated", is_simulated(verdict.trace.about)))
        if so
    )
    text = (
        f"Deadline {contract.deadline_ms:g} ms at p{contract.percentile:g}: {verdict.status}"
        f"{f' ({kind})' if kind else ''}, {figures.misses:,} of {figures.frames:,} frames late"
    )
    if verdict.frames_needed is not None:
        text += f"; deciding takes about {verdict.frames_needed:,} frames"
    return text


def scenario(verdict: Verdict) -> str:
    """How frames came."""
    trace = verdict.trace
    if trace.scenario == "single_stream":
        return "single stream"
    policy = "newest frame wins" if trace.overrun == "skip" else "frames queue"
    return f"constant stream, a frame each {trace.period_ns / 1e6:.4g} ms, {policy}"


def pwcet_bounds(pwcet: Pwcet) -> list[tuple[float, float, float]]:
    """Exceedance probability, estimate and upper bound, where the frames reach so far."""
    most = pwcet.exceedances / pwcet.frames
    return [
        (probability, pwcet.estimate(probability), pwcet.upper(probability))
        for probability in PROBABILITIES
        if pwcet.least_probability <= probability <= most
    ]


def number(value: float | None, unit: str = "") -> str:
    """A figure to four digits; a dash where it is absent or unbounded."""
    if value is None or not math.isfinite(value):
        return "-"
    return f"{value:,.0f}{unit}" if abs(value) >= 1000 else f"{value:.4g}{unit}"


def reached(value_ms: float) -> str:
    """A percentile in ms; it may be the infinite latency of a dropped frame."""
    return "a dropped frame" if math.isinf(value_ms) else number(value_ms, " ms")


def interval(bounds: Bounds) -> str:
    """Both bounds; a dash for one that is not proven."""
    return f"{number(bounds.lower)} to {number(bounds.upper)}"
