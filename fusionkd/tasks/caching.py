"""The answers of cached teachers about training frames: found, or asked for and kept."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import lightning.pytorch as pl
import torch

from fusionkd.data import Batch, FrameRecord, NuScenesDataModule
from fusionkd.distillation import Term
from fusionkd.distillation.reading import extents_of, kept_cells, kept_places
from fusionkd.errors import UserError
from fusionkd.models.values import FusionOutput
from fusionkd.tasks.evaluation import say
from fusionkd.teachers import CachedTeacher, Teacher
from fusionkd.teachers.cache_codec import Arrays
from fusionkd.teachers.cache_pack import Form, pack, readable
from fusionkd.teachers.cache_store import CacheFullError, CacheStore, Extent, Subject, changes, sweep
from fusionkd.teachers.cache_subject import data_identity


class Share(NamedTuple):
    """One process's part of the work.

    Attributes:
        rank: This process, from 0.
        world_size: Number of processes, on all machines together.
    """

    rank: int = 0
    world_size: int = 1


ALONE = Share()


@dataclass(frozen=True)
class Filled:
    """What became of a process's share of a cache.

    Attributes:
        teacher: Name.
        frames: Of the share.
        found: Frames that were there already.
        asked: Frames that the teacher was asked about.
        unreadable: Frames whose files can't be read.
        no_room: Frames for which there was no room.
        bytes_per_frame: Mean size of the share's files.
        dense_bytes: Of the same fields of one frame, whole and in half precision.
    """

    teacher: str
    frames: int
    found: int
    asked: int
    unreadable: int
    no_room: int
    bytes_per_frame: float
    dense_bytes: int

    @property
    def is_complete(self) -> bool:
        """Whether the whole share has answers now."""
        return self.unreadable == 0 and self.no_room == 0

    def sentence(self) -> str:
        """What to tell about it."""
        parts = [f"{self.found} frames were there", f"{self.asked} were asked about"]
        parts += [f"{self.unreadable} can't be read"] if self.unreadable else []
        parts += [f"{self.no_room} had no room"] if self.no_room else []
        smaller = self.dense_bytes / self.bytes_per_frame if self.bytes_per_frame else 0.0
        return (
            f"Teacher '{self.teacher}': {', '.join(parts)}; {self.bytes_per_frame / 1e3:.1f} kB a frame, "
            f"{smaller:.0f} times less than the maps whole in half precision."
        )


@torch.no_grad()
def pack_answer(
    output: FusionOutput, batch: Batch, extents: Mapping[str, Sequence[Extent]], *, data: NuScenesDataModule
) -> Arrays:
    """What is kept of a teacher's answer about one recorded frame."""
    seen, heatmap = readable(output)
    places = kept_places(seen, batch, classes=data.classes).cpu().numpy()
    cells = {
        tap: {kind: mask.cpu().numpy() for kind, mask in masks.items()}
        for tap, masks in kept_cells(seen, batch, extents, grid=data.grid).items()
    }
    return pack(seen, heatmap, places=places, cells=cells)


class CacheFiller:
    """Finds or makes what a run needs of one cached teacher.

    Args:
        name: The teacher's name.
        teacher: The teacher; its store is set.
        terms: The run's terms by name, which decide what is kept.
        data: The run's data.
    """

    def __init__(
        self, name: str, teacher: CachedTeacher, terms: Sequence[tuple[str, Term]], *, data: NuScenesDataModule
    ) -> None:
        self.name = name
        self.teacher = teacher
        self.data = data
        self.extents = extents_of(terms, name)
        self.subject: Subject = teacher.subject(data_identity(data), self.extents)

    def open(self) -> bool:
        """Use the store that serves the run, if there is one.

        Raises:
            UserError: If an index can't be read.
        """
        found = CacheStore.find(self.teacher.cache, self.subject)
        # Of what it holds for other runs nothing is read.
        self.teacher.store = None if found is None else replace(found, holds=self.extents)
        return found is not None

    def fill(self, device: torch.device, *, share: Share = ALONE, verify: bool = False) -> Filled:
        """Ask about the frames of a share of the training split that are missing, and keep the answers.

        Each frame is asked about alone and as it was recorded, so that its file doesn't depend on who asks, in which
        company, or after which interruption.

        Args:
            device: Where the teacher computes.
            share: Which frames.
            verify: Whether the files that are there are read, and asked for anew if they are damaged.

        Raises:
            UserError: If a frame can't be read (and bad frames aren't skipped), or the folder can't be written.
        """
        records = self._records(share)
        missing = self.missing(share, verify=verify)
        if self.teacher.store is None:
            reason = changes(self.teacher.cache, self.subject)
            say(f"Teacher '{self.name}': the cache {self.teacher.cache} holds no answers for this run: {reason}.")
        if missing:
            sweep(self.teacher.cache)
            of_share = "" if share.world_size == 1 else f" of process {share.rank} of {share.world_size}"
            say(
                f"Teacher '{self.name}': {len(missing)} of {len(records)} frames{of_share} are missing in "
                f"{self.teacher.cache}; they are computed live and added."
            )
        asked, no_room = self._ask(missing, device)
        self.teacher.forget()
        return self._filled(records, found=len(records) - len(missing), asked=asked, no_room=no_room)

    def missing(self, share: Share = ALONE, *, verify: bool = False) -> list[FrameRecord]:
        """Frames of a share about which the cache has no answer.

        Args:
            share: Which frames.
            verify: Whether the files that are there are read; damaged ones are removed.

        Raises:
            UserError: If an index can't be read.
        """
        records = self._records(share)
        self.open()
        store = self.teacher.store
        if store is None:
            return records
        names = store.names()
        there = [r for r in records if store.path(r.token, labelled=r.labelled).name in names]
        if verify:
            there = [r for r in there if self.teacher.read(store, r.token, labelled=r.labelled) is not None]
        known = {(r.token, r.labelled) for r in there}
        return [r for r in records if (r.token, r.labelled) not in known]

    def _records(self, share: Share) -> list[FrameRecord]:
        return self.data.records("train")[share.rank :: share.world_size]

    def _ask(self, missing: list[FrameRecord], device: torch.device) -> tuple[int, int]:
        """How many frames were kept, and for how many there was no room."""
        asked = 0
        if not missing:
            return 0, 0
        # The loader draws a seed: the run's random numbers are left as they were.
        with torch.random.fork_rng(devices=[]):
            for batch in self.data.recorded_dataloader(missing):
                output = self.teacher(batch.to(device))
                store = self._store(output)
                arrays = pack_answer(output, batch.to(device), self.extents, data=self.data)
                try:
                    store.write(batch.token[0], arrays, labelled=bool(batch.labelled[0]), room=self.teacher.room)
                except CacheFullError:
                    self._tell_full(store)
                    return asked, len(missing) - asked
                except OSError as error:
                    raise UserError(f"The teacher cache {self.teacher.cache} can't be written: {error}.") from None
                asked += 1
        return asked, 0

    def _store(self, output: FusionOutput) -> CacheStore:
        if self.teacher.store is None:
            self.teacher.store = CacheStore.make(self.teacher.cache, self.subject, Form.of(output))
        return self.teacher.store

    def _tell_full(self, store: CacheStore) -> None:
        unused = [path.name for path in sorted(store.folder.parent.iterdir()) if path != store.folder]
        others = f" Folders there that this teacher doesn't read: {', '.join(unused)}." if unused else ""
        say(
            f"Teacher '{self.name}': the cache {self.teacher.cache} is full at max_gb={self.teacher.room.max_gb:g}; "
            f"frames without an answer there are asked about live. Raise max_gb or delete what is no longer needed."
            f"{others}"
        )

    def _filled(self, records: list[FrameRecord], *, found: int, asked: int, no_room: int) -> Filled:
        store = self.teacher.store
        if store is None:
            return Filled(self.name, len(records), found, asked, len(records) - no_room, no_room, 0.0, 0)
        names = store.names()
        paths = [store.path(r.token, labelled=r.labelled) for r in records]
        sizes = [path.stat().st_size for path in paths if path.name in names]
        return Filled(
            teacher=self.name,
            frames=len(records),
            found=found,
            asked=asked,
            unreadable=len(records) - found - asked - no_room,
            no_room=no_room,
            bytes_per_frame=sum(sizes) / max(len(sizes), 1),
            dense_bytes=store.form.dense_bytes(self.extents),
        )


def fill_caches(
    teachers: Mapping[str, Teacher],
    terms: Sequence[tuple[str, Term]],
    *,
    trainer: pl.Trainer,
    data: NuScenesDataModule,
) -> None:
    """Have the answers of a run's cached teachers on the disk before its first step; each process sees to its share.

    Afterwards a cached teacher is checked against its record only if it was asked about anything.

    Args:
        teachers: All teachers by name.
        terms: The run's terms by name.
        trainer: The run's.
        data: The run's.

    Raises:
        UserError: If a term reads what no cache keeps, or the cache can't be read or written.
    """
    if trainer.fast_dev_run:  # type: ignore[attr-defined]
        return
    share = Share(trainer.global_rank, trainer.world_size)
    for name, teacher in teachers.items():
        if isinstance(teacher, CachedTeacher):
            filler = CacheFiller(name, teacher, terms, data=data)
            filled = filler.fill(trainer.strategy.root_device, share=share)
            say(filled.sentence())
            # Everybody waits here, before anybody reads what others wrote.
            asked = trainer.strategy.reduce_boolean_decision(filled.asked > 0, all=False)
            teacher.check = teacher.check and asked
            filler.open()
