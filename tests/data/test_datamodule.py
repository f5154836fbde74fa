import json
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
import yaml
from jsonargparse import ArgumentParser
from tiny_world import TinyWorld, token

from fusionkd.data import (
    Batch,
    BevAugmentation,
    GtPaste,
    ImageAugmentation,
    NuScenesDataModule,
    PillarView,
    RasterView,
)
from fusionkd.errors import UserError
from fusionkd.geometry import BevGrid

GRID = BevGrid(cell_m=3.2)
BOTH = ["scene-0061", "scene-0103"]


def _module(root: Path, **options: Any) -> NuScenesDataModule:
    views = {"pillars": PillarView(GRID, max_points=4, max_pillars=100), "raster": RasterView(GRID, z_slices=2)}
    defaults: dict[str, Any] = {
        "image_size_px": (64, 128),
        "lidar_views": views,
        "batch_size": 2,
        "num_workers": 0,
        "num_sweeps": 3,
        "train_split": BOTH,
    }
    return NuScenesDataModule(str(root), **{**defaults, **options})


def _tensors(batch: Batch) -> dict[str, torch.Tensor]:
    tensors = {name: value for name, value in vars(batch).items() if isinstance(value, torch.Tensor)}
    for view, parts in batch.lidar.items():
        tensors.update({f"{view}.{name}": value for name, value in parts.items()})
    return tensors


def _epochs(module: NuScenesDataModule, count: int) -> list[Batch]:
    loader = module.train_dataloader()
    batches = []
    for epoch in range(count):
        loader.sampler.set_epoch(epoch)
        batches += list(loader)
    return batches


def test_batches_don_t_depend_on_the_number_of_workers(tiny_root: Path) -> None:
    def run(workers: int) -> list[Batch]:
        module = _module(
            tiny_root,
            num_workers=workers,
            bev_augmentation=BevAugmentation(),
            image_augmentation=ImageAugmentation(),
            gt_paste=GtPaste({"car": 3}),
            sweeps_as_unlabelled=True,
            unlabelled_per_batch=1,
            seed=7,
        )
        return _epochs(module, 2)

    expected = run(0)
    assert len(expected) == 2 * 6
    assert not torch.equal(expected[0].images, expected[6].images)
    for workers in (1, 2):
        found = run(workers)
        assert [batch.token for batch in found] == [batch.token for batch in expected]
        for one, other in zip(found, expected, strict=True):
            for name, value in _tensors(one).items():
                torch.testing.assert_close(value, _tensors(other)[name], rtol=0, atol=0, equal_nan=True)


def test_validation_covers_each_frame_once_and_is_not_augmented(tiny_root: Path) -> None:
    module = _module(tiny_root, val_split=BOTH, bev_augmentation=BevAugmentation(), batch_size=4)
    batches = list(module.val_dataloader())
    assert [len(batch) for batch in batches] == [4, 2]
    assert sum((batch.token for batch in batches), ()) == module.index.sample_tokens
    assert [batch.token for batch in module.test_dataloader()] == [batch.token for batch in batches]
    frame = module.frame(module.index.sample_tokens[0])
    torch.testing.assert_close(batches[0].images[0], module.batch([frame]).images[0])


def test_scenes_are_labelled_or_not_as_configured(tiny_root: Path) -> None:
    def count(**options: Any) -> tuple[int, int]:
        records = _module(tiny_root, **options).records("train")
        return sum(record.labelled for record in records), sum(not record.labelled for record in records)

    assert count() == (6, 0)
    assert count(labelled_scenes=["scene-0103"]) == (3, 0)
    assert count(labelled_scenes=["scene-0103"], unlabelled_scenes="rest") == (3, 3)
    assert count(train_split="mini_train", unlabelled_scenes=["scene-0103"]) == (3, 3)
    assert count(sweeps_as_unlabelled=True) == (6, 16)
    assert count(sweeps_as_unlabelled=True, sweep_stride=4) == (6, 4)
    assert count(labelled_scenes=["scene-0103"], unlabelled_scenes="rest", sweeps_as_unlabelled=True) == (3, 19)
    assert count(labelled_scenes=[], unlabelled_scenes="rest") == (0, 6)
    with pytest.raises(UserError, match="scene-0061 is named both as labelled"):
        count(unlabelled_scenes=["scene-0061"])


def test_mixed_batches_keep_annotations_to_themselves(tiny_root: Path) -> None:
    module = _module(
        tiny_root,
        labelled_scenes=["scene-0061"],
        unlabelled_scenes="rest",
        sweeps_as_unlabelled=True,
        batch_size=3,
        unlabelled_per_batch=2,
    )
    labelled = {token("scene-0061", "sample", k) for k in range(3)}
    for batch in module.train_dataloader():
        assert batch.labelled.tolist() == [True, False, False]
        assert [name in labelled for name in batch.token] == [True, False, False]
        assert (batch.gt_label[1:] == -1).all()
        assert (batch.gt_label[0] >= 0).any()


def test_class_balanced_sampling_follows_the_boxes_of_the_frames(tiny_root: Path) -> None:
    module = _module(tiny_root, class_balanced=True)
    assert len(list(module.train_dataloader())) == 3


def test_pasted_objects_are_marked_and_leave_the_depth_alone(tiny_root: Path) -> None:
    plain = _module(tiny_root, train_split=["scene-0061"], batch_size=1, seed=1)
    pasting = _module(
        tiny_root, train_split=["scene-0061"], batch_size=1, seed=1, gt_paste=GtPaste({"traffic_cone": 4})
    )
    pasting.prepare_data()
    marked = 0
    for one, other in zip(plain.train_dataloader(), pasting.train_dataloader(), strict=True):
        assert one.token == other.token
        torch.testing.assert_close(one.lidar_depth, other.lidar_depth)
        marked += int(other.pasted.sum())
        assert other.pasted.sum() == (other.gt_label >= 0).sum() - (one.gt_label >= 0).sum()
    assert marked > 0


def test_frames_are_found_by_token(tiny_root: Path) -> None:
    module = _module(tiny_root)
    assert len(np.unique(module.frame(token("scene-0061", "sample", 1)).points[:, 4])) == 3
    frame = module.frame(token("scene-0061", "sample", 1), num_sweeps=1)
    assert set(frame.points[:, 4]) == {0}
    assert module.frame(token("scene-0061", "LIDAR_TOP", 2)).boxes is None


def _break(world: TinyWorld, scene: str, number: int) -> str:
    """Cuts the LiDAR file of a keyframe; returns the sample's token."""
    here = token(scene, "LIDAR_TOP", 5 * number)
    record = next(record for record in world.tables["sample_data"] if record["token"] == here)
    path = world.root / record["filename"]
    path.write_bytes(path.read_bytes()[:-7])
    return token(scene, "sample", number)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_bad_frame_stops_the_run(tiny_world: TinyWorld, workers: int) -> None:
    _break(tiny_world, "scene-0061", 1)
    module = _module(tiny_world.root, num_workers=workers, num_sweeps=1)
    with pytest.raises(UserError, match=r"samples/LIDAR_TOP/.*\.pcd\.bin has .* bytes more") as caught:
        list(module.train_dataloader())
    assert "Traceback" not in str(caught.value)


@pytest.mark.parametrize("workers", [0, 2])
def test_bad_frames_are_skipped_counted_and_named(
    tiny_world: TinyWorld, workers: int, capfd: pytest.CaptureFixture[str]
) -> None:
    bad = _break(tiny_world, "scene-0061", 1)
    module = _module(tiny_world.root, num_workers=workers, num_sweeps=1, on_bad_frame="skip", val_split=BOTH)
    batches = _epochs(module, 2)
    assert [len(batch) for batch in batches] == [2] * 6
    assert all(bad not in batch.token for batch in batches)
    assert module.skipped["train"].tokens == (bad,)
    # Workers may have begun a third epoch.
    assert 2 <= module.skipped["train"].count <= (3 if workers else 2)
    seen = sum((batch.token for batch in module.val_dataloader()), ())
    assert sorted(seen) == sorted(set(module.index.sample_tokens) - {bad})
    assert module.skipped["val"].tokens == (bad,)
    printed = capfd.readouterr().err
    assert printed.count(f"Skipped frame {bad}: LiDAR file ") == 2
    assert "Another frame takes its place." in printed
    assert "It is left out." in printed


def test_a_validation_batch_of_bad_frames_alone_is_left_out(tiny_world: TinyWorld) -> None:
    for number in (0, 1):
        _break(tiny_world, "scene-0061", number)
    module = _module(tiny_world.root, num_sweeps=1, on_bad_frame="skip", val_split=BOTH)
    assert [len(batch) for batch in module.val_dataloader()] == [2, 2]


def test_nothing_but_bad_frames_stops_the_run(tiny_world: TinyWorld) -> None:
    for number in range(3):
        _break(tiny_world, "scene-0061", number)
    module = _module(tiny_world.root, num_sweeps=1, on_bad_frame="skip", train_split=["scene-0061"])
    with pytest.raises(UserError, match=r"None of the frames of this kind can be read\. The last one: LiDAR file"):
        list(module.train_dataloader())


def test_missing_data_raises_or_is_simulated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    module = _module(tmp_path / "data")
    with pytest.raises(UserError, match=r"No nuScenes at .*data: there is no such folder.*nuscenes\.org"):
        module.prepare_data()
    written = []

    def write_world(root: Path, settings: Any) -> None:
        written.append(settings)
        TinyWorld(root)
        (root / "simulated.json").write_text("{}")

    monkeypatch.setattr("fusionkd.simulation.write_world", write_world)
    module = _module(tmp_path / "data", if_missing="simulate", world={"scenes": 2, "seed": 5})
    module.prepare_data()
    assert module.is_simulated
    assert (written[0].scenes, written[0].seed, written[0].version) == (2, 5, "v1.0-mini")
    printed = capsys.readouterr().err
    assert f"No nuScenes v1.0-mini was found at {tmp_path / 'data'}." in printed
    assert "A SIMULATED world is written there now, once" in printed
    module.prepare_data()
    assert len(written) == 1
    assert not _module(TinyWorld(tmp_path / "real").root).is_simulated


def test_simulation_refuses_unknown_settings_and_foreign_folders(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"world has no setting scene; its settings are .*scenes"):
        _module(tmp_path / "a", if_missing="simulate", world={"scene": 2}).prepare_data()
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match=r"already holds other files"):
        _module(tmp_path / "b", if_missing="simulate").prepare_data()
    assert [path.name for path in (tmp_path / "b").iterdir()] == ["thesis.txt"]


def test_images_are_cached_where_they_fit(tiny_world: TinyWorld) -> None:
    folder = tiny_world.root / ".fusionkd"
    small = _module(tiny_world.root, cache_images_gb=0.0005)
    without = next(iter(small.val_dataloader()))
    assert not list(folder.glob("images-*"))
    with_cache = next(iter(_module(tiny_world.root).val_dataloader()))
    (path,) = folder.glob("images-*")
    assert path.stat().st_size > 0
    torch.testing.assert_close(without.images, with_cache.images)


def test_evaluation_needs_a_frame_for_each_process(tiny_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fusionkd.data.sampling._process", lambda rank, world_size: (0, 4))
    with pytest.raises(UserError, match=r"val split has 3 frames for 4 processes.*fewer devices"):
        _module(tiny_root, val_split="mini_val").val_dataloader()


def test_a_configuration_file_describes_it(tiny_root: Path) -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(NuScenesDataModule, "data")
    text = f"""
        class_path: fusionkd.data.NuScenesDataModule
        init_args:
          root: {tiny_root}
          train_split: [scene-0061]
          unlabelled_scenes: rest
          grid: {{cell_m: 0.4}}
          image_size_px: [56, 128]
          lidar_views:
            pillars: {{class_path: fusionkd.data.PillarView, init_args: {{max_points: 7, grid: {{cell_m: 0.4}}}}}}
            raster: {{class_path: fusionkd.data.RasterView, init_args: {{max_age_s: 0.12}}}}
          bev_augmentation: {{max_rotation_rad: 0.3, scale: [0.9, 1.1]}}
          image_augmentation: {{}}
          gt_paste: {{fill_up_to: {{car: 3}}}}
    """
    module = parser.instantiate(parser.parse_object({"data": yaml.safe_load(text)})).data
    assert module.grid.cell_m == 0.4
    assert module.collator.views["pillars"].max_points == 7
    assert module.collator.views["raster"] == RasterView(max_age_s=0.12)
    assert next(iter(module.val_dataloader())).images.shape[-2:] == (56, 128)


def test_impossible_sizes_are_named(tiny_root: Path) -> None:
    with pytest.raises(
        UserError, match="depth_stride 8 must divide the height and width of image_size_px, found 60x128"
    ):
        _module(tiny_root, image_size_px=(60, 128))


def test_default_views_fit_teacher_and_student(tiny_root: Path) -> None:
    views = _module(tiny_root, lidar_views=None).collator.views
    assert views["pillars"].grid.cell_m == pytest.approx(0.4)
    assert views["pillars"].max_points == 20
    assert views["raster"].grid == BevGrid()


class _Recorder(pl.LightningModule):
    """Writes down which frames it was given."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.seen: list[list[Any]] = []

    def training_step(self, batch: Batch, _: int) -> torch.Tensor:
        first = float(batch.ego_from_augmented[0, 0, 0])
        self.seen.append(["train", self.current_epoch, list(batch.token), first])
        return self.weight.sum() * 0

    def validation_step(self, batch: Batch, _: int) -> None:
        self.seen.append(["val", self.current_epoch, list(batch.token), 0.0])

    def on_fit_end(self) -> None:
        (self.folder / f"rank{self.global_rank}.json").write_text(json.dumps(self.seen))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.mark.parametrize("world_size", [1, 2])
def test_lightning_shares_frames_and_tells_the_epoch(tiny_root: Path, tmp_path: Path, world_size: int) -> None:
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=world_size,
        strategy="ddp_fork" if world_size > 1 else "auto",
        max_epochs=2,
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    options = {"batch_size": 1, "val_split": BOTH, "bev_augmentation": BevAugmentation(), "image_size_px": (32, 64)}
    trainer.fit(_Recorder(tmp_path), datamodule=_module(tiny_root, num_workers=1, **options))
    seen = [json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in range(world_size)]
    tokens = sorted(_module(tiny_root).index.sample_tokens)
    for epoch in range(2):
        for stage in ("train", "val"):
            parts = [[t for s, e, ts, _ in part if (s, e) == (stage, epoch) for t in ts] for part in seen]
            assert len({len(part) for part in parts}) == 1
            assert sorted(t for part in parts for t in part) == tokens
    changes = [first for part in seen for s, _, _, first in part if s == "train"]
    assert len(set(changes)) == len(changes)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("taken", [1, 2, 3])
def test_a_loader_goes_on_where_another_one_stopped(tiny_root: Path, workers: int, taken: int) -> None:
    def loader() -> Any:
        return _module(tiny_root, num_workers=workers).train_dataloader()

    whole = loader()
    assert len(whole) == 3
    expected = []
    for epoch in (1, 2):
        whole.sampler.set_epoch(epoch)
        expected += [batch.token for batch in whole]
    stopped = loader()
    stopped.sampler.set_epoch(1)
    batches = iter(stopped)
    found = [next(batches).token for _ in range(taken)]
    state = json.loads(json.dumps(stopped.state_dict()))
    assert state == {"epoch": 1, "batches": taken}
    other = loader()
    other.load_state_dict(state)
    found += [batch.token for batch in other]
    if taken < 3:
        other.sampler.set_epoch(2)
        found += [batch.token for batch in other]
    assert found == expected
