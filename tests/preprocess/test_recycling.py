"""Memory is used again, and never while somebody holds what is in it."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from fusionkd.preprocess import fuse_sweeps
from fusionkd.preprocess.recycling import _BLOCKS, MOST_BYTES, recycled

LARGE = (60_000, 5)


def address(array: NDArray[Any]) -> int:
    return int(array.__array_interface__["data"][0])


@pytest.mark.parametrize("hold", [lambda a: a, lambda a: a[7:9], lambda a: a.T, torch.from_numpy, memoryview])
def test_what_is_held_stays(hold: Any) -> None:
    first = recycled(LARGE, np.float32)
    first[:] = 1
    held = hold(first)
    del first
    others = [recycled(LARGE, np.float32) for _ in range(5)]
    for other in others:
        other[:] = 2
    assert np.all(np.asarray(held) == 1)


def test_what_nobody_holds_is_used_again() -> None:
    first = recycled(LARGE, np.float32)
    where = address(first)
    del first
    again = recycled(LARGE, np.float32)
    assert address(again) == where
    assert again.shape == LARGE
    assert again.flags.c_contiguous
    assert again.flags.writeable


@pytest.mark.parametrize("shape", [LARGE, (1_000_003,)])
def test_results_begin_with_a_line_of_the_cache(shape: tuple[int, ...]) -> None:
    arrays = [recycled(shape, np.float32) for _ in range(3)]
    assert [address(array) % 64 for array in arrays] == [0, 0, 0]


def test_a_block_is_not_taken_for_much_less() -> None:
    where = address(recycled(LARGE, np.float32))
    smaller = [recycled((20_000, 5), np.float32) for _ in range(5)]
    assert where not in map(address, smaller)
    assert len({address(array) for array in smaller}) == 5


def test_no_more_is_kept_than_some_bytes() -> None:
    size = MOST_BYTES // 4
    alive = [recycled((size,), np.uint8) for _ in range(9)]
    assert sum(block.nbytes for block in _BLOCKS.kept) <= MOST_BYTES
    kept = {address(array) for array in alive if any(np.shares_memory(array, block) for block in _BLOCKS.kept)}
    assert len(kept) == len(_BLOCKS.kept)
    del alive
    assert address(recycled((size,), np.uint8)) in kept
    recycled((2 * MOST_BYTES,), np.uint8)
    assert len(_BLOCKS.kept) == 1
    _BLOCKS.kept.clear()


def test_threads_have_their_own() -> None:
    where = address(recycled(LARGE, np.float32))
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(lambda: address(recycled(LARGE, np.float32))).result() != where
    assert address(recycled(LARGE, np.float32)) == where


@given(
    steps=st.lists(st.tuples(st.integers(1, 120_000), st.sampled_from([np.float32, np.int64, np.uint8])), max_size=30),
    drops=st.lists(st.integers(0, 9), max_size=30),
)
def test_results_never_overlap(steps: list[tuple[int, Any]], drops: list[int]) -> None:
    alive: list[tuple[int, NDArray[Any]]] = []
    for number, (length, dtype) in enumerate(steps):
        array = recycled((length, 3), dtype)
        assert array.shape == (length, 3)
        assert array.dtype == dtype
        array[:] = number
        alive.append((number, array))
        del array
        for drop in drops[number : number + 1]:
            if drop < len(alive):
                alive.pop(drop)
        assert all((kept == value).all() for value, kept in alive)


def test_clouds_of_many_frames_live_side_by_side() -> None:
    rng = np.random.default_rng(0)
    motion: dict[str, Any] = {"key_from_sweep": np.eye(4)[None], "age_s": [0.0]}
    sweeps = [rng.uniform(2, 50, (30_000, 5)).astype(np.float32) for _ in range(10)]
    fused = [fuse_sweeps([sweep], **motion) for sweep in sweeps]
    for sweep, cloud in zip(sweeps, fused):
        np.testing.assert_allclose(cloud[:, :4], sweep[:, :4])
