"""Is it in time? Measure a detector and hold it against a deadline contract.

python tools/check_deadline.py --config configs/deadlines/cpu_ci.yaml --checkpoint zoo:student --backend eager

Exit status: 0 met, 1 missed, 2 inconclusive, 3 could not run.
"""

import argparse
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from fusionkd.errors import UserError
from fusionkd.realtime.against import revision_here
from fusionkd.realtime.contract import ACCURACIES, DeadlineContract, read_contract
from fusionkd.realtime.gate_options import GateReport, add_gate_options, worst_status
from fusionkd.realtime.printout import print_verdict
from fusionkd.realtime.recorded import judge_recorded
from fusionkd.realtime.report import write_report
from fusionkd.realtime.trace import LatencyTrace, read_trace, write_trace

COULD_NOT_RUN = 3
"""Exit status of everything but a verdict, so that no accident looks like one."""

BACKENDS = ("eager", "compile", "cuda_graph", "onnxruntime", "onnxruntime_tensorrt", "tensorrt")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(COULD_NOT_RUN, f"error: {message}\n")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    out = _Parser(prog="check-deadline", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    out.add_argument(
        "--config", type=Path, required=True, help="deadline contract, such as configs/deadlines/cpu_ci.yaml"
    )
    what = out.add_mutually_exclusive_group(required=True)
    what.add_argument("--checkpoint", help="zoo:NAME, a .ckpt, a .safetensors, or an .onnx file of tools/export.py")
    what.add_argument("--from-trace", type=Path, metavar="NPZ", help="judge a recorded trace; no model runs")
    out.add_argument("--run-config", type=Path, help="config.yaml of the checkpoint's training (default: beside it)")
    out.add_argument("--backend", default="onnxruntime", choices=BACKENDS, help="who runs it (default: %(default)s)")
    out.add_argument("--device", help="cpu, cuda, cuda:0, ... (default: the backend's)")
    out.add_argument("--precision", default="float32", help="float32, bfloat16 or float16 (default: %(default)s)")
    out.add_argument("--threads", type=int, default=1, help="CPU threads of the network (default: %(default)s)")
    out.add_argument("--compile-mode", default="default", help="of torch.compile (default: %(default)s)")
    out.add_argument(
        "--root", type=Path, help="nuScenes or a simulated world (default: data/nuscenes-mini, else simulated)"
    )
    out.add_argument("--version", help="of nuScenes (default: the one at the root)")
    out.add_argument("--frames", type=_count, default=None, metavar="N|auto", help="frames that count (default: auto)")
    out.add_argument("--warm-up", type=_count, default=None, metavar="N|auto", help="frames before (default: auto)")
    out.add_argument("--distinct", type=int, default=10, help="different frames held in memory (default: %(default)s)")
    out.add_argument(
        "--accuracy", type=_figure, action="append", default=[], metavar="NAME=VALUE", help="a figure, such as nds=0.31"
    )
    out.add_argument("--out", type=Path, help="folder for report.json, report.md, junit.xml and latency.png")
    out.add_argument("--trace", type=Path, metavar="NPZ", help="also write the trace")
    add_gate_options(out)
    return out


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: Without the program's name; None takes those of the process.

    Returns:
        0 met, 1 missed, 2 inconclusive, 3 could not run: also for a mistake in the arguments and for a crash.
    """
    given = parser().parse_args(arguments)
    try:
        return check(given)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
    except Exception:
        # Python would end with 1, which here means that a deadline was missed.
        traceback.print_exc()
    return COULD_NOT_RUN


def check(given: argparse.Namespace) -> int:
    """Measure or read a trace, judge it, print and write the reports.

    Raises:
        UserError: If something in the arguments, the contract, the model or the data is wrong.
    """
    contract = read_contract(given.config)
    trace = read_trace(given.from_trace) if given.from_trace is not None else _measured(given, contract)
    if given.trace is not None:
        write_trace(trace, given.trace)
        print(f"Wrote {given.trace}.")
    verdict = judge_recorded(trace, contract, dict(given.accuracy))
    print_verdict(verdict)
    if given.out is not None:
        write_report(verdict, given.out)
        print(f"Wrote report.json, report.md, junit.xml and latency.png to {given.out}.")
    if given.against is None:
        return verdict.exit_status
    gate = _gate(given)
    print(gate.to_markdown())
    if given.out is not None:
        gate.write(given.out)
        print(f"Wrote gate.json to {given.out}, and its section to report.md.")
    return worst_status(verdict.exit_status, gate.status)


def _gate(given: argparse.Namespace) -> GateReport:
    from fusionkd.realtime.backends import Running
    from fusionkd.realtime.gate_options import run_gate_options
    from fusionkd.realtime.gate_subject import GateSubject

    if given.checkpoint is None:
        raise UserError("--against measures both sides anew: give --checkpoint, not --from-trace.")
    running = Running(given.backend, given.device, given.precision, given.threads, given.compile_mode)
    subject = GateSubject(
        given.checkpoint, running, config=given.run_config, root=given.root, version=given.version, count=given.distinct
    )
    return run_gate_options(given, subject)


def _measured(given: argparse.Namespace, contract: DeadlineContract) -> LatencyTrace:
    # Read when PyTorch is imported: threads that wait must sleep, or a busy machine slows down ninefold.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    # Imported here because judging a trace needs neither PyTorch nor a model.
    from fusionkd.preprocess.warmup import announce_slowness, compile_kernels
    from fusionkd.realtime.backends import Running, build_pipeline, recorded_of
    from fusionkd.realtime.frames import open_frames
    from fusionkd.realtime.measurement import figures_of, measure, name_of, plan_for
    from fusionkd.realtime.telemetry import telemetry_of

    plan = plan_for(contract, frames=given.frames, warm_up=given.warm_up)
    running = Running(given.backend, given.device, given.precision, given.threads, given.compile_mode)
    pipeline = build_pipeline(given.checkpoint, running, config=given.run_config)
    source = open_frames(given.root, num_sweeps=pipeline.spec.num_sweeps, count=given.distinct, version=given.version)
    compile_kernels(announce_slowness())
    record = recorded_of(given.checkpoint)
    about = {
        "checkpoint": name_of(given.checkpoint),
        "revision": revision_here(Path(__file__).parent),
        "precision": given.precision,
        "accuracy": {**figures_of(record.figures), **dict(given.accuracy)},
        "accuracy_on_simulated_data": record.simulated,
    }
    return measure(
        pipeline,
        source,
        contract,
        plan=plan,
        telemetry=telemetry_of(pipeline.network.device),
        about=about,
        progress=lambda text: print(text, flush=True),
    )


def _count(text: str) -> int | None:
    if text == "auto":
        return None
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"must be a whole number above 0 or auto, found {text!r}")
    return int(text)


def _figure(text: str) -> tuple[str, float]:
    name, _, value = text.partition("=")
    try:
        number = float(value)
    except ValueError:
        number = -1.0
    if name.lower() not in ACCURACIES or not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(
            f"must be one of {', '.join(ACCURACIES)} and a value from 0 to 1, found {text!r}"
        )
    return name.lower(), number
