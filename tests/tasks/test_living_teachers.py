"""Teachers that live in the run: the student's average, peers, heads on its earlier stages."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from torch import Tensor, nn

from fusionkd.distillation import BoxResponse, FeatureMimic, HeatmapResponse, LinearRamp
from fusionkd.errors import UserError
from fusionkd.models import CenterHead
from fusionkd.models.fuser import ModalityDropout
from fusionkd.tasks import DistillationTask, EndReport, Peer, RunCheckpoint, ShallowHead, StudentAverage, load_student
from fusionkd.teachers import FrozenTeacher, MeanTeacher
from tests.tasks.conftest import make_data, make_student, make_trainer

MIXED = {"labelled_scenes": ["scene-0061"], "unlabelled_scenes": ["scene-0103"]}
STAGE = "backbone.down.0"


def with_average(**options: Any) -> DistillationTask:
    student = make_student(seed=1)
    student.modality_dropout = ModalityDropout(lidar=0.3)
    terms = {"heatmap": HeatmapResponse("ema", schedule=LinearRamp(end=0.5)), "bev": FeatureMimic("ema")}
    return DistillationTask(student, teachers={"ema": MeanTeacher(0.6)}, terms=terms, **options)


def with_peer() -> DistillationTask:
    peer = Peer({"heatmap": HeatmapResponse("student"), "bev": FeatureMimic("student")})
    terms = {"heatmap": HeatmapResponse("b"), "bev": FeatureMimic("b")}
    return DistillationTask(make_student(seed=1), teachers={"b": peer}, terms=terms)


def with_head(tap: str = STAGE, channels: int = 8, **options: Any) -> DistillationTask:
    lessons = {"heatmap": HeatmapResponse("student"), "box": BoxResponse("student"), "bev": FeatureMimic("student")}
    head = ShallowHead(tap, CenterHead(channels, shared_channels=8), lessons)
    return DistillationTask(make_student(seed=1), teachers={"shallow": head}, **options)


class Watch(pl.Callback):
    """Calls a function with the task and the step's losses while their graph is alive."""

    def __init__(self, look: Callable[[DistillationTask, dict[str, Tensor]], None]) -> None:
        self.look = look
        self.seen = 0

    def on_before_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: Tensor) -> None:
        assert isinstance(pl_module, DistillationTask)
        self.look(pl_module, pl_module.step_losses)
        self.seen += 1


def reaches(loss: Tensor, module: nn.Module) -> bool:
    gradients = torch.autograd.grad(loss, list(module.parameters()), retain_graph=True, allow_unused=True)
    return any(gradient is not None and bool(gradient.abs().sum() > 0) for gradient in gradients)


def fit(task: DistillationTask, root: Path, folder: Path, *callbacks: pl.Callback, **options: Any) -> pl.Trainer:
    trainer = make_trainer(folder, callbacks=list(callbacks), **({"limit_val_batches": 0} | options))
    trainer.fit(task, make_data(root))
    return trainer


def test_average_follows_every_step_of_a_run(tiny_nuscenes: Path, tmp_path: Path) -> None:
    states: list[dict[str, Tensor]] = []

    class Keep(pl.Callback):
        def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
            states.append({name: value.clone() for name, value in pl_module.student.state_dict().items()})

    task = with_average(remember_teachers=True)
    first = {name: value.clone() for name, value in task.student.state_dict().items()}
    fit(task, tiny_nuscenes, tmp_path, Keep())
    assert len(states) == 4
    found = task.faculty.teachers["ema"].model.state_dict()
    for name in [name for name, value in first.items() if value.is_floating_point()]:
        expected = first[name]
        for step, state in enumerate(states, start=1):
            alpha = min(0.6, step / (step + 1))
            expected = alpha * expected + (1 - alpha) * state[name]
        torch.testing.assert_close(found[name], expected, rtol=1e-5, atol=1e-6, msg=name)
    assert not torch.equal(found["head.shared_conv.conv.weight"], first["head.shared_conv.conv.weight"])


def test_what_changes_is_not_remembered(tiny_nuscenes: Path, tmp_path: Path) -> None:
    task = with_average(remember_teachers=True)
    fit(task, tiny_nuscenes, tmp_path)
    data = make_data(tiny_nuscenes)
    batch = data.batch([data.dataset(data.records("train")[:1])[0]])
    before = task.faculty.outputs(batch)["ema"].heatmap
    with torch.no_grad():
        for value in task.faculty.teachers["ema"].model.parameters():
            value.mul_(0.5)
    assert not torch.equal(before, task.faculty.outputs(batch)["ema"].heatmap)


def test_peers_teach_each_other_without_pulling_at_each_other(tiny_nuscenes: Path, tmp_path: Path) -> None:
    def look(task: DistillationTask, losses: dict[str, Tensor]) -> None:
        student, peer = task.student, task.fellows["b"].model
        assert {"distill/heatmap", "distill/bev", "b/distill/heatmap", "b/distill/bev", "b/loss/heatmap"} <= set(losses)
        for name, loss in losses.items():
            own, other = (peer, student) if name.startswith("b/") else (student, peer)
            assert not reaches(loss, other), name
            if name.endswith(("heatmap", "bev")):
                assert reaches(loss, own), name

    watch = Watch(look)
    task = with_peer()
    starts: list[dict[str, Tensor]] = []

    class Start(pl.Callback):
        def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            starts.extend({n: v.clone() for n, v in m.state_dict().items()} for m in (task.student, peer_of(task)))

    trainer = fit(task, tiny_nuscenes, tmp_path, watch, Start())
    assert watch.seen == 4
    name = "head.shared_conv.conv.weight"
    assert not torch.equal(starts[0][name], starts[1][name]), "they begin differently"
    assert not torch.equal(starts[1][name], peer_of(task).state_dict()[name]), "the peer has learnt"
    owned = {id(p) for group in trainer.optimizers[0].param_groups for p in group["params"]}
    adapters = task.fellows["b"].terms["bev"].adapters
    assert isinstance(adapters, nn.Module)
    assert {id(p) for p in [*peer_of(task).parameters(), *adapters.parameters()]} <= owned


def peer_of(task: DistillationTask) -> nn.Module:
    return task.fellows["b"].model


def test_each_peer_is_judged_and_the_first_is_the_student(
    tiny_nuscenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    live: dict[str, Tensor] = {}

    class Live(pl.Callback):
        def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            live.update({name: value.clone() for name, value in pl_module.state_dict().items()})

    task = with_peer()
    fit(task, tiny_nuscenes, tmp_path, Live(), StudentAverage(0.5), EndReport(), limit_val_batches=1.0)
    printed = capsys.readouterr().out
    assert "peer b" in printed
    assert "distilled student" in printed
    kept = load_student(tmp_path / "student.ckpt").state_dict()
    assert kept.keys() == make_student().state_dict().keys()
    assert all(torch.equal(kept[name], value) for name, value in task.student.state_dict().items())
    checkpoint = torch.load(tmp_path / "student.ckpt", weights_only=True)
    peer = {name: value for name, value in checkpoint["state_dict"].items() if name.startswith("living.b.model.")}
    assert len(peer) == len(kept), "the other one isn't lost"
    assert any(not torch.equal(value, live[name]) for name, value in peer.items()), "averaged like the student"


def test_deeper_stage_teaches_the_earlier_one(tiny_nuscenes: Path, tmp_path: Path) -> None:
    def look(task: DistillationTask, losses: dict[str, Tensor]) -> None:
        stage, head = task.student.get_submodule(STAGE), task.fellows["shallow"]
        for name in ("shallow/distill/heatmap", "shallow/distill/bev", "shallow/loss/heatmap"):
            assert reaches(losses[name], head), name
            assert reaches(losses[name], stage), name
            assert not reaches(losses[name], task.student.head), "the teacher isn't pulled"
            assert not reaches(losses[name], task.student.get_submodule("backbone.lateral"))
        assert reaches(losses["distill/inner"], stage)
        assert not reaches(losses["distill/inner"], task.student.get_submodule("backbone.lateral"))

    watch = Watch(look)
    inner = FeatureMimic("student", student_tap=STAGE, teacher_tap="bev")
    fit(with_head(terms={"inner": inner}), tiny_nuscenes, tmp_path, watch)
    assert watch.seen == 4


def test_student_without_its_heads_is_a_plain_one(tiny_nuscenes: Path, tmp_path: Path) -> None:
    task = with_head()
    fit(task, tiny_nuscenes, tmp_path, EndReport(), limit_val_batches=1.0)
    kept, plain = load_student(tmp_path / "student.ckpt"), make_student()
    assert kept.state_dict().keys() == plain.state_dict().keys()
    assert sum(p.numel() for p in kept.parameters()) == sum(p.numel() for p in plain.parameters())
    assert kept.spec == plain.spec
    assert task.title == "distilled student"


@pytest.mark.parametrize("make", [with_average, with_peer, with_head])
@pytest.mark.parametrize("stops", [(2,), (3, 6)])
def test_goes_on_inside_of_an_epoch_as_if_nothing_had_happened(
    make: Callable[[], DistillationTask], stops: tuple[int, ...], tiny_nuscenes: Path, tmp_path: Path
) -> None:
    """Three batches are an epoch; also the random numbers that drop sensors go on."""

    class Killed(Exception):
        pass

    class Kill(pl.Callback):
        def __init__(self, stop: int) -> None:
            self.stop = stop

        def on_train_batch_start(self, trainer: pl.Trainer, *args: Any) -> None:
            if trainer.global_step == self.stop:
                raise Killed

    def run(folder: Path, *extra: pl.Callback, resume: Path | None = None) -> dict[str, Tensor]:
        pl.seed_everything(3, verbose=False)
        task = make()
        callbacks = [StudentAverage(0.8), RunCheckpoint(1), *extra]
        trainer = make_trainer(folder, steps=8, callbacks=callbacks, enable_checkpointing=True, limit_val_batches=0)
        trainer.fit(task, make_data(tiny_nuscenes, **MIXED), ckpt_path=resume, weights_only=True)
        return {name: value.clone() for name, value in task.state_dict().items()}

    whole = run(tmp_path / "whole")
    last = tmp_path / "killed" / "checkpoints" / "last.ckpt"
    for stop in stops:
        with pytest.raises(Killed):
            run(tmp_path / "killed", Kill(stop), resume=last if last.exists() else None)
    resumed = run(tmp_path / "killed", resume=last)
    assert whole.keys() == resumed.keys()
    assert [name for name, value in whole.items() if not torch.equal(resumed[name], value)] == []


def test_checkpoint_of_another_company_is_refused(tiny_nuscenes: Path, tmp_path: Path) -> None:
    trainer = fit(with_head(), tiny_nuscenes, tmp_path)
    trainer.save_checkpoint(tmp_path / "with_head.ckpt")
    with pytest.raises(UserError, match=r"'living' in the checkpoint"):
        make_trainer(tmp_path, steps=9).fit(
            with_peer(), make_data(tiny_nuscenes), ckpt_path=tmp_path / "with_head.ckpt", weights_only=True
        )


def peer_alone() -> DistillationTask:
    return DistillationTask(make_student(), teachers={"b": Peer({"heatmap": HeatmapResponse("student")})})


def student_like_itself() -> DistillationTask:
    return DistillationTask(make_student(), terms={"a": HeatmapResponse("student")})


def peer_of_nobody() -> DistillationTask:
    peer = Peer({"a": HeatmapResponse("teacher")})
    return DistillationTask(make_student(), teachers={"b": peer}, terms={"a": HeatmapResponse("b")})


def peer_without_a_plan() -> DistillationTask:
    task = with_peer()
    task.student.spec = None
    return task


def named_student() -> DistillationTask:
    return DistillationTask(
        make_student(), teachers={"student": MeanTeacher()}, terms={"a": HeatmapResponse("student")}
    )


WRONG: dict[str, tuple[Callable[[], DistillationTask], str]] = {
    "peer whom nobody asks": (peer_alone, "No term learns from teacher b"),
    "average whom nobody asks": (
        lambda: DistillationTask(
            make_student(), teachers={"ema": MeanTeacher()}, terms={"a": FeatureMimic("student", student_tap=STAGE)}
        ),
        "No term learns from teacher ema",
    ),
    "student compared with itself": (student_like_itself, "Term 'a' compares student's heatmap with itself"),
    "teacher named student": (named_student, "can't be named 'student'"),
    "fellow of an unknown teacher": (peer_of_nobody, "Term 'b.a' asks for teacher 'teacher'"),
    "peer without a plan": (peer_without_a_plan, "build_model"),
    "head on no module": (lambda: with_head("backbone.dwn.0"), "backbone.down.0"),
    "head on an absent branch": (lambda: with_head("camera_bev"), "no such branch"),
    "head on the end": (lambda: with_head("bev"), "ShallowHead's tap"),
    "head of another width": (lambda: with_head(channels=5), "set its head's in_channels to 8"),
    "head on no ground": (lambda: with_head("modality_dropout"), "no map of the grid's"),
}


@pytest.mark.parametrize("mistake", WRONG)
def test_wrong_company_is_refused_before_the_first_step(mistake: str, tiny_nuscenes: Path, tmp_path: Path) -> None:
    make, words = WRONG[mistake]
    watch = Watch(lambda task, losses: None)
    with pytest.raises(UserError) as error:
        fit(make(), tiny_nuscenes, tmp_path, watch)
    assert words in str(error.value)
    assert watch.seen == 0


def test_frozen_and_living_teachers_go_together(trained: Path, tiny_nuscenes: Path, tmp_path: Path) -> None:
    peer = Peer({"heatmap": HeatmapResponse(["student", "lidar"])}, model=make_student(16, seed=4))
    task = DistillationTask(
        make_student(seed=1),
        teachers={"lidar": FrozenTeacher(str(trained)), "b": peer, "ema": MeanTeacher()},
        terms={"heatmap": HeatmapResponse(["lidar", "b", "ema"], merge="mean")},
        remember_teachers=True,
    )
    trainer = fit(task, tiny_nuscenes, tmp_path)
    trainer.save_checkpoint(tmp_path / "all.ckpt")
    names = torch.load(tmp_path / "all.ckpt", weights_only=True)["state_dict"]
    assert {".".join(name.split(".")[:2]) for name in names if name.startswith("living")} == {"living.b", "living.ema"}
