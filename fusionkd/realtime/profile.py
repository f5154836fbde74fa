"""A pipeline under the clock: warm it up until it is steady, then measure."""

import gc
import statistics
import time as system_time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from fusionkd.deploy import OnnxNetwork, Pipeline, RawFrame
from fusionkd.errors import UserError
from fusionkd.realtime.clock import CudaSpanClock, SpanClock
from fusionkd.realtime.machine import machine
from fusionkd.realtime.scenarios import Overrun, Recorder, constant_stream, single_stream
from fusionkd.realtime.steady import FEWEST_FRAMES, steady_state
from fusionkd.realtime.timesource import HOST_TIME, TimeSource
from fusionkd.realtime.trace import LatencyTrace

MOST_WARM_UP = 600
"""Frames after which a pipeline that won't become steady is measured as it is."""

_GROWTH = 1.5


@dataclass(frozen=True)
class Plan:
    """What to measure.

    Attributes:
        frames: Frames that count, warm-up apart.
        scenario: ``single_stream`` or ``constant_stream``.
        rate_hz: Of a constant stream.
        overrun: Of a constant stream: ``skip`` or ``run_on``.
        warm_up: Frames before those that count, at least the first, cold one; None for a test that tells when the
            pipeline is steady.
    """

    frames: int
    scenario: str = "single_stream"
    rate_hz: float | None = None
    overrun: Overrun = "skip"
    warm_up: int | None = None

    def __post_init__(self) -> None:
        if self.frames < 1:
            raise UserError(f"At least 1 frame must be measured, found {self.frames}.")
        if self.warm_up is not None and self.warm_up < 1:
            raise UserError(f"The first frame is always cold: warm-up must be 1 at least, found {self.warm_up}.")
        if self.scenario not in ("single_stream", "constant_stream"):
            raise UserError(f"The scenario must be single_stream or constant_stream, found {self.scenario!r}.")
        if self.scenario == "constant_stream" and (self.rate_hz is None or self.rate_hz <= 0):
            raise UserError(f"A constant stream needs a rate above 0 Hz, found {self.rate_hz}.")

    @property
    def period_ns(self) -> int:
        """Time between the arrivals of a constant stream; 0 in a single stream."""
        return round(1e9 / self.rate_hz) if self.scenario == "constant_stream" and self.rate_hz else 0

    def pace_s(self, frame_s: float) -> float:
        """Seconds from frame to frame where one takes ``frame_s``."""
        return max(frame_s, self.period_ns * 1e-9)


def profile(
    pipeline: Pipeline,
    frames: Sequence[RawFrame],
    plan: Plan,
    *,
    progress: Callable[[str], object] = lambda text: None,
    begins: Callable[[tuple[str, ...], int], object] = lambda stages, frames: None,
    time: TimeSource = HOST_TIME,
) -> LatencyTrace:
    """Measure a pipeline, sensor bytes to boxes, one frame at a time.

    The warm-up frames come one after the other, whatever the scenario, and stand first in the trace, before ``cold``.
    Objects that exist by then are kept out of the garbage collector's way (``gc.freeze``), as a vehicle's program
    would; the collector itself stays on.

    Args:
        pipeline: What is measured.
        frames: Measured again and again, in their order.
        plan: How many, and how they come.
        progress: Told in words what goes on.
        begins: Called once when the pipeline is warm, with the stages so far and the number of frames that follow.
        time: Where time comes from.

    Returns:
        The trace; its ``about`` tells the machine, the backend, the profiler's own share and whether the pipeline
        was steady.

    Raises:
        UserError: If the pipeline can't run, or there are no frames.
    """
    if not frames:
        raise UserError("There are no frames to measure with.")
    room = plan.frames + (MOST_WARM_UP if plan.warm_up is None else plan.warm_up)
    clock = _clock(pipeline, room, time)

    def work(index: int) -> None:
        pipeline(frames[index % len(frames)], clock)

    recorder = Recorder(work, clock, frames=room)
    cold, steady = _warm_up(recorder, plan, progress)
    frame_s = statistics.median(recorder.busy_ns()[-10:].tolist()) * 1e-9
    left = max(plan.frames - (recorder.count - cold), 0)
    progress(f"Measuring {plan.frames:,} frames; the {left:,} to come take {_words(left * plan.pace_s(frame_s))}.")
    begins(clock.recorded()[0], left)
    with _frozen():
        if plan.scenario == "single_stream":
            single_stream(recorder, left)
        else:
            constant_stream(recorder, left, period_ns=plan.period_ns, overrun=plan.overrun, time=time)
    overrun = plan.overrun if plan.scenario == "constant_stream" else ""
    trace = recorder.trace(cold=cold, scenario=plan.scenario, period_ns=plan.period_ns, overrun=overrun)
    return replace(trace, about={**_about(pipeline, trace), "frames": len(frames), "steady": steady})


def frame_cost_ns(stages: Sequence[str], clock: SpanClock, *, rounds: int = 50) -> float:
    """What writing a frame down costs here, in nanoseconds: a frame of empty stages.

    Args:
        stages: Stages that a frame enters, one after the other.
        clock: A fresh clock with room for ``rounds`` frames.
        rounds: Frames to take the median of.
    """
    took = []
    for _ in range(rounds):
        begin_ns = system_time.perf_counter_ns()
        clock.begin()
        for stage in stages:
            with clock.span(stage):
                pass
        clock.end()
        took.append(system_time.perf_counter_ns() - begin_ns)
    return statistics.median(took)


def _clock(pipeline: Pipeline, frames: int, time: TimeSource) -> SpanClock:
    network = pipeline.network
    # ONNX Runtime has a stream of its own and returns when it is done, so the host's clock sees all of it.
    if network.device.startswith("cuda") and not isinstance(network, OnnxNetwork):
        return CudaSpanClock.on(network.device, frames)
    return SpanClock(frames, now_ns=time.now_ns)


def _warm_up(recorder: Recorder, plan: Plan, progress: Callable[[str], object]) -> tuple[int, bool | None]:
    """Run warm-up frames; how many at the start don't count, and whether the rest was steady (None: not tested)."""
    progress("The first, cold frame ...")
    single_stream(recorder, 1)
    if plan.warm_up is not None:
        single_stream(recorder, plan.warm_up - 1)
        return recorder.count, None
    progress(f"It took {recorder.busy_ns()[0] * 1e-6:,.0f} ms. Warming up until a test finds a steady state ...")
    cut, wanted = None, FEWEST_FRAMES
    while cut is None and recorder.count < MOST_WARM_UP:
        single_stream(recorder, min(wanted, MOST_WARM_UP) - recorder.count)
        cut, wanted = steady_state(recorder.busy_ns()), round(wanted * _GROWTH)
    if cut is None:
        progress(f"No steady state within {recorder.count} frames: the machine is disturbed, or still warming up.")
        return recorder.count, False
    # In a single stream steady frames of the warm-up count like those that follow.
    counts = plan.scenario == "single_stream" and recorder.count - max(cut, 1) <= plan.frames
    return (max(cut, 1) if counts else recorder.count), True


def _about(pipeline: Pipeline, trace: LatencyTrace) -> dict[str, Any]:
    device = pipeline.network.device
    busy_ns = trace.busy_ns[trace.cold :]
    cost_ns = frame_cost_ns(trace.stages, _clock(pipeline, 50, HOST_TIME))
    share = cost_ns / float(statistics.median(busy_ns.tolist()))
    uncovered = trace.uncovered_ns[trace.cold :].sum() / max(1, busy_ns.sum())
    return {
        "backend": pipeline.network.name,
        "device": device,
        "machine": machine(device),
        "profiler_share": round(share, 6),
        "coverage": round(1 - float(uncovered), 6),
    }


def _words(seconds: float) -> str:
    return f"about {seconds:.0f} s" if seconds < 120 else f"about {seconds / 60:.0f} min"


@contextmanager
def _frozen() -> Iterator[None]:
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
