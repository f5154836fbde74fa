"""What a DataLoader's workers do: read, augment, prepare; and what happens to frames that can't be read."""

import sys
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import cv2
import torch
from torch.utils.data import DataLoader, Dataset, Sampler, get_worker_info

from fusionkd.data.augmentation import AugmentationPlan
from fusionkd.data.collate import Collator, PreparedSample
from fusionkd.data.dataset import NuScenesDataset
from fusionkd.data.frames import Batch
from fusionkd.data.packing import PackedBatch, packed
from fusionkd.data.sampling import Draw, TrainingSampler
from fusionkd.errors import UserError

NO_AUGMENTATION = AugmentationPlan()

OnBadFrame = Literal["raise", "skip"]


class SkippedFrames:
    """Frames that couldn't be read, counted in memory that all loader processes share.

    Args:
        tokens: Tokens of all frames.
    """

    def __init__(self, tokens: Sequence[str]) -> None:
        self._tokens = list(tokens)
        self._count = torch.zeros(len(self._tokens), dtype=torch.int64).share_memory_()  # type: ignore[no-untyped-call]

    def add(self, item: int, reason: str, *, consequence: str) -> None:
        """Count a frame and, the first time, say so on the standard error stream."""
        self._count[item] += 1
        if self._count[item] == 1:
            print(f"Skipped frame {self._tokens[item]}: {reason} {consequence}", file=sys.stderr, flush=True)

    @property
    def tokens(self) -> tuple[str, ...]:
        """Tokens of the frames that couldn't be read so far."""
        return tuple(self._tokens[item] for item in torch.nonzero(self._count).flatten().tolist())

    @property
    def count(self) -> int:
        """How often a frame was skipped, frames that were tried again included."""
        return int(self._count.sum())


class LoaderDataset(Dataset[PreparedSample | UserError | None]):
    """Draws turned into prepared samples, in whichever process that happens.

    A ``UserError`` is handed on as a value and raised by ``FrameLoader``: a worker that raises it
    would bury its sentence in a traceback of its own.

    Args:
        frames: The frames.
        collator: Makes what a batch stacks.
        plan: Augmentation; none by default.
        skipped: Counts bad frames; None lets the first one raise.
        replace_bad: Whether a bad frame is replaced by the next good one of its kind (training) or left out.
    """

    def __init__(
        self,
        frames: NuScenesDataset,
        collator: Collator,
        *,
        plan: AugmentationPlan = NO_AUGMENTATION,
        skipped: SkippedFrames | None = None,
        replace_bad: bool = False,
    ) -> None:
        self._frames = frames
        self._collator = collator
        self._plan = plan
        self._skipped = skipped
        self._replace_bad = replace_bad

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, draw: Draw) -> PreparedSample | UserError | None:
        """The sample of a draw; None where its frame can't be read and is left out.

        An error where it can't be read and bad frames aren't skipped, or no frame can be read.
        """
        records = self._frames.records
        last = UserError("There are no frames.")
        for step in range(len(records)):
            item = (draw.item + step) % len(records)
            if records[item].labelled != records[draw.item].labelled:
                continue
            try:
                return self._prepare(draw._replace(item=item))
            except UserError as error:
                if self._skipped is None:
                    return error
                last = error
                consequence = "Another frame takes its place." if self._replace_bad else "It is left out."
                self._skipped.add(item, str(error), consequence=consequence)
                if not self._replace_bad:
                    return None
        return UserError(f"None of the frames of this kind can be read. The last one: {last}")

    def collate(self, samples: Sequence[PreparedSample | UserError | None]) -> Batch | PackedBatch | UserError | None:
        """One batch of those samples that could be read, None where none could; or the first error.

        In a worker it is packed.
        """
        for sample in samples:
            if isinstance(sample, UserError):
                return sample
        good = [sample for sample in samples if isinstance(sample, PreparedSample)]
        if not good:
            return None
        batch = self._collator.collate(good)
        return batch if get_worker_info() is None else packed(batch)

    def _prepare(self, draw: Draw) -> PreparedSample:
        frame = self._plan.read(self._frames, draw)
        # From the frame as it was measured: what is pasted into the LiDAR later, no camera sees.
        depth = self._collator.depth(frame)
        return self._collator.prepare(self._plan.change(frame, draw), depth)


class FrameLoader(DataLoader[Any]):
    """A DataLoader of ``Batch`` that raises its workers' user errors and leaves out batches with no readable frame.

    It knows how far it is: a run that goes on from a checkpoint inside of an epoch gets the frames that are left.
    When its workers hand over the last batch of a training epoch they begin the next one.
    """

    _taken = 0
    """Batches taken in this epoch, also those that were left out."""
    _ahead: tuple[int, Iterator[Any]] | None = None
    """An epoch that was begun already, and its batches."""

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        """The batches.

        Raises:
            UserError: If a frame can't be read and bad frames aren't skipped, or no frame can be read.
        """
        sampler, ahead, self._ahead = self.sampler, self._ahead, None
        skip = sampler.skip if isinstance(sampler, TrainingSampler) else 0
        self._taken = skip // self._size
        if ahead is not None and isinstance(sampler, TrainingSampler) and (ahead[0], 0) == (sampler.epoch, skip):
            return _readable(self._counted(ahead[1]))
        return _readable(self._counted(super().__iter__()))

    def state_dict(self) -> dict[str, int]:
        """The epoch and how many of its batches were taken; Lightning keeps this in checkpoints."""
        assert isinstance(self.sampler, TrainingSampler)
        return {"epoch": self.sampler.epoch, "batches": self._taken}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Let the next epoch be what was left of that one, or the one after where nothing was."""
        assert isinstance(self.sampler, TrainingSampler)
        epoch, batches = state_dict["epoch"], state_dict["batches"]
        over = batches >= len(self)
        self.sampler.set_epoch(epoch + over)
        self.sampler.skip = 0 if over else batches * self._size

    @property
    def _size(self) -> int:
        assert self.batch_size is not None
        return self.batch_size

    def _counted(self, batches: Iterator[Any]) -> Iterator[Batch | UserError | None]:
        while self._taken < len(self):
            # Nothing here refers to a batch that was handed over: its memory is free as soon as its step is done.
            yield self._take(batches)

    def _take(self, batches: Iterator[Any]) -> Batch | UserError | None:
        batch = next(batches)
        self._taken += 1
        if self._taken == len(self) and not isinstance(batch, UserError):
            self._begin_next()
        return batch.unpacked() if isinstance(batch, PackedBatch) else batch

    def _begin_next(self) -> None:
        sampler = self.sampler
        if self.num_workers and isinstance(sampler, TrainingSampler):
            epoch = sampler.epoch
            sampler.set_epoch(epoch + 1)
            self._ahead = (epoch + 1, super().__iter__())
            sampler.set_epoch(epoch)


def _readable(batches: Iterator[Batch | UserError | None]) -> Iterator[Batch]:
    for batch in batches:
        if isinstance(batch, UserError):
            try:
                raise batch
            finally:
                # What the error's own traceback refers to is freed by the garbage collector alone, which
                # closes the workers' queues before the workers, and those then wait ten seconds in vain.
                del batch, batches
        if batch is not None:
            handed_over = [batch]
            del batch
            yield handed_over.pop()


def frame_loader(
    dataset: LoaderDataset, sampler: Sampler[Draw], *, batch_size: int, num_workers: int, drop_last: bool
) -> FrameLoader:
    """A loader whose workers live as long as it does and use one thread each."""
    return FrameLoader(
        dataset,
        batch_size=batch_size,
        sampler=sampler,
        num_workers=num_workers,
        collate_fn=dataset.collate,
        drop_last=drop_last,
        # Of its own, so that beginning an epoch takes nothing from the run's random numbers.
        generator=torch.Generator(),
        pin_memory=torch.cuda.is_available(),
        persistent_workers=num_workers > 0,
        prefetch_factor=4 if num_workers > 0 else None,
        worker_init_fn=_one_thread,
    )


def _one_thread(worker: int) -> None:
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
