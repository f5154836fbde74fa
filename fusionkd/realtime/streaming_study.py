"""Streaming accuracy of a model over overrun policies and slow-down factors, as values and as plain JSON."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusionkd.errors import UserError
from fusionkd.metrics import Detections, NuScenesFigures
from fusionkd.metrics.streaming import Overrun, Replay, offline_figures, replay, streaming_figures
from fusionkd.realtime.streaming_scenes import StreamedScenes

FORMAT = "fusionkd-streaming-1"
"""Version of the result files."""
MEANS = ("mAP", "NDS", "mATE", "mASE", "mAOE", "mAVE", "mAAE")


@dataclass(frozen=True)
class Point:
    """One setting and what it gave.

    Attributes:
        factor: The measured times are multiplied by this.
        overrun: What happens to frames that arrive meanwhile.
        forward: Whether boxes are moved on by their own velocities.
        figures: Streaming figures.
        replayed: What was on show when.
    """

    factor: float
    overrun: Overrun
    forward: bool
    figures: NuScenesFigures
    replayed: Replay


@dataclass(frozen=True)
class Study:
    """Everything about one model.

    Attributes:
        name: Of the model.
        busy_ns: The times that were replayed, (N,).
        modelled: Whether they were computed by a model of a device instead of measured.
        offline: Figures at the keyframes as if nothing took time.
        points: Streaming figures per setting.
    """

    name: str
    busy_ns: NDArray[np.int64]
    modelled: bool
    offline: NuScenesFigures
    points: tuple[Point, ...]

    def point(self, *, factor: float, overrun: Overrun, forward: bool) -> Point:
        """One of the settings.

        Raises:
            KeyError: If it wasn't studied.
        """
        for point in self.points:
            if (point.factor, point.overrun, point.forward) == (factor, overrun, forward):
                return point
        raise KeyError(f"factor {factor}, {overrun}, forward {forward}")

    def to_dict(self) -> dict[str, Any]:
        """Plain values; figures that nuScenes leaves undefined are None."""
        busy_ms = self.busy_ns * 1e-6
        return {
            "name": self.name,
            "latency": {
                "modelled": self.modelled,
                "frames": len(busy_ms),
                "median_ms": float(np.median(busy_ms)),
                "p99_ms": float(np.percentile(busy_ms, 99)),
                "largest_ms": float(busy_ms.max()),
            },
            "offline": _plain(self.offline),
            "streaming": [
                {
                    "factor": point.factor,
                    "overrun": point.overrun,
                    "forward": point.forward,
                    "figures": _plain(point.figures),
                    "mean_age_ms": _mean_age_ms(point.replayed),
                    "blind": point.replayed.blind,
                    "arrived": point.replayed.arrived,
                    "processed": point.replayed.processed,
                }
                for point in self.points
            ],
        }


def study(
    name: str,
    scenes: StreamedScenes,
    outputs_of: Callable[[Sequence[str]], Detections],
    *,
    busy_ns: NDArray[np.int64],
    factors: Sequence[float],
    policies: Sequence[Overrun],
    modelled: bool = False,
) -> Study:
    """Streaming accuracy of one model.

    Args:
        name: Of the model.
        scenes: Drives and truth.
        outputs_of: Boxes of frames by their tokens; asked once, for all frames that are ever on show.
        busy_ns: How long frames take, in the order of the measurement, (N,).
        factors: Slow-down factors; 0 stands for a model that takes no time.
        policies: Overrun policies.
        modelled: Whether the times are computed instead of measured.

    Raises:
        UserError: If a factor is negative or not finite.
    """
    wrong = [factor for factor in factors if not (math.isfinite(factor) and factor >= 0)]
    if wrong or not factors:
        raise UserError(f"Slow-down factors must be finite and not negative, found {wrong or 'none'}.")
    replays: dict[tuple[float, Overrun], Replay] = {
        (factor, overrun): replay(scenes.streams, np.round(busy_ns * factor).astype(np.int64), overrun=overrun)
        for overrun in policies
        for factor in sorted(set(factors))
    }
    shown = set(scenes.keyframes).union(*(replayed.frames for replayed in replays.values()))
    outputs = outputs_of([token for token in scenes.records if token in shown])
    points = [
        Point(factor, overrun, forward, streaming_figures(scenes.truth, outputs, done, forward=forward), done)
        for (factor, overrun), done in replays.items()
        for forward in (False, True)
    ]
    return Study(name, busy_ns, modelled, offline_figures(scenes.truth, outputs, scenes.keyframes), tuple(points))


def to_dict(studies: Sequence[Study], scenes: StreamedScenes, *, simulated: bool) -> dict[str, Any]:
    """Everything as plain values, ready for JSON."""
    return {
        "format": FORMAT,
        "simulated": simulated,
        "truth": "exact" if scenes.exact else "interpolated between keyframes",
        "rate_hz": scenes.rate_hz,
        "scenes": len(scenes.streams),
        "evaluation_times": len(scenes.truth),
        "keyframes": len(scenes.keyframes),
        "models": [one.to_dict() for one in studies],
    }


def _plain(figures: NuScenesFigures) -> dict[str, float | None]:
    return {name: None if math.isnan(value) else value for name, value in figures.to_dict().items()}


def _mean_age_ms(replayed: Replay) -> float | None:
    return None if replayed.blind == 1.0 else float(np.nanmean(replayed.age_s) * 1e3)
