"""What a trace says of its latencies, in milliseconds, before any limit is laid on them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fusionkd.realtime.independence import inflation
from fusionkd.realtime.statistics import Bounds, Jitter, jitter, longest_run, percentile, percentile_interval
from fusionkd.realtime.trace import LatencyTrace

PERCENTS = (50.0, 90.0, 99.0, 99.9)


@dataclass(frozen=True)
class PercentileFigure:
    """A percentile in milliseconds with its two-sided interval; infinite where dropped frames or too few decide."""

    percent: float
    value_ms: float
    interval_ms: Bounds


@dataclass(frozen=True)
class StageFigure:
    """One stage: median, the contract's percentile and the largest time in ms, and its share of all work."""

    name: str
    p50_ms: float
    high_ms: float
    largest_ms: float
    share: float


@dataclass(frozen=True)
class StreamFigures:
    """What a constant stream did to its frames, cold ones left out.

    Attributes:
        longest_wait_ms: From a frame's arrival to the begin of its work.
        deepest_queue: Frames that were there and not done when another arrived, itself left out.
        oldest_output_ms: Age of the newest boxes, counted from their frame's arrival, just before the next ones came.
    """

    longest_wait_ms: float
    deepest_queue: int
    oldest_output_ms: float


@dataclass(frozen=True)
class LatencyFigures:
    """Everything that is counted; cold frames apart.

    Attributes:
        frames: Frames that are judged: those that arrived since the first warm one, dropped ones included.
        dropped: Those of them that were never processed.
        misses: Frames over the deadline, dropped ones included.
        longest_run: Most consecutive misses.
        percentiles: Over all judged frames; a dropped frame's latency is infinite.
        mean_ms: Of the processed frames, as ``largest_ms`` and ``jitter_ms``; NaN where there are none.
        largest_ms: See ``mean_ms``.
        jitter_ms: See ``mean_ms``; None with fewer than two frames.
        inflation: So many frames count as one independent frame.
        cold_ms: Latencies of the cold frames.
        dropped_while_cold: Frames that were dropped before the first warm one.
        covered: Share of the work's wall time that lies in stages.
        stages: One of each stage.
        stream: Only of a constant stream.
    """

    frames: int
    dropped: int
    misses: int
    longest_run: int
    percentiles: tuple[PercentileFigure, ...]
    mean_ms: float
    largest_ms: float
    jitter_ms: Jitter | None
    inflation: float
    cold_ms: tuple[float, ...]
    dropped_while_cold: int
    covered: float
    stages: tuple[StageFigure, ...]
    stream: StreamFigures | None


def processed_ms(trace: LatencyTrace) -> NDArray[np.float64]:
    """Latencies of the processed frames that aren't cold, in ms."""
    return trace.latency_ns[trace.cold :] / 1e6


def stream_ms(trace: LatencyTrace) -> NDArray[np.float64]:
    """Latencies (N,) in ms of all frames that arrived since the first warm one; infinite where one was dropped.

    Frames that were dropped while a cold one was in work belong to the cold start.
    """
    first = _first_arrival(trace)
    latencies = np.full(trace.arrived - first, np.inf)
    latencies[trace.arrival_index[trace.cold :] - first] = processed_ms(trace)
    return latencies


def latency_figures(trace: LatencyTrace, *, deadline_ms: float, percent: float, confidence: float) -> LatencyFigures:
    """Count a trace.

    Args:
        trace: Measured or modelled.
        deadline_ms: Later frames are misses.
        percent: The contract's percentile.
        confidence: Of the two-sided intervals.
    """
    frames, done = stream_ms(trace), processed_ms(trace)
    missed = frames > deadline_ms
    together = inflation(frames, percent)
    return LatencyFigures(
        frames=len(frames),
        dropped=len(frames) - len(done),
        misses=int(missed.sum()),
        longest_run=longest_run(missed),
        percentiles=tuple(
            PercentileFigure(p, percentile(frames, p), percentile_interval(frames, p, confidence, inflation=together))
            for p in sorted({*PERCENTS, percent})
            if len(frames)
        ),
        mean_ms=float(done.mean()) if len(done) else float("nan"),
        largest_ms=float(done.max()) if len(done) else float("nan"),
        jitter_ms=jitter(done) if len(done) > 1 else None,
        inflation=together,
        cold_ms=tuple((trace.latency_ns[: trace.cold] / 1e6).tolist()),
        dropped_while_cold=_first_arrival(trace) - trace.cold,
        covered=_covered(trace),
        stages=_stage_figures(trace, percent),
        stream=_stream_figures(trace) if trace.scenario == "constant_stream" and len(done) else None,
    )


def _first_arrival(trace: LatencyTrace) -> int:
    """Number of the first warm frame; without one, of the frame behind the last cold one."""
    if trace.cold < trace.frames:
        return int(trace.arrival_index[trace.cold])
    return int(trace.arrival_index[-1]) + 1 if trace.frames else 0


def _covered(trace: LatencyTrace) -> float:
    busy = int(trace.busy_ns[trace.cold :].sum())
    return 1 - int(trace.uncovered_ns[trace.cold :].sum()) / busy if busy else float("nan")


def _stage_figures(trace: LatencyTrace, percent: float) -> tuple[StageFigure, ...]:
    warm, busy = trace.stage_ns[trace.cold :] / 1e6, trace.busy_ns[trace.cold :].sum() / 1e6
    if not len(warm):
        return ()
    return tuple(
        StageFigure(
            name=name,
            p50_ms=percentile(times, 50),
            high_ms=percentile(times, percent),
            largest_ms=float(times.max()),
            share=float(times.sum() / busy) if busy else float("nan"),
        )
        for name, times in zip(trace.stages, warm.T)
    )


def _stream_figures(trace: LatencyTrace) -> StreamFigures:
    arrival, start, finish = (values[trace.cold :] for values in (trace.arrival_ns, trace.start_ns, trace.finish_ns))
    earlier = np.arange(len(arrival)) - np.searchsorted(finish, arrival, side="right")
    return StreamFigures(
        longest_wait_ms=float((start - arrival).max() / 1e6),
        deepest_queue=int(earlier.max()),
        oldest_output_ms=float((finish[1:] - arrival[:-1]).max(initial=0) / 1e6),
    )
