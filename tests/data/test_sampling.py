from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DistributedSampler

from fusionkd.data.sampling import Draw, EvaluationSampler, TrainingSampler, class_balanced
from fusionkd.errors import UserError


def _epoch(sampler: TrainingSampler, epoch: int) -> list[Draw]:
    sampler.set_epoch(epoch)
    draws = list(sampler)
    assert len(draws) == len(sampler)
    return draws


def _ranks(world_size: int, **options) -> list[TrainingSampler]:
    return [TrainingSampler(**options, rank=rank, world_size=world_size) for rank in range(world_size)]


@settings(deadline=None, max_examples=40)
@given(
    labelled=st.integers(1, 30),
    unlabelled=st.integers(0, 30),
    batch_size=st.integers(1, 6),
    world_size=st.integers(1, 3),
    epoch=st.integers(0, 3),
)
def test_processes_share_an_epoch(labelled: int, unlabelled: int, batch_size: int, world_size: int, epoch: int) -> None:
    frames = labelled + unlabelled
    samplers = _ranks(
        world_size, labelled=range(labelled), unlabelled=range(labelled, frames), batch_size=batch_size, seed=5
    )
    parts = [_epoch(sampler, epoch) for sampler in samplers]
    draws = [draw for part in parts for draw in part]
    assert len({len(part) for part in parts}) == 1
    assert len(parts[0]) % batch_size == 0
    assert sorted(draw.position for draw in draws) == list(range(len(draws)))
    assert {draw.epoch for draw in draws} == {epoch}
    counts = Counter(draw.item for draw in draws)
    if frames >= batch_size * world_size:
        assert set(counts.values()) == {1}
        assert frames - len(draws) < batch_size * world_size
    else:
        assert len(draws) == batch_size * world_size
        assert max(counts.values()) - min(counts.values()) <= 1


def test_epochs_and_seeds_differ_and_repeat() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        sampler = TrainingSampler(range(50), batch_size=5, seed=seed, rank=0, world_size=1)
        return [draw.item for draw in _epoch(sampler, epoch)]

    assert order(0, 0) == order(0, 0)
    assert len({tuple(order(seed, epoch)) for seed in range(3) for epoch in range(3)}) == 9


@settings(deadline=None, max_examples=40)
@given(
    labelled=st.integers(1, 20),
    unlabelled=st.integers(1, 40),
    batch=st.integers(2, 6).flatmap(lambda size: st.tuples(st.just(size), st.integers(1, size - 1))),
    world_size=st.integers(1, 3),
)
def test_every_batch_is_mixed_as_asked(labelled: int, unlabelled: int, batch: tuple[int, int], world_size: int) -> None:
    size, share = batch
    samplers = _ranks(
        world_size,
        labelled=range(labelled),
        unlabelled=range(labelled, labelled + unlabelled),
        batch_size=size,
        unlabelled_per_batch=share,
    )
    seen: Counter[int] = Counter()
    for epoch in range(6):
        drawn: Counter[int] = Counter()
        for sampler in samplers:
            items = np.array([draw.item for draw in _epoch(sampler, epoch)]).reshape(-1, size)
            assert ((items >= labelled).sum(axis=1) == share).all()
            drawn.update(items.ravel().tolist())
        assert all(drawn[item] >= 1 for item in range(labelled))
        seen.update(drawn)
    # Unlabelled frames go round evenly over epochs, not only within one.
    counts = [seen[item] for item in range(labelled, labelled + unlabelled)]
    assert max(counts) - min(counts) <= 1


def test_no_unlabelled_frames_leave_batches_of_labelled_ones() -> None:
    sampler = TrainingSampler(range(7), batch_size=4, unlabelled_per_batch=2, rank=0, world_size=1)
    assert len(_epoch(sampler, 0)) == 4


def test_classes_lead_equally_many_draws() -> None:
    generator = np.random.default_rng(0)
    frame_classes = [[0]] * 90 + [[0, 1]] * 9 + [[2]]
    drawn = class_balanced(np.arange(100), frame_classes, 300, generator)
    with_class = [sum(c in frame_classes[item] for item in drawn) for c in range(3)]
    assert with_class[1] >= 100
    assert with_class[2] == 100
    assert len(set(drawn[drawn < 90])) > 40
    # Within a class nothing comes twice before each came once.
    holders = Counter(item for item in drawn.tolist() if item in range(90, 99))
    assert min(holders.values()) >= 11


def test_balanced_sampling_keeps_the_epochs_length() -> None:
    sampler = TrainingSampler(range(20), batch_size=4, frame_classes=[[0]] * 19 + [[1]], rank=0, world_size=1, seed=1)
    draws = _epoch(sampler, 0)
    assert len(draws) == 20
    assert sum(draw.item == 19 for draw in draws) == 10
    assert len({draw.position for draw in draws}) == 20


@pytest.mark.parametrize(("frames", "world_size"), [(10, 1), (10, 3), (2, 4), (0, 2)])
def test_evaluation_covers_each_frame_once(frames: int, world_size: int) -> None:
    samplers = [EvaluationSampler(frames, rank=rank, world_size=world_size) for rank in range(world_size)]
    parts = [list(sampler) for sampler in samplers]
    assert [len(part) for part in parts] == [len(sampler) for sampler in samplers]
    assert sorted(draw.item for part in parts for draw in part) == list(range(frames))


def test_lightning_leaves_the_samplers_alone() -> None:
    assert isinstance(TrainingSampler([0], batch_size=1, rank=0, world_size=1), DistributedSampler)
    assert isinstance(EvaluationSampler(1, rank=0, world_size=1), DistributedSampler)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"labelled": [0], "batch_size": 0}, "batch_size must be at least 1"),
        ({"labelled": [], "batch_size": 2}, "no training frames"),
        ({"labelled": [0], "unlabelled": [1], "batch_size": 2, "unlabelled_per_batch": 2}, "below batch_size=2"),
        ({"labelled": [0], "unlabelled": [1], "batch_size": 2, "unlabelled_per_batch": -1}, "0 or more"),
        ({"labelled": [], "unlabelled": [1], "batch_size": 2, "unlabelled_per_batch": 1}, "no training frame is label"),
        ({"labelled": [0], "unlabelled": [1], "batch_size": 2, "frame_classes": [[0]]}, "set unlabelled_per_batch"),
        ({"labelled": [0], "batch_size": 1, "frame_classes": [[]]}, "needs annotated boxes"),
    ],
)
def test_impossible_mixtures_are_named(options, message: str) -> None:
    with pytest.raises(UserError, match=message):
        list(TrainingSampler(**options, rank=0, world_size=1))
