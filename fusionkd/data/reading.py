"""Reading sensor files, with errors that name the file, what was found and what was expected."""

import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import overload

import numpy as np
from numpy.typing import NDArray

from fusionkd.errors import UserError
from fusionkd.preprocess.images import decode_jpeg
from fusionkd.preprocess.sweeps import look_at_sweep

COLUMNS = 5
"""Numbers per LiDAR point in a file: x, y, z in metres, intensity 0..255, ring."""

_EXPECTED_SWEEP = "expected float32 x, y, z, intensity, ring for each point (20 bytes)"


class _Memory(threading.local):
    """A block of each thread: new memory costs more, page by page, than the bytes that are read into it."""

    def __init__(self) -> None:
        self.block = np.empty(0, np.uint8)


_MEMORY = _Memory()


class SweepFiles(Sequence[NDArray[np.float32]]):
    """The sweeps of ``.pcd.bin`` files, each read when it is asked for.

    All are read into the same memory, one block per thread, so that the next sweep overwrites the one before: what is
    moved or laid down at once is still in the nearest cache.

    Args:
        paths: The files.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = list(paths)

    def __len__(self) -> int:
        return len(self.paths)

    @overload
    def __getitem__(self, sweep: int) -> NDArray[np.float32]: ...
    @overload
    def __getitem__(self, sweep: slice) -> "SweepFiles": ...
    def __getitem__(self, sweep: int | slice) -> "NDArray[np.float32] | SweepFiles":
        """The points of a file, (P, 5), until this thread asks for the next; of a slice, the files.

        Raises:
            UserError: As ``read_sweep``.
        """
        if isinstance(sweep, slice):
            return SweepFiles(self.paths[sweep])
        points = read_sweep(self.paths[sweep], memory=_MEMORY.block)
        if points.nbytes > len(_MEMORY.block):
            _MEMORY.block = points.reshape(-1).view(np.uint8)
        return points


def read_sweep(path: Path, *, memory: NDArray[np.uint8] | None = None) -> NDArray[np.float32]:
    """Points of a ``.pcd.bin`` file in the sensor's frame.

    Args:
        path: File of float32 values x, y, z (m), intensity (0..255), ring.
        memory: Bytes to read into where the file fits, instead of new memory.

    Returns:
        (P, 5) float32, in the file's order.

    Raises:
        UserError: If the file is missing, empty, truncated, has other columns, or holds NaN or infinity.
    """
    try:
        with open(path, "rb", buffering=0) as stream:
            size = os.fstat(stream.fileno()).st_size
            fits = memory is not None and len(memory) >= size
            values = memory[:size] if memory is not None and fits else np.empty(size, np.uint8)
            values = values[: stream.readinto(values.data)]
    except FileNotFoundError:
        raise UserError(f"LiDAR file {path} is missing. {_MISSING_FILE}") from None
    except OSError as error:
        raise UserError(f"LiDAR file {path} can't be read: {error}.") from None
    if len(values) == 0 or len(values) % (4 * COLUMNS):
        whole, rest = divmod(len(values), 4 * COLUMNS)
        raise UserError(
            f"LiDAR file {path} has {len(values)} bytes, {whole} points and {rest} bytes more; {_EXPECTED_SWEEP}. "
            f"The file is truncated, or has another number of columns."
        )
    points = values.view(np.float32).reshape(-1, COLUMNS)
    all_finite, all_rings = look_at_sweep(points)
    if not all_finite:
        bad = int(np.sum(~np.isfinite(points).all(axis=1)))
        raise UserError(
            f"LiDAR file {path} holds NaN or infinity in {bad} of {len(points)} points; {_EXPECTED_SWEEP}, all finite."
        )
    if not all_rings:
        raise UserError(
            f"LiDAR file {path} has values like {_not_a_ring(points[:, 4]):.4g} in its fifth column, which is no ring "
            f"number; {_EXPECTED_SWEEP}. Does the file have other columns?"
        )
    return points


def read_image(path: Path, *, stored_px: tuple[int, int], base_px: tuple[int, int]) -> NDArray[np.uint8]:
    """The image of a file, scaled down by ``decode_jpeg``.

    Args:
        path: The image file.
        stored_px: (height, width) that the tables promise.
        base_px: (height, width) to scale to.

    Returns:
        (height, width, 3) uint8 RGB.

    Raises:
        UserError: If the file is missing, cut off, no JPEG, or of another size than promised.
    """
    try:
        data = np.fromfile(path, dtype=np.uint8)
    except FileNotFoundError:
        raise UserError(f"Camera file {path} is missing. {_MISSING_FILE}") from None
    except OSError as error:
        raise UserError(f"Camera file {path} can't be read: {error}.") from None
    return decode_jpeg(data, stored_px=stored_px, base_px=base_px, name=f"Camera file {path}")


_MISSING_FILE = (
    "The tables name it, so it was not downloaded, not unpacked or deleted. Check the root, "
    "or use on_bad_frame: skip to go on without such frames."
)


def _not_a_ring(ring: NDArray[np.float32]) -> float:
    bad = (ring < 0) | (ring > 255) | (ring != np.trunc(ring))
    return float(ring[int(np.argmax(bad))])
