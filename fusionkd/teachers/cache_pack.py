"""One teacher's answer about one frame, as the cache keeps it."""

import bz2
import json
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fusionkd.geometry import BevGrid
from fusionkd.models.values import FusionOutput
from fusionkd.teachers.cache_codec import Arrays, decode_heatmap, encode_features, encode_heatmap, encode_mask, shorten

FEATURES = ("bev", "camera_bev", "lidar_bev")
"""Fields of features; each is kept where a term reads it."""

LEVELS = {"fine": 511, "coarse": 63}
"""Steps of features. Of cosines between them the sign of a difference matters, which asks for more."""

_COMPRESSION = 9
_CODE = "heatmap.code"


@dataclass(frozen=True)
class Form:
    """What all answers of a teacher have in common.

    Attributes:
        grid: Of its maps.
        classes: In the order of the heatmap's channels.
        task_of_class: Task of each class.
        frame: Name of the coordinate frame.
        channels: Channels of those fields of features that it has.
        heading_axis: Whether it has a branch for the heading's axis.
    """

    grid: BevGrid
    classes: tuple[str, ...]
    task_of_class: tuple[int, ...]
    frame: str
    channels: Mapping[str, int]
    heading_axis: bool

    @classmethod
    def of(cls, output: FusionOutput) -> "Form":
        """The form of an answer."""
        present = {name: getattr(output, name) for name in FEATURES if getattr(output, name) is not None}
        channels = {name: int(maps.shape[1]) for name, maps in present.items()}
        axis = output.heading_axis is not None
        return cls(output.grid, output.classes, output.task_of_class, output.frame, channels, axis)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Form":
        """What ``to_json`` wrote."""
        tuples = {name: tuple(content[name]) for name in ("classes", "task_of_class")}
        return cls(**{**content, **tuples, "grid": BevGrid(**content["grid"])})

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "channels": dict(self.channels)}

    @property
    def tasks(self) -> int:
        """Number of regressions."""
        return max(self.task_of_class) + 1

    def dense_bytes(self, fields: Mapping[str, Any]) -> int:
        """Bytes of some fields of one frame, whole and in half precision."""
        boxes = self.tasks * (10 + 2 * self.heading_axis)
        channels = {"heatmap": len(self.classes), "box_regression": boxes, **self.channels}
        return 2 * self.grid.rows * self.grid.columns * sum(channels[name] for name in fields)


def readable(output: FusionOutput) -> tuple[FusionOutput, Arrays]:
    """An answer with the heatmap that a reader of the cache will see, and that heatmap as it is kept.

    Args:
        output: The answer about one frame.
    """
    heatmap = encode_heatmap(output.heatmap[0].float().cpu().numpy())
    seen = torch.from_numpy(decode_heatmap(heatmap))[None]
    return replace(output, heatmap=seen.to(output.heatmap.device)), heatmap


def pack(
    output: FusionOutput,
    heatmap: Arrays,
    *,
    places: NDArray[np.bool_],
    cells: Mapping[str, Mapping[str, NDArray[np.bool_]]],
) -> Arrays:
    """What is kept of an answer.

    Args:
        output: The answer about one frame.
        heatmap: Its heatmap as ``readable`` gives it.
        places: (tasks, rows, columns), where a box is kept.
        cells: By field of features and name of ``LEVELS``, the cells (rows, columns) that are kept so.
    """
    flat = np.flatnonzero(places)
    arrays: Arrays = {f"heatmap.{name}": array for name, array in heatmap.items()}
    arrays["boxes.place"] = np.diff(flat, prepend=0).astype(np.int32)
    arrays["boxes.values"] = shorten(_at(output.box_regression[0], flat))
    if output.heading_axis is not None:
        arrays["boxes.axis"] = shorten(_at(output.heading_axis[0], flat))
    for name, masks in cells.items():
        maps = getattr(output, name)[0].float().cpu().numpy()
        for kind, mask in masks.items():
            coded = encode_features(maps[:, mask], levels=LEVELS[kind])
            arrays[f"{name}.{kind}.cells"] = encode_mask(mask)
            arrays |= {f"{name}.{kind}.{part}": array for part, array in coded.items()}
    return arrays


def to_bytes(arrays: Mapping[str, NDArray[Any]], *, note: Mapping[str, str]) -> Arrays:
    """Arrays of bytes, compressed.

    bzip2 makes the heatmap a fifth smaller than deflate does; of the rest deflate is read several times as fast.

    Args:
        arrays: Of ``pack``.
        note: What they belong to.

    Returns:
        ``code``, the heatmap's codes, and ``rest``: a line of JSON that says what the other arrays are, and those in
        a row.
    """
    parts = {name: np.ascontiguousarray(array) for name, array in arrays.items() if name != _CODE}
    layout = {name: [part.dtype.str, list(part.shape)] for name, part in parts.items()}
    head = json.dumps({"note": dict(note), "code": list(arrays[_CODE].shape), "arrays": layout}, separators=(",", ":"))
    rest = head.encode() + b"\n" + b"".join(_planes(part).tobytes() for part in parts.values())
    packed = {"code": bz2.compress(arrays[_CODE].tobytes(), _COMPRESSION), "rest": zlib.compress(rest, _COMPRESSION)}
    return {name: np.frombuffer(content, np.uint8) for name, content in packed.items()}


def from_bytes(content: Mapping[str, NDArray[Any]], *, note: Mapping[str, str]) -> Arrays:
    """What ``to_bytes`` wrote.

    Raises:
        ValueError: If it is damaged, or noted down for something else; the message says which.
    """
    try:
        code, plain = bz2.decompress(content["code"].tobytes()), zlib.decompress(content["rest"].tobytes())
    except (zlib.error, OSError) as error:
        raise ValueError(f"its data is damaged ({error})") from None
    end = plain.index(b"\n")
    head = json.loads(plain[:end])
    if head["note"] != dict(note):
        raise ValueError(f"it belongs to {head['note']} instead of {dict(note)}")
    arrays: Arrays = {_CODE: np.frombuffer(code, np.uint8).reshape(head["code"])}
    at = end + 1
    for name, (kind, shape) in head["arrays"].items():
        size = int(np.prod(shape, dtype=np.int64)) * np.dtype(kind).itemsize
        bytes_of = np.frombuffer(plain, np.uint8, count=size, offset=at).reshape(np.dtype(kind).itemsize, -1)
        arrays[name] = np.ascontiguousarray(bytes_of.T).view(kind).reshape(shape)
        at += size
    return arrays


def _planes(array: NDArray[Any]) -> NDArray[np.uint8]:
    """All first bytes, then all second ones: like stands beside like, which compresses better."""
    return np.ascontiguousarray(array.reshape(-1, 1).view(np.uint8).T)


def _at(maps: torch.Tensor, flat: NDArray[np.int64]) -> NDArray[np.float32]:
    """Values (channels, places) of (tasks, channels, rows, columns) at flat indices of (tasks, rows, columns)."""
    tasks, channels, rows, columns = maps.shape
    values = maps.float().cpu().numpy().reshape(tasks, channels, rows * columns)
    task, cell = np.divmod(flat, rows * columns)
    return np.asarray(values[task, :, cell].T)
