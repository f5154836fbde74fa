"""Which students would be in time on this device? Untrained ones of many sizes are measured before any is trained.

python tools/fit_deadline.py --config configs/nuscenes_mini.yaml --deadline-ms 50 --widths 0.5 1 1.5 --cells 0.8 1.6
"""

import argparse
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
import yaml
from rich.console import Console
from rich.table import Table
from torch.utils.flop_counter import FlopCounterMode

from fusionkd.data import NuScenesDataModule
from fusionkd.data.configured import configured_data
from fusionkd.deploy import Pipeline, RawFrame
from fusionkd.errors import UserError
from fusionkd.export import raw_frame
from fusionkd.models import FusionModel, build_model
from fusionkd.models.deploying import deploy_spec
from fusionkd.realtime.contract import DeadlineContract, read_contract
from fusionkd.realtime.machine import machine
from fusionkd.realtime.networks import EagerNetwork
from fusionkd.realtime.racing import Finish, RacePlan, race
from fusionkd.realtime.sizing import Entry, Size, overlay, pareto, sized_data, sized_student, sizes_of
from fusionkd.realtime.statistics import frames_needed
from fusionkd.realtime.turns import CallSide

FORMAT = "fusionkd-sizing-1"
"""Version of the JSON file."""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    out = argparse.ArgumentParser(
        prog="fit_deadline",
        description="Measure untrained students of many sizes on this device, and list those worth training: in time, "
        "and beaten by no other in latency, parameters and GFLOPs.",
    )
    out.add_argument("--config", type=Path, required=True, help="training configuration whose student is varied")
    promise = out.add_mutually_exclusive_group(required=True)
    promise.add_argument("--contract", type=Path, help="deadline contract: its deadline, percentile and confidence")
    promise.add_argument("--deadline-ms", type=float, help="from sensor bytes to boxes, for a percentile of latency")
    out.add_argument("--percentile", type=float, help="that must keep it (default: the contract's, else 99)")
    out.add_argument("--widths", type=float, nargs="+", default=[], help="factors on the numbers of channels")
    out.add_argument("--depths", type=int, nargs="+", default=[], help="blocks more per level, such as 0 1 2")
    out.add_argument(
        "--image-sizes", type=_size_px, nargs="+", default=[], metavar="HxW", help="images that the cameras work on"
    )
    out.add_argument("--cells", type=float, nargs="+", default=[], help="cells of the BEV grid in metres")
    out.add_argument("--frames", type=int, help="of each student (default: twice what the percentile takes)")
    out.add_argument("--different", type=int, default=8, help="different frames among them (default: %(default)s)")
    out.add_argument("--root", help="folder of the data (default: the configuration's)")
    out.add_argument("--version", help="of nuScenes (default: the configuration's)")
    out.add_argument("--device", default="cpu", help="of PyTorch (default: %(default)s)")
    out.add_argument("--precision", default="float32", help="float32, bfloat16 or float16 (default: %(default)s)")
    out.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of PyTorch (default: %(default)s)")
    out.add_argument("--out", type=Path, default=Path("runs/sizing"), help="for sizing.json and the overlays")
    return out


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: Without the program's name; None takes those of the process.

    Returns:
        0 if some student meets the deadline, 1 if all miss it, 2 if the frames don't decide.

    Raises:
        UserError: If something in the arguments, the configuration or the data is wrong.
    """
    given = parser().parse_args(arguments)
    config = read_config(given.config)
    plan = plan_of(given)
    sizes = sizes_of(config, widths=given.widths, depths=given.depths, images_px=given.image_sizes, cells_m=given.cells)
    torch.set_num_threads(given.threads)
    replaced = {name: getattr(given, name) for name in ("root", "version") if getattr(given, name) is not None}
    data = configured_data(given.config, {**replaced, "cache_images_gb": 0})
    data.prepare_data()
    frames = raw_frames(data, given.different)
    console = Console()
    pipelines: dict[str, Pipeline] = {}
    costs: dict[str, tuple[int, float]] = {}
    for size in sizes:
        sized = configured_data(given.config, {**replaced, "cache_images_gb": 0, **sized_data(config, size)})
        try:
            model = untrained(config, size)
            pipelines[size.name] = pipeline_of(model, sized, device=given.device, precision=given.precision)
        except UserError as error:
            raise UserError(f"A student of size {size.name} can't be built: {error}") from None
        costs[size.name] = counted(model, pipelines[size.name], frames[0])

    def tell(name: str, finish: Finish) -> None:
        console.print(f"{name}: {finish.outcome} after {len(finish.latency_ns)} frames, {finish.value_ms:.1f} ms")

    runners = {name: CallSide(partial(_run, pipeline, frames)) for name, pipeline in pipelines.items()}
    finished = race(runners, plan, frames=len(frames), progress=tell)
    entries = [entry_of(size, costs[size.name], finished[size.name]) for size in sizes]
    best = pareto(entries)
    console.width = max(console.width, 110)
    console.print(table_of(entries, best, plan=plan, simulated=data.is_simulated))
    write(given.out, entries, best, about=_about(given, config, plan=plan, simulated=data.is_simulated))
    console.print(f"{len(best)} overlays and sizing.json in {given.out}")
    if best:
        return 0
    return 1 if all(entry.outcome == "misses" for entry in entries) else 2


def plan_of(given: argparse.Namespace) -> RacePlan:
    """The race for the given contract.

    Raises:
        UserError: If the contract can't be read, or so few frames could decide for no student.
    """
    contract = read_contract(given.contract) if given.contract else DeadlineContract(given.deadline_ms, percentile=99)
    percent = contract.percentile if given.percentile is None else given.percentile
    RacePlan(contract.deadline_ms, percent=percent, confidence=contract.confidence)
    needed = frames_needed(percent, contract.confidence)
    frames = 2 * needed if given.frames is None else given.frames
    if frames < needed:
        raise UserError(
            f"--frames {frames}: a p{percent:g} at {contract.confidence:.0%} takes {needed:,} frames of each student. "
            f"Measure more, or a lower --percentile."
        )
    return RacePlan(contract.deadline_ms, percent=percent, confidence=contract.confidence, frames=frames)


def read_config(path: Path) -> dict[str, Any]:
    """A training configuration as plain values.

    Raises:
        UserError: If it can't be read.
    """
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"There is no configuration {path}.") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"{path} can't be read as YAML: {error}") from None
    if not isinstance(config, dict) or not isinstance(config.get("data"), dict):
        raise UserError(f"{path} has no part 'data'; give the configuration of a training run.")
    return config


def raw_frames(data: NuScenesDataModule, count: int) -> list[RawFrame]:
    """Validation frames as the sensors would hand them over, in memory.

    Raises:
        UserError: If there is none.
    """
    records = data.records("val")[: max(count, 0)]
    if not records:
        raise UserError(f"There are no frames to measure with: --different {count}, validation scenes of {data.root}.")
    dataset = data.dataset(records)
    return [raw_frame(dataset, record) for record in records]


def untrained(config: Mapping[str, Any], size: Size) -> FusionModel:
    """The student of a size with seeded first weights.

    Raises:
        UserError: If there is no such student.
    """
    spec = sized_student(config, size)
    spec["init_args"]["grid"] = sized_data(config, size)["grid"]
    torch.manual_seed(0)
    return build_model(spec).eval()


def pipeline_of(model: FusionModel, data: NuScenesDataModule, *, device: str, precision: str) -> Pipeline:
    """Sensor bytes to boxes by a model that was built for this data."""
    spec = deploy_spec(model, views=data.collator.views, image_size_px=data.image_size_px, num_sweeps=data.num_sweeps)
    return Pipeline(spec, EagerNetwork(model, spec, device=device, precision=precision))


def counted(model: FusionModel, pipeline: Pipeline, raw: RawFrame) -> tuple[int, float]:
    """Parameters, and GFLOPs of a frame's convolutions and matrix products."""
    with FlopCounterMode(display=False) as counter:
        pipeline(raw)
    return sum(parameter.numel() for parameter in model.parameters()), counter.get_total_flops() / 1e9


def entry_of(size: Size, cost: tuple[int, float], finish: Finish) -> Entry:
    """A row of the result."""
    return Entry(
        size=size,
        parameters=cost[0],
        gflops=cost[1],
        latency_ms=finish.value_ms,
        low_ms=finish.low_ms,
        high_ms=finish.high_ms,
        frames=len(finish.latency_ns),
        outcome=finish.outcome,
    )


def table_of(entries: Sequence[Entry], best: Sequence[Entry], *, plan: RacePlan, simulated: bool) -> Table:
    """All students, the quickest first; those worth training are marked."""
    world = "simulated frames" if simulated else "real frames"
    table = Table(
        title=f"Untrained students against {plan.deadline_ms:g} ms, measured on this device, {world}",
        caption="* worth training: in time, and no other is as quick with as many parameters and GFLOPs",
    )
    latency = f"p{plan.percent:g} ms, measured"
    for heading in ("", "size", "parameters, counted", "GFLOPs, counted", latency, "bounds", "frames", "outcome"):
        text = heading in ("", "size", "outcome")
        table.add_column(heading, justify="left" if text else "right", no_wrap=text)
    for entry in sorted(entries, key=lambda one: one.latency_ms):
        table.add_row(
            "*" if entry in best else "",
            entry.size.name,
            f"{entry.parameters:,}",
            f"{entry.gflops:.2f}",
            f"{entry.latency_ms:.1f}",
            f"{entry.low_ms:.1f} to {entry.high_ms:.1f}",
            str(entry.frames),
            entry.outcome,
        )
    return table


def write(folder: Path, entries: Sequence[Entry], best: Sequence[Entry], *, about: Mapping[str, Any]) -> None:
    """``sizing.json``, and an overlay of the training configuration for each student worth training."""
    folder.mkdir(parents=True, exist_ok=True)
    for entry in best:
        text = yaml.safe_dump(overlay(about["config"], entry.size), sort_keys=False)
        head = (
            f"# A student of {entry.parameters:,} parameters; p{about['percentile']:g} {entry.latency_ms:.1f} ms, "
            f"measured untrained on {about['machine'].get('cpu', 'this device')}.\n#\n"
            f"#     python tools/train.py fit --config {about['config_file']} --config {entry.size.name}.yaml\n\n"
        )
        (folder / f"{entry.size.name}.yaml").write_text(head + text, encoding="utf-8")
    rows = [{**asdict(entry), "name": entry.size.name, "worth_training": entry in best} for entry in entries]
    for row in rows:
        row["high_ms"] = row["high_ms"] if math.isfinite(row["high_ms"]) else None
    content = {"format": FORMAT, **{k: v for k, v in about.items() if k != "config"}, "students": rows}
    (folder / "sizing.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _run(pipeline: Pipeline, frames: Sequence[RawFrame], number: int) -> None:
    pipeline(frames[number])


def _about(given: argparse.Namespace, config: Mapping[str, Any], *, plan: RacePlan, simulated: bool) -> dict[str, Any]:
    return {
        "config": config,
        "config_file": given.config.as_posix(),
        "deadline_ms": plan.deadline_ms,
        "percentile": plan.percent,
        "confidence": plan.confidence,
        "latency": "measured",
        "parameters": "counted",
        "gflops": "counted",
        "simulated": simulated,
        "precision": given.precision,
        "machine": machine(given.device),
    }


def _size_px(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d+)x(\d+)", text)
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} is no size; give height x width, as in 96x256")
    return int(found[1]), int(found[2])
