"""The same results whatever the number of threads, also in a process forked after the threads ran."""

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from clouds import GRID
from numpy.typing import NDArray

from fusionkd.preprocess import fuse_sweeps, hard_pillars, lidar_depth_maps, points_in_boxes
from fusionkd.preprocess.cells import cell_of_points
from fusionkd.preprocess.threads import in_threads

RNG = np.random.default_rng(4)
POINTS = np.column_stack([RNG.normal(0, 2, (9000, 3)), RNG.uniform(0, 1, (9000, 2))]).astype(np.float32)
POINTS[::50, 1] = np.nan
BOXES = np.column_stack([RNG.uniform(-4, 4, (30, 3)), RNG.uniform(0.5, 3, (30, 3)), RNG.uniform(-3, 3, (30, 3))])
CAMERAS = np.tile(np.array([[8.0, -8, 0, 0], [8, 0, -8, 0], [1, 0, 0, 0], [0, 0, 0, 1]]), (6, 1, 1))
CAMERAS[:, 0, 3] = np.arange(6)

WORK: dict[str, Callable[[int], NDArray[Any]]] = {
    "cell_of_points": lambda n: cell_of_points(POINTS, GRID, threads=n),
    "fuse_sweeps": lambda n: fuse_sweeps(
        np.array_split(POINTS, 7), key_from_sweep=np.tile(np.eye(4), (7, 1, 1)), age_s=np.arange(7), threads=n
    ),
    "hard_pillars": lambda n: hard_pillars(POINTS, GRID, max_points=9, max_pillars=40, threads=n).points,
    "points_in_boxes": lambda n: points_in_boxes(POINTS, BOXES, threads=n),
    "lidar_depth_maps": lambda n: lidar_depth_maps(
        POINTS, image_from_ego=CAMERAS, size_px=(16, 16), stride=2, threads=n
    ),
}


@pytest.mark.parametrize("name", WORK)
def test_the_number_of_threads_changes_nothing(name: str) -> None:
    expected = WORK[name](1)
    assert expected.any()
    for threads in (2, 3, 16):
        np.testing.assert_array_equal(WORK[name](threads), expected)


@pytest.mark.parametrize("name", WORK)
@pytest.mark.parametrize("threads", [0, -1, 1.5, True])
def test_a_number_of_threads_below_one_is_refused(name: str, threads: Any) -> None:
    with pytest.raises(ValueError, match="threads must be a whole number of at least 1, found"):
        WORK[name](threads)


def test_every_item_is_worked_on_once() -> None:
    for items in (0, 1, 5, 100):
        for threads in (1, 2, 7):
            seen = np.zeros(items, np.int64)

            def work(start: int, stop: int, seen: NDArray[np.int64] = seen) -> None:
                seen[start:stop] += 1

            in_threads(work, items, threads=threads)
            assert np.all(seen == 1)


def test_an_error_in_another_thread_is_raised() -> None:
    def work(start: int, stop: int) -> None:
        if start > 0:
            raise RuntimeError("from a thread")

    with pytest.raises(RuntimeError, match="from a thread"):
        in_threads(work, 10, threads=3)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_fork_after_threads_ran_works_on() -> None:
    expected = WORK["hard_pillars"](2)
    child = os.fork()
    if child == 0:
        same = all(np.array_equal(WORK["hard_pillars"](threads), expected) for threads in (1, 2))
        os._exit(0 if same else 1)
    assert os.waitpid(child, 0)[1] == 0
