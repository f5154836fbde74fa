"""Energy: the device's figure where it has one, else a model that says so; arithmetic against counts by hand."""

import json
import multiprocessing
import time
from dataclasses import dataclass
from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from fusionkd.errors import UserError
from fusionkd.realtime.energy import (
    PJ_PER_FLOP,
    Arithmetic,
    Energy,
    EnergyRun,
    count_arithmetic,
    cpu_time_s,
    energy_per_frame,
)
from fusionkd.realtime.energy_meter import EnergyMeter


@dataclass
class Told:
    source: str = "a meter"
    duration_s: float = 2.0
    energy_mj: float | None = 5000.0


class Meter:
    """A device that notes what it is asked."""

    def __init__(self, told: Told) -> None:
        self._told = told
        self.calls: list[str] = []

    def start(self) -> None:
        self.calls.append("start")

    def stop(self) -> Told:
        self.calls.append("stop")
        return self._told


def _spin(seconds: float) -> None:
    end = time.process_time() + seconds
    while time.process_time() < end:
        sum(range(1000))


def test_what_the_device_tells_is_measured() -> None:
    meter, done = Meter(Told()), []
    energy = energy_per_frame(lambda k: done.append((k, list(meter.calls))), frames=4, telemetry=meter, warm_up=2)
    assert energy == Energy(5.0, 2.0, "a meter", modelled=False)
    assert energy.per(4) == 1.25
    assert energy.to_dict()["kind"] == "measured"
    # Warming up comes before the meter runs.
    assert [len(calls) for _, calls in done] == [0, 0, 1, 1, 1, 1]
    assert [k for k, _ in done] == list(range(6))
    assert meter.calls == ["start", "stop"]


def test_a_silent_device_is_modelled_by_processor_time_or_left_unknown() -> None:
    silent = Meter(Told(energy_mj=None))
    assert energy_per_frame(lambda k: None, frames=1, telemetry=silent) is None
    assert energy_per_frame(lambda k: None, frames=1, telemetry=None) is None
    run = EnergyRun(silent, watts_per_core=10.0)
    run.start()
    _spin(0.2)
    energy = run.stop()
    assert energy is not None
    assert energy.modelled
    assert energy.source.startswith("modelled: ")
    assert energy.source.endswith(" s of processor time x 10 W per core")
    assert energy.joules >= 0.2 * 10 * 0.9  # the clock of processes ticks in hundredths
    assert energy.to_dict()["kind"] == "modelled"


def test_loader_processes_count_while_they_live_and_after() -> None:
    before = cpu_time_s()
    context = multiprocessing.get_context("fork")
    busy, leave = context.Event(), context.Event()

    def work() -> None:
        _spin(0.3)
        busy.set()
        leave.wait()

    child = context.Process(target=work)
    child.start()
    busy.wait()
    alive = cpu_time_s() - before
    leave.set()
    child.join()
    assert alive >= 0.25
    assert cpu_time_s() - before >= 0.25


@pytest.mark.parametrize("watts", [0.0, -3.0, float("nan"), float("inf")])
def test_a_power_that_is_none_is_refused(watts: float) -> None:
    with pytest.raises(UserError, match="positive number of watts"):
        EnergyRun(None, watts_per_core=watts)


def test_frames_that_are_none_are_refused() -> None:
    with pytest.raises(UserError, match="at least one frame, found 0"):
        energy_per_frame(lambda k: None, frames=0, telemetry=None)
    with pytest.raises(UserError, match="at least one frame"):
        Energy(1.0, 1.0, "x", modelled=False).per(0)


class Attention(nn.Module):
    """One head over n tokens of d channels, and an operator without a formula."""

    def __init__(self, n: int, d: int) -> None:
        super().__init__()
        self.tokens = torch.randn(1, 1, n, d)

    def forward(self, batch: object) -> torch.Tensor:
        mixed = nn.functional.scaled_dot_product_attention(self.tokens, self.tokens, self.tokens)
        return torch.zeros_like(mixed).index_add_(2, torch.arange(mixed.shape[2]), mixed)


class Convolution(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 8, 3, padding=1, bias=False)

    def forward(self, batch: object) -> torch.Tensor:
        return self.layer(torch.zeros(1, 3, 10, 12))


def test_arithmetic_is_that_of_a_count_by_hand() -> None:
    convolution = count_arithmetic(Convolution().eval(), None)  # type: ignore[arg-type]
    assert convolution == Arithmetic(2 * 3 * 8 * 9 * 10 * 12, ())
    attention = count_arithmetic(Attention(20, 16).eval(), None)  # type: ignore[arg-type]
    # Queries x keys and weights x values: n * n * d multiplications and additions each.
    assert attention.flops == 2 * (2 * 20 * 20 * 16)
    assert attention.uncounted == ("index_add_",)


def test_the_energy_of_arithmetic_is_horowitz_table() -> None:
    assert dict(PJ_PER_FLOP) == pytest.approx({"fp32": 2.3, "fp16": 0.75, "int8": 0.15})
    assert Arithmetic(10**9, ()).modelled_energy_mj("fp32") == pytest.approx(2.3)  # 10^9 x 2.3 pJ = 2.3 mJ
    with pytest.raises(UserError, match="no energy per operation for 'fp8'"):
        Arithmetic(1, ()).modelled_energy_mj("fp8")  # type: ignore[arg-type]


class Line(pl.LightningModule):
    """Fits a line; two frames per step."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)

    def training_step(self, batch: torch.Tensor) -> torch.Tensor:
        return (self.layer(batch) - batch).square().mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.01)

    def train_dataloader(self) -> DataLoader[torch.Tensor]:
        return DataLoader(torch.randn(10, 1), batch_size=2)  # type: ignore[arg-type]


class Reporter(pl.Callback):
    """Writes a report at the end, as ``EndReport`` does."""

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        (Path(trainer.default_root_dir) / "report.json").write_text('{"rows": [1]}')


def _fit(folder: Path, *callbacks: pl.Callback) -> None:
    trainer = pl.Trainer(
        max_epochs=2,
        accelerator="cpu",
        default_root_dir=folder,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=list(callbacks),
    )
    trainer.fit(Line())


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_training_leaves_its_energy(tmp_path: Path) -> None:
    # Before the report in the list: it is added all the same.
    meter = Meter(Told())
    _fit(tmp_path, EnergyMeter(meter), Reporter())
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["rows"] == [1]
    assert report["energy"] == json.loads((tmp_path / "energy.json").read_text())
    energy = report["energy"]
    assert (energy["kind"], energy["steps"], energy["frames"]) == ("measured", 10, 20)
    assert (energy["joules_per_step"], energy["joules_per_frame"]) == (0.5, 0.25)
    assert meter.calls == ["start", "stop"]
    _fit(tmp_path / "modelled", EnergyMeter(watts_per_core=7.0))
    modelled = json.loads((tmp_path / "modelled" / "energy.json").read_text())
    assert modelled["kind"] == "modelled"
    assert "x 7 W per core" in modelled["source"]
    assert not (tmp_path / "modelled" / "report.json").exists()
    _fit(tmp_path / "unknown", EnergyMeter())
    assert json.loads((tmp_path / "unknown" / "energy.json").read_text())["kind"] == "unknown"
