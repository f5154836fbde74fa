"""A run in which every weighting of teachers is at work."""

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from fusionkd.distillation import (
    Confidence,
    DynamicAverage,
    Entropy,
    FeatureMimic,
    GradientAgreement,
    HeatmapResponse,
    LearnedUncertainty,
    Recorded,
    SeveralTeachers,
    Static,
    Term,
    Uniform,
)
from fusionkd.errors import UserError
from fusionkd.tasks import DistillationTask
from fusionkd.teachers import FrozenTeacher
from tests.tasks.conftest import make_data, make_student, make_trainer

PAIR = ["one", "other"]


def weighted() -> dict[str, Term]:
    heatmap = {
        "uniform": Uniform(),
        "static": Static({"one": 3.0}),
        "recorded": Recorded(),
        "entropy": Entropy(),
        "confidence": Confidence(),
        "gradient": GradientAgreement(),
    }
    terms: dict[str, Term] = {name: SeveralTeachers(HeatmapResponse(PAIR), each) for name, each in heatmap.items()}
    for name, each in {"learned": LearnedUncertainty(), "pace": DynamicAverage(window=2)}.items():
        terms[name] = SeveralTeachers(FeatureMimic(PAIR), each)
    terms["agreed"] = HeatmapResponse(PAIR, mask="agreement", merge="entropy", class_weights="recorded")
    return terms


def task_of(checkpoint: Path) -> DistillationTask:
    return DistillationTask(
        make_student(seed=1),
        teachers={name: FrozenTeacher(str(checkpoint), check=False) for name in PAIR},
        terms=weighted(),
    )


class Logged(pl.Callback):
    def __init__(self) -> None:
        self.values: dict[str, float] = {}

    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        self.values |= {name: float(value) for name, value in trainer.callback_metrics.items()}


def test_weights_and_disagreement_are_logged(trained: Path, tiny_nuscenes: Path, tmp_path: Path) -> None:
    logged = Logged()
    make_trainer(tmp_path, callbacks=[logged], limit_val_batches=0).fit(task_of(trained), make_data(tiny_nuscenes))
    for name in weighted():
        assert logged.values[f"train/distill/{name}/disagreement"] == pytest.approx(0.0, abs=1e-6), "one and the same"
    assert logged.values["train/distill/static/weight/one"] == pytest.approx(0.75)
    assert logged.values["train/distill/gradient/weight/one"] == pytest.approx(0.5)
    assert logged.values["train/distill/gradient"] == pytest.approx(logged.values["train/distill/uniform"], rel=1e-4)


def test_resumed_run_equals_an_undisturbed_one(trained: Path, tiny_nuscenes: Path, tmp_path: Path) -> None:
    """Also the history and the learned variances."""
    keep = ModelCheckpoint(dirpath=tmp_path / "kept", every_n_train_steps=3, save_top_k=-1)

    def run(steps: int, resume: Path | None = None) -> dict[str, torch.Tensor]:
        pl.seed_everything(0, verbose=False)
        task = task_of(trained)
        options: dict[str, Any] = {"callbacks": [] if resume else [keep], "enable_checkpointing": not resume}
        trainer = make_trainer(tmp_path, steps=steps, limit_val_batches=0, **options)
        trainer.fit(task, make_data(tiny_nuscenes), ckpt_path=resume, weights_only=True)
        return {key: value.clone() for key, value in task.state_dict().items()}

    whole = run(6)
    resumed = run(6, resume=next((tmp_path / "kept").glob("*step=3.ckpt")))
    assert "terms.pace.weighting.means" in whole
    assert int(whole["terms.pace.weighting.steps"]) == 6
    for name, value in whole.items():
        torch.testing.assert_close(resumed[name], value, rtol=0, atol=0, msg=name)


def test_teacher_without_a_record_is_refused_before_the_first_step(
    trained: Path, tiny_nuscenes: Path, tmp_path: Path
) -> None:
    task = task_of(trained)
    task.faculty.teachers["other"].record = type(task.faculty.teachers["other"].record)()
    with pytest.raises(UserError, match=r"'recorded'.*'other' has no record"):
        make_trainer(tmp_path).fit(task, make_data(tiny_nuscenes))
    assert task.global_step == 0
