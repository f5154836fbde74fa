"""The curve of a run, and of one that was interrupted."""

import json
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest

from fusionkd.errors import UserError
from fusionkd.tasks import RunCheckpoint, SupervisedTask, TrainingCurve
from tests.tasks.conftest import make_data, make_student, make_trainer


class _Losses(pl.Callback):
    """What the run logs, step by step."""

    def __init__(self) -> None:
        self.loss: list[float] = []

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        self.loss.append(float(trainer.callback_metrics["train/loss"]))


class _PowerCut(pl.Callback):
    """Ends the run in the middle of an entry, after the last checkpoint."""

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.global_step == 4:
            raise RuntimeError("power cut")


def _fit(folder: Path, root: Path, *callbacks: pl.Callback, steps: int, resume: Path | None = None) -> None:
    own = [TrainingCurve(2), RunCheckpoint(every_n_train_steps=3), *callbacks]
    trainer = make_trainer(folder, steps=steps, callbacks=own, enable_checkpointing=True)
    trainer.fit(SupervisedTask(make_student()), make_data(root), ckpt_path=resume)


def _curve(folder: Path) -> list[dict[str, float]]:
    entries: list[dict[str, float]] = json.loads((folder / "curve.json").read_text())
    return entries


def test_entries_are_means_of_what_was_logged(tiny_nuscenes: Path, tmp_path: Path) -> None:
    seen = _Losses()
    _fit(tmp_path, tiny_nuscenes, seen, steps=5)
    curve, losses = _curve(tmp_path), seen.loss
    assert [entry["step"] for entry in curve] == [2, 4, 5]
    means = [sum(losses[i : i + 2]) / len(losses[i : i + 2]) for i in (0, 2, 4)]
    assert [entry["loss"] for entry in curve] == pytest.approx(means, abs=1e-4)
    parts = [name for name in curve[0] if name.startswith("loss/")]
    assert "loss/heatmap" in parts
    assert sum(curve[0][name] for name in parts) == pytest.approx(curve[0]["loss"], abs=1e-3)


def test_an_interrupted_run_has_one_curve(tiny_nuscenes: Path, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="power cut"):
        _fit(tmp_path, tiny_nuscenes, _PowerCut(), steps=6)
    seen = _Losses()
    _fit(tmp_path, tiny_nuscenes, seen, steps=6, resume=tmp_path / "checkpoints" / "last.ckpt")
    assert len(seen.loss) == 3
    assert [entry["step"] for entry in _curve(tmp_path)] == [2, 4, 6]
    assert _curve(tmp_path)[-1]["loss"] == pytest.approx(sum(seen.loss[1:]) / 2, abs=1e-4)


def test_no_steps() -> None:
    with pytest.raises(UserError, match="at least 1"):
        TrainingCurve(0)
