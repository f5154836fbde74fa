"""A thread that looks after the monitor while a frame runs."""

import threading
from types import TracebackType

from fusionkd.realtime.monitor import DeadlineMonitor


class Watchdog:
    """Polls a monitor from a thread of its own, so that an overrun is known while the frame still runs.

    Detection comes after the deadline by what the system takes to wake a thread, and at most by the interpreter's
    switch interval (5 ms) more where the frame is in Python code; numpy, Numba and ONNX Runtime let the thread in.

    Args:
        monitor: Whom to poll.
    """

    def __init__(self, monitor: DeadlineMonitor) -> None:
        self._monitor = monitor
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="deadline watchdog", daemon=True)

    def __enter__(self) -> "Watchdog":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(self._monitor.due_in_ns() / 1e9):
            self._monitor.poll()
