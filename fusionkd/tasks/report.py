"""What a run says when it ends: teachers, recorded control and student side by side."""

import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from rich.console import Console
from rich.table import Table

from fusionkd.data import Batch, Frame, NuScenesDataset
from fusionkd.geometry import Boxes3D
from fusionkd.metrics import DetectionTruth
from fusionkd.tasks.control import conditions, recorded_control
from fusionkd.tasks.evaluation import evaluate_models
from fusionkd.tasks.measure import Cost, measure_cost
from fusionkd.tasks.supervised import SupervisedTask

PICTURE_SIZE_PX = (450, 800)
"""(height, width) of the camera images in the picture that a run leaves."""


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        name: Who.
        figures: nuScenes figures by name.
        cost: What a frame costs, or None where it wasn't measured.
    """

    name: str
    figures: Mapping[str, float]
    cost: Cost | None


class EndReport(pl.Callback):
    """When ``fit`` ends: saves the student, evaluates the teachers, prints a table, leaves a picture.

    Files in the run's folder (``trainer.default_root_dir``): ``student.ckpt``, ``report.json``, ``scene.png``.

    Args:
        control: Name of the recorded control in the zoo's ``control.json``, which is shown where it was trained on
            the same world with the same labels and steps; None leaves it out.
        picture: Draws a validation frame with the student's boxes: ``fusionkd.visualize.save_bev_figure``, or a
            function of the same arguments. None draws nothing.
    """

    def __init__(self, control: str | None = None, picture: Callable[..., object] | None = None) -> None:
        self.control = control
        self.picture = picture
        self._clock = _StepClock()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        self._clock.start()

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        """The data is there."""
        self._clock.data_ready()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        """The step is done."""
        self._clock.step_done()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Validation is neither waiting for data nor training."""
        self._clock.start()

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Evaluate, save and tell."""
        if trainer.fast_dev_run or not isinstance(pl_module, SupervisedTask):  # type: ignore[attr-defined]
            return
        here = conditions(trainer, pl_module)
        control, missing = (None, "") if self.control is None else recorded_control(self.control, here)
        rows = self._rows(trainer, pl_module, control=control)
        folder = Path(trainer.default_root_dir)
        student = folder / "student.ckpt"
        # Every process takes part in saving; only the first one writes.
        trainer.save_checkpoint(student)
        if not trainer.is_global_zero:
            return
        simulated = pl_module.data.is_simulated
        facts = {"simulated": simulated, "conditions": here, "training": self._clock.seconds()}
        _write_json(folder / "report.json", rows, facts=facts)
        console = Console()
        console.print(report_table(rows, simulated=simulated))
        if missing:
            console.print(missing)
        console.print(self._clock.sentence())
        left = [str(student), str(folder / "report.json")]
        if self.picture is not None:
            frame, boxes = _predicted_frame(trainer, pl_module)
            title = f"{frame.scene}, step {trainer.global_step}"
            self.picture(folder / "scene.png", frame, predictions=boxes, title=title, simulated=simulated)
            left.append(str(folder / "scene.png"))
        console.print("Left behind: " + ", ".join(left), soft_wrap=True)

    def _rows(self, trainer: pl.Trainer, task: SupervisedTask, *, control: Mapping[str, float] | None) -> list[Row]:
        models = task.company()
        student = task.student.to(task.device).eval()
        judged: dict[str, torch.nn.Module] = dict(models)
        stale = task.figures_step != trainer.global_step
        if stale:
            judged["student"] = student
        figures = _evaluate(trainer, task, judged)
        if stale:
            task.figures, task.figures_step = figures.pop("student"), trainer.global_step
        batch = _one_frame(task).to(task.device)
        rows = [Row(name, figures[name], self._cost(task, model, batch)) for name, model in models.items()]
        if control is not None:
            rows.append(Row("control (recorded, no teacher)", control, None))
        return [*rows, Row(task.title, task.figures, self._cost(task, student, batch))]

    def _cost(self, task: SupervisedTask, model: torch.nn.Module, batch: Batch) -> Cost:
        return measure_cost(model, batch, decode=task.decoder, device=task.device)


class _StepClock:
    """Splits the time of training into waiting for data and computing."""

    def __init__(self) -> None:
        self._mark = 0.0
        self._data_s = 0.0
        self._compute_s = 0.0

    def start(self) -> None:
        self._mark = time.perf_counter()

    def data_ready(self) -> None:
        self._data_s += self._lap()

    def step_done(self) -> None:
        self._compute_s += self._lap()

    def seconds(self) -> dict[str, float]:
        return {"waiting_for_data_s": self._data_s, "computing_s": self._compute_s}

    def sentence(self) -> str:
        return f"Training took {self._compute_s:.0f} s of computing and {self._data_s:.0f} s of waiting for data."

    def _lap(self) -> float:
        now = time.perf_counter()
        elapsed, self._mark = now - self._mark, now
        return elapsed


def report_table(rows: list[Row], *, simulated: bool) -> Table:
    """The table as rich draws it."""
    where = "SIMULATED data" if simulated else "nuScenes"
    table = Table(title=f"Validation split, {where}", caption="ms: network and decoding of one frame, batch 1, median")
    table.add_column("model")
    for column in ("mAP", "NDS", "parameters", "GFLOPs", "ms / frame"):
        table.add_column(column, justify="right")
    for row in rows:
        cost = ["", "", ""]
        if row.cost is not None:
            cost = [f"{row.cost.parameters / 1e6:.2f} M", f"{row.cost.gflops:.1f}", f"{row.cost.ms_per_frame:.0f}"]
        table.add_row(row.name, f"{row.figures['mAP']:.3f}", f"{row.figures['NDS']:.3f}", *cost)
    return table


def _evaluate(
    trainer: pl.Trainer, task: SupervisedTask, models: Mapping[str, torch.nn.Module]
) -> dict[str, dict[str, float]]:
    if not models:
        return {}
    if trainer.is_global_zero:
        print(f"Evaluating {', '.join(models)} on the validation split ...", flush=True)
    truth = DetectionTruth.from_index(task.data.index, task.data.scenes("val"))
    batches = trainer.val_dataloaders or task.data.val_dataloader()
    context = trainer.precision_plugin.forward_context
    return evaluate_models(models, batches, truth, decoder=task.decoder, device=task.device, context=context)


def _one_frame(task: SupervisedTask) -> Batch:
    dataset = task.data.dataset(task.data.records("val")[:1])
    return task.data.batch([dataset[0]])


def _write_json(path: Path, rows: list[Row], *, facts: Mapping[str, Any]) -> None:
    content = {
        **facts,
        "rows": [
            {
                "name": row.name,
                # nuScenes leaves some errors of cones and barriers undefined; JSON has no NaN.
                "figures": {key: None if math.isnan(value) else value for key, value in row.figures.items()},
                "cost": None if row.cost is None else asdict(row.cost),
            }
            for row in rows
        ],
    }
    path.write_text(json.dumps(content, indent=2) + "\n")


def _predicted_frame(trainer: pl.Trainer, task: SupervisedTask) -> tuple[Frame, Boxes3D]:
    """A validation frame as an eye wants it, whole images and one sweep, and what the student sees in it."""
    records = task.data.records("val")
    record = records[len(records) // 2]
    with torch.no_grad(), trainer.precision_plugin.forward_context():
        output = task.student.eval()(task.data.batch([task.data.frame(record.token)]).to(task.device))
    shown = NuScenesDataset(task.data.index, [record], image_size_px=PICTURE_SIZE_PX, num_sweeps=1)[0]
    return shown, task.decoder(output)[0]
