"""Findings: one limit of a contract each, held against what was measured."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fusionkd.realtime.contract import WeaklyHard
from fusionkd.realtime.independence import inflation
from fusionkd.realtime.statistics import (
    Bounds,
    frames_to_decide,
    miss_rate_bounds,
    most_misses,
    percentile,
    percentile_bounds,
)
from fusionkd.realtime.steady import FEWEST_FRAMES, drift, is_steady

Status = Literal["met", "missed", "inconclusive"]

UNBOUNDED = Bounds(-math.inf, math.inf)


@dataclass(frozen=True)
class Finding:
    """What became of one limit.

    Attributes:
        name: Which limit.
        status: ``met`` if the bound keeps it, ``missed`` if the bound breaks it, else ``inconclusive``.
        sentence: The finding in words.
        unit: Of all figures.
        limit: Of the contract.
        value: That was measured; None where it is absent.
        bounds: Of the true value, one-sided each; equal to ``value`` where there is nothing to be unsure of, infinite
            where nothing is proven.
        frames_needed: How many frames an inconclusive finding would take at the rate of misses seen, or None.
    """

    name: str
    status: Status
    sentence: str
    unit: str
    limit: float
    value: float | None
    bounds: Bounds = UNBOUNDED
    frames_needed: int | None = None


@dataclass(frozen=True)
class Certainty:
    """How sure a finding must be.

    Attributes:
        percent: The percentile that is judged.
        met: Confidence of the bound that says met.
        missed: Confidence of the bound that says missed.
    """

    percent: float
    met: float
    missed: float


def percentile_finding(
    values_ms: NDArray[np.float64], limit_ms: float, certainty: Certainty, *, name: str, what: str
) -> Finding:
    """Does a percentile of the times keep its limit?

    Args:
        values_ms: (N,) infinite where a frame was dropped.
        limit_ms: Largest time allowed.
        certainty: What to judge, and how surely.
        name: Of the finding.
        what: Begin of the sentence.
    """
    name, what = f"{name} p{certainty.percent:g}", f"{what} p{certainty.percent:g}"
    if not len(values_ms):
        return Finding(name, "inconclusive", f"{what}: no frame was measured.", "ms", limit_ms, None)
    together = inflation(values_ms, certainty.percent)
    bounds = percentile_bounds(
        values_ms, certainty.percent, certainty.met, lower_confidence=certainty.missed, inflation=together
    )
    status: Status = "met" if bounds.upper <= limit_ms else "missed" if bounds.lower > limit_ms else "inconclusive"
    value = percentile(values_ms, certainty.percent)
    needed = _frames_needed(values_ms > limit_ms, certainty, together) if status == "inconclusive" else None
    proof = {
        "met": f"with {100 * certainty.met:g} % confidence at most {_ms(bounds.upper)}",
        "missed": f"with {100 * certainty.missed:g} % confidence above the limit, at least {_reached(bounds.lower)}",
        "inconclusive": f"its bounds {_ms(bounds.lower)} and {_ms(bounds.upper)} decide nothing; {_takes(needed)}",
    }[status]
    sentence = f"{what} is {_reached(value)} of {limit_ms:g} ms in {len(values_ms):,} frames: {proof}."
    if together > 1:
        sentence += f" Slow frames come in clusters: {together:.1f} frames count as one."
    return Finding(name, status, sentence, "ms", limit_ms, value, bounds, needed)


def miss_rate_finding(
    values_ms: NDArray[np.float64], deadline_ms: float, certainty: Certainty, *, what: str
) -> Finding:
    """The same question as ``percentile_finding``, asked of the rate of misses: the two always agree."""
    limit = 1 - certainty.percent / 100
    frames, misses = len(values_ms), int(np.count_nonzero(values_ms > deadline_ms))
    if not frames:
        return Finding("miss rate", "inconclusive", "No frame was measured.", "%", 100 * limit, None)
    together = inflation(values_ms, certainty.percent)
    rate = miss_rate_bounds(misses, frames, certainty.met, lower_confidence=certainty.missed, inflation=together)
    # The counts decide, so that rounding can't make this finding differ from the percentile's.
    bounds = percentile_bounds(
        values_ms, certainty.percent, certainty.met, lower_confidence=certainty.missed, inflation=together
    )
    status: Status = (
        "met" if bounds.upper <= deadline_ms else "missed" if bounds.lower > deadline_ms else "inconclusive"
    )
    needed = _frames_needed(values_ms > deadline_ms, certainty, together) if status == "inconclusive" else None
    sentence = (
        f"{misses:,} of {frames:,} {what} missed {deadline_ms:g} ms, dropped ones included: a rate of at least "
        f"{100 * rate.lower:.3g} % ({100 * certainty.missed:.4g} % confidence) and at most {100 * rate.upper:.3g} % "
        f"({100 * certainty.met:g} % confidence); {100 * limit:.3g} % are allowed."
    )
    percents = Bounds(100 * rate.lower, 100 * rate.upper)
    return Finding("miss rate", status, sentence, "%", 100 * limit, 100 * misses / frames, percents, needed)


def weakly_hard_finding(missed: NDArray[np.bool_], limit: WeaklyHard, confidence: float) -> Finding:
    """Did any window of consecutive frames (N,) hold more misses than allowed? A fact about the frames seen."""
    worst = most_misses(missed, limit.window)
    status: Status = "missed" if worst > limit.misses else "met" if len(missed) >= limit.window else "inconclusive"
    rule = f"{limit.misses} in any {limit.window}"
    if status == "inconclusive":
        sentence = f"Weakly hard, {rule}: {len(missed)} frames fill no window."
        return Finding("weakly hard", status, sentence, "misses", limit.misses, None, UNBOUNDED, limit.window)
    # Windows that don't overlap, so that they can be counted as trials.
    whole = missed[: len(missed) // limit.window * limit.window].reshape(-1, limit.window)  # (W * k,) -> (W, k)
    broken = int(np.count_nonzero(whole.sum(axis=1) > limit.misses))
    bound = miss_rate_bounds(broken, len(whole), confidence).upper
    sentence = (
        f"Weakly hard: the worst {limit.window} consecutive of {len(missed):,} frames hold {worst} misses, "
        f"{limit.misses} are allowed; with {100 * confidence:g} % confidence at most {100 * bound:.2g} % of windows "
        f"hold more."
    )
    return Finding("weakly hard", status, sentence, "misses", limit.misses, worst, Bounds(worst, worst))


def steady_finding(values_ms: NDArray[np.float64], deadline_ms: float, upper_ms: float, *, what: str) -> Finding:
    """Does the level stay, or does its drift at least fit between the percentile's bound and the deadline?

    Args:
        values_ms: (N,) of the processed frames.
        deadline_ms: Of the contract.
        upper_ms: Upper bound of the contract's percentile.
        what: Begin of the sentence.
    """
    room = deadline_ms - upper_ms
    if len(values_ms) < FEWEST_FRAMES:
        sentence = f"{len(values_ms)} frames can't tell whether a steady state was reached; that takes {FEWEST_FRAMES}."
        return Finding("steady state", "inconclusive", sentence, "ms", room, None, UNBOUNDED, FEWEST_FRAMES)
    strayed = drift(values_ms)
    if is_steady(values_ms):
        sentence = f"{what} is steady behind the warm-up."
        return Finding("steady state", "met", sentence, "ms", room, strayed, Bounds(strayed, strayed))
    beginning = f"{what} never became steady: the median of its slowest tenth lies {_ms(strayed)} above the whole's"
    if strayed <= room:
        sentence = f"{beginning}, which fits into the {_ms(room)} between the percentile's bound and the deadline."
        return Finding("steady state", "met", sentence, "ms", room, strayed, Bounds(strayed, strayed))
    sentence = f"{beginning}, and the percentile's bound leaves no room for that. Warm up longer, fix clocks and load."
    return Finding("steady state", "inconclusive", sentence, "ms", room, strayed)


def figure_finding(name: str, value: float | None, limit: float, *, unit: str, floor: bool = False) -> Finding:
    """Does one figure keep its limit? What isn't there is inconclusive, and said to be absent."""
    side = "at least" if floor else "at most"
    if value is None or not math.isfinite(value):
        sentence = (
            f"{name.capitalize()} is absent: {side} {limit:g}{unit and ' ' + unit} is asked for, nothing told it."
        )
        return Finding(name, "inconclusive", sentence, unit, limit, None)
    kept = value >= limit if floor else value <= limit
    sentence = f"{name.capitalize()} is {value:.4g}{unit and ' ' + unit}, {side} {limit:g} is asked for."
    return Finding(name, "met" if kept else "missed", sentence, unit, limit, value, Bounds(value, value))


def _frames_needed(missed: NDArray[np.bool_], certainty: Certainty, together: float) -> int | None:
    return frames_to_decide(
        int(missed.sum()),
        len(missed),
        certainty.percent,
        certainty.met,
        lower_confidence=certainty.missed,
        inflation=together,
    )


def _takes(needed: int | None) -> str:
    if needed is None:
        return "misses come just as often as allowed, so that no number of frames decides"
    return f"at the rate of misses seen it takes {needed:,} frames"


def _reached(value: float) -> str:
    return "that of a dropped frame" if math.isinf(value) else _ms(value)


def _ms(value: float) -> str:
    if math.isinf(value):
        return "unbounded" if value > 0 else "nothing"
    return f"{value:.4g} ms"
