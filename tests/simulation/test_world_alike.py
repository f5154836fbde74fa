"""Shapes that only colours tell apart, and solids that beams get into."""

import numpy as np
import pytest
from numpy.typing import NDArray

from fusionkd.simulation import alike, small_objects
from fusionkd.simulation.catalogue import make_thing
from fusionkd.simulation.lidar import SweepInput, beam_directions, nearest_solids
from fusionkd.simulation.parts import Parts, Shape
from fusionkd.simulation.rays import MISS, hit_solid
from fusionkd.simulation.rig import BEAMS, COLUMNS
from fusionkd.simulation.sensing import COLUMN_S
from fusionkd.simulation.shading import SHADOW
from fusionkd.simulation.weather import SHARES, draw_weather


def looks(shape: Shape) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Range, reflectance and colour along rays from 12 m away at five heights and 24 directions."""
    solid = np.flatnonzero(shape.finish != SHADOW)
    ranges, rows = [], []
    for turn in np.arange(24) * np.pi / 12:
        for height in (0.9, 1.4, 1.9, 2.4, 2.9):
            ray = (-np.cos(turn), -np.sin(turn), 0.0)
            hits = [
                hit_solid(shape.solids, int(i), 12 * np.cos(turn), 12 * np.sin(turn), height, *ray)[0] for i in solid
            ]
            ranges.append(min(hits))
            rows.append(solid[int(np.argmin(hits))])
    return np.array(ranges), shape.reflectance[rows], shape.colour[rows]


def test_box_bodies_of_three_classes_are_one_shape_in_three_colours() -> None:
    found = {kind: looks(alike.box_body(np.random.default_rng(0), kind, (9.0, 2.7, 3.4))) for kind in alike.BOX_KINDS}
    bus, truck, trailer = (found[kind] for kind in ("bus", "truck", "trailer"))
    for other in (truck, trailer):
        # The colours lie on the body a few millimetres thick, less than the LiDAR's noise.
        assert np.max(np.abs(bus[0] - other[0])) < 0.03
        assert np.mean(np.abs(bus[0] - other[0])) < 0.01
        np.testing.assert_array_equal(bus[1], other[1])
        assert np.linalg.norm(bus[2].mean(axis=0) - other[2].mean(axis=0)) > 0.15


def test_cycles_of_two_classes_are_one_shape_in_two_colours() -> None:
    size = (1.9, 0.7, 1.4)
    dark, bright = (alike.cycle(np.random.default_rng(3), kind, size, rider=False) for kind in alike.CYCLE_KINDS)
    np.testing.assert_array_equal(dark.solids, bright.solids)
    np.testing.assert_array_equal(dark.reflectance, bright.reflectance)
    seen = dark.finish != SHADOW
    assert bright.colour[seen].mean() - dark.colour[seen].mean() > 0.15


def test_street_furniture_has_the_outline_of_what_it_resembles() -> None:
    cone = small_objects.traffic_cone(np.random.default_rng(0), 0.4, 0.4, 1.0)
    other = alike.recoloured(cone, (0.1, 0.1, 0.1))
    np.testing.assert_array_equal(other.solids, cone.solids)
    np.testing.assert_array_equal(other.reflectance, cone.reflectance)
    assert np.ptp(other.colour[other.finish != SHADOW]) == 0.0


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_the_share_decides_whether_sizes_tell_the_class(share: float) -> None:
    generator = np.random.default_rng(0)
    length = {
        kind: np.mean([make_thing(generator, kind, look_alike=share).lwh_m[0] for _ in range(60)])
        for kind in ("truck", "bus")
    }
    assert (abs(length["bus"] - length["truck"]) < 1.0) == (share == 1.0)


def test_beams_pass_leaves_as_beer_and_lambert_say() -> None:
    parts = Parts()
    parts.block((20.0, 20.5), (-15.0, 15.0), (-10.0, 20.0), colour=(0, 1, 0))
    path_m = 0.4
    given = SweepInput(
        parts.shape().solids,
        np.zeros((1, 2)),
        np.zeros(1),
        np.array([0.5]),
        np.zeros(1, np.int64),
        np.array([path_m]),
        np.tile([0.0, 0.0, 1.8], (COLUMNS, 1)),
        np.tile(np.eye(3), (COLUMNS, 1, 1)),
        COLUMN_S,
        np.zeros(1),
        0.0,
        0.0,
    )
    directions = beam_directions()
    luck = np.random.default_rng(0).random((COLUMNS, BEAMS), dtype=np.float32)
    best, _ = nearest_solids(given, directions, luck)
    ahead = (directions[..., 0] > 0.9) & (np.abs(directions[..., 2]) < 0.2)
    chord = 0.5 / directions[..., 0][ahead]
    passed = best[ahead] >= MISS
    assert passed.sum() > 300
    assert passed.mean() == pytest.approx(np.exp(-chord / path_m).mean(), abs=0.02)
    depth = best[ahead][~passed] * directions[..., 0][ahead][~passed] - 20.0
    assert depth.min() >= 0.0
    assert depth.max() <= 0.5 + 1e-6


def test_every_weather_is_drawn_about_as_often_as_said() -> None:
    generator = np.random.default_rng(0)
    names = [draw_weather(generator).name for _ in range(3000)]
    assert sum(SHARES.values()) == pytest.approx(1.0)
    for name, share in SHARES.items():
        assert names.count(name) / len(names) == pytest.approx(share, abs=0.03)
