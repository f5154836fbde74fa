"""What a run says when it ends, what it costs, and where it is tracked."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from fusionkd.data import Frame
from fusionkd.distillation import HeatmapResponse
from fusionkd.models import Decoder, example_batch
from fusionkd.tasks import (
    DistillationTask,
    EndReport,
    OneCycle,
    Tracker,
    load_student,
    measure_cost,
    record_control,
    tracking,
)
from fusionkd.tasks import control as control_module
from fusionkd.tasks import report as report_module
from fusionkd.tasks.tracking import key_is_configured, plain_config
from fusionkd.teachers import FrozenTeacher
from tests.tasks.conftest import make_data, make_student, make_trainer


class Pictures:
    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []

    def __call__(self, path: Path, frame: Frame, **options: Any) -> None:
        self.calls.append({"path": path, "frame": frame} | options)


def distil(checkpoint: Path) -> DistillationTask:
    teachers = {"lidar": FrozenTeacher(str(checkpoint))}
    return DistillationTask(make_student(), teachers=teachers, terms={"a": HeatmapResponse("lidar")})


@pytest.mark.parametrize("validated", [True, False])
def test_report_of_a_run(
    validated: bool, trained: Path, tiny_nuscenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures = Pictures()
    task = distil(trained)
    options = {"val_check_interval": 2, "check_val_every_n_epoch": None} if validated else {"limit_val_batches": 0}
    trainer = make_trainer(tmp_path, steps=2, callbacks=[EndReport(picture=pictures)], **options)
    trainer.fit(task, make_data(tiny_nuscenes))
    content = json.loads((tmp_path / "report.json").read_text())
    assert [row["name"] for row in content["rows"]] == ["teacher lidar", "distilled student"]
    assert content["rows"][1]["figures"]["NDS"] == pytest.approx(task.figures["NDS"])
    assert content["rows"][0]["cost"]["parameters"] == sum(p.numel() for p in task.student.parameters())
    assert not content["simulated"]
    assert pictures.calls[0]["path"] == tmp_path / "scene.png"
    assert not pictures.calls[0]["simulated"]
    printed = capsys.readouterr().out
    assert "teacher lidar" in printed
    assert "waiting for data" in printed
    checkpoint = torch.load(tmp_path / "student.ckpt", weights_only=True)
    assert json.loads(checkpoint["fusionkd_record"])["figures"]["NDS"] == pytest.approx(task.figures["NDS"])
    assert load_student(tmp_path / "student.ckpt").spec == task.student.spec


def test_recorded_control_stands_beside_equals_alone(
    trained: Path,
    tiny_nuscenes: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(control_module, "zoo_folder", lambda: tmp_path)

    def run(steps: int, control: str | None = "mini") -> dict[str, Any]:
        trainer = make_trainer(tmp_path, steps=steps, callbacks=[EndReport(control=control)], limit_val_batches=0)
        trainer.fit(distil(trained), make_data(tiny_nuscenes))
        report: dict[str, Any] = json.loads((tmp_path / "report.json").read_text())
        return report

    first = run(2)
    assert "no recorded control 'mini'" in capsys.readouterr().out
    assert first["conditions"]["steps"] == 2
    assert first["conditions"]["labelled_scenes"] == ["scene-0061", "scene-0103"]
    record_control(first, "mini", date="2026-01-01", folder=tmp_path)
    rows = {row["name"]: row["figures"] for row in run(2)["rows"]}
    assert rows["control (recorded, no teacher)"]["NDS"] == pytest.approx(first["rows"][-1]["figures"]["NDS"])
    capsys.readouterr()
    assert len(run(1)["rows"]) == 2
    assert "had other steps" in capsys.readouterr().out
    assert len(run(2, control=None)["rows"]) == 2


def test_simulated_figures_say_so() -> None:
    rows = [report_module.Row("control", {"mAP": 0.123, "NDS": 0.234}, None)]
    assert "SIMULATED" in str(report_module.report_table(rows, simulated=True).title)


def test_cost_counts_parameters_and_operations() -> None:
    model = make_student().eval()
    batch = example_batch(model)
    cost = measure_cost(model, batch, decode=Decoder(), device=torch.device("cpu"), repeats=2)
    assert cost.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert cost.ms_per_frame > 0

    layer = torch.nn.Conv2d(3, 8, 3, padding=1, bias=False)
    simple = measure_cost(layer, torch.zeros(1, 3, 10, 10), decode=len, device=torch.device("cpu"), repeats=1)  # type: ignore[arg-type]
    assert simple.gflops == pytest.approx(2 * 3 * 8 * 9 * 100 / 1e9)


class TestTracker:
    def test_offline_without_a_key(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(tracking, "key_is_configured", lambda: False)
        Tracker(save_dir=str(tmp_path))
        output = capsys.readouterr().out
        assert output.count("\n") == 1
        assert "offline" in output
        assert "wandb sync" in output

    def test_online_with_a_key(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(tracking, "key_is_configured", lambda: True)
        assert not Tracker(save_dir=str(tmp_path))._offline
        assert "online" in capsys.readouterr().out

    def test_where_a_key_is_looked_for(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL", "NETRC"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("HOME", str(tmp_path))
        assert not key_is_configured()
        (tmp_path / ".netrc").write_text("machine api.wandb.ai login user password secret\n")
        (tmp_path / ".netrc").chmod(0o600)
        assert key_is_configured()
        monkeypatch.setenv("WANDB_MODE", "offline")
        assert not key_is_configured()
        monkeypatch.delenv("WANDB_MODE")
        (tmp_path / ".netrc").unlink()
        monkeypatch.setenv("WANDB_API_KEY", "k")
        assert key_is_configured()

    def test_config_becomes_plain(self) -> None:
        assert plain_config({"a": (1, Path("x")), "b": None}) == {"a": [1, "x"], "b": None}


def test_one_cycle_rises_and_falls() -> None:
    layer = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
    optimizer, schedule = OneCycle(lr=0.1, weight_decay=0.5, warmup=0.25).build(layer, steps=40)
    rates = []
    for _ in range(40):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert max(rates) == pytest.approx(0.1)
    assert 8 <= rates.index(max(rates)) <= 11
    assert rates[0] < 0.01
    assert rates[-1] < 1e-3
    decays = {len(group["params"]): group["weight_decay"] for group in optimizer.param_groups}
    assert decays == {1: 0.5, 3: 0.0}, "biases and norms don't decay"
