"""How things move, and who is there."""

from collections import Counter

import numpy as np
import pytest

from fusionkd.geometry import DETECTION_CLASSES
from fusionkd.simulation.scene import Scene, Tracks, build_scene
from fusionkd.simulation.traffic import STEP_S, Driver, drive, is_green, straight, turning


def driver(start_m: float, wish_mps: float, **changes: object) -> Driver:
    given: dict[str, object] = {"path": straight((0.0, 0.0), (300.0, 0.0)), "stops": (), "tail_m": 2.0}
    given |= {"start_m": start_m, "wish_mps": wish_mps, "length_m": 4.0, "width_m": 1.8} | changes
    return Driver(**given)  # type: ignore[arg-type]


NOBODY = np.zeros((400, 0, 2))


def test_a_fast_car_keeps_behind_a_slow_one() -> None:
    arcs = drive([driver(0, 12.0), driver(20, 4.0)], steps=400, phases_s=[], walkers=NOBODY)
    gap = arcs[1] - arcs[0] - 4.0
    assert gap.min() > 1.0
    speed = np.gradient(arcs, STEP_S, axis=1)
    assert speed[0, -1] == pytest.approx(speed[1, -1], abs=0.5)


def test_a_car_alone_drives_as_it_wishes() -> None:
    arcs = drive([driver(0, 9.0)], steps=400, phases_s=[], walkers=NOBODY)
    speed = np.diff(arcs[0]) / STEP_S
    assert speed[-1] == pytest.approx(9.0, abs=0.1)
    assert np.all(np.diff(speed) > -1e-9)


def test_cars_wait_at_red_and_go_at_green() -> None:
    red_first = 9.0  # phase at which the main road has just become red
    arcs = drive([driver(15, 8.0, stops=((40.0, 0, True),))], steps=400, phases_s=[red_first], walkers=NOBODY)
    nose = arcs[0] + 2.0
    for step in range(399):
        crosses = nose[step] < 40.0 <= nose[step + 1]
        assert not crosses or is_green(step * STEP_S, red_first, main=True)
    speed = np.diff(arcs[0]) / STEP_S
    assert speed.min() == 0.0
    assert nose[-1] > 60.0


def test_the_two_roads_are_never_green_together() -> None:
    for time_s in np.arange(0, 40, 0.1):
        assert not (is_green(time_s, 3.0, main=True) and is_green(time_s, 3.0, main=False))


def test_cars_stop_for_people_on_the_road() -> None:
    person = np.tile([50.0, 0.3], (400, 1))[:, None]
    arcs = drive([driver(0, 10.0)], steps=400, phases_s=[], walkers=person)
    assert 40.0 < arcs[0, -1] + 2.0 < 50.0


def test_oncoming_cars_are_no_obstacles() -> None:
    other = driver(0, 8.0, path=straight((300.0, 3.5), (0.0, 3.5)))
    arcs = drive([driver(0, 8.0), other], steps=400, phases_s=[], walkers=NOBODY)
    assert np.all(np.diff(arcs[:, -50:]) / STEP_S > 7.5)


def test_a_turn_leads_from_road_to_road_in_even_steps() -> None:
    path = turning((0.0, -2.0), (40.0, -2.0), (40.0, -60.0), 7.0)
    steps = np.linalg.norm(np.diff(path, axis=0), axis=1)
    assert np.all(np.abs(steps - 1.0) < 0.02)
    np.testing.assert_allclose(path[0], [0, -2])
    assert path[-1, 0] == pytest.approx(40.0)


def test_tracks_go_straight_between_steps() -> None:
    tracks = Tracks(-0.1, np.array([[[0.0, 0], [1, 0], [3, 0]]]), np.array([[0.0, 0.1, 0.3]]))
    xy, yaw = tracks.at(-0.1 + 1.5 * STEP_S)
    np.testing.assert_allclose(xy, [[2.0, 0.0]])
    np.testing.assert_allclose(yaw, [0.2])
    np.testing.assert_allclose(tracks.velocity_at(-0.1 + 1.5 * STEP_S), [[2.0 / STEP_S, 0.0]])


@pytest.fixture(scope="module")
def crowds() -> dict[str, list[Scene]]:
    return {
        mix: [build_scene(np.random.default_rng(seed), duration_s=6.0, mix=mix) for seed in range(8)]  # type: ignore[arg-type]
        for mix in ("flat", "nuscenes")
    }


def shares(scenes: list[Scene]) -> dict[str, float]:
    """Share of each class among the things within 50 m of the car."""
    counts: Counter[str] = Counter()
    for scene in scenes:
        for time_s in (0.5, 3.0, 5.5):
            xy, _ = scene.tracks.at(time_s)
            near = np.linalg.norm(xy - scene.ego.at(time_s)[0], axis=1) < 50.0
            counts.update(scene.things[i].kind for i in np.flatnonzero(near))
    return {name: counts[name] / counts.total() for name in DETECTION_CLASSES}


def test_every_class_is_frequent_enough_to_be_learned(crowds: dict[str, list[Scene]]) -> None:
    assert min(shares(crowds["flat"]).values()) > 0.045


def test_the_other_mix_is_that_of_real_streets(crowds: dict[str, list[Scene]]) -> None:
    found = shares(crowds["nuscenes"])
    assert found["car"] > 0.3
    assert found["car"] > found["pedestrian"] > found["truck"] > found["bus"]


def test_things_do_not_drive_through_each_other(crowds: dict[str, list[Scene]]) -> None:
    overlaps = pairs = 0
    for scene in crowds["flat"]:
        vehicles = [i for i, thing in enumerate(scene.things) if thing.category.startswith("vehicle")]
        for time_s in (1.0, 3.0, 5.0):
            xy, yaw = scene.tracks.at(time_s)
            for i in vehicles:
                offset = xy[vehicles] - xy[i]
                along = np.cos(yaw[i]) * offset[:, 0] + np.sin(yaw[i]) * offset[:, 1]
                across = np.cos(yaw[i]) * offset[:, 1] - np.sin(yaw[i]) * offset[:, 0]
                length, width, _ = scene.things[i].lwh_m
                inside = (np.abs(along) < 0.45 * length) & (np.abs(across) < 0.45 * width)
                overlaps += inside.sum() - 1
                pairs += 1
    assert overlaps < 0.01 * pairs


def test_speeds_and_turns_are_those_of_traffic(crowds: dict[str, list[Scene]]) -> None:
    for scene in crowds["flat"]:
        for tracks in (scene.tracks, scene.ego):
            velocity = np.diff(tracks.xy_m, axis=1) / STEP_S
            speed = np.linalg.norm(velocity, axis=2)
            assert speed.max() < 14.0
            turn = np.abs(np.diff(tracks.yaw_rad, axis=1)) / STEP_S
            assert turn.max() < 2.5
            # Who moves, moves along its heading.
            direction = np.arctan2(velocity[..., 1], velocity[..., 0])
            slip = np.abs((direction - tracks.yaw_rad[:, 1:] + np.pi) % (2 * np.pi) - np.pi)
            assert slip[speed > 2.0].max() < 0.25
