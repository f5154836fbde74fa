"""What an export gains and what a precision costs: the network alone, torch and ONNX Runtime frame by frame in turns.

    python benchmarks/export.py --model student        # the teachers' world, written if absent; about ten minutes
    python benchmarks/export.py --rounds 5 --scenes 1  # a trial

Whole frames, sensor bytes to boxes, and tails of latency are in ``benchmarks/deadline.py``.
"""

import argparse
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from common import Row, compare, use_one_thread, write_result

from fusionkd.cli.teachers import WORLD
from fusionkd.deploy import OnnxNetwork, Pipeline, prepare
from fusionkd.deploy.onnx import OUTPUTS
from fusionkd.export import raw_frame
from fusionkd.export.evaluation import evaluate_pipelines
from fusionkd.export.frames import Frames
from fusionkd.export.network import TorchNetwork
from fusionkd.export.onnx import export_onnx, exportable
from fusionkd.export.parity import TOLERANCES, compare_networks
from fusionkd.export.precision import to_fp16, to_int8
from fusionkd.export.spec import Trained, open_trained
from fusionkd.simulation import write_world

WORLD_ROOT = Path(__file__).resolve().parent.parent / "data" / "simulated-teachers"
PARITY_FRAMES = 10


def write_files(trained: Trained, frames: Frames, folder: Path, *, calibration: int) -> dict[str, Path]:
    """The model in every form, by name."""
    files = {name: folder / f"{name.replace(' ', '-')}.onnx" for name in ("fp32", "fp16", "int8")}
    item = exportable(trained)
    export_onnx(item, files["fp32"])
    to_fp16(files["fp32"], files["fp16"])
    to_int8(files["fp32"], files["int8"], frames.some(calibration, spec=item.spec, stage="train"))
    if trained.spec.camera is not None:
        files["fp32, fixed rig"] = folder / "fixed.onnx"
        export_onnx(exportable(trained, fixed_rig=frames.rig()), files["fp32, fixed rig"])
    return files


def main() -> None:
    """Print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="student", help="of the zoo (default: %(default)s)")
    parser.add_argument("--root", type=Path, default=WORLD_ROOT, help="data (default: the teachers' world)")
    parser.add_argument("--rounds", type=int, default=100, help="calls of each side per row")
    parser.add_argument("--scenes", type=int, default=6, help="validation scenes for the figures")
    parser.add_argument("--calibration", type=int, default=40, help="training frames for int8")
    given = parser.parse_args()
    use_one_thread()
    trained = open_trained(f"zoo:{given.model}")
    if given.root == WORLD_ROOT:
        write_world(WORLD_ROOT, WORLD)
    frames = Frames(trained, str(given.root))
    dataset, records = frames.records("val")
    scenes = list(dict.fromkeys(record.scene for record in records))[: given.scenes]
    records = [record for record in records if record.scene in scenes]
    reference = TorchNetwork(trained.model, trained.spec)
    raw = raw_frame(dataset, records[len(records) // 2])
    pipelines = {"torch": Pipeline(trained.spec, reference)}
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        files = write_files(trained, frames, Path(folder), calibration=given.calibration)
        for name, path in files.items():
            network = OnnxNetwork(path)
            pipelines[name] = Pipeline(network.spec, network)
            run: Callable[[], object] = partial(network, prepare(raw, network.spec))
            eager: Callable[[], object] = partial(reference, prepare(raw, trained.spec))
            what = f"{given.model}, network alone, ONNX Runtime {name}"
            rows.append(compare(what, run, eager, peer_name="torch eager", rounds=given.rounds))
            rows.append(Row(f"{given.model}, file, {name}", path.stat().st_size / 1e6, "MB", better="lower"))
            if "fixed" not in name:  # of another rig than the frames', which is no error
                report = compare_networks(
                    reference,
                    network,
                    frames.some(PARITY_FRAMES, spec=network.spec),
                    spec=network.spec,
                    outputs=reference.module.outputs[len(OUTPUTS) :],
                    tolerance=TOLERANCES[name],
                )
                worst = max(output.relative for output in report.outputs)
                rows.append(Row(f"{given.model}, largest relative error of a map, {name}", worst, "", better="lower"))
        figures = evaluate_pipelines(pipelines, dataset, records)
    for name, found in figures.items():
        if name != "torch":
            cost = 100 * (found["NDS"] - figures["torch"]["NDS"])
            what = f"{given.model}, NDS of {len(records)} frames, {name} minus torch"
            rows.append(Row(what, cost, "points"))
    result = "export" if given.model == "student" else f"export_{given.model}"
    write_result(result, rows, simulated=bool(frames.simulated), packages=("torch", "onnx", "onnxruntime"))


if __name__ == "__main__":
    main()
