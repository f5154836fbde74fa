"""The order in which frames are drawn: mixed, class-balanced, seeded, shared among processes."""

import math
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch.distributed
from numpy.typing import NDArray
from torch.utils.data import DistributedSampler

from fusionkd.errors import UserError


class Draw(NamedTuple):
    """One draw of an epoch: all that a random augmentation may depend on.

    Attributes:
        epoch: Counted from 0.
        position: Place in the epoch, over all processes.
        item: Which frame.
    """

    epoch: int
    position: int
    item: int


class TrainingSampler(DistributedSampler[Draw]):
    """Draws of one process for a training epoch, arranged so that batches of ``batch_size`` are mixed as asked.

    A draw carries its epoch and position, so that workers that outlive an epoch still know
    both, and augmentation doesn't depend on which worker makes it.

    It is a ``DistributedSampler`` in name so that Lightning leaves it alone (Lightning replaces any
    other sampler in distributed runs, and thereby loses the mixture); it deals the draws out to
    the processes itself. All processes get equally many whole batches; what doesn't fill one is
    left for other epochs, but where all frames together don't fill the first, they are repeated.

    Args:
        labelled: Items with annotations.
        unlabelled: Items without.
        batch_size: Frames per batch and process.
        unlabelled_per_batch: How many of them are unlabelled; None draws from both alike.
        frame_classes: Per labelled item its detection classes, to draw every class equally often
            (after Zhu et al., "Class-balanced Grouping and Sampling", 2019, but with the epoch as
            long as before instead of several times longer); None draws every frame once.
        seed: Of all draws.
        rank: This process; None asks torch.distributed.
        world_size: Number of processes; None asks torch.distributed.

    Raises:
        UserError: If the mixture can't be made or there are no frames.
    """

    def __init__(
        self,
        labelled: Sequence[int],
        unlabelled: Sequence[int] = (),
        *,
        batch_size: int,
        unlabelled_per_batch: int | None = None,
        frame_classes: Sequence[Sequence[int]] | None = None,
        seed: int = 0,
        rank: int | None = None,
        world_size: int | None = None,
    ) -> None:
        rank, world_size = _process(rank, world_size)
        super().__init__(range(len(labelled) + len(unlabelled)), num_replicas=world_size, rank=rank, seed=seed)  # type: ignore[arg-type]
        self._labelled = np.asarray(labelled, dtype=np.int64)
        self._unlabelled = np.asarray(unlabelled, dtype=np.int64)
        self._batch_size = batch_size
        self._share = None if len(unlabelled) == 0 else unlabelled_per_batch
        self._frame_classes = frame_classes
        self.skip = 0
        """Draws that the next epoch leaves out, because an interrupted run has had them."""
        self._check(unlabelled_per_batch)
        per_step = batch_size * world_size
        if self._share is None:
            self._batches = max(1, (len(self._labelled) + len(self._unlabelled)) // per_step)
        else:
            self._batches = math.ceil(len(self._labelled) / ((batch_size - self._share) * world_size))

    def __len__(self) -> int:
        """Number of draws of this process in an epoch."""
        return self._batches * self._batch_size

    def __iter__(self) -> Iterator[Draw]:
        """The draws of this process in the present epoch."""
        items = self._items()  # (batches, processes, batch_size)
        positions = np.arange(items.size).reshape(items.shape)
        epoch, skip, self.skip = self.epoch, self.skip, 0
        drawn = zip(items[:, self.rank].ravel(), positions[:, self.rank].ravel())
        for item, position in islice(drawn, skip, None):
            yield Draw(epoch, int(position), int(item))

    def _items(self) -> NDArray[np.int64]:
        generator = np.random.default_rng([self.seed, self.epoch])
        frames = self._batches * self.num_replicas
        if self._share is None:
            pool = np.concatenate([self._labelled, self._unlabelled])
            drawn = self._draw_labelled(frames * self._batch_size, generator, pool)
            return np.reshape(drawn, (self._batches, self.num_replicas, self._batch_size))
        with_labels = self._draw_labelled(frames * (self._batch_size - self._share), generator, self._labelled)
        without = _cycle(
            self._unlabelled, frames * self._share, seed=self.seed, begin=self.epoch * frames * self._share
        )
        parts = [with_labels.reshape(frames, -1), without.reshape(frames, -1)]
        return np.reshape(np.concatenate(parts, axis=1), (self._batches, self.num_replicas, self._batch_size))

    def _draw_labelled(self, count: int, generator: np.random.Generator, pool: NDArray[np.int64]) -> NDArray[np.int64]:
        if self._frame_classes is not None:
            return class_balanced(pool, self._frame_classes, count, generator)
        rounds = [generator.permutation(pool) for _ in range(math.ceil(count / len(pool)))]
        return np.asarray(np.concatenate(rounds)[:count])

    def _check(self, unlabelled_per_batch: int | None) -> None:
        if self._batch_size < 1:
            raise UserError(f"batch_size must be at least 1, found {self._batch_size}.")
        if len(self._labelled) + len(self._unlabelled) == 0:
            raise UserError("There are no training frames.")
        if unlabelled_per_batch is not None and not 0 <= unlabelled_per_batch < self._batch_size:
            raise UserError(
                f"unlabelled_per_batch must be 0 or more and below batch_size={self._batch_size}, so that every "
                f"batch has labels too; found {unlabelled_per_batch}."
            )
        if self._share and len(self._labelled) == 0:
            raise UserError("unlabelled_per_batch asks for mixed batches, but no training frame is labelled.")
        if self._frame_classes is not None and len(self._unlabelled) and self._share is None:
            raise UserError(
                "Class-balanced sampling knows no classes of unlabelled frames: set unlabelled_per_batch, so that "
                "they are drawn by themselves."
            )


class EvaluationSampler(DistributedSampler[Draw]):
    """Every frame once over all processes, in order; no frame is repeated to make shares equal.

    A ``DistributedSampler`` in name, for the reason given in ``TrainingSampler``.

    Args:
        frames: Number of frames.
        rank: This process; None asks torch.distributed.
        world_size: Number of processes; None asks torch.distributed.
    """

    def __init__(self, frames: int, *, rank: int | None = None, world_size: int | None = None) -> None:
        rank, world_size = _process(rank, world_size)
        super().__init__(range(frames), num_replicas=world_size, rank=rank, shuffle=False)  # type: ignore[arg-type]
        self._frames = frames

    def __len__(self) -> int:
        """Number of frames of this process."""
        return len(range(self.rank, self._frames, self.num_replicas))

    def __iter__(self) -> Iterator[Draw]:
        """The frames of this process."""
        for item in range(self.rank, self._frames, self.num_replicas):
            yield Draw(0, item, item)


def class_balanced(
    items: NDArray[np.int64], frame_classes: Sequence[Sequence[int]], count: int, generator: np.random.Generator
) -> NDArray[np.int64]:
    """Items drawn such that every class present leads equally many of the draws.

    Args:
        items: What to draw from, (N,).
        frame_classes: The classes in each item.
        count: Number of draws; within a class no item comes twice before each came once.
        generator: Source of chance.

    Returns:
        (count,) items in random order.
    """
    classes = sorted({c for present in frame_classes for c in present})
    if not classes:
        raise UserError("Class-balanced sampling needs annotated boxes, but no labelled training frame has any.")
    leads = generator.permutation(np.arange(count) % len(classes))
    drawn = np.empty(count, dtype=np.int64)
    for number, name in enumerate(classes):
        holders = items[[name in present for present in frame_classes]]
        places = np.flatnonzero(leads == number)
        rounds = [generator.permutation(holders) for _ in range(math.ceil(len(places) / len(holders)))]
        if rounds:
            drawn[places] = np.concatenate(rounds)[: len(places)]
    return drawn


def _cycle(items: NDArray[np.int64], count: int, *, seed: int, begin: int) -> NDArray[np.int64]:
    """``count`` items from place ``begin`` of an endless row of seeded permutations."""
    first, last = begin // len(items), (begin + count - 1) // len(items)
    rounds = [np.random.default_rng([seed, 1, number]).permutation(items) for number in range(first, last + 1)]
    offset = begin - first * len(items)
    return np.asarray(np.concatenate([items[:0], *rounds])[offset : offset + count])


def _process(rank: int | None, world_size: int | None) -> tuple[int, int]:
    if rank is not None and world_size is not None:
        return rank, world_size
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1
