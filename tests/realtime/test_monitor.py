"""The monitor on a clock that the test drives: every overrun found, none invented, nothing that grows."""

import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Sequence

import numpy as np
import pytest

from fusionkd import realtime
from fusionkd.errors import UserError
from fusionkd.geometry import CAMERAS
from fusionkd.realtime.degradation import Hysteresis
from fusionkd.realtime.monitor import MS, DeadlineMonitor, MonitorSettings
from fusionkd.realtime.watchdog import Watchdog

SETTINGS = MonitorSettings(deadline_ms=50, hysteresis=Hysteresis(lost_after=3, shed_after=2, back_after=5))
FRESH = [10 * MS] * 6


class Vehicle:
    """A monitor and the hand that moves its clock."""

    def __init__(self, settings: MonitorSettings = SETTINGS) -> None:
        self.ns = 1_000
        self.faults: list[str] = []
        self.monitor = DeadlineMonitor(settings, now_ns=lambda: self.ns, on_fault=self.faults.append)

    def frame(
        self, took_ms: float, *, lidar: int | None = 10 * MS, cameras: Sequence[int | None] = FRESH, poll: bool = True
    ) -> str:
        """Run a frame, 100 ms from begin to begin where it isn't longer; the mode it ran in."""
        mode = self.monitor.begin(lidar, cameras).mode
        if poll:  # as the watchdog does: at the deadline, if the frame still runs by then
            self.ns += min(self.monitor.due_in_ns(), round(took_ms * MS))
            self.monitor.poll()
            self.ns += max(round(took_ms * MS) - (SETTINGS_NS + 1), 0)
        else:
            self.ns += round(took_ms * MS)
        self.monitor.end()
        self.ns += max(round((100 - took_ms) * MS), 0)
        return mode


SETTINGS_NS = 50 * MS


def test_an_overrun_is_known_while_the_frame_runs() -> None:
    car = Vehicle()
    car.monitor.begin(0, FRESH)
    car.ns += 50 * MS
    assert car.monitor.poll() is None
    car.ns += 1
    assert car.monitor.poll() == "overrun"
    assert car.monitor.poll() is None
    assert not car.monitor.end()
    said = car.monitor.snapshot()
    assert (said["overruns"], said["overruns_in_flight"], said["fdti_ns"], car.faults) == (1, 1, 1, ["overrun"])


def test_without_a_watchdog_the_end_of_the_frame_tells() -> None:
    car = Vehicle()
    car.frame(80, poll=False)
    said = car.monitor.snapshot()
    assert (said["overruns"], said["overruns_in_flight"], said["fdti_ns"]) == (1, 0, 30 * MS)
    assert car.faults == ["overrun"]


def test_waiting_counts_from_the_frames_arrival() -> None:
    car = Vehicle()
    car.ns = 100 * MS
    car.monitor.begin(0, FRESH, arrival_ns=60 * MS)
    car.ns += 11 * MS
    assert not car.monitor.end()


@pytest.mark.slow
def test_all_injected_overruns_and_no_other_in_a_million_frames() -> None:
    """Frames up to exactly the deadline are in time; overruns begin one nanosecond later."""
    rng = np.random.default_rng(0)
    frames = 1_000_000
    took_ns = np.where(rng.random(frames) < 0.3, SETTINGS_NS, rng.integers(1, SETTINGS_NS, frames))
    injected = rng.random(frames) < 0.001
    took_ns[injected] = SETTINGS_NS + rng.choice([1, 1000, 10 * MS], int(injected.sum()))
    # Read by the monitor in turn: at the begin, then at the end of each frame.
    stamps = np.cumsum(np.stack([np.full(frames, 7), took_ns], axis=1).ravel())
    monitor = DeadlineMonitor(SETTINGS, now_ns=iter(stamps.tolist()).__next__)
    begin, end = monitor.begin, monitor.end
    found = [not (begin(0, FRESH) and end()) for _ in range(frames)]
    assert found == injected.tolist()
    assert monitor.snapshot()["overruns"] == injected.sum() > 900


def test_nothing_grows_over_100_000_frames() -> None:
    """Every kind of event happens again and again: losses, overruns, sheds, polls."""
    car = Vehicle()

    def drive(frames: int) -> None:
        for number in range(frames):
            phase = number % 50
            car.frame(
                70 if 20 <= phase < 23 else 30,
                lidar=None if phase == 40 else 0,
                cameras=FRESH if phase > 6 else [None, 10**9, *FRESH[2:]],
            )
            car.faults.clear()

    drive(500)
    tracemalloc.start()
    before = tracemalloc.take_snapshot()
    drive(100_000)
    after = tracemalloc.take_snapshot()
    tracemalloc.stop()
    ours = tracemalloc.Filter(True, "*/fusionkd/realtime/*")
    grown = after.filter_traces([ours]).compare_to(before.filter_traces([ours]), "filename")
    assert sum(difference.size_diff for difference in grown) < 4096
    assert car.monitor.snapshot()["overruns"] == 3 * 2010


@pytest.mark.parametrize("camera", range(6))
def test_each_camera_alone_is_lost_and_comes_back(camera: int) -> None:
    car = Vehicle()
    gone: list[int | None] = [None if k == camera else 0 for k in range(6)]
    assert [car.frame(10, cameras=gone) for _ in range(4)] == ["cameras_reduced"] * 4
    assert [car.frame(10) for _ in range(6)] == ["cameras_reduced"] * 4 + ["full"] * 2
    said = car.monitor.snapshot()["cameras"]
    assert said[CAMERAS[camera]] == {"status": "ok", "late_frames": 0, "absent_frames": 4, "losses": 1}
    assert sum(one["losses"] for one in said.values()) == 1
    assert (car.monitor.degradations, car.monitor.recoveries) == (1, 1)


def test_a_late_camera_is_left_out_of_one_frame_only() -> None:
    car = Vehicle()
    late = [*FRESH[:5], 151 * MS]
    assert [car.frame(10), car.frame(10, cameras=late), car.frame(10)] == ["full", "cameras_reduced", "full"]
    assert car.monitor.snapshot()["cameras"]["CAM_BACK_RIGHT"]["late_frames"] == 1


def test_lost_lidar_leaves_the_cameras_and_nothing_leaves_it_blind() -> None:
    car = Vehicle()
    assert [car.frame(10, lidar=None) for _ in range(3)] == ["cameras_only"] * 3
    assert car.frame(10, lidar=None, cameras=[None] * 6) == "blind"
    assert car.monitor.snapshot()["lidar"]["losses"] == 1


def test_overruns_shed_the_cameras_and_good_frames_bring_them_back() -> None:
    car = Vehicle()
    assert [car.frame(70), car.frame(70)] == ["full", "full"]
    assert [car.frame(20) for _ in range(6)] == ["lidar_only"] * 5 + ["full"]
    said = car.monitor.snapshot()
    assert said["longest_overrun_run"] == said["overruns_in_flight"] == 2
    # From the detection, 1 ns after the deadline, to the next frame's begin, 100 ms after the last one's.
    assert said["frti_ns"] == 50 * MS - 1


def test_cameras_are_not_shed_where_there_is_no_lidar() -> None:
    car = Vehicle()
    assert [car.frame(70, lidar=None) for _ in range(6)] == ["cameras_only"] * 6
    assert car.monitor.snapshot()["frti_ns"] == 0


def test_late_for_longer_than_tolerated_is_a_fault_of_its_own_once() -> None:
    car = Vehicle()
    for _ in range(9):
        car.frame(99)
    assert car.faults.count("ftti") == car.monitor.snapshot()["ftti_exceeded"] == 1
    car.frame(10)
    for _ in range(9):
        car.frame(99)
    assert car.faults.count("ftti") == 2


def test_a_frame_that_hangs_is_past_its_tolerance_while_it_runs() -> None:
    car = Vehicle()
    car.monitor.begin(0, FRESH)
    told = []
    for _ in range(80):
        car.ns += 10 * MS
        told.append(car.monitor.poll())
    assert [fault for fault in told if fault] == ["overrun", "ftti"]


def test_no_new_frame_is_a_stall_told_once() -> None:
    car = Vehicle()
    assert car.monitor.poll() is None
    car.frame(10)
    car.ns += 300 * MS
    assert [car.monitor.poll(), car.monitor.poll()] == ["stall", None]
    car.frame(10)
    assert car.monitor.snapshot()["stalls"] == 1


def test_a_frame_that_never_ended_counts_as_overrun() -> None:
    car = Vehicle()
    car.monitor.begin(0, FRESH)
    car.frame(10)
    said = car.monitor.snapshot()
    assert (said["frames"], said["aborted"], said["overruns"]) == (2, 1, 1)


def test_a_clock_that_steps_back_is_counted_and_invents_no_overrun() -> None:
    car = Vehicle()
    car.frame(10)
    car.ns -= 500 * MS
    car.monitor.begin(0, FRESH)
    assert car.monitor.end()
    assert car.monitor.snapshot()["clock_steps_back"] == 2


def test_mistakes_of_the_caller() -> None:
    car = Vehicle()
    with pytest.raises(RuntimeError, match="without begin"):
        car.monitor.end()
    with pytest.raises(ValueError, match="6 cameras, found 2"):
        car.monitor.begin(0, [0, 0])
    with pytest.raises(UserError, match="deadline_ms must be above 0"):
        MonitorSettings(deadline_ms=0)
    with pytest.raises(UserError, match="must differ"):
        MonitorSettings(deadline_ms=1, cameras=("a", "a"))


def test_names_are_those_of_the_frames_images() -> None:
    assert MonitorSettings(deadline_ms=1).cameras == CAMERAS


def test_watchdog_tells_during_the_frame() -> None:
    """Real threads: the fault arrives before the frame's end, which waits for it."""
    told = threading.Event()
    monitor = DeadlineMonitor(MonitorSettings(deadline_ms=5), on_fault=lambda fault: told.set())
    with Watchdog(monitor):
        for _ in range(3):
            told.clear()
            monitor.begin(0, FRESH)
            assert told.wait(20)
            assert monitor.snapshot()["overruns_in_flight"] == monitor.snapshot()["overruns"]
            monitor.end()
    assert monitor.snapshot()["overruns"] == 3


def test_watchdog_invents_nothing_while_frames_are_quick() -> None:
    monitor = DeadlineMonitor(MonitorSettings(deadline_ms=60_000, heartbeat_ms=60_000))
    with Watchdog(monitor):
        for _ in range(50):
            monitor.begin(0, FRESH)
            time.sleep(0.001)
            assert monitor.end()


def test_monitor_needs_no_library_but_the_standard_one() -> None:
    code = (
        "import sys, fusionkd.realtime.watchdog\n"
        "found = {'torch', 'numpy', 'scipy', 'matplotlib', 'numba', 'yaml'} & set(sys.modules)\n"
        "sys.exit(', '.join(found) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_rooms_names_are_where_they_say() -> None:
    for name in realtime.__all__:
        assert getattr(realtime, name) is not None
    assert realtime.__all__ == sorted(realtime.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        realtime.nothing  # noqa: B018
