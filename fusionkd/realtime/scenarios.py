"""How frames come: one after the other, or at the sensor's rate (the scenarios of MLPerf Inference).

Reddi et al., MLPerf Inference Benchmark, ISCA 2020; the constant stream is that of MLPerf Automotive.
"""

from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fusionkd.errors import UserError
from fusionkd.realtime.clock import FrameClock
from fusionkd.realtime.timesource import HOST_TIME, TimeSource
from fusionkd.realtime.trace import LatencyTrace

Overrun = Literal["skip", "run_on"]


class Recorder:
    """Runs frames one by one and writes down when each arrived, began and ended.

    Everything is allocated at the start.

    Args:
        work: Processes frame ``k`` of the sensor's stream.
        clock: For the stages; it has room for ``frames``.
        frames: Frames that will be run at most.
    """

    def __init__(self, work: Callable[[int], object], clock: FrameClock, *, frames: int) -> None:
        self._work = work
        self._clock = clock
        self._times_ns = np.zeros((4, frames), np.int64)  # arrival, start, finish, index
        self.count = 0

    def run(self, index: int, *, arrival_ns: int | None = None) -> int:
        """Process a frame; when it was done, in nanoseconds.

        Args:
            index: Its number in the sensor's stream.
            arrival_ns: When its sensor bytes were there; None for the moment of its start.
        """
        start_ns = self._clock.begin()
        self._work(index)
        finish_ns = self._clock.end()
        times, row = self._times_ns, self.count
        times[0, row] = start_ns if arrival_ns is None else arrival_ns
        times[1, row] = start_ns
        times[2, row] = finish_ns
        times[3, row] = index
        self.count = row + 1
        return finish_ns

    def busy_ns(self) -> NDArray[np.int64]:
        """(F,) working time of the frames so far."""
        return self._times_ns[2, : self.count] - self._times_ns[1, : self.count]

    def trace(self, *, cold: int, scenario: str, period_ns: int = 0, overrun: str = "") -> LatencyTrace:
        """The trace of all frames so far."""
        stages, stage_ns = self._clock.recorded()
        arrival, start, finish, index = self._times_ns[:, : self.count].copy()
        return LatencyTrace(
            stages=stages,
            stage_ns=stage_ns,
            arrival_ns=arrival,
            start_ns=start,
            finish_ns=finish,
            arrival_index=index,
            arrived=int(index[-1]) + 1 if self.count else 0,
            cold=cold,
            scenario=scenario,
            period_ns=period_ns,
            overrun=overrun,
        )


def single_stream(recorder: Recorder, frames: int) -> None:
    """The next frame comes when the last one is done.

    Args:
        recorder: Runs and records the frames.
        frames: How many.
    """
    first = recorder.count
    for index in range(first, first + frames):
        recorder.run(index)


def constant_stream(
    recorder: Recorder, frames: int, *, period_ns: int, overrun: Overrun, time: TimeSource = HOST_TIME
) -> None:
    """Frames come at the sensor's rate, whether the last one is done or not.

    Args:
        recorder: Runs and records the frames.
        frames: Frames to process; under ``skip`` more may arrive.
        period_ns: Time between arrivals.
        overrun: What happens to frames that arrive while another is in work: ``skip`` takes the newest of them and
            drops the others, ``run_on`` takes all of them in order.
        time: The clock that the frames come by; the recorder's must be the same.

    Raises:
        UserError: If the period isn't positive or ``overrun`` is neither.
    """
    if period_ns <= 0:
        raise UserError(f"A constant stream needs a rate above 0, found a period of {period_ns} ns.")
    if overrun not in ("skip", "run_on"):
        raise UserError(f"overrun must be skip or run_on, found {overrun!r}.")
    before = recorder.count
    first_ns = time.now_ns() + period_ns
    number = 0
    free_ns = first_ns
    for _ in range(frames):
        if overrun == "skip":
            number = max(number, (free_ns - first_ns) // period_ns)
        arrival_ns = first_ns + number * period_ns
        if free_ns <= arrival_ns:
            time.wait_until(arrival_ns)
        free_ns = recorder.run(before + number, arrival_ns=arrival_ns)
        number += 1
