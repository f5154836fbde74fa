"""Files of checkpoints appear whole or not at all."""

from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch

from fusionkd.tasks import DistillationTask, RunCheckpoint
from fusionkd.tasks.checkpointing import WholeFiles
from tests.tasks.conftest import make_data, make_student, make_trainer


def test_save_that_fails_leaves_the_last_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "deep" / "last.ckpt"
    WholeFiles().save_checkpoint({"step": 1}, path)

    def half(content: object, stream: object) -> None:
        stream.write(b"half of it")  # type: ignore[attr-defined]
        raise OSError("the disk is full")

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(OSError, match="full"):
        WholeFiles().save_checkpoint({"step": 2}, path)
    assert torch.load(path, weights_only=True) == {"step": 1}
    assert [found.name for found in path.parent.iterdir()] == ["last.ckpt"]


def test_run_begun_again_in_its_folder_writes_the_same_file(tiny_nuscenes: Path, tmp_path: Path) -> None:
    for steps in (2, 3):
        pl.seed_everything(0, verbose=False)
        options = {"callbacks": [RunCheckpoint(1)], "enable_checkpointing": True, "limit_val_batches": 0}
        make_trainer(tmp_path, steps=steps, **options).fit(DistillationTask(make_student()), make_data(tiny_nuscenes))
        assert torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == steps
    assert not list((tmp_path / "checkpoints").glob("*-v1.ckpt"))
