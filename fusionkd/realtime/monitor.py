"""On the vehicle: notices a frame that overruns while it runs, and says which sensors the next one may use.

The words are those of ISO 26262-1:2018: fault detection time interval (FDTI, from the fault to its detection), fault
reaction time interval (FRTI, from detection to the reaction) and fault tolerant time interval (FTTI, what the vehicle
can bear). Words alone: no compliance with that or any other standard is claimed.

Nothing here needs more than the standard library, and nothing grows with the number of frames.
"""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from fusionkd.errors import UserError
from fusionkd.realtime.degradation import MODES, Hysteresis, Load, Sensors, Status, all_sensors, load_step, sensor_step

MS = 1_000_000
"""Nanoseconds of a millisecond."""


@dataclass(frozen=True)
class MonitorSettings:
    """What the vehicle expects.

    Attributes:
        deadline_ms: From a frame's arrival to its boxes.
        ftti_ms: How long the vehicle bears frames that are late, counted from the first missed deadline.
        heartbeat_ms: A frame must begin this long after the last one ended, or the pipeline stalls.
        camera_age_ms: An image that is older when its frame begins is late.
        lidar_age_ms: The same for the newest sweep.
        cameras: Names, in the order of the frames' images.
        hysteresis: How quickly sensors are given up and trusted again.
    """

    deadline_ms: float
    ftti_ms: float = 500.0
    heartbeat_ms: float = 200.0
    camera_age_ms: float = 150.0
    lidar_age_ms: float = 100.0
    cameras: tuple[str, ...] = (
        "CAM_FRONT_LEFT",
        "CAM_FRONT",
        "CAM_FRONT_RIGHT",
        "CAM_BACK_LEFT",
        "CAM_BACK",
        "CAM_BACK_RIGHT",
    )
    hysteresis: Hysteresis = field(default_factory=Hysteresis)

    def __post_init__(self) -> None:
        for name in ("deadline_ms", "ftti_ms", "heartbeat_ms", "camera_age_ms", "lidar_age_ms"):
            if not 0 < getattr(self, name) < float("inf"):
                raise UserError(f"MonitorSettings.{name} must be above 0, found {getattr(self, name)}.")
        if len(set(self.cameras)) != len(self.cameras):
            raise UserError(f"MonitorSettings.cameras must differ, found {', '.join(self.cameras)}.")


class _Sensor:
    """One sensor's state and counters."""

    __slots__ = ("absent", "late", "lost", "max_age_ns", "name", "run", "status")

    def __init__(self, name: str, max_age_ns: int) -> None:
        self.name = name
        self.max_age_ns = max_age_ns
        self.status: Status = "ok"
        self.run = self.late = self.absent = self.lost = 0

    def see(self, age_ns: int | None, hysteresis: Hysteresis) -> bool:
        """Take note of this frame's data; True if the sensor may be used."""
        fresh = age_ns is not None and age_ns <= self.max_age_ns
        if fresh and self.status == "ok":
            return True
        if age_ns is None:
            self.absent += 1
        elif not fresh:
            self.late += 1
        before = self.status
        self.status, self.run = sensor_step(before, self.run, fresh=fresh, hysteresis=hysteresis)
        self.lost += self.status == "lost" != before
        return self.status == "ok"

    def snapshot(self) -> dict[str, int | str]:
        return {"status": self.status, "late_frames": self.late, "absent_frames": self.absent, "losses": self.lost}


class DeadlineMonitor:
    """Watches a pipeline frame by frame.

    Call ``begin`` before a frame and ``end`` after it, in the pipeline's thread; ``poll`` from anywhere at any time,
    which a ``Watchdog`` does in a thread of its own.

    Args:
        settings: What the vehicle expects.
        now_ns: Monotonic time source.
        on_fault: Called once per fault as soon as it is known, with ``overrun``, ``ftti`` or ``stall``, in the thread
            that found it: for an overrun during the frame, the watchdog's.
    """

    def __init__(
        self,
        settings: MonitorSettings,
        *,
        now_ns: Callable[[], int] = time.monotonic_ns,
        on_fault: Callable[[str], object] = lambda fault: None,
    ) -> None:
        self.settings = settings
        self._now_ns = now_ns
        self._on_fault = on_fault
        self._lock = threading.Lock()
        self._deadline_ns = round(settings.deadline_ms * MS)
        self._ftti_ns = round(settings.ftti_ms * MS)
        self._heartbeat_ns = round(settings.heartbeat_ms * MS)
        cameras = [_Sensor(name, round(settings.camera_age_ms * MS)) for name in settings.cameras]
        self._cameras = tuple((sensor, 1 << k) for k, sensor in enumerate(cameras))
        self._lidar = _Sensor("lidar", round(settings.lidar_age_ms * MS))
        self._choices = all_sensors(len(cameras))
        self._used = self._choices[-1]
        self._load = Load(False, 0, settings.hysteresis.back_after)
        self._frames_by_mode = dict.fromkeys(MODES, 0)
        self._in_frame = self._seen = self._ftti_seen = self._stalled = False
        self._last_ns = self._due_ns = self._beat_ns = self._first_missed_ns = self._detected_ns = 0
        self.frames = self.overruns = self.overruns_in_flight = self.overrun_run = self.longest_overrun_run = 0
        self.aborted = self.stalls = self.ftti_exceeded = self.clock_steps_back = 0
        self.degradations = self.recoveries = self.fdti_ns = self.frti_ns = 0

    def begin(
        self, lidar_age_ns: int | None, camera_age_ns: Sequence[int | None], *, arrival_ns: int | None = None
    ) -> Sensors:
        """A frame begins.

        Args:
            lidar_age_ns: Age of the newest sweep; None if there is none.
            camera_age_ns: Age of each camera's newest image; None where there is none.
            arrival_ns: When the frame's data was there, if it had to wait; the deadline counts from then.

        Returns:
            The sensors to use in this frame.

        Raises:
            ValueError: If the ages aren't one per camera.
        """
        if len(camera_age_ns) != len(self._cameras):
            raise ValueError(f"camera_age_ns must be of {len(self._cameras)} cameras, found {len(camera_age_ns)}.")
        fault = self._close(aborted=True) if self._in_frame else None
        with self._lock:
            now_ns = self._beat_ns = self._now()
            self._due_ns = (now_ns if arrival_ns is None else arrival_ns) + self._deadline_ns
            self._in_frame, self._seen, self._stalled = True, False, False
            self._choose(lidar_age_ns, camera_age_ns, now_ns)
        if fault:
            self._on_fault(fault)
        return self._used

    def end(self) -> bool:
        """The frame's boxes are there.

        Returns:
            Whether they came in time.

        Raises:
            RuntimeError: If no frame has begun.
        """
        if not self._in_frame:
            raise RuntimeError("DeadlineMonitor.end() was called without begin().")
        fault = self._close(aborted=False)
        if fault:
            self._on_fault(fault)
        return self.overrun_run == 0

    def poll(self) -> str | None:
        """Look for a fault that is going on; each is told once.

        Returns:
            ``overrun`` if the running frame is past its deadline, ``ftti`` if frames have been late for longer than
            the vehicle bears, ``stall`` if no frame begins, or None.
        """
        with self._lock:
            now_ns = self._now()
            fault = self._fault(now_ns)
        if fault:
            self._on_fault(fault)
        return fault

    def due_in_ns(self) -> int:
        """How long ``poll`` can wait: until the running frame's deadline, else a quarter of a deadline."""
        with self._lock:
            idle_ns = self._deadline_ns // 4
            running = self._in_frame and not self._seen
            return max(self._due_ns - self._now() + 1, 0) if running else idle_ns

    def snapshot(self) -> dict[str, Any]:
        """The counters as plain values, for a diagnostics bus; times in nanoseconds.

        ``fdti_ns`` and ``frti_ns`` are the largest that were seen for overruns: from the deadline to the detection,
        and from there to the begin of the first frame without cameras.
        """
        with self._lock:
            return {
                "mode": self._used.mode,
                "heartbeat_ns": self._beat_ns,
                "frames": self.frames,
                "frames_by_mode": dict(self._frames_by_mode),
                "overruns": self.overruns,
                "overruns_in_flight": self.overruns_in_flight,
                "overrun_run": self.overrun_run,
                "longest_overrun_run": self.longest_overrun_run,
                "aborted": self.aborted,
                "stalls": self.stalls,
                "degradations": self.degradations,
                "recoveries": self.recoveries,
                "cameras_shed": self._load.shed,
                "clock_steps_back": self.clock_steps_back,
                "fdti_ns": self.fdti_ns,
                "frti_ns": self.frti_ns,
                "ftti_ns": self._ftti_ns,
                "ftti_exceeded": self.ftti_exceeded,
                "lidar": self._lidar.snapshot(),
                "cameras": {sensor.name: sensor.snapshot() for sensor, _ in self._cameras},
            }

    def _choose(self, lidar_age_ns: int | None, camera_age_ns: Sequence[int | None], now_ns: int) -> None:
        hysteresis, number = self.settings.hysteresis, 0
        for (sensor, bit), age_ns in zip(self._cameras, camera_age_ns):
            if sensor.see(age_ns, hysteresis):
                number |= bit
        if self._lidar.see(lidar_age_ns, hysteresis):
            # Cameras are shed only where the LiDAR remains: late boxes are better than none.
            number = (0 if self._load.shed else number) | 1 << len(self._cameras)
        before, self._used = self._used, self._choices[number]
        self._frames_by_mode[self._used.mode] += 1
        if before is not self._used:
            more = sum(self._used.cameras) + self._used.lidar - sum(before.cameras) - before.lidar
            self.degradations += more <= 0
            self.recoveries += more > 0
        if self._detected_ns and self._load.shed and self._used.lidar:
            self.frti_ns = max(self.frti_ns, now_ns - self._detected_ns)
            self._detected_ns = 0

    def _close(self, *, aborted: bool) -> str | None:
        with self._lock:
            now_ns = self._now()
            fault = self._overrun(now_ns, in_flight=False) if now_ns > self._due_ns or aborted else None
            fault = fault or self._intolerable(now_ns)
            in_time = not self._seen
            if in_time:
                self.overrun_run = 0
                self._ftti_seen = False
            self._load = load_step(self._load, in_time=in_time, hysteresis=self.settings.hysteresis)
            if in_time and not self._load.shed:
                self._detected_ns = 0
            self.frames += 1
            self.aborted += aborted
            self._in_frame = False
            self._beat_ns = now_ns
            return fault

    def _fault(self, now_ns: int) -> str | None:
        if not self._in_frame:
            if self._beat_ns and not self._stalled and now_ns - self._beat_ns > self._heartbeat_ns:
                self._stalled = True
                self.stalls += 1
                return "stall"
            return None
        if now_ns > self._due_ns and not self._seen:
            return self._overrun(now_ns, in_flight=True)
        return self._intolerable(now_ns)

    def _intolerable(self, now_ns: int) -> str | None:
        if self._seen and not self._ftti_seen and now_ns - self._first_missed_ns > self._ftti_ns:
            self._ftti_seen = True
            self.ftti_exceeded += 1
            return "ftti"
        return None

    def _overrun(self, now_ns: int, *, in_flight: bool) -> str | None:
        if self._seen:
            return None
        self._seen = True
        if self.overrun_run == 0:
            self._first_missed_ns = self._due_ns
        self.overruns += 1
        self.overruns_in_flight += in_flight
        self.overrun_run += 1
        self.longest_overrun_run = max(self.longest_overrun_run, self.overrun_run)
        self.fdti_ns = max(self.fdti_ns, now_ns - self._due_ns)
        if not self._load.shed:
            self._detected_ns = now_ns
        return "overrun"

    def _now(self) -> int:
        now_ns = self._now_ns()
        if now_ns < self._last_ns:
            self.clock_steps_back += 1
            return self._last_ns
        self._last_ns = now_ns
        return now_ns
