"""What a device tells about a run, and the device that tells nothing."""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True)
class Reading:
    """What a device told about a run; None where it can't tell.

    Attributes:
        source: Who told it and what it covers, in words.
        duration_s: Length of the run.
        energy_mj: Energy of the whole run, millijoules.
        power_w: Mean power.
        temperature_c: Highest temperature seen.
        clocks_mhz: Lowest clock seen, by name.
        throttled: Whether heat or power held the clocks back.
    """

    source: str
    duration_s: float = 0.0
    energy_mj: float | None = None
    power_w: float | None = None
    temperature_c: float | None = None
    clocks_mhz: Mapping[str, float] = field(default_factory=dict)
    throttled: bool | None = None

    def energy_mj_per_frame(self, frames: int) -> float | None:
        """Energy of one of the run's frames; all that the device drew in the run, waiting included."""
        return None if self.energy_mj is None or frames == 0 else self.energy_mj / frames


class Telemetry(Protocol):
    """A device that is listened to for the length of a run."""

    def start(self) -> None:
        """The run begins."""

    def stop(self) -> Reading:
        """The run is over; what the device told about it."""


class NoTelemetry:
    """A device that tells nothing.

    Args:
        why: For the report, in words.
    """

    def __init__(self, why: str) -> None:
        self.why = why
        self._start_s = 0.0

    def start(self) -> None:
        """Nothing but the time."""
        self._start_s = time.monotonic()

    def stop(self) -> Reading:
        """A reading that says that it is absent."""
        return Reading(f"absent: {self.why}", time.monotonic() - self._start_s)


class Sampler:
    """Calls a function every so often beside the run, from a thread that sleeps in between.

    Args:
        sample: Takes a fraction of a millisecond.
        period_s: Seconds between calls; one more comes at the end.
    """

    def __init__(self, sample: Callable[[], None], *, period_s: float) -> None:
        self._sample = sample
        self._period_s = period_s
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Call once now, then go on in the background."""
        self._over.clear()
        self._sample()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Call a last time; none comes after this."""
        self._over.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
            self._sample()

    def _run(self) -> None:
        while not self._over.wait(self._period_s):
            self._sample()
