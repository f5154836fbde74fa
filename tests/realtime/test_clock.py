"""Clocks: what they add up, what they refuse, that they don't grow."""

import tracemalloc

import numpy as np
import pytest
from simulated_time import SimulatedTime

from fusionkd.deploy import Clock
from fusionkd.realtime.clock import CudaSpanClock, SpanClock


def test_stages_add_up_per_frame_and_stay_in_their_order() -> None:
    time = SimulatedTime(5)
    clock = SpanClock(3, now_ns=time.now_ns)
    as_clock: Clock = clock
    for frame in range(2):
        assert clock.begin() == time.ns
        with as_clock.span("preprocess/sweeps"):
            time.ns += 10 + frame
        time.ns += 1
        with as_clock.span("network/head"):
            time.ns += 100
        with as_clock.span("preprocess/sweeps"):
            time.ns += 1000
        assert clock.end() == time.ns
    clock.begin()
    with clock.span("decode"):
        time.ns += 7
    clock.end()
    stages, stage_ns = clock.recorded()
    assert stages == ("preprocess/sweeps", "network/head", "decode")
    assert stage_ns.tolist() == [[1010, 100, 0], [1011, 100, 0], [0, 0, 7]]


def test_an_error_inside_of_a_stage_leaves_the_stage() -> None:
    clock = SpanClock(1)
    clock.begin()
    with pytest.raises(KeyError), clock.span("a"):
        raise KeyError
    with clock.span("b"):
        pass
    clock.end()


def test_what_would_count_twice_or_nowhere_is_refused() -> None:
    clock = SpanClock(1, max_stages=2)
    with pytest.raises(RuntimeError, match="'a' runs outside of a frame"), clock.span("a"):
        pass
    with pytest.raises(RuntimeError, match="hasn't begun"):
        clock.end()
    clock.begin()
    with pytest.raises(RuntimeError, match="begins a second time"):
        clock.begin()
    with pytest.raises(RuntimeError, match="'b' begins inside of 'a'"), clock.span("a"), clock.span("b"):
        pass
    with pytest.raises(RuntimeError, match="'c' is one more than the 2"):
        clock.span("c")
    with clock.span("a"), pytest.raises(RuntimeError, match="ends inside of stage 'a'"):
        clock.end()
    clock.end()
    with pytest.raises(RuntimeError, match="made for 1 frames"):
        clock.begin()


def test_nothing_grows_with_the_frames() -> None:
    clock = SpanClock(4000)

    def frames(count: int) -> None:
        for _ in range(count):
            clock.begin()
            for stage in ("a", "b", "c"):
                with clock.span(stage):
                    pass
            clock.end()

    frames(500)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        frames(3500)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 4096


class _Event:
    """A CUDA event on a device that is ahead of nothing: it fires when the work before it in the stream is done."""

    def __init__(self, stream: SimulatedTime) -> None:
        self.stream = stream
        self.at_ns = -1

    def record(self) -> None:
        self.at_ns = self.stream.ns

    def elapsed_time(self, later: "_Event") -> float:
        return (later.at_ns - self.at_ns) * 1e-6


def test_events_are_read_after_one_synchronisation_per_frame() -> None:
    host, stream = SimulatedTime(), SimulatedTime()
    waits = []

    def synchronize() -> None:
        waits.append(host.ns)
        host.ns = max(host.ns, stream.ns)

    clock = CudaSpanClock(2, event=lambda: _Event(stream), synchronize=synchronize, max_spans=3, now_ns=host.now_ns)
    for _ in range(2):
        clock.begin()
        for stage, device_ns in (("camera", 3_000_000), ("lidar", 1_000_000), ("camera", 500_000)):
            with clock.span(stage):
                host.ns += 10  # a launch
                stream.ns += device_ns
        finish = clock.end()
        assert finish == stream.ns
    assert len(waits) == 2
    stages, stage_ns = clock.recorded()
    assert stages == ("camera", "lidar")
    np.testing.assert_array_equal(stage_ns, [[3_500_000, 1_000_000]] * 2)


def test_more_spans_than_events_are_refused() -> None:
    clock = CudaSpanClock(1, event=lambda: _Event(SimulatedTime()), synchronize=lambda: None, max_spans=1)
    clock.begin()
    with clock.span("a"):
        pass
    with pytest.raises(RuntimeError, match="more than the 1 spans"), clock.span("b"):
        pass
