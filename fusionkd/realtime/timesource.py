"""Where time comes from: the host's monotonic clock, or anything that a test puts in its place."""

import time
from typing import Protocol

_SPIN_NS = 2_000_000
"""A sleeping thread may wake late by a millisecond; the last two are waited for awake."""


class TimeSource(Protocol):
    """A monotonic clock that one can wait on."""

    def now_ns(self) -> int:
        """Nanoseconds since some moment."""

    def wait_until(self, moment_ns: int) -> None:
        """Return when ``now_ns`` is at least ``moment_ns``."""


class HostTime:
    """The host's monotonic clock."""

    def now_ns(self) -> int:
        """Nanoseconds of ``time.perf_counter_ns``."""
        return time.perf_counter_ns()

    def wait_until(self, moment_ns: int) -> None:
        """Sleep until shortly before the moment, then watch the clock."""
        while (left_ns := moment_ns - time.perf_counter_ns()) > 0:
            if left_ns > _SPIN_NS:
                time.sleep((left_ns - _SPIN_NS) * 1e-9)


HOST_TIME = HostTime()
"""For every measurement that isn't a test."""
