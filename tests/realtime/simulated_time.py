"""A clock that only the simulated work and waiting move."""

from collections.abc import Sequence


class SimulatedTime:
    """Time in nanoseconds that stands still unless it is told to pass."""

    def __init__(self, start_ns: int = 0) -> None:
        self.ns = start_ns

    def now_ns(self) -> int:
        return self.ns

    def wait_until(self, moment_ns: int) -> None:
        assert moment_ns >= self.ns, "waiting for a moment that is over"
        self.ns = moment_ns


class Worker:
    """Frame ``k`` takes ``service_ns[k]``."""

    def __init__(self, time: SimulatedTime, service_ns: Sequence[int]) -> None:
        self.time = time
        self.service_ns = service_ns
        self.done: list[int] = []

    def __call__(self, index: int) -> None:
        self.time.ns += self.service_ns[index]
