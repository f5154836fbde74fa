"""What a training costs in energy, with its teachers live or cached, written beside its figures."""

import json
from pathlib import Path
from typing import Any

import lightning.pytorch as pl

from fusionkd.realtime.energy import Energy, EnergyRun, EnergyTelemetry


class EnergyMeter(pl.Callback):
    """Adds the energy of ``fit`` to the run's ``report.json``, and leaves it in ``energy.json``.

    From the first training step to the last, validation in between included; what the teachers cost is in it, so two
    runs of one recipe, one with cached or remembered teachers, tell what the cache saves. Where the device can't tell
    and no power is given, ``energy.json`` says so.

    Args:
        telemetry: The device; None for none that tells.
        watts_per_core: Power of one busy core, for the model where the device can't tell. The processor's rated power
            over its cores is a usual figure.
    """

    def __init__(self, telemetry: EnergyTelemetry | None = None, watts_per_core: float | None = None) -> None:
        self._run = EnergyRun(telemetry, watts_per_core=watts_per_core)
        self._first_step = 0
        self._frames = 0
        self.content: dict[str, Any] | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Count from here."""
        self._first_step, self._frames = trainer.global_step, 0
        self._run.start()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the frames."""
        self._frames += len(batch)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Count to here."""
        steps = trainer.global_step - self._first_step
        self.content = _described(self._run.stop(), steps=steps, frames=self._frames)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Write it down, after every other callback has written its own."""
        if self.content is None or not trainer.is_global_zero:
            return
        folder = Path(trainer.default_root_dir)
        folder.mkdir(parents=True, exist_ok=True)
        _write(folder / "energy.json", self.content)
        report = folder / "report.json"
        if report.is_file():
            _write(report, {**json.loads(report.read_text()), "energy": self.content})


def _described(energy: Energy | None, *, steps: int, frames: int) -> dict[str, Any]:
    if energy is None:
        return {"kind": "unknown", "source": "no device that tells, and no watts_per_core to model it with"}
    per = {"joules_per_step": energy.per(steps), "joules_per_frame": energy.per(frames)} if steps and frames else {}
    return {**energy.to_dict(), "steps": steps, "frames": frames, **per}


def _write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n")
