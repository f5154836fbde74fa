"""A model's boxes on the frames of a stream, each computed once and kept."""

import hashlib
import io
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track

from fusionkd.data import FrameRecord, NuScenesDataModule
from fusionkd.data.cache import short_hash, write_atomically
from fusionkd.metrics.detections import BOX_RECORD, Detections, global_records
from fusionkd.models import Decoder, FusionModel

KEEP_EVERY = 200
"""Frames after which the file is written, so that an interrupted run goes on where it was."""


class KeptBoxes:
    """Boxes by frame in the global frame, in a file.

    Args:
        path: An ``.npz`` file; what another model or other data left there is ignored and then replaced.
        key: Stands for the model, the data and how boxes are decoded.
    """

    def __init__(self, path: Path, key: str) -> None:
        self._path = path
        self._key = key
        self._boxes: dict[str, NDArray[np.void]] = dict(_read(path, key))

    def missing(self, tokens: Iterable[str]) -> list[str]:
        """Those of some frames that have no boxes yet."""
        return [token for token in tokens if token not in self._boxes]

    def add(self, token: str, records: NDArray[np.void]) -> None:
        """Hold the boxes of a frame, rows of ``BOX_RECORD``."""
        self._boxes[token] = records

    def detections(self, tokens: Sequence[str]) -> Detections:
        """The boxes of frames that are all held."""
        records = [self._boxes[token] for token in tokens]
        start = np.cumsum([0, *map(len, records)])
        return Detections.from_records(tokens, start, np.concatenate([np.empty(0, BOX_RECORD), *records]))

    def save(self) -> None:
        """Write the file."""
        tokens = list(self._boxes)
        start = np.cumsum([0, *(len(self._boxes[token]) for token in tokens)])
        boxes = np.concatenate([np.empty(0, BOX_RECORD), *self._boxes.values()])

        def write(stream: BinaryIO) -> None:
            buffer = io.BytesIO()
            np.savez_compressed(
                buffer, key=np.array(self._key), tokens=np.array(tokens, dtype=np.str_), start=start, boxes=boxes
            )
            stream.write(buffer.getvalue())

        self._path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self._path, write)


@torch.no_grad()
def predict(
    model: FusionModel,
    data: NuScenesDataModule,
    records: Sequence[FrameRecord],
    *,
    kept: KeptBoxes,
    decoder: Decoder,
    device: torch.device,
) -> Detections:
    """Boxes of some frames: kept ones, and for the others the model is run, one frame at a time as in a vehicle.

    Args:
        model: The model; it is moved to the device.
        data: Reads and prepares the frames.
        records: The frames.
        kept: Where boxes are looked up and kept.
        decoder: Turns maps into boxes.
        device: Where to run.
    """
    missing = set(kept.missing(record.token for record in records))
    todo = [record for record in records if record.token in missing]
    dataset = data.dataset(todo)
    model = model.to(device).eval()
    for item in track(range(len(todo)), description="frames", disable=not todo, transient=True):
        frame = dataset[item]
        boxes = decoder(model(data.batch([frame]).to(device)))[0]
        kept.add(frame.token, global_records(boxes, frame.global_from_ego))
        if (item + 1) % KEEP_EVERY == 0:
            kept.save()
    if todo:
        kept.save()
    return kept.detections([record.token for record in records])


def key_of(model: FusionModel, data: NuScenesDataModule, decoder: Decoder) -> str:
    """Changes with the weights, the tables, what the model is given of them and how boxes are decoded."""
    weights = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        weights.update(name.encode())
        weights.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    dataset = data.dataset([])
    read = (dataset.image_size_px, dataset.num_sweeps, data.collator)
    decoded = (decoder.selection, decoder.candidates, decoder.peaks)
    return short_hash(weights.hexdigest(), data.index.fingerprint, read, decoded, model.spec)


def _read(path: Path, key: str) -> Iterable[tuple[str, NDArray[np.void]]]:
    try:
        with np.load(path, allow_pickle=False) as file:
            found: dict[str, NDArray[Any]] = {name: file[name] for name in ("key", "tokens", "start", "boxes")}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return ()
    if str(found["key"]) != key or found["boxes"].dtype != BOX_RECORD:
        return ()
    return zip(found["tokens"].tolist(), np.split(found["boxes"], found["start"][1:-1]))
