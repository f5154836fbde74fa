"""A batch that comes from a worker is the batch."""

import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from fusionkd.data import Batch, BevAugmentation, ImageAugmentation, NuScenesDataModule, PillarView, RasterView
from fusionkd.data.packing import ALIGNMENT, packed
from fusionkd.data.sampling import TrainingSampler
from fusionkd.geometry import BevGrid

GRID = BevGrid(cell_m=1.6)
AUGMENTATION: dict[str, Any] = {"bev_augmentation": BevAugmentation(), "image_augmentation": ImageAugmentation()}


@pytest.fixture
def make(tiny_root: Path) -> Callable[..., NuScenesDataModule]:
    def datamodule(num_workers: int) -> NuScenesDataModule:
        return NuScenesDataModule(
            str(tiny_root),
            next(tiny_root.glob("v1.0-*")).name,
            grid=GRID,
            lidar_views={"raster": RasterView(grid=GRID), "pillars": PillarView(grid=GRID)},
            image_size_px=(32, 64),
            num_sweeps=2,
            batch_size=1,
            num_workers=num_workers,
            **AUGMENTATION,
        )

    return datamodule


def tensors(batch: Batch) -> list[Tensor]:
    found: list[Tensor] = []
    batch.map(lambda tensor: found.append(tensor) or tensor)  # type: ignore[func-returns-value]
    return found


def same(first: Batch, second: Batch) -> bool:
    pairs = list(zip(tensors(first), tensors(second), strict=True))
    assert all(a.dtype == b.dtype for a, b in pairs)
    return first.token == second.token and all(torch.equal(a.nan_to_num(7), b.nan_to_num(7)) for a, b in pairs)


def test_packed_and_unpacked(make: Callable[..., NuScenesDataModule]) -> None:
    batch = next(iter(make(0).train_dataloader()))
    holder = packed(batch)
    found = holder.unpacked()
    assert same(batch, found)
    assert {view: list(parts) for view, parts in found.lidar.items()} == {
        view: list(parts) for view, parts in batch.lidar.items()
    }
    assert holder.memory.is_shared()
    assert len(tensors(batch)) > 12
    begin = holder.memory.data_ptr()
    for tensor in tensors(found):
        assert (tensor.data_ptr() - begin) % ALIGNMENT == 0
        assert tensor.is_contiguous()


def test_tensors_without_elements_keep_their_shape(make: Callable[..., NuScenesDataModule]) -> None:
    batch = next(iter(make(0).train_dataloader())).map(lambda t: t[:0])
    assert [t.shape for t in tensors(packed(batch).unpacked())] == [t.shape for t in tensors(batch)]


def test_workers_give_the_same_batches_epoch_after_epoch(make: Callable[..., NuScenesDataModule]) -> None:
    alone, shared = make(0).train_dataloader(), make(2).train_dataloader()
    for epoch in range(3):
        for loader in (alone, shared):
            assert isinstance(loader.sampler, TrainingSampler)
            loader.sampler.set_epoch(epoch)
        pairs = list(zip(alone, shared, strict=True))
        assert len(pairs) == len(alone) > 1
        assert all(same(a, b) for a, b in pairs)
        # The next one is begun, which nobody may notice.
        assert shared.sampler.epoch == epoch
        assert shared.state_dict() == alone.state_dict() == {"epoch": epoch, "batches": len(alone)}
    assert shared._ahead is not None


def test_an_epoch_that_was_begun_in_vain_is_forgotten(make: Callable[..., NuScenesDataModule]) -> None:
    alone, shared = make(0).train_dataloader(), make(2).train_dataloader()
    assert isinstance(shared.sampler, TrainingSampler)
    assert isinstance(alone.sampler, TrainingSampler)
    list(shared)  # epoch 0; 1 is begun
    for epoch in (5, 5, 2):
        for loader in (alone, shared):
            loader.sampler.set_epoch(epoch)
        assert all(same(a, b) for a, b in zip(alone, shared, strict=True))
    # 3 is begun; a run goes on inside of it.
    for loader in (alone, shared):
        loader.load_state_dict({"epoch": 3, "batches": 1})
        loader.sampler.set_epoch(3)
    rest = list(shared)
    assert len(rest) == len(alone) - 1
    assert all(same(a, b) for a, b in zip(alone, rest, strict=True))


def test_what_was_handed_over_is_not_held(make: Callable[..., NuScenesDataModule]) -> None:
    batches = iter(make(0).train_dataloader())
    seen = weakref.ref(next(batches).images)
    assert seen() is None
