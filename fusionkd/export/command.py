"""Write a trained model as a file for the vehicle, and prove that it answers the same.

python tools/export.py --checkpoint zoo:student --format onnx --out student.onnx
"""

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from fusionkd.deploy import OnnxNetwork, Pipeline
from fusionkd.deploy.onnx import OUTPUTS
from fusionkd.export.evaluation import evaluate_pipelines
from fusionkd.export.frames import Frames
from fusionkd.export.network import TorchNetwork
from fusionkd.export.onnx import ABOUT_KEY, Exportable, export_onnx, exportable
from fusionkd.export.parity import TOLERANCES, ParityReport, compare_networks
from fusionkd.export.precision import to_fp16, to_int8, to_int8_modelopt
from fusionkd.export.spec import Trained, open_trained
from fusionkd.export.tensorrt import build_engine

MEANS = ("mAP", "NDS", "mATE", "mASE", "mAOE", "mAVE", "mAAE")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    out = argparse.ArgumentParser(
        prog="export", description="Write a trained model as a file that runs without torch, and compare the two."
    )
    out.add_argument("--checkpoint", required=True, help="zoo:NAME, a .ckpt or a .safetensors file")
    out.add_argument("--format", choices=("onnx", "tensorrt"), default="onnx", help="(default: %(default)s)")
    out.add_argument("--precision", choices=("fp32", "fp16", "int8"), default="fp32", help="(default: %(default)s)")
    out.add_argument("--quantizer", choices=("onnxruntime", "modelopt"), default="onnxruntime", help="of int8")
    out.add_argument("--out", type=Path, metavar="FILE", help="(default: the checkpoint's name and the precision)")
    out.add_argument("--config", type=Path, help="config.yaml of the checkpoint's run, if it isn't beside it")
    out.add_argument("--root", help="folder of the data for calibration, parity and figures (default: made-up frames)")
    out.add_argument("--version", default=None, help="of nuScenes at the root (default: the only one there)")
    out.add_argument("--fixed-rig", action="store_true", help="make the cameras' places constants; needs --root")
    out.add_argument("--calibration", type=int, default=40, metavar="N", help="training frames (default: %(default)s)")
    out.add_argument("--parity", type=int, default=8, metavar="N", help="frames to compare; 0: none (%(default)s)")
    out.add_argument("--report", type=Path, metavar="JSON", help="write the comparison here too")
    out.add_argument("--evaluate", action="store_true", help="nuScenes figures of both on the validation scenes")
    return out


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: Without the program's name; None takes those of the process.

    Returns:
        0, or 1 where the exported network is out of tolerance.

    Raises:
        UserError: If something in the arguments, the model or the data is wrong.
    """
    given = parser().parse_args(arguments)
    trained = open_trained(given.checkpoint, given.config)
    frames = Frames(trained, given.root, given.version)
    item = exportable(trained, fixed_rig=frames.rig() if given.fixed_rig else None)
    path = given.out or Path(f"{Path(given.checkpoint.removeprefix('zoo:')).stem}-{given.precision}.onnx")
    written = path.with_suffix(".onnx")
    write(item, written, given=given, frames=frames)
    console = Console()
    console.print(_facts(written))
    status = 0
    if given.parity > 0:
        report = parity(item, written, frames=frames, count=given.parity, precision=given.precision)
        console.print(report.table(f"{given.checkpoint} against {written.name}"))
        if given.report is not None:
            given.report.parent.mkdir(parents=True, exist_ok=True)
            given.report.write_text(json.dumps(report.to_dict(), indent=1) + "\n")
        if report.broken:
            console.print(f"Out of tolerance: {'; '.join(report.broken)}.")
            status = 1
    if given.evaluate:
        console.print(figures(trained, written, frames=frames))
    if given.format == "tensorrt":
        engine = path.with_suffix(".engine")
        build_engine(written, engine, spec=item.spec, fp16=given.precision != "fp32", int8=given.precision == "int8")
        console.print(f"Built {engine} ({engine.stat().st_size / 1e6:.1f} MB) for this machine's GPU.")
    return status


def write(item: Exportable, path: Path, *, given: argparse.Namespace, frames: Frames) -> None:
    """Write the ONNX file in the precision that the command line names.

    Raises:
        UserError: If packages or frames for it aren't there.
    """
    if given.precision == "fp32":
        export_onnx(item, path)
        return
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / "plain.onnx"
        export_onnx(item, plain)
        if given.precision == "fp16":
            to_fp16(plain, path)
            return
        frames.records("train")
        calibration = frames.some(given.calibration, spec=item.spec, stage="train")
        {"onnxruntime": to_int8, "modelopt": to_int8_modelopt}[given.quantizer](plain, path, calibration)


def parity(item: Exportable, path: Path, *, frames: Frames, count: int, precision: str) -> ParityReport:
    """Compare a file with the model that it was made of.

    Args:
        item: The model.
        path: The file.
        frames: What both are run on.
        count: How many.
        precision: Of the file; says what is allowed.
    """
    reference, network = TorchNetwork(item.model, item.spec), OnnxNetwork(path)
    return compare_networks(
        reference,
        network,
        frames.some(count, spec=item.spec),
        spec=item.spec,
        outputs=reference.module.outputs[len(OUTPUTS) :],
        tolerance=TOLERANCES[precision],
        simulated=frames.simulated,
    )


def figures(trained: Trained, path: Path, *, frames: Frames) -> Table:
    """NuScenes' figures of the trained model and of the file, each from sensor bytes to boxes."""
    network = OnnxNetwork(path)
    pipelines = {
        f"{trained.checkpoint}, torch": Pipeline(trained.spec, TorchNetwork(trained.model, trained.spec)),
        path.name: Pipeline(network.spec, network),
    }
    dataset, records = frames.records("val")
    where = "SIMULATED data" if frames.simulated else "nuScenes"
    table = Table(title=f"{len(records)} validation frames, {where}")
    for column in ("pipeline", *MEANS):
        table.add_column(column, justify="left" if column == "pipeline" else "right")
    for name, found in evaluate_pipelines(pipelines, dataset, records).items():
        table.add_row(name, *(f"{found[mean]:.4f}" for mean in MEANS))
    return table


def _facts(path: Path) -> str:
    network = OnnxNetwork(path)
    about = json.loads(network.metadata[ABOUT_KEY])
    opsets = ", ".join(f"{name} {version}" for name, version in about["opsets"].items())
    inputs = ", ".join(f"{value.name} {value.shape}" for value in network.session.get_inputs())
    return (
        f"Wrote {path} ({path.stat().st_size / 1e6:.2f} MB, {about['precision']}, opset {opsets}).\nInputs: {inputs}."
    )
