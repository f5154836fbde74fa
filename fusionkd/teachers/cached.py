"""A frozen teacher whose answers are read from the disk."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fusionkd.data import Batch
from fusionkd.errors import UserError
from fusionkd.models.values import FusionOutput, SensorBatch
from fusionkd.teachers.cache_codec import Arrays
from fusionkd.teachers.cache_pack import FEATURES
from fusionkd.teachers.cache_replay import replay
from fusionkd.teachers.cache_store import CacheRoom, CacheStore, Extent, Subject
from fusionkd.teachers.cache_subject import teacher_identity
from fusionkd.teachers.checkpoints import Record
from fusionkd.teachers.frozen import FrozenTeacher, checkpoint_path, load_record, load_trained


class LateModel(nn.Module):
    """A trained model that is read from its file when it is first asked, and may be forgotten again.

    Args:
        checkpoint: As for ``FrozenTeacher``.
    """

    def __init__(self, checkpoint: str) -> None:
        super().__init__()
        self.checkpoint = checkpoint
        self.network: nn.Module | None = None

    def forward(self, batch: SensorBatch) -> FusionOutput:
        """The model's maps."""
        if self.network is None:
            # A model begins with random weights before it gets its own: the run's random numbers stay as they were.
            with torch.random.fork_rng(devices=[]):
                network = load_trained(self.checkpoint)[0]
            self.network = network.to(batch.images.device).requires_grad_(False).eval()
        output: FusionOutput = self.network(batch)
        return output


class CachedTeacher(FrozenTeacher):
    """A frozen teacher whose answers about training frames are kept on the disk.

    Before the first step, or by ``tools/cache_teachers.py``, it is asked about each frame as it was recorded. In
    training its answers are read and follow the student's BEV augmentation; the network itself stays on the disk.
    Called as a module it answers live, which is how it is judged.

    Args:
        checkpoint: As for ``FrozenTeacher``.
        cache: Folder of the cache; several teachers may share one.
        max_gb: How much the folder may take on the disk, all that lies in it together.
        check: As for ``FrozenTeacher``; checked only where the network is asked about a frame before the first step.

    Raises:
        UserError: If there is no such checkpoint, or the limit isn't above 0.
    """

    def __init__(self, checkpoint: str, cache: str, *, max_gb: float = 50.0, check: bool = True) -> None:
        super().__init__(checkpoint, check=check)
        if not max_gb > 0:
            raise UserError(f"CachedTeacher's max_gb must be above 0, found {max_gb}.")
        if Path(cache).exists() and not Path(cache).is_dir():
            raise UserError(f"CachedTeacher's cache must be a folder; {cache} is a file.")
        self.cache = Path(cache)
        self.room = CacheRoom(self.cache, max_gb)
        self.identity = teacher_identity(checkpoint, checkpoint_path(checkpoint))
        self.store: CacheStore | None = None

    def open(self, checkpoint: str) -> tuple[nn.Module, Record]:
        """The record alone; the network waits until it is asked."""
        return LateModel(checkpoint), load_record(checkpoint)

    def forget(self) -> None:
        """Give the network's memory back."""
        assert isinstance(self.model, LateModel)
        self.model.network = None

    def subject(self, data: Mapping[str, Any], holds: Mapping[str, Sequence[Extent]]) -> Subject:
        """What this teacher's answers depend on."""
        return Subject(self.identity, data, holds)

    def recall(self, batch: Batch) -> FusionOutput | None:
        """The kept answers about a batch, on its device; None where one of them is missing or damaged."""
        if self.store is None:
            return None
        frames = []
        for token, labelled in zip(batch.token, batch.labelled.tolist()):
            arrays = self.read(self.store, token, labelled=labelled)
            if arrays is None:
                return None
            frames.append(arrays)
        moved = batch.ego_from_augmented.double().cpu().numpy()
        fields = [name for name in self.store.holds if name in FEATURES]
        return on_device(replay(frames, self.store.form, ego_from_augmented=moved, fields=fields), batch.images.device)

    def read(self, store: CacheStore, token: str, *, labelled: bool) -> Arrays | None:
        """What a store holds of a frame; None where it is missing, or damaged, which is told."""
        try:
            return store.read(token, labelled=labelled)
        except ValueError as error:
            # Out of the way, so that the next run that fills the cache asks about this frame again.
            store.path(token, labelled=labelled).unlink(missing_ok=True)
            print(f"Teacher cache: {error}. It is removed, and its frame is asked about live.", file=sys.stderr)
            return None


def on_device(output: FusionOutput, device: torch.device) -> FusionOutput:
    """An output with its tensors moved."""
    if device.type == "cpu":
        return output
    moved: dict[str, Any] = {
        name: value.to(device, non_blocking=True)
        for name in type(output).__dataclass_fields__
        if isinstance(value := getattr(output, name), torch.Tensor)
    }
    return replace(output, **moved)
