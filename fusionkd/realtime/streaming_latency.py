"""How long frames take, for streaming accuracy: from a trace file, or measured here."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from fusionkd.data import FrameRecord, NuScenesDataModule, NuScenesDataset
from fusionkd.errors import UserError
from fusionkd.models import Decoder, FusionModel
from fusionkd.realtime.trace import LatencyTrace

STAGES = ("preprocess/frame", "preprocess/views", "network/forward", "decode/boxes")
WARM_UP = 3
"""Frames before those that are reported: kernels are compiled, pages mapped, caches filled."""


def warm_busy_ns(trace: LatencyTrace, *, source: str) -> NDArray[np.int64]:
    """Work time of each frame of a trace but its cold ones, in order, (N,).

    Args:
        trace: Waiting of its own stream doesn't count: the replay makes new queues.
        source: Its name, for the message.

    Raises:
        UserError: If it has cold frames only.
    """
    busy_ns = trace.busy_ns[trace.cold :]
    if len(busy_ns) == 0:
        raise UserError(f"{source} has {trace.frames} frames, of which {trace.cold} are cold; none is left to replay.")
    return busy_ns


@dataclass(frozen=True)
class Candidate:
    """A model with what feeds it and what makes boxes of its maps.

    Attributes:
        model: In eval mode, on ``device``.
        data: Reads and prepares its frames.
        decoder: Turns maps into boxes.
        device: Where it runs.
    """

    model: FusionModel
    data: NuScenesDataModule
    decoder: Decoder
    device: torch.device


@torch.no_grad()
def measure_traces(
    candidates: Mapping[str, Candidate], records: Sequence[FrameRecord], *, frames: int
) -> dict[str, LatencyTrace]:
    """Time several models on the same frames in turns, one frame of each after the other.

    The whole way from sensor bytes to boxes counts: image decoding, fusing of sweeps, LiDAR views, copies, network,
    decoding. Files are read once beforehand, so that they come from memory.

    Args:
        candidates: The models by name.
        records: Frames, used over and over.
        frames: Frames to time of each, after a few that warm up and are marked as cold.

    Raises:
        UserError: If there is nothing to time or a frame can't be read.
    """
    if frames < 1 or not records:
        raise UserError(f"A measurement needs at least one frame; found {frames} wanted of {len(records)}.")
    datasets = {name: candidate.data.dataset([]) for name, candidate in candidates.items()}
    marks: dict[str, list[list[int]]] = {name: [] for name in candidates}
    names = list(candidates)
    for number in range(WARM_UP + frames):
        record = records[number % len(records)]
        # Who goes first changes, so that nobody always runs in another's warm caches.
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            _read_files(datasets[name], record)
            marks[name].append(_timed(candidates[name], datasets[name], record))
    return {
        name: _trace(np.array(found, dtype=np.int64), str(candidates[name].device)) for name, found in marks.items()
    }


def _timed(candidate: Candidate, dataset: NuScenesDataset, record: FrameRecord) -> list[int]:
    """Clock readings before and after each of the stages."""
    marks = [time.perf_counter_ns()]
    frame = dataset.load(record)
    marks.append(time.perf_counter_ns())
    batch = candidate.data.batch([frame])
    marks.append(time.perf_counter_ns())
    output = candidate.model(batch.to(candidate.device))
    if candidate.device.type == "cuda":
        torch.cuda.synchronize(candidate.device)
    marks.append(time.perf_counter_ns())
    candidate.decoder(output)
    marks.append(time.perf_counter_ns())
    return marks


def _read_files(dataset: NuScenesDataset, record: FrameRecord) -> None:
    index = dataset.index
    files = [index.sweeps.path(row) for row in index.sweeps.chain(record.sweep, dataset.num_sweeps)]
    files += [index.images.path(row) for row in record.images if row >= 0]
    for name in files:
        path = index.root / name
        if path.is_file():
            path.read_bytes()


def _trace(marks: NDArray[np.int64], device: str) -> LatencyTrace:
    """Trace of clock readings, (F, stages + 1)."""
    frames = len(marks)
    about = {
        "backend": "torch eager",
        "device": device,
        "threads": torch.get_num_threads(),
        "opencv_threads": cv2.getNumThreads(),
        "torch": torch.__version__,
    }
    return LatencyTrace(
        stages=STAGES,
        stage_ns=np.diff(marks, axis=1),
        arrival_ns=marks[:, 0].copy(),
        start_ns=marks[:, 0].copy(),
        finish_ns=marks[:, -1].copy(),
        arrival_index=np.arange(frames, dtype=np.int64),
        arrived=frames,
        cold=WARM_UP,
        about=about,
    )
