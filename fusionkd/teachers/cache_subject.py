"""What a teacher's answers depend on, as plain values that a cache can compare."""

import hashlib
import json
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fusionkd import __version__
from fusionkd.data import NuScenesDataModule, NuScenesIndex
from fusionkd.data.datamodule import SIMULATED_MARK

_CHUNK = 1 << 20


def teacher_identity(checkpoint: str, path: Path) -> dict[str, Any]:
    """A teacher's weights and how it is built: one file holds both.

    Args:
        checkpoint: As the configuration names it; for people alone.
        path: The file.
    """
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return {"name": Path(checkpoint).name, "sha256": digest.hexdigest(), "fusionkd": __version__}


def data_identity(data: NuScenesDataModule) -> dict[str, Any]:
    """The data set and how a teacher's input is made of it.

    The tables are known by what they say, sensor files by their names: a sensor file that is replaced under its name
    isn't noticed.
    """
    mark = data.root / SIMULATED_MARK
    return {
        "version": data.version,
        "tables": tables_digest(data.index),
        "world": json.loads(mark.read_text(encoding="utf-8")) if mark.is_file() else None,
        "sweeps": data.num_sweeps,
        "image_size_px": list(data.image_size_px),
        "grid": asdict(data.grid),
        "lidar_views": {name: repr(view) for name, view in sorted(data.collator.views.items())},
        "min_box_points": data.min_box_points,
    }


def tables_digest(index: NuScenesIndex) -> str:
    """Stands for all that the tables say, wherever they lie."""
    digest = hashlib.sha256()
    for part in (index.scenes, index.samples, index.sweeps, index.images, index.calibrations, index.annotations):
        assert is_dataclass(part)
        for each in fields(part):
            array = np.asarray(getattr(part, each.name), order="C")
            digest.update(f"{each.name}{array.dtype.str}{array.shape}".encode())
            digest.update(array.data)
    return digest.hexdigest()
