"""Streaming accuracy: the queue against a naive event simulation, figures against worlds whose answer is known."""

import heapq

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from metric_oracle import World, assert_identical, random_world
from numpy.typing import NDArray

from fusionkd.errors import UserError
from fusionkd.geometry import DETECTION_CLASSES
from fusionkd.metrics import Detections, DetectionTruth, evaluate
from fusionkd.metrics.streaming import (
    Overrun,
    Replay,
    Stream,
    offline_figures,
    on_show,
    replay,
    schedule,
    streaming_figures,
)

SWEEP_NS = 50_000_000
CAR = DETECTION_CLASSES.index("car")


def event_simulation(arrival_ns: list[int], busy_ns: list[int], overrun: Overrun) -> list[tuple[int, int, int]]:
    """A naive discrete-event simulation: a heap of arrivals and completions, a list of waiting frames."""
    events = [(time, 0, frame) for frame, time in enumerate(arrival_ns)]  # at equal times arrivals come first
    heapq.heapify(events)
    waiting: list[int] = []
    running = False
    done: list[tuple[int, int, int]] = []
    while events:
        now, kind, frame = heapq.heappop(events)
        if kind == 0:
            waiting.append(frame)
        else:
            running = False
        if kind == 0 and events and events[0][0] == now and events[0][1] == 0:
            continue
        # Work is handed out when all that happens at this moment has happened.
        if not running and waiting and not (events and events[0][0] == now):
            taken = waiting.pop() if overrun == "skip" else waiting.pop(0)
            if overrun == "skip":
                waiting.clear()
            duration = busy_ns[len(done) % len(busy_ns)]
            done.append((taken, now, now + duration))
            heapq.heappush(events, (now + duration, 1, taken))
            running = True
    return done


@pytest.mark.parametrize("overrun", ["skip", "run_on"])
@given(
    gaps=st.lists(st.integers(1, 6), min_size=0, max_size=40),
    busy=st.lists(st.integers(0, 25), min_size=1, max_size=9),
)
def test_the_queue_is_that_of_a_naive_event_simulation(overrun: Overrun, gaps: list[int], busy: list[int]) -> None:
    arrival = np.cumsum([3, *gaps], dtype=np.int64)
    ours = schedule(arrival, np.array(busy, dtype=np.int64), overrun=overrun)
    assert np.stack(ours, axis=1).tolist() == [list(row) for row in event_simulation(arrival.tolist(), busy, overrun)]


@given(busy=st.lists(st.integers(0, 400_000_000), min_size=1, max_size=9), frames=st.integers(1, 40))
def test_a_processor_does_one_thing_at_a_time_and_run_on_drops_nothing(busy: list[int], frames: int) -> None:
    arrival, times = SWEEP_NS * np.arange(frames), np.array(busy, dtype=np.int64)
    skip, run_on = (schedule(arrival, times, overrun=policy) for policy in ("skip", "run_on"))
    assert run_on.frame.tolist() == list(range(frames))
    for done in (skip, run_on):
        assert np.all(done.start_ns >= arrival[done.frame])
        assert np.all(done.start_ns[1:] >= done.finish_ns[:-1])
        assert np.all(np.diff(done.frame) > 0)
    # Whoever skips starts on a frame that is less old than one period, unless the stream has ended.
    assert np.all((skip.start_ns - arrival[skip.frame] < SWEEP_NS) | (skip.frame == frames - 1))


def moving_world(
    *, sweeps: int, cars: int = 6, speed_mps: float = 12.0, ego_mps: float = 9.0, unknown_velocity: bool = False
) -> tuple[DetectionTruth, Detections, Stream]:
    """Cars at constant velocity around a moving ego car, seen perfectly at every sweep; global coordinates."""
    rng = np.random.default_rng(4)
    time_s = 0.05 * np.arange(sweeps)
    heading = rng.uniform(-np.pi, np.pi, cars)
    velocity = speed_mps * np.stack([np.cos(heading), np.sin(heading)], axis=1)
    # Far enough apart that nobody's old box is another's new one.
    start = np.stack([1000.0 + 30.0 * (np.arange(cars) - cars / 2), np.full(cars, 2000.0)], axis=1)
    xy = start[None] + time_s[:, None, None] * velocity[None]  # (T, N, 2)
    count = sweeps * cars
    columns = {
        "xyz_m": np.concatenate([xy.reshape(count, 2), np.full((count, 1), 1.0)], axis=1),
        "lwh_m": np.tile([4.5, 1.9, 1.6], (count, 1)),
        "yaw_rad": np.tile(heading, sweeps),
        "velocity_mps": np.tile(velocity, (sweeps, 1)),
        "label": np.full(count, CAR),
        "attribute": np.full(count, 5),
    }
    tokens = tuple(f"sweep-{k}" for k in range(sweeps))
    starts = cars * np.arange(sweeps + 1)
    ego = np.stack([1000 + ego_mps * time_s, 2000 + 0 * time_s, 0 * time_s], axis=1)
    none = np.zeros(0, np.int64)
    truth = DetectionTruth(
        tokens=tokens,
        ego_xyz_m=ego,
        start=starts,
        num_points=np.full(count, 9),
        rack_sample=none,
        rack_corners_m=np.zeros((0, 4, 3)),
        **columns,
    )
    if unknown_velocity:
        columns = {**columns, "velocity_mps": np.full((count, 2), np.nan)}
    found = Detections(tokens=tokens, start=starts, score=rng.uniform(0.3, 1.0, count), **columns)
    return truth, found, Stream(tokens, SWEEP_NS * np.arange(sweeps), tokens, SWEEP_NS * np.arange(sweeps))


def _after(stream: Stream, first: int) -> Stream:
    """Judged only from a sweep on, when the first output is there."""
    return Stream(stream.frames, stream.arrival_ns, stream.samples[first:], stream.sample_ns[first:])


def _busy(ms: float) -> NDArray[np.int64]:
    return np.array([round(ms * 1e6)], dtype=np.int64)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("overrun", ["skip", "run_on"])
def test_without_latency_streaming_is_the_offline_metric_bit_for_bit(seed: int, overrun: Overrun) -> None:
    world: World = random_world(seed, samples=6, annotations=20, detections=40, classes=3, score_levels=5)
    truth, found = world.truth(), world.results()
    time_ns = SWEEP_NS * np.arange(len(truth))
    streams = [
        Stream(truth.tokens[:2], time_ns[:2], truth.tokens[:2], time_ns[:2]),
        Stream(truth.tokens[2:], time_ns[2:], truth.tokens[2:], time_ns[2:]),
    ]
    done = replay(streams, _busy(0), overrun=overrun)
    offline = evaluate(truth, found).to_dict()
    for forward in (False, True):
        assert_identical(streaming_figures(truth, found, done, forward=forward).to_dict(), offline)
    assert_identical(offline_figures(truth, found, truth.tokens).to_dict(), offline)
    assert done.blind == 0
    assert np.all(done.age_s == 0)


@pytest.mark.parametrize("overrun", ["skip", "run_on"])
@pytest.mark.parametrize("ms", [10.0, 50.0, 130.0, 333.0])
def test_constant_velocities_moved_on_are_as_good_as_offline(overrun: Overrun, ms: float) -> None:
    truth, found, stream = moving_world(sweeps=60)
    done = replay([_after(stream, 8)], _busy(ms), overrun=overrun)
    assert done.blind == 0
    moved = streaming_figures(truth, found, done, forward=True)
    offline = evaluate(truth, found)
    np.testing.assert_allclose(moved.average_precision, offline.average_precision, atol=1e-12)
    np.testing.assert_allclose(moved.tp_error, offline.tp_error, atol=1e-9)
    stays = streaming_figures(truth, found, done, forward=False)
    assert stays.nds < moved.nds - 0.01
    # An unknown velocity moves nothing, and isn't an error.
    blank = moving_world(sweeps=60, unknown_velocity=True)[1]
    np.testing.assert_array_equal(on_show(done, blank, forward=True).xyz_m, on_show(done, blank, forward=False).xyz_m)


@pytest.mark.parametrize("overrun", ["skip", "run_on"])
def test_the_later_the_worse(overrun: Overrun) -> None:
    truth, found, stream = moving_world(sweeps=60)
    nds, ap, age = [], [], []
    for ms in (0, 20, 50, 100, 200, 400, 800):
        done = replay([stream], _busy(ms), overrun=overrun)
        figures = streaming_figures(truth, found, done, forward=False)
        nds.append(figures.nds)
        ap.append(figures.class_ap[CAR])
        age.append(float(np.nanmean(done.age_s)))
    assert nds == sorted(nds, reverse=True)
    assert ap == sorted(ap, reverse=True)
    assert age == sorted(age)
    assert ap[0] == pytest.approx(1.0)
    assert ap[-1] < 0.2


def test_a_late_model_is_a_blind_one() -> None:
    """12 m/s and 500 ms late, evaluated every 50 ms: known ages, known matches, a known AP.

    The first output is there after ten sweeps; with ``skip`` each one then answers for ten evaluation times at ages of
    500 to 950 ms, where boxes lie 6 m to 11.4 m behind: none matches within 4 m. At a quarter of the speed (3 m/s) they
    lie 1.5 m to 2.85 m behind: none matches at 0.5 m and 1 m; at 2 m those of ages 500 to 650 ms do, 4 of 10; at 4 m
    all do. Scores fall with time, so that precision is the share of matches so far at every recall that is reached.
    """
    sweeps, late = 210, 10
    truth, found, stream = moving_world(sweeps=sweeps)
    done = replay([stream], _busy(500), overrun="skip")
    assert done.blind == pytest.approx(late / sweeps)
    assert set(np.round(done.age_s[late:], 3)) == {round(0.5 + 0.05 * k, 3) for k in range(10)}
    assert streaming_figures(truth, found, done, forward=False).mean_ap == 0

    truth, found, stream = moving_world(sweeps=sweeps, cars=1, speed_mps=3.0, ego_mps=0.0)
    found = Detections(
        **{**{n: getattr(found, n) for n in found.__dataclass_fields__}, "score": np.linspace(0.9, 0.5, sweeps)}
    )
    figures = streaming_figures(truth, found, replay([stream], _busy(500), overrun="skip"), forward=False)
    answered = sweeps - late
    recall = {0.5: 0.0, 1.0: 0.0, 2.0: 0.4 * answered / sweeps, 4.0: answered / sweeps}
    for column, limit in enumerate((0.5, 1.0, 2.0, 4.0)):
        reached = np.sum(np.arange(11, 101) / 100 <= recall[limit] + 1e-9)
        if limit == 4.0:
            # All match: precision 1 wherever the recall is reached.
            assert figures.average_precision[CAR, column] == pytest.approx(reached / 90)
        elif limit < 2:
            assert figures.average_precision[CAR, column] == 0
        else:
            # Matches come in blocks of 4 of 10, so precision along recall swings around 0.4.
            assert figures.average_precision[CAR, column] == pytest.approx(reached / 90 * (0.4 - 0.1) / 0.9, abs=0.04)
    assert figures.tp_error[CAR, 0] == pytest.approx(3.0 * np.mean([0.5, 0.55, 0.6, 0.65]), abs=0.05)


def test_each_drive_begins_idle_and_takes_up_the_times_where_the_last_left_them() -> None:
    one = Stream(("a0", "a1"), np.array([0, 10]), ("a0", "a1"), np.array([0, 10]))
    two = Stream(("b0", "b1"), np.array([0, 10]), ("b0", "b1"), np.array([0, 10]))
    done = replay([one, two], np.array([10, 100, 0]), overrun="run_on")
    assert done.shown == (None, "a0", "b0", "b0")
    assert (done.arrived, done.processed) == (4, 4)
    assert done.frames == {"a0", "b0"}


def test_nothing_finished_is_an_empty_sample_and_not_a_missing_one() -> None:
    truth, found, stream = moving_world(sweeps=4)
    done = replay([stream], _busy(10_000), overrun="skip")
    assert done.shown == (None,) * 4
    shown = on_show(done, found, forward=True)
    assert shown.tokens == truth.tokens
    assert len(shown) == 0
    assert streaming_figures(truth, found, done, forward=True).mean_ap == 0


def test_mistakes_are_named() -> None:
    truth, found, stream = moving_world(sweeps=4)
    time_ns = stream.arrival_ns
    with pytest.raises(UserError, match="must rise; frame sweep-2 is no later"):
        Stream(stream.frames, np.array([0, 2, 2, 3]), stream.samples, time_ns)
    with pytest.raises(UserError, match=r"Stream.sample_ns must be int64 of shape \(4,\)"):
        Stream(stream.frames, time_ns, stream.samples, time_ns.astype(float))  # type: ignore[arg-type]
    with pytest.raises(UserError, match="overrun must be one of skip, run_on, found 'queue'"):
        schedule(time_ns, _busy(1), overrun="queue")  # type: ignore[arg-type]
    for busy in (np.zeros(0, np.int64), _busy(-1)):
        with pytest.raises(UserError, match="at least one time"):
            replay([stream], busy, overrun="skip")
    foreign = Replay(("sweep-0",), ("elsewhere",), np.zeros(1), 1, 1)
    with pytest.raises(UserError, match="No results for sample 'elsewhere'"):
        streaming_figures(truth, found, foreign, forward=False)
