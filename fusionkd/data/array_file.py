"""Arrays in one file that is mapped into memory instead of read: opening it takes as long for a large data set.

Processes that open the same file share its pages. It must not change while it is mapped, so it is always replaced
whole. The layout: a line that names the format, the length of a JSON header (8 bytes, little-endian), the header, and
the arrays, each at a multiple of 64 bytes from the file's start.
"""

import json
import mmap
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from fusionkd.data.cache import write_atomically

_MAGIC = b"fusionkd arrays 1\n"
_ALIGNMENT = 64


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]], *, note: str) -> None:
    """Write arrays, atomically.

    Args:
        path: The file.
        arrays: Of numbers or fixed-width text, by name.
        note: Whatever says what they belong to.
    """
    parts = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    # The header's length depends on the offsets' digits, so they are counted from an end with room to spare.
    start = _aligned(len(_MAGIC) + 8 + len(_header(parts, note, 10**15)))
    header = _header(parts, note, start)

    def write(stream: BinaryIO) -> None:
        stream.write(_MAGIC + len(header).to_bytes(8, "little") + header)
        at = len(_MAGIC) + 8 + len(header)
        for part, offset in zip(parts.values(), _offsets(parts, start)):
            stream.write(bytes(offset - at) + part.tobytes())
            at = offset + part.nbytes
        stream.write(bytes(max(start - at, 0)))

    write_atomically(path, write)


def read_arrays(path: Path, *, note: str) -> dict[str, NDArray[Any]] | None:
    """The arrays of a file, read-only; None where there is none with this note or it is damaged."""
    try:
        with open(path, "rb") as stream:
            memory = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        start = len(_MAGIC) + 8
        length = int.from_bytes(memory[len(_MAGIC) : start], "little")
        if memory[: len(_MAGIC)] != _MAGIC or length > len(memory) - start:
            return None
        header = json.loads(memory[start : start + length])
        if header["note"] != note or header["size"] != len(memory):
            return None
        return {name: _array(memory, *where) for name, where in header["arrays"].items()}
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _array(memory: mmap.mmap, kind: str, shape: list[int], offset: int) -> NDArray[Any]:
    dtype = np.dtype(kind)
    if dtype.hasobject:
        raise ValueError(kind)
    return np.ndarray(shape, dtype, buffer=memory, offset=offset)


def _header(parts: Mapping[str, NDArray[Any]], note: str, start: int) -> bytes:
    offsets = _offsets(parts, start)
    where = {name: (part.dtype.str, part.shape, at) for (name, part), at in zip(parts.items(), offsets)}
    size = max((at + part.nbytes for part, at in zip(parts.values(), offsets)), default=start)
    return json.dumps({"note": note, "size": size, "arrays": where}).encode()


def _offsets(parts: Mapping[str, NDArray[Any]], start: int) -> list[int]:
    offsets = []
    for part in parts.values():
        offsets.append(start)
        start = _aligned(start + part.nbytes)
    return offsets


def _aligned(position: int) -> int:
    return -(-position // _ALIGNMENT) * _ALIGNMENT
