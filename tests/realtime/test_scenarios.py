"""Scenarios on simulated time, beside a second simulation written another way."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from simulated_time import SimulatedTime, Worker

from fusionkd.errors import UserError
from fusionkd.realtime import LatencyTrace
from fusionkd.realtime.clock import SpanClock
from fusionkd.realtime.scenarios import (
    Recorder,
    constant_stream,
    single_stream,
)

PERIOD_NS = 50_000_000


def run(
    service_ns: Any, frames: int, *, overrun: Any = None, period_ns: int = PERIOD_NS, warm: int = 0
) -> LatencyTrace:
    time = SimulatedTime(123)
    recorder = Recorder(
        Worker(time, service_ns), SpanClock(frames + warm, max_stages=1, now_ns=time.now_ns), frames=frames + warm
    )
    single_stream(recorder, warm)
    if overrun is None:
        single_stream(recorder, frames)
        return recorder.trace(cold=warm, scenario="single_stream")
    constant_stream(recorder, frames, period_ns=period_ns, overrun=overrun, time=time)
    return recorder.trace(cold=warm, scenario="constant_stream", period_ns=period_ns, overrun=overrun)


def finishes_of_all(service_ns: NDArray[np.int64], period_ns: int) -> NDArray[np.int64]:
    """Lindley's recursion in closed form: when each frame of a queue is done, arrivals at 0, period, ..."""
    total = np.cumsum(service_ns)
    slack = np.arange(len(service_ns)) * period_ns - (total - service_ns)
    return total + np.maximum.accumulate(slack)


def skipping(service_ns: Any, frames: int, period_ns: int) -> list[tuple[int, int, int]]:
    """(index, start, finish) of a camera that overwrites one buffer, moved on from event to event."""
    out: list[tuple[int, int, int]] = []
    buffer, arrived, free = -1, 0, 0
    while len(out) < frames:
        if arrived * period_ns <= free:
            buffer, arrived = arrived, arrived + 1
        elif buffer >= 0:
            start = max(free, buffer * period_ns)
            free = start + int(service_ns[buffer])
            out.append((buffer, start, free))
            buffer = -1
        else:
            free = arrived * period_ns
    return out


def test_single_stream_never_waits() -> None:
    trace = run([5, 7, 9], 3)
    assert trace.latency_ns.tolist() == [5, 7, 9]
    assert trace.arrival_index.tolist() == [0, 1, 2]
    assert (trace.dropped, trace.scenario, trace.period_ns) == (0, "single_stream", 0)


@given(st.lists(st.integers(1, 4 * 50), min_size=1, max_size=60))
def test_run_on_is_a_queue(service: list[int]) -> None:
    trace = run(service, len(service), overrun="run_on", period_ns=50)
    expected = finishes_of_all(np.array(service), 50)
    np.testing.assert_array_equal(trace.finish_ns - trace.arrival_ns[0], expected)
    np.testing.assert_array_equal(np.diff(trace.arrival_ns), 50)
    assert trace.dropped == 0


@given(st.lists(st.integers(1, 4 * 50), min_size=240, max_size=240), st.integers(1, 60))
def test_skip_takes_the_newest(service: list[int], frames: int) -> None:
    trace = run(service, frames, overrun="skip", period_ns=50)
    begin = trace.arrival_ns[0]
    found = list(
        zip(trace.arrival_index.tolist(), (trace.start_ns - begin).tolist(), (trace.finish_ns - begin).tolist())
    )
    assert found == skipping(service, frames, 50)
    assert trace.dropped == trace.arrival_index[-1] + 1 - frames


@pytest.mark.parametrize("overrun", ["skip", "run_on"])
def test_a_million_frames_every_injected_overrun_is_found_and_none_is_invented(overrun: str) -> None:
    frames = 1_000_000
    rng = np.random.default_rng(7)
    service = rng.integers(PERIOD_NS // 10, PERIOD_NS // 2, frames, dtype=np.int64)
    # Each overrun stands alone: the frames behind it are short enough to be in time even after waiting.
    late = np.sort(rng.choice(np.arange(5, frames - 5, 5), 500, replace=False))
    service[late] = PERIOD_NS + rng.integers(1, PERIOD_NS // 4, len(late))
    service[late + 1] = PERIOD_NS // 10
    trace = run(service.tolist(), frames, overrun=overrun)
    missed = np.flatnonzero(trace.latency_ns > PERIOD_NS)
    np.testing.assert_array_equal(trace.arrival_index[missed], late)
    np.testing.assert_array_equal(trace.latency_ns[missed], service[late])
    assert trace.dropped == 0


def test_a_late_frame_drops_what_arrived_meanwhile() -> None:
    service = [10, 10, 170, 10, 10, 10, 10, 10, 10]
    trace = run(service, 5, overrun="skip", period_ns=50)
    assert trace.arrival_index.tolist() == [0, 1, 2, 5, 6]
    assert trace.latency_ns.tolist() == [10, 10, 170, 20 + 10, 10]
    assert trace.dropped == 2


def test_warm_up_stands_before_the_stream() -> None:
    trace = run([1000, 20, *[10] * 10], 4, overrun="run_on", period_ns=50, warm=2)
    assert trace.cold == 2
    assert trace.arrival_index.tolist() == list(range(6))
    assert trace.latency_ns.tolist() == [1000, 20, 10, 10, 10, 10]
    assert trace.arrival_ns[2] >= trace.finish_ns[1]


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"period_ns": 0, "overrun": "skip"}, "above 0"), ({"overrun": "drop"}, "skip or run_on")],
)
def test_refuses_streams_that_make_no_sense(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        run([1], 1, **settings)
