"""Clocks that write down when each stage of a frame ran, at a cost that doesn't grow."""

import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


class FrameClock(Protocol):
    """A ``fusionkd.deploy.Clock`` that knows where a frame begins and ends."""

    def span(self, stage: str) -> "Span":
        """The time of one stage."""

    def begin(self) -> int:
        """A frame's work begins; nanoseconds."""

    def end(self) -> int:
        """Its boxes are there; nanoseconds."""

    def recorded(self) -> tuple[tuple[str, ...], NDArray[np.int64]]:
        """Names of the S stages and their times (F, S) in nanoseconds."""


class Span:
    """One stage of one clock, entered and left again and again."""

    __slots__ = ("_clock", "column", "stage")

    def __init__(self, clock: "SpanClock", stage: str, column: int) -> None:
        self._clock = clock
        self.stage = stage
        self.column = column

    def __enter__(self) -> None:
        self._clock._enter(self)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._clock._leave(self)


class SpanClock:
    """Stage times of a fixed number of frames, by the host's monotonic clock.

    Everything is allocated at the start, so that frame 100,000 costs what frame 1 costs.

    Args:
        frames: Frames that will be measured at most.
        max_stages: Stages that may appear.
        now_ns: The time source.
    """

    def __init__(self, frames: int, *, max_stages: int = 32, now_ns: Callable[[], int] = time.perf_counter_ns) -> None:
        self._stage_ns = np.zeros((frames, max_stages), np.int64)
        self._running = [0] * max_stages
        self._spans: dict[str, Span] = {}
        self._now_ns = now_ns
        self._frame = 0
        self._in_frame = False
        self._open: Span | None = None
        self._entered_ns = 0

    def span(self, stage: str) -> Span:
        """The time of one stage.

        Raises:
            RuntimeError: If there are more stages than were promised.
        """
        found = self._spans.get(stage)
        return found if found is not None else self._new_span(stage)

    def begin(self) -> int:
        """A frame's work begins.

        Raises:
            RuntimeError: If the last frame hasn't ended, or all frames are used up.
        """
        if self._in_frame:
            raise RuntimeError(f"Frame {self._frame} begins a second time: end() it first.")
        if self._frame == len(self._stage_ns):
            raise RuntimeError(f"This clock was made for {self._frame} frames and all of them are over.")
        self._in_frame = True
        return self._now_ns()

    def end(self) -> int:
        """The frame's boxes are there.

        Raises:
            RuntimeError: If no frame has begun, or a span is still open.
        """
        finish_ns = self._now_ns()
        self._close()
        return finish_ns

    def recorded(self) -> tuple[tuple[str, ...], NDArray[np.int64]]:
        """Names of the S stages, in the order in which they first ran, and their times (F, S)."""
        return tuple(self._spans), self._stage_ns[: self._frame, : len(self._spans)].copy()

    def _new_span(self, stage: str) -> Span:
        column = len(self._spans)
        if column == len(self._running):
            raise RuntimeError(f"Stage {stage!r} is one more than the {column} that this clock has room for.")
        self._spans[stage] = Span(self, stage, column)
        return self._spans[stage]

    def _enter(self, span: Span) -> None:
        self._check_may_enter(span)
        self._open = span
        self._entered_ns = self._now_ns()

    def _leave(self, span: Span) -> None:
        self._running[span.column] += self._now_ns() - self._entered_ns
        self._open = None

    def _check_may_enter(self, span: Span) -> None:
        if self._open is not None:
            raise RuntimeError(
                f"Stage {span.stage!r} begins inside of {self._open.stage!r}: spans of a frame must not overlap, or "
                f"time would count twice."
            )
        if not self._in_frame:
            raise RuntimeError(f"Stage {span.stage!r} runs outside of a frame: call begin() first.")

    def _close(self) -> None:
        if not self._in_frame:
            raise RuntimeError("A frame ends that hasn't begun.")
        if self._open is not None:
            raise RuntimeError(f"Frame {self._frame} ends inside of stage {self._open.stage!r}.")
        self._stage_ns[self._frame] = self._running
        for column in range(len(self._spans)):
            self._running[column] = 0
        self._frame += 1
        self._in_frame = False


class CudaSpanClock(SpanClock):
    """Stage times by events on the device's stream, read after one synchronisation per frame.

    Waiting for the device in every stage would slow the frame that is being measured. Events mark the stages' borders
    in the stream instead; where the host works and the device waits, an event fires when the host reaches it, so the
    stages of both lie on one line of time.

    Args:
        frames: Frames that will be measured at most.
        event: Makes a timing event with ``record()`` and ``elapsed_time(later)`` in milliseconds.
        synchronize: Waits until the device is done.
        max_stages: Stages that may appear.
        max_spans: Spans that a frame may enter.
        now_ns: The host's time source.
    """

    def __init__(
        self,
        frames: int,
        *,
        event: Callable[[], Any],
        synchronize: Callable[[], object],
        max_stages: int = 32,
        max_spans: int = 64,
        now_ns: Callable[[], int] = time.perf_counter_ns,
    ) -> None:
        super().__init__(frames, max_stages=max_stages, now_ns=now_ns)
        self._borders: Sequence[tuple[Any, Any]] = [(event(), event()) for _ in range(max_spans)]
        self._columns = [0] * max_spans
        self._used = 0
        self._synchronize = synchronize

    @classmethod
    def on(cls, device: str, frames: int) -> "CudaSpanClock":
        """The clock of a CUDA device such as ``cuda:0``."""
        import torch

        def event() -> Any:
            return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]

        return cls(frames, event=event, synchronize=lambda: torch.cuda.synchronize(device))

    def end(self) -> int:
        """The frame's boxes are there: wait for the device, then read the events.

        Raises:
            RuntimeError: If no frame has begun, or a span is still open.
        """
        self._synchronize()
        finish_ns = self._now_ns()
        for number in range(self._used):
            first, last = self._borders[number]
            self._running[self._columns[number]] += round(first.elapsed_time(last) * 1e6)
        self._used = 0
        self._close()
        return finish_ns

    def _enter(self, span: Span) -> None:
        self._check_may_enter(span)
        if self._used == len(self._columns):
            raise RuntimeError(f"A frame enters more than the {self._used} spans that this clock has room for.")
        self._open = span
        self._borders[self._used][0].record()

    def _leave(self, span: Span) -> None:
        self._borders[self._used][1].record()
        self._columns[self._used] = span.column
        self._used += 1
        self._open = None
