"""Memory for results that are as large from frame to frame, used again once nobody holds the result.

New memory of some megabytes costs more, page by page, than the values that are written into it.
"""

import sys
import threading
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

MOST_BYTES = 128 << 20
"""Kept per thread: about what a loader's worker holds of ten sweeps' points until it has joined a batch of four."""

_LINE = 64
"""Bytes of a line of the cache; results begin with one, so that rows whose size divides it lie in one line each."""

_FEWEST_BYTES = 1 << 18
"""Smaller blocks are quick to get."""


def _holders(kept: list[NDArray[np.uint8]], k: int) -> int:
    return sys.getrefcount(kept[k])


_NOBODY = _holders([np.empty(1, np.uint8)], 0)
"""What is counted of a block that only the list holds, in this version of Python."""


class _Blocks(threading.local):
    """Blocks of one thread, the one that was taken last at the end."""

    def __init__(self) -> None:
        self.kept: list[NDArray[np.uint8]] = []

    def take(self, size: int) -> NDArray[np.uint8]:
        """A block that nobody holds, of at least that size and not much more than twice as large."""
        for k in reversed(range(len(self.kept))):
            if size <= self.kept[k].nbytes <= 2 * size + _LINE and _holders(self.kept, k) == _NOBODY:
                return self._last(self.kept.pop(k))
        while self.kept and sum(block.nbytes for block in self.kept) + size > MOST_BYTES:
            self.kept.pop(0)
        return self._last(np.empty(size, np.uint8))

    def _last(self, block: NDArray[np.uint8]) -> NDArray[np.uint8]:
        self.kept.append(block)
        return block


_BLOCKS = _Blocks()


def recycled(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """``np.empty(shape, dtype)``, in the memory of an earlier result that nobody refers to any more.

    An array, a slice of it or a tensor made of it by ``torch.from_numpy`` keeps the memory from being used again.
    """
    kind = np.dtype(dtype)
    size = kind.itemsize * int(np.prod(shape, dtype=np.int64))
    if size < _FEWEST_BYTES:
        return np.empty(shape, kind)
    block = _BLOCKS.take(size + _LINE)
    start = -block.ctypes.data % _LINE
    return block[start : start + size].view(kind).reshape(shape)
