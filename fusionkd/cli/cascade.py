"""``fusionkd cascade``: trainings one after the other, each student teaching the next."""

import argparse
import fcntl
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import yaml
from rich.console import Console
from rich.table import Table

from fusionkd.cli.cascade_plan import Plan, Stage, read_plan
from fusionkd.cli.cascade_record import StageRecord, begun, check_record, finished, read_record, write_record
from fusionkd.cli.teachers import MEANS
from fusionkd.cli.training import build_cli
from fusionkd.data.cache import write_text_atomically
from fusionkd.errors import UserError
from fusionkd.metrics import DetectionTruth
from fusionkd.tasks.evaluation import evaluate_ensemble
from fusionkd.teachers import load_student

TABLE = "cascade.json"
OVERLAY = "overrides.yaml"
ENSEMBLE = "ensemble"

Launch = Callable[[list[str]], None]
"""Runs the training command with these arguments to its end."""

Figures = Mapping[str, float | None]


def parser() -> argparse.ArgumentParser:
    """The command line."""
    out = argparse.ArgumentParser(
        prog="fusionkd cascade",
        description="Train the stages of a cascade one after the other. An interrupted one goes on where it stopped, "
        "a finished stage is never trained again, and a stage whose settings have changed is refused.",
    )
    out.add_argument("--config", type=Path, required=True, help="the cascade, such as configs/distill/progressive.yaml")
    out.add_argument("--folder", type=Path, help="where the stages go, instead of the file's own folder")
    out.add_argument("options", nargs="*", help="after --: passed on to each training, such as --trainer.max_steps 100")
    return out


def main(arguments: Sequence[str] | None = None, *, launch: Launch | None = None) -> int:
    """Run the command; returns the exit status.

    Args:
        arguments: Without the program's name; None takes those of the process.
        launch: How a stage is trained; None gives each a process of its own.

    Raises:
        UserError: If the cascade, a stage's settings or something that it left is wrong.
    """
    given = parser().parse_args(arguments)
    if max(int(os.environ.get(name) or 1) for name in ("WORLD_SIZE", "SLURM_NTASKS")) > 1:
        raise UserError(
            "A cascade is started once: each stage's training starts its processes by itself, see trainer.devices."
        )
    plan = read_plan(given.config, folder=given.folder, options=given.options)
    with _alone(plan.folder) as lock:
        records = run_stages(plan, launch or partial(launch_process, keep=lock))
        rows: dict[str, Figures] = {name: record.figures for name, record in records.items()}
        if plan.ensemble:
            rows[f"{ENSEMBLE} of {', '.join(plan.ensemble)}"] = ensemble_figures(plan)
        show(rows, simulated=any(record.simulated for record in records.values()), path=plan.folder / TABLE)
    return 0


def run_stages(plan: Plan, launch: Launch) -> dict[str, StageRecord]:
    """Train what isn't finished yet.

    Args:
        plan: The cascade.
        launch: Trains.

    Returns:
        The records of all stages, by name.

    Raises:
        UserError: If a stage's settings have changed, its record is damaged, or its training fails.
    """
    records: dict[str, StageRecord] = {}
    for number, stage in enumerate(plan.stages, start=1):
        where = f"Stage {number} of {len(plan.stages)}, {stage.name}"
        home = plan.home(stage.name)
        settings = plan.settings(stage, {name: record.student for name, record in records.items()})
        record = read_record(home)
        if record is None:
            record = begun(settings)
            write_record(record, home)
        check_record(record, settings, name=stage.name, folder=home)
        if record.finished:
            print(f"{where}: finished already, {plan.student(stage.name)}.", flush=True)
        else:
            command = stage_command(plan, stage)
            print(f"{where}: {'goes on' if '--ckpt_path' in command else 'begins'} in {home}.", flush=True)
            launch(command)
            record = finished(record, home)
            write_record(record, home)
        records[stage.name] = record
    return records


def stage_command(plan: Plan, stage: Stage) -> list[str]:
    """Arguments of the training command for a stage, which goes on from its last checkpoint where there is one."""
    home = plan.home(stage.name)
    overrides = stage.resolved({name: str(plan.student(name)) for name in stage.before()})
    overlay = home / OVERLAY
    write_text_atomically(overlay, yaml.safe_dump(overrides, sort_keys=False))
    files = [option for path in (*stage.configs, overlay) for option in ("--config", str(path))]
    command = ["fit", *files, "--trainer.default_root_dir", str(home), *plan.options]
    last = home / "checkpoints" / "last.ckpt"
    return [*command, "--ckpt_path", str(last)] if last.is_file() else command


def launch_process(arguments: list[str], *, keep: int) -> None:
    """Train a stage in a process of its own, which ends with this one.

    Args:
        arguments: Of the training command.
        keep: Open file that the process holds too: the folder's lock.

    Raises:
        UserError: If it fails.
    """
    command = [sys.executable, "-m", "fusionkd.cli.stage", str(os.getpid()), *arguments]
    status = subprocess.run(command, pass_fds=(keep,), check=False).returncode
    if status != 0:
        raise UserError(
            f"The stage's training ended with status {status}; what it said stands above. When that is mended, the "
            f"same command goes on from here."
        )


def ensemble_figures(plan: Plan) -> dict[str, float]:
    """Figures of several stages' students together, on the last one's validation split."""
    last = next(stage for stage in plan.stages if stage.name == plan.ensemble[-1])
    files = [option for path in (*last.configs, plan.home(last.name) / OVERLAY) for option in ("--config", str(path))]
    # Teachers and terms aren't needed to look at frames.
    options = [*files, *plan.options, "--trainer.logger", "false", "--model.teachers", "{}", "--model.terms", "{}"]
    cli = build_cli(options, run=False)
    data, device = cli.datamodule, cli.trainer.strategy.root_device
    data.prepare_data()
    models = {name: load_student(plan.student(name)).to(device) for name in plan.ensemble}
    print(f"Evaluating the ensemble of {', '.join(models)} on the validation split ...", flush=True)
    truth = DetectionTruth.from_index(data.index, data.scenes("val"))
    batches = data.val_dataloader()
    return evaluate_ensemble(list(models.values()), batches, truth, decoder=cli.model.decoder, device=device)


def show(rows: Mapping[str, Figures], *, simulated: bool, path: Path) -> None:
    """Print the table of all stages and keep it.

    Args:
        rows: nuScenes figures by name.
        simulated: Whether they were measured on simulated data.
        path: File for the same as JSON.
    """
    kept = [
        {"name": name, "figures": {key: _defined(figures.get(key)) for key in MEANS}} for name, figures in rows.items()
    ]
    write_text_atomically(path, json.dumps({"simulated": simulated, "rows": kept}, indent=2) + "\n")
    table = Table(title=f"Validation split, {'SIMULATED data' if simulated else 'nuScenes'}")
    table.add_column("stage")
    for key in MEANS:
        table.add_column(key, justify="right")
    for name, figures in rows.items():
        values = [_defined(figures.get(key)) for key in MEANS]
        table.add_row(name, *("-" if value is None else f"{value:.3f}" for value in values))
    Console().print(table)


def _defined(value: float | None) -> float | None:
    # nuScenes leaves some errors undefined; JSON has no NaN.
    return None if value is None or value != value else value


@contextmanager
def _alone(folder: Path, *, patience_s: float = 30.0) -> Iterator[int]:
    """Hold a folder for this process and those that it starts; yields the lock's file descriptor.

    A little patience, because loaders of a training that was killed a moment ago live on for some seconds.

    Raises:
        UserError: If somebody else holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    until_s = time.monotonic() + patience_s
    with (folder / ".lock").open("w") as stream:
        while True:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > until_s:
                    raise UserError(f"Another cascade is at work in {folder}. Wait for it, or give --folder.") from None
                time.sleep(0.2)
        yield stream.fileno()
