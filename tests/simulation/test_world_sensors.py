"""LiDAR and cameras against slow, plain restatements, and against each other."""

from dataclasses import replace
from itertools import product

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import linprog

from fusionkd.geometry import CAMERAS, invert_rigid
from fusionkd.simulation.camera import View, ViewInput, render
from fusionkd.simulation.lidar import SweepInput, beam_directions, nearest_solids, sweep
from fusionkd.simulation.parts import Parts, Shape
from fusionkd.simulation.raster import FACES
from fusionkd.simulation.rays import MISS, hit_solid
from fusionkd.simulation.rig import BEAMS, COLUMNS, LIDAR, MOUNTINGS
from fusionkd.simulation.scene import Scene, Solids, moved
from fusionkd.simulation.sensing import COLUMN_S, Film, seen_at, solids_at, take_image, take_sweep
from fusionkd.simulation.shading import FREE_PATH_M, PLAIN, SHADOW

TIME_S = 1.0
WIDTH_PX = 320


def ray_in_solid(rows: NDArray[np.float64], i: int, origin: NDArray[np.float64], ray: NDArray[np.float64]) -> float:
    """Ray parameter of the hit of one solid, from a world ray."""
    cos, sin = rows[i, 5], rows[i, 6]
    x, y = origin[0] - rows[i, 1], origin[1] - rows[i, 2]
    local = (cos * x + sin * y, cos * y - sin * x, origin[2])
    direction = (cos * ray[0] + sin * ray[1], cos * ray[1] - sin * ray[0], ray[2])
    return float(hit_solid(rows, i, *local, *direction)[0])


def block_half_spaces(row: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(6, 3) normals and (6,) bounds n.p <= m of a block in its own frame, from its eight corners."""
    a, b, c, d, e = row[7:]
    low, high = row[3], row[4]
    corners = {}
    for sx, sy, sz in product((-1, 1), repeat=3):
        half_x, half_y, shift = (a, d, 0.0) if sz < 0 else (b, e, c)
        corners[sx, sy, sz] = np.array([sx * half_x + shift, sy * half_y, low if sz < 0 else high])
    middle = np.mean(list(corners.values()), axis=0)
    normals, bounds = [], []
    for axis in range(3):
        for sign in (-1, 1):
            face = [corner for key, corner in corners.items() if key[axis] == sign]
            normal = np.cross(face[1] - face[0], face[2] - face[0])
            if normal @ (face[0] - middle) < 0:
                normal = -normal
            normals.append(normal)
            bounds.append(normal @ face[0])
    return np.array(normals), np.array(bounds)


sizes = st.floats(0.2, 3.0)


@settings(max_examples=150, deadline=None)
@given(
    a=sizes, b=sizes, c=st.floats(-1, 1), d=sizes, e=sizes, height=sizes,
    origin=st.tuples(st.floats(-8, 8), st.floats(-8, 8), st.floats(0.1, 6)),
    target=st.tuples(st.floats(-3, 3), st.floats(-3, 3), st.floats(0, 3)),
)  # fmt: skip
def test_a_ray_meets_a_block_where_linear_programming_says(
    a: float,
    b: float,
    c: float,
    d: float,
    e: float,
    height: float,
    origin: tuple[float, ...],
    target: tuple[float, ...],
) -> None:
    row = np.array([[0, 0, 0, 0.3, 0.3 + height, 1, 0, a, b, c, d, e]], dtype=np.float64)
    normals, bounds = block_half_spaces(row[0])
    start, ray = np.array(origin), np.array(target) - np.array(origin)
    if np.linalg.norm(ray) < 0.1 or np.max(normals @ start - bounds) < 1e-3:
        return
    oracle = linprog([1.0], A_ub=(normals @ ray)[:, None], b_ub=bounds - normals @ start, bounds=[(0, None)])
    found = hit_solid(row, 0, *start, *ray)[0]
    if oracle.status == 0:
        assert found == pytest.approx(oracle.x[0], abs=1e-6)
    else:
        # The solver calls a ray that scrapes an edge infeasible; anything else must be a miss.
        point = start + found * ray
        assert found >= MISS or np.max((normals @ point - bounds) / np.linalg.norm(normals, axis=1)) < 1e-6


@pytest.mark.parametrize(
    ("row", "start", "ray", "distance"),
    [
        ([1, 0, 0, 0, 4, 1, 0, 2, 2, 0, 0, 0], (-10, 0, 2), (1, 0, 0), 8.0),
        ([1, 0, 0, 0, 4, 1, 0, 1, 2, 0, 0, 0], (0, 9, 2), (0, -1, 0), 7.0),
        ([1, 0, 0, 0, 4, 1, 0, 1, 2, 0, 0, 0], (0, 9, 4.1), (0, -1, 0), MISS),
        ([2, 0, 0, 0, 3, 1, 0, 0.5, 0.5, 0, 0, 0], (-5, 0, 1), (1, 0, 0), 4.5),
        ([2, 0, 0, 0, 3, 1, 0, 1.0, 0.0, 0, 0, 0], (-5, 0, 1.5), (1, 0, 0), 4.5),
        ([2, 0, 0, 0, 3, 1, 0, 0.5, 0.5, 0, 0, 0], (-5, 0, 3.5), (1, 0, 0), MISS),
        ([2, 0, 0, 0, 3, 1, 0, 0.5, 0.5, 0, 0, 0], (0, 0, 5), (0, 0, -1), 2.0),
    ],
)
def test_a_ray_meets_a_round_solid(
    row: list[float], start: tuple[float, ...], ray: tuple[float, ...], distance: float
) -> None:
    found = hit_solid(np.array([row], dtype=np.float64), 0, *map(float, start), *map(float, ray))[0]
    assert found == pytest.approx(distance)


def sweep_input(scene: Scene) -> SweepInput:
    """What ``take_sweep`` gives to the LiDAR, for a car that stands still."""
    pose = scene.ego_pose(TIME_S) @ MOUNTINGS[LIDAR].ego_from_sensor
    solids, velocity = solids_at(scene, TIME_S, pose[:2, 3])
    keep = np.flatnonzero(solids.finish != SHADOW)
    return SweepInput(
        solids.rows[keep],
        velocity[keep],
        np.zeros(len(keep)),
        solids.reflectance[keep],
        solids.finish[keep],
        np.zeros(len(keep)),
        np.tile(pose[:3, 3], (COLUMNS, 1)),
        np.tile(pose[:3, :3], (COLUMNS, 1, 1)),
        COLUMN_S,
        scene.plan.as_array(),
        0.0,
        0.0,
    )


def test_the_lidar_misses_no_solid(scene: Scene) -> None:
    given = sweep_input(scene)
    directions = np.einsum("aij,akj->aki", given.rotation, beam_directions())
    found, _ = nearest_solids(given, directions, np.zeros((COLUMNS, BEAMS), np.float32))
    generator = np.random.default_rng(0)
    hits = 0
    for a, k in zip(generator.integers(0, COLUMNS, 250), generator.integers(8, BEAMS, 250)):
        best = MISS
        for i in range(len(given.solids)):
            rows = given.solids[i : i + 1].copy()
            rows[0, 1:3] += given.velocity_mps[i] * COLUMN_S[a]
            best = min(best, ray_in_solid(rows, 0, given.origin_m[a], directions[a, k]))
        assert found[a, k] == pytest.approx(best, abs=1e-6)
        hits += best < MISS
    assert hits > 50


def wall(x_m: float, half_width_m: float = 30.0) -> Shape:
    parts = Parts()
    parts.block((x_m, x_m + 0.5), (-half_width_m, half_width_m), (0.0, 8.0), colour=(0.5, 0.5, 0.5), reflectance=0.6)
    return parts.shape()


def test_points_lie_on_the_wall_and_on_the_ground(scene: Scene) -> None:
    shape = wall(20.0)
    given = replace(
        sweep_input(scene),
        solids=shape.solids,
        velocity_mps=np.zeros((1, 2)),
        seen_s=np.zeros(1),
        reflectance=shape.reflectance,
        finish=shape.finish,
        free_path_m=np.zeros(1),
        origin_m=np.tile([0.0, 0.0, 1.84], (COLUMNS, 1)),
        rotation=np.tile(np.eye(3), (COLUMNS, 1, 1)),
    )
    points = sweep(given, np.random.default_rng(0))
    assert points.shape == (COLUMNS * BEAMS, 5)
    distance = np.linalg.norm(points[:, :3], axis=1)
    ahead = (np.abs(np.arctan2(points[:, 1], points[:, 0])) < 0.5) & (points[:, 4] == 24)
    echoes = points[ahead & (distance > 1.5)]
    assert len(echoes) > 0.9 * ahead.sum()
    along = np.linalg.norm(echoes[:, :3], axis=1)
    off = along - 20.0 * along / echoes[:, 0]
    assert abs(np.mean(off)) < 0.005
    assert 0.008 < np.std(off) < 0.0125
    ground = points[(points[:, 4] == 12) & (distance > 1.5)]
    off = np.linalg.norm(ground[:, :3], axis=1) - np.median(np.linalg.norm(ground[:, :3], axis=1))
    assert np.median(ground[:, 2]) == pytest.approx(-1.84, abs=0.01)
    assert np.std(off) < 0.015


def test_the_roof_and_lost_beams_lie_within_a_metre(scene: Scene) -> None:
    points = take_sweep(scene, TIME_S, np.random.default_rng(0))
    distance = np.linalg.norm(points[:, :3], axis=1)
    between = points[(distance > 1.0) & (distance < 1.6)]
    # What lies there belongs to the own car: low bars before and behind the roof.
    assert 0 < len(between) < 0.02 * len(points)
    assert np.all(np.abs(between[:, 0]) < 0.46)
    assert np.all(between[:, 2] < -0.3)
    low = points[:, 4] < 4
    assert 0.4 < np.mean(distance[low] < 1.0) < 0.95


def test_moving_things_are_seen_inside_their_boxes(scene: Scene) -> None:
    """The annotated place is where the sweep passed the thing: its echoes fill the box, not a strip behind it."""
    points = take_sweep(scene, TIME_S, np.random.default_rng(0))
    pose = scene.ego_pose(TIME_S) @ MOUNTINGS[LIDAR].ego_from_sensor
    in_scene = points[:, :3].astype(float) @ pose[:3, :3].T + pose[:3, 3]
    at_s = seen_at(scene, TIME_S)
    assert np.all((at_s <= TIME_S) & (at_s >= TIME_S - 0.052))
    xy, yaw = scene.tracks.at(at_s)
    speed = np.linalg.norm(scene.tracks.velocity_at(at_s), axis=1)
    away = np.linalg.norm(xy - pose[:2, 3], axis=1)
    checked = 0
    for i in np.flatnonzero((speed > 4.0) & (away < 30.0)):
        length, width, _ = scene.things[i].lwh_m
        offset = in_scene[:, :2] - xy[i]
        cos, sin = np.cos(yaw[i]), np.sin(yaw[i])
        along, across = cos * offset[:, 0] + sin * offset[:, 1], cos * offset[:, 1] - sin * offset[:, 0]
        near = (np.abs(along) < length / 2 + 0.3) & (np.abs(across) < width / 2) & (in_scene[:, 2] > 0.3)
        if near.sum() >= 20:
            inside = np.abs(along[near]) <= length / 2
            assert inside.mean() > 0.9
            checked += 1
    assert checked >= 2


@pytest.fixture(scope="module")
def views(scene: Scene, film: Film) -> dict[str, View]:
    return {
        channel: take_image(scene, channel, TIME_S, width_px=WIDTH_PX, film=film, shift=(0, 0)) for channel in CAMERAS
    }


def test_the_camera_finds_what_a_ray_finds(scene: Scene, film: Film, views: dict[str, View]) -> None:
    generator = np.random.default_rng(1)
    for channel in ("CAM_FRONT", "CAM_BACK_RIGHT"):
        view = views[channel]
        pose = scene.ego_pose(TIME_S) @ MOUNTINGS[channel].ego_from_sensor
        solids, _ = solids_at(scene, TIME_S, pose[:2, 3])
        rows, owner = solids.rows, solids.owner
        real = np.flatnonzero(solids.finish != SHADOW)
        inverse = np.linalg.inv(MOUNTINGS[channel].matrix_px(WIDTH_PX))
        wrong = compared = 0
        for v, u in zip(generator.integers(0, view.owner.shape[0], 150), generator.integers(0, WIDTH_PX, 150)):
            ray = pose[:3, :3] @ inverse @ np.array([u + 0.5, v + 0.5, 1.0])
            depths = [ray_in_solid(rows, int(i), pose[:3, 3], ray) for i in real]
            nearest = int(np.argmin(depths))
            if depths[nearest] < MISS and solids.finish[real[nearest]] in FREE_PATH_M:
                continue  # One may look through leaves and railings.
            compared += 1
            if depths[nearest] >= MISS:
                wrong += view.owner[v, u] != -1
            else:
                same_depth = abs(1 / depths[nearest] - view.nearness[v, u]) < 1e-4 / depths[nearest]
                wrong += not same_depth or view.owner[v, u] != owner[real[nearest]]
        assert wrong <= 1
        assert compared > 100


def test_lidar_points_land_on_the_surface_that_the_camera_sees(scene: Scene, film: Film) -> None:
    """Both sensors, their mountings and the camera matrices agree: static echoes have the image's depth.

    Without leaves and railings, which a beam passes where a look does not.
    """
    solid = scene.scenery
    keep = ~np.isin(solid.finish, list(FREE_PATH_M))
    columns = (solid.rows, solid.owner, solid.colour, solid.finish, solid.reflectance)
    scene = replace(scene, scenery=Solids(*(column[keep] for column in columns)))
    views = {
        channel: take_image(scene, channel, TIME_S, width_px=WIDTH_PX, film=film, shift=(0, 0)) for channel in CAMERAS
    }
    points = take_sweep(scene, TIME_S, np.random.default_rng(0))
    points = points[np.linalg.norm(points[:, :3], axis=1) > 1.5]
    pose = scene.ego_pose(TIME_S) @ MOUNTINGS[LIDAR].ego_from_sensor
    in_scene = points[:, :3].astype(float) @ pose[:3, :3].T + pose[:3, 3]
    compared = 0
    for channel, view in views.items():
        camera = invert_rigid(scene.ego_pose(TIME_S) @ MOUNTINGS[channel].ego_from_sensor)
        local = in_scene @ camera[:3, :3].T + camera[:3, 3]
        local = local[local[:, 2] > 2.0]
        pixel = local @ MOUNTINGS[channel].matrix_px(WIDTH_PX).T
        u, v = np.floor(pixel[:, 0] / pixel[:, 2]).astype(int), np.floor(pixel[:, 1] / pixel[:, 2]).astype(int)
        inside = (u >= 0) & (u < WIDTH_PX) & (v >= 0) & (v < view.owner.shape[0])
        u, v, depth = u[inside], v[inside], local[inside, 2]
        scenery = view.owner[v, u] >= len(scene.things)
        if scenery.sum() < 30:
            continue
        relative = depth[scenery] * view.nearness[v, u][scenery] - 1.0
        assert abs(np.median(relative)) < 0.01
        # The rest: the LiDAR, a foot higher, looks over fences and past posts that hide its points from the camera.
        assert np.mean(np.abs(relative) < 0.05) > 0.75
        compared += 1
    assert compared >= 3


def test_boxes_cover_the_pixels_of_their_things(scene: Scene, views: dict[str, View]) -> None:
    xy, yaw = scene.tracks.at(TIME_S)
    corner = np.array([[x, y, z] for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (0.0, 1.0)])
    checked = 0
    for channel, view in views.items():
        camera = invert_rigid(scene.ego_pose(TIME_S) @ MOUNTINGS[channel].ego_from_sensor)
        for i in np.unique(view.owner[(view.owner >= 0) & (view.owner < len(scene.things))]):
            cos, sin = np.cos(yaw[i]), np.sin(yaw[i])
            turn = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
            world = (corner * scene.things[i].lwh_m) @ turn.T + [*xy[i], 0.0]
            local = world @ camera[:3, :3].T + camera[:3, 3]
            if local[:, 2].min() < 0.5:
                continue
            pixel = local @ MOUNTINGS[channel].matrix_px(WIDTH_PX).T
            hull = cv2.convexHull((pixel[:, :2] / pixel[:, 2:]).astype(np.float32)[:, None])
            for v, u in np.argwhere(view.owner == i)[::7]:
                assert cv2.pointPolygonTest(hull, (float(u) + 0.5, float(v) + 0.5), True) > -1.0
                checked += 1
    assert checked > 200


def one_camera(shapes: list[tuple[Shape, float, float]]) -> View:
    """A view along +x of shapes put at places, from 1.5 m above the ground."""
    rows, owner, finish = [], [], []
    for number, (shape, x, y) in enumerate(shapes):
        count = len(shape.solids)
        rows.append(moved(shape.solids, np.tile([x, y], (count, 1)), np.zeros(count)))
        owner += [number] * count
        finish += [PLAIN] * count
    total = len(owner)
    return render(
        ViewInput(
            np.concatenate(rows),
            np.array(owner),
            np.full((total, 3), 0.5),
            np.array(finish),
            np.array([0.0, 0.0, 1.5]),
            np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]]),
            np.array([[160.0, 0, 160], [0, 160, 90], [0, 0, 1]]),
            (180, 320),
            np.concatenate([[1, 6.5, 0, 1], np.tile([0.0, 1e4], 751)]),
            (0.0, 0.0, 1.0, 0.5, 0.5, 0.0, *[0.5] * 6, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0),
            np.zeros((256, 256), np.float32),
            np.zeros((256, 256), np.float32),
        ),
        objects=len(shapes),
    )


def cube(half_m: float) -> Shape:
    parts = Parts()
    parts.block((-half_m, half_m), (-half_m, half_m), (0.0, 2.0), colour=(1, 0, 0))
    return parts.shape()


def test_visibility_counts_what_is_hidden() -> None:
    hidden = one_camera([(cube(1.0), 20.0, 0.0), (wall(0.0, 3.0), 10.0, 0.0)])
    assert hidden.covered_px[0] > 100
    assert hidden.visible_px[0] == 0
    half = one_camera([(cube(1.0), 20.0, 0.0), (wall(0.0, 3.0), 10.0, 3.0)])
    assert half.covered_px[0] == hidden.covered_px[0]
    assert half.visible_px[0] / half.covered_px[0] == pytest.approx(0.5, abs=0.08)
    free = one_camera([(cube(1.0), 20.0, 0.0), (wall(0.0, 3.0), 10.0, 9.0)])
    assert free.visible_px[0] == free.covered_px[0]


def test_a_cube_covers_the_pixels_that_geometry_says() -> None:
    view = one_camera([(cube(1.0), 21.0, 0.0)])
    columns = np.flatnonzero((view.owner == 0).any(axis=0))
    # The front face is 20 m away: 2 m wide and high, so 16 px of focal length 160.
    assert (columns[0], columns[-1]) == (152, 167)
    rows = np.flatnonzero((view.owner == 0).any(axis=1))
    assert (rows[0], rows[-1]) == (86, 101)
    assert view.nearness[95, 160] == pytest.approx(1 / 20)
    assert FACES > 6
