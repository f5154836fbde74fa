"""Runs of a second: what must hold whatever is trained."""

import copy
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from fusionkd.distillation import (
    BoxResponse,
    FeatureMimic,
    HeatmapResponse,
    LinearRamp,
    ObjectRelation,
    StopAfter,
    Term,
)
from fusionkd.errors import UserError
from fusionkd.metrics import read_submission
from fusionkd.tasks import DistillationTask, OneCycle, StudentAverage, SupervisedTask, load_student
from fusionkd.teachers import FrozenTeacher
from tests.tasks.conftest import make_data, make_student, make_trainer


def all_terms() -> dict[str, Term]:
    return {
        "heatmap": HeatmapResponse("lidar"),
        "bev": FeatureMimic("lidar", schedule=LinearRamp()),
        "box": BoxResponse("lidar", schedule=StopAfter(0.6)),
        "relation": ObjectRelation("lidar"),
    }


def distil(checkpoint: Path, **options: Any) -> DistillationTask:
    settings: dict[str, Any] = {"teachers": {"lidar": FrozenTeacher(str(checkpoint))}, "terms": all_terms()}
    return DistillationTask(make_student(seed=1), **(settings | options))


class Recorder(pl.Callback):
    """Everything that was logged."""

    def __init__(self) -> None:
        self.names: set[str] = set()
        self.losses: list[float] = []

    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        self.names |= set(trainer.callback_metrics)
        self.losses.append(float(trainer.callback_metrics["train/loss"]))

    def on_validation_end(self, trainer: pl.Trainer, *args: Any) -> None:
        self.names |= set(trainer.callback_metrics)


def test_teacher_is_untouched_by_fit(trained: Path, tiny_nuscenes: Path, tmp_path: Path) -> None:
    task = distil(trained)
    teacher = task.faculty.teachers["lidar"]
    before = copy.deepcopy(teacher.state_dict())
    trainer = make_trainer(tmp_path)
    trainer.fit(task, make_data(tiny_nuscenes))
    task.train()
    teacher.train()
    assert not any(module.training for module in teacher.modules())
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    assert all(torch.equal(before[name], value) for name, value in teacher.state_dict().items())
    owned = {id(parameter) for group in trainer.optimizers[0].param_groups for parameter in group["params"]}
    assert owned.isdisjoint(id(parameter) for parameter in teacher.parameters())
    assert {id(p) for p in task.student.parameters()} <= owned, "the whole student learns"
    adapters = task.terms["bev"].adapters
    assert adapters is not None
    assert {id(p) for p in adapters.parameters()} <= owned, "adapters learn too"


def test_every_loss_and_figure_is_logged_under_its_name(trained: Path, tiny_nuscenes: Path, tmp_path: Path) -> None:
    recorder = Recorder()
    make_trainer(tmp_path, callbacks=[recorder]).fit(distil(trained), make_data(tiny_nuscenes))
    wanted = {f"train/distill/{name}" for name in all_terms()} | {"train/loss/heatmap", "train/loss"}
    wanted |= {"val/mAP", "val/NDS", "val/mAVE", "val/AP/car", "val/AP/car@0.5", "val/AOE/car"}
    assert wanted <= recorder.names


def test_without_teachers_it_is_supervised(tiny_nuscenes: Path, tmp_path: Path) -> None:
    results = []
    for task in (SupervisedTask(make_student(seed=3)), DistillationTask(make_student(seed=3))):
        recorder = Recorder()
        pl.seed_everything(0, verbose=False)
        make_trainer(tmp_path, callbacks=[recorder]).fit(task, make_data(tiny_nuscenes))
        results.append(recorder.losses)
    assert results[0] == results[1]


def test_learns_from_teachers_alone(trained: Path, tiny_nuscenes: Path, tmp_path: Path) -> None:
    recorder = Recorder()
    terms = {"heatmap": HeatmapResponse("lidar"), "bev": FeatureMimic("lidar", mask="none")}
    task = distil(trained, label_weight=0.0, terms=terms, optimizer=OneCycle(lr=5e-3))
    trainer = make_trainer(tmp_path, steps=25, callbacks=[recorder], limit_val_batches=0)
    trainer.fit(task, make_data(tiny_nuscenes, labelled_scenes=["scene-0061"], unlabelled_scenes=["scene-0103"]))
    assert recorder.losses[-1] < 0.8 * recorder.losses[0]


def test_remembered_answers_teach_the_same(trained: Path, tiny_nuscenes: Path, tmp_path: Path) -> None:
    losses = []
    for remember in (False, True):
        recorder = Recorder()
        pl.seed_everything(0, verbose=False)
        inside = FeatureMimic("lidar", student_tap="backbone.down.0.0", teacher_tap="backbone.lateral.0")
        task = distil(trained, remember_teachers=remember, terms=all_terms() | {"inside": inside})
        trainer = make_trainer(tmp_path, steps=8, callbacks=[recorder], limit_val_batches=0)
        trainer.fit(task, make_data(tiny_nuscenes))
        losses.append(recorder.losses)
    # Answers are kept in 16 bits.
    assert losses[1] == pytest.approx(losses[0], rel=1e-2)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"student_tap": "backbone.dwn.0"}, ["Term 'a'", "the student", "backbone.down.0"]),
        ({"teacher_tap": "lidar.layer"}, ["Term 'a'", "teacher 'lidar'", "lidar.layers"]),
        ({"student_tap": "modality_dropout"}, ["Term 'a'", "'modality_dropout' of (1, 2)"]),
    ],
)
def test_module_that_cannot_be_tapped_is_refused_before_the_first_step(
    options: dict[str, str], words: list[str], trained: Path, tiny_nuscenes: Path, tmp_path: Path
) -> None:
    task = distil(trained, terms={"a": FeatureMimic("lidar", **options)})
    with pytest.raises(UserError) as error:
        make_trainer(tmp_path).fit(task, make_data(tiny_nuscenes))
    assert all(word in str(error.value) for word in words), str(error.value)
    assert task.global_step == 0


def test_checkpoint_holds_the_student_and_no_teacher(trained: Path, tiny_nuscenes: Path, tmp_path: Path) -> None:
    task = distil(trained)
    trainer = make_trainer(tmp_path, callbacks=[StudentAverage()])
    trainer.fit(task, make_data(tiny_nuscenes))
    trainer.save_checkpoint(tmp_path / "student.ckpt")
    checkpoint = torch.load(tmp_path / "student.ckpt", weights_only=True)
    assert {name.split(".")[0] for name in checkpoint["state_dict"]} == {"student", "terms"}
    rebuilt = load_student(tmp_path / "student.ckpt").state_dict()
    assert all(torch.equal(rebuilt[name], value) for name, value in task.student.state_dict().items())


@pytest.mark.parametrize("average", [False, True])
def test_resumed_run_equals_an_undisturbed_one(
    average: bool, trained: Path, tiny_nuscenes: Path, tmp_path: Path
) -> None:
    def callbacks() -> list[pl.Callback]:
        return [StudentAverage(0.8)] if average else []

    class Killed(Exception):
        pass

    class KillAt(pl.Callback):
        def on_train_batch_start(self, trainer: pl.Trainer, *args: Any) -> None:
            if trainer.global_step == 4:
                raise Killed

    keep = ModelCheckpoint(dirpath=tmp_path / "kept", every_n_train_steps=3, save_last=True)

    def run(name: str, extra: list[pl.Callback], resume: Path | None = None) -> dict[str, torch.Tensor]:
        pl.seed_everything(0, verbose=False)
        task = distil(trained)
        options: dict[str, Any] = {"callbacks": callbacks() + extra, "limit_val_batches": 0}
        trainer = make_trainer(tmp_path / name, steps=6, enable_checkpointing=bool(extra), **options)
        trainer.fit(task, make_data(tiny_nuscenes), ckpt_path=resume, weights_only=True)
        return {key: value.clone() for key, value in task.state_dict().items()}

    whole = run("whole", [])
    with pytest.raises(Killed):
        run("first", [keep, KillAt()])
    resumed = run("second", [], resume=tmp_path / "kept" / "last.ckpt")
    assert whole.keys() == resumed.keys()
    for name, value in whole.items():
        torch.testing.assert_close(resumed[name], value, rtol=0, atol=0, msg=name)


def test_mixed_precision_and_clipping(trained: Path, tiny_nuscenes: Path, tmp_path: Path) -> None:
    recorder = Recorder()
    options = {"precision": "bf16-mixed", "gradient_clip_val": 1.0, "callbacks": [recorder]}
    make_trainer(tmp_path, **options).fit(distil(trained), make_data(tiny_nuscenes))
    assert all(torch.isfinite(torch.tensor(recorder.losses)))


def test_test_writes_a_submission(trained: Path, tiny_nuscenes: Path, tmp_path: Path) -> None:
    task = SupervisedTask(make_student())
    make_trainer(tmp_path).test(task, make_data(tiny_nuscenes), ckpt_path=trained)
    submission = read_submission(tmp_path / "submission.json")
    assert len(submission.detections.tokens) == len(task.metrics["test"].truth.tokens)
    assert submission.meta["use_lidar"]
    assert not submission.meta["use_camera"]


def test_checkpoint_of_another_student_is_refused(trained: Path, tiny_nuscenes: Path, tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path)
    with pytest.raises(UserError, match="of another shape"):
        trainer.test(SupervisedTask(make_student(16)), make_data(tiny_nuscenes), ckpt_path=trained)


def test_part_of_a_trained_model_is_a_warm_start(trained: Path) -> None:
    student = make_student(seed=9)
    task = SupervisedTask(student, warm_start={"lidar": str(trained)})
    assert task.student.lidar is not None
    weights = load_student(trained).state_dict()
    for name, value in task.student.lidar.state_dict().items():
        assert torch.equal(value, weights[f"lidar.{name}"])
    inner = make_student(seed=9)
    SupervisedTask(inner, warm_start={"backbone.lateral": str(trained)})
    for name, value in inner.state_dict().items():
        assert torch.equal(value, weights[name]) == (name.startswith("backbone.lateral.")), name
    with pytest.raises(UserError, match="camera"):
        SupervisedTask(make_student(), warm_start={"camera": str(trained)})
    with pytest.raises(UserError, match="of another shape"):
        SupervisedTask(make_student(16), warm_start={"lidar": str(trained)})


def test_term_of_an_unknown_teacher_stops_before_the_first_step(
    trained: Path, tiny_nuscenes: Path, tmp_path: Path
) -> None:
    teachers = {"lidar": FrozenTeacher(str(trained))}
    terms = {"a": HeatmapResponse(["lidar", "radar"])}
    task = DistillationTask(make_student(), teachers=teachers, terms=terms)
    with pytest.raises(UserError, match=r"'a'.*'radar'.*lidar"):
        make_trainer(tmp_path).fit(task, make_data(tiny_nuscenes))


def test_teacher_of_no_term_is_refused(trained: Path) -> None:
    teachers = {"lidar": FrozenTeacher(str(trained)), "spare": FrozenTeacher(str(trained))}
    with pytest.raises(UserError, match="spare"):
        DistillationTask(make_student(), teachers=teachers, terms={"a": HeatmapResponse("lidar")})


class TestTeacherCheck:
    def check(self, root: Path, checkpoint: Path, figures: dict[str, float], simulated: bool | None) -> None:
        from fusionkd.models import Decoder
        from fusionkd.tasks import check_teachers
        from fusionkd.teachers import Record

        teacher = FrozenTeacher(str(checkpoint))
        teacher.record = Record(figures, simulated)
        check_teachers({"t": teacher}, make_data(root), decoder=Decoder(), frames=2, device=torch.device("cpu"))

    def test_far_below_its_record_stops(self, tiny_nuscenes: Path, trained: Path) -> None:
        with pytest.raises(UserError, match=r"'t'.*0\.900"):
            self.check(tiny_nuscenes, trained, {"mAP": 0.9}, simulated=False)

    def test_as_recorded_goes_on(self, tiny_nuscenes: Path, trained: Path) -> None:
        self.check(tiny_nuscenes, trained, {"mAP": 0.0}, simulated=False)

    def test_data_of_another_kind_is_said(
        self, tiny_nuscenes: Path, trained: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self.check(tiny_nuscenes, trained, {"mAP": 0.9}, simulated=True)
        assert "can't be compared" in capsys.readouterr().out

    def test_no_record_is_said(self, tiny_nuscenes: Path, trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.check(tiny_nuscenes, trained, {}, simulated=None)
        assert "no recorded figures" in capsys.readouterr().out
