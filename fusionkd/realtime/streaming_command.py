"""Streaming accuracy of models: what is left of their figures when the world goes on while they compute.

python tools/streaming.py --checkpoint zoo:student --root data/simulated --version v1.0-mini --measure 200
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import get_args

import torch

from fusionkd.data.cache import short_hash
from fusionkd.data.configured import config_beside
from fusionkd.data.splits import default_split, scenes_of
from fusionkd.errors import UserError
from fusionkd.metrics import Detections
from fusionkd.metrics.streaming import Overrun
from fusionkd.models import Decoder
from fusionkd.realtime.streaming_latency import Candidate, measure_traces, warm_busy_ns
from fusionkd.realtime.streaming_outputs import KeptBoxes, key_of, predict
from fusionkd.realtime.streaming_report import draw, markdown
from fusionkd.realtime.streaming_scenes import StreamedScenes, stream_scenes
from fusionkd.realtime.streaming_study import Study, study, to_dict
from fusionkd.realtime.trace import LatencyTrace, read_trace, write_trace
from fusionkd.teachers import load_trained
from fusionkd.visualize.sources import open_data

FACTORS = (0.5, 1.0, 2.0, 4.0, 8.0)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    out = argparse.ArgumentParser(
        prog="streaming",
        description="Replay measured latencies against the world at the LiDAR's rate: at each sweep the newest "
        "finished boxes count. Prints and writes nuScenes' figures beside the offline ones.",
    )
    out.add_argument(
        "--checkpoint", required=True, nargs="+", help="models: zoo:NAME, a .ckpt or a .safetensors file; one or more"
    )
    how = out.add_mutually_exclusive_group(required=True)
    how.add_argument("--trace", type=Path, nargs="+", help="latency trace of each model, in their order (.npz)")
    how.add_argument("--measure", type=int, metavar="FRAMES", help="measure so many frames of each here, in turns")
    out.add_argument("--root", help="folder of the data (default: the configuration's, else data/nuscenes)")
    out.add_argument("--version", help="of nuScenes (default: the configuration's, else v1.0-mini)")
    out.add_argument(
        "--config", type=Path, help="config.yaml whose data settings the models need (default: beside each)"
    )
    out.add_argument("--scenes", nargs="+", help="scenes, or a split (default: the version's validation split)")
    out.add_argument("--policy", default="both", choices=[*get_args(Overrun), "both"], help="(default: %(default)s)")
    out.add_argument(
        "--factors",
        type=float,
        nargs="+",
        default=list(FACTORS),
        help="of the latency; 0 is no time (default: %(default)s)",
    )
    out.add_argument("--device", default="cpu", help="where the models run (default: %(default)s)")
    out.add_argument("--threads", type=int, help="of torch (default: as many as torch takes)")
    out.add_argument("--out", type=Path, default=Path("runs/streaming"), help="(default: %(default)s)")
    return out


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: Without the program's name; None takes those of the process.

    Returns:
        The exit status.

    Raises:
        UserError: If something in the arguments or the data is wrong.
    """
    given = parser().parse_args(arguments)
    if len(set(given.checkpoint)) != len(given.checkpoint):
        raise UserError(f"--checkpoint names a model twice: {', '.join(given.checkpoint)}.")
    if given.trace is not None and len(given.trace) != len(given.checkpoint):
        raise UserError(
            f"--trace needs one trace per model: found {len(given.trace)} for {len(given.checkpoint)} models."
        )
    if given.threads is not None:
        torch.set_num_threads(given.threads)
    # Traces are read first: what is wrong with them is said before a model runs for minutes.
    traces = {name: read_trace(path) for name, path in zip(given.checkpoint, given.trace or ())}
    candidates = {name: _candidate(name, given) for name in given.checkpoint}
    data = candidates[given.checkpoint[0]].data
    for name, candidate in candidates.items():
        if candidate.data.index.fingerprint != data.index.fingerprint:
            raise UserError(
                f"{name} is configured for other data than {given.checkpoint[0]}; give --root and --version."
            )
    scenes = _scenes(given, candidates[given.checkpoint[0]])
    if given.measure is not None:
        traces = _measured(candidates, scenes, given)
    studies = [_study(name, candidates[name], scenes, trace=trace, given=given) for name, trace in traces.items()]
    _tell(studies, scenes, simulated=data.is_simulated, out=given.out)
    return 0


def _candidate(name: str, given: argparse.Namespace) -> Candidate:
    model, _ = load_trained(name)
    data = open_data(given.root, given.version, model=model, config=given.config or config_beside(name))
    return Candidate(model.to(_device(given.device)).eval(), data, Decoder(), _device(given.device))


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"--device {name} can't be used here: {str(error).splitlines()[0]}") from None
    return device


def _scenes(given: argparse.Namespace, candidate: Candidate) -> StreamedScenes:
    index = candidate.data.index
    wanted: str | list[str] = given.scenes or default_split(index.version, "val")
    if given.scenes and len(given.scenes) == 1 and given.scenes[0] not in index.scene_names:
        wanted = given.scenes[0]
    return stream_scenes(index, scenes_of(index, wanted))


def _measured(
    candidates: Mapping[str, Candidate], scenes: StreamedScenes, given: argparse.Namespace
) -> dict[str, LatencyTrace]:
    traces = measure_traces(candidates, list(scenes.records.values()), frames=given.measure)
    for name, trace in traces.items():
        write_trace(trace, given.out / f"{_file_name(name)}.trace.npz")
    return traces


def _study(
    name: str, candidate: Candidate, scenes: StreamedScenes, *, trace: LatencyTrace, given: argparse.Namespace
) -> Study:
    key = key_of(candidate.model, candidate.data, candidate.decoder)
    kept = KeptBoxes(given.out / f"{_file_name(name)}.boxes.npz", key)

    def outputs_of(tokens: Sequence[str]) -> Detections:
        print(f"{name}: {len(kept.missing(tokens))} of {len(tokens)} frames on show have to be computed.", flush=True)
        records = [scenes.records[token] for token in tokens]
        return predict(
            candidate.model,
            candidate.data,
            records,
            kept=kept,
            decoder=candidate.decoder,
            device=candidate.device,
        )

    return study(
        name,
        scenes,
        outputs_of,
        busy_ns=warm_busy_ns(trace, source=f"The trace of {name}"),
        factors=given.factors,
        policies=get_args(Overrun) if given.policy == "both" else (given.policy,),
        modelled=trace.modelled,
    )


def _tell(studies: Sequence[Study], scenes: StreamedScenes, *, simulated: bool, out: Path) -> None:
    world = "SIMULATED world" if simulated else "nuScenes"
    truth = "exact truth" if scenes.exact else "truth interpolated between keyframes"
    title = f"Streaming accuracy, {world}, {truth}, frames at {scenes.rate_hz:.0f} Hz"
    table = markdown(studies, title=title)
    print(table)
    out.mkdir(parents=True, exist_ok=True)
    content = to_dict(studies, scenes, simulated=simulated)
    (out / "streaming.json").write_text(json.dumps(content, indent=1) + "\n")
    (out / "streaming.md").write_text(table)
    draw(studies, out / "streaming.png", title=title)
    print(f"Written: streaming.json, streaming.md and streaming.png in {out}.")


def _file_name(checkpoint: str) -> str:
    """A name for files about a model: its own, and what tells it from another of that name elsewhere."""
    return f"{Path(checkpoint).stem.replace(':', '-')}-{short_hash(checkpoint)[:6]}"
