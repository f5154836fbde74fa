"""Decoded, scaled images in one file, so that an epoch doesn't wait for the JPEG decoder."""

import os
import sys
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fusionkd.data.cache import cache_folder, short_hash
from fusionkd.data.index import NuScenesIndex


class ImageCache:
    """Images by their row in an index, filled as they are first read.

    The file is sparse and has one slot per image: a checksum, then the pixels. A slot that was
    never written, or only half (a killed process, a full disk), fails its checksum and counts as
    empty, so any number of processes may read and write without locks.

    Args:
        path: The file; created where it is missing.
        image_px: (height, width) of every image.
    """

    _CHECKSUM_BYTES = 4

    def __init__(self, path: Path, image_px: tuple[int, int]) -> None:
        self.path = path
        self.image_px = image_px
        self._pixels = image_px[0] * image_px[1] * 3
        self._descriptor: int | None = None
        self._writable = True

    @classmethod
    def beside(cls, index: NuScenesIndex, image_px: tuple[int, int]) -> "ImageCache":
        """The cache of an index at one image size; caches of older tables are deleted."""
        prefix = f"images-{index.version}-{image_px[0]}x{image_px[1]}-"
        path = cache_folder(index.root) / f"{prefix}{short_hash(index.fingerprint, image_px)}.bin"
        for old in path.parent.glob(f"{prefix}*.bin"):
            if old != path:
                old.unlink(missing_ok=True)
        return cls(path, image_px)

    @classmethod
    def size_gb(cls, images: int, image_px: tuple[int, int]) -> float:
        """Size of the file once it holds all images."""
        return images * (cls._CHECKSUM_BYTES + image_px[0] * image_px[1] * 3) / 1e9

    def get(self, row: int) -> NDArray[np.uint8] | None:
        """The image of a row, (height, width, 3) uint8, or None where it isn't held."""
        slot = self._CHECKSUM_BYTES + self._pixels
        data = os.pread(self._open(), slot, row * slot)
        if len(data) < slot or zlib.crc32(memoryview(data)[4:]) != int.from_bytes(data[:4], "little"):
            return None
        return np.frombuffer(data, np.uint8, offset=4).reshape(*self.image_px, 3)

    def put(self, row: int, image: NDArray[np.uint8]) -> None:
        """Hold the image of a row; where the disk is full, say so once and hold no more."""
        if not self._writable or image.shape != (*self.image_px, 3):
            return
        pixels = np.ascontiguousarray(image).tobytes()
        slot = self._CHECKSUM_BYTES + self._pixels
        try:
            os.pwrite(self._open(), zlib.crc32(pixels).to_bytes(4, "little") + pixels, row * slot)
        except OSError as error:
            self._writable = False
            print(f"The image cache {self.path} takes no more images: {error}.", file=sys.stderr, flush=True)

    def _open(self) -> int:
        # pread and pwrite carry their own position, so a descriptor may be shared with forked workers.
        if self._descriptor is None:
            self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        return self._descriptor

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_descriptor": None}

    def __del__(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
