"""Keeping compiled kernels in step with their sources."""

import hashlib
from pathlib import Path


def forget_stale_kernels(folder: Path) -> None:
    """Delete a room's cached kernels if any of its sources changed since they were compiled.

    Numba compiles a kernel anew when its own file changes, but not when the file of another kernel that it calls does;
    a world written by half of an old and half of a new version would look right and be neither. Does nothing where the
    package's folder can't be written: Numba keeps its cache elsewhere then, and sources don't change in place.

    Args:
        folder: Of the room, such as ``fusionkd/simulation``.
    """
    cache = folder / "__pycache__"
    stamp = cache / "kernels.sha256"
    sources = b"".join(path.read_bytes() for path in sorted(folder.glob("*.py")))
    digest = hashlib.sha256(sources).hexdigest()
    try:
        if stamp.is_file() and stamp.read_text() == digest:
            return
        for path in (*cache.glob("*.nbi"), *cache.glob("*.nbc")):
            path.unlink(missing_ok=True)
        cache.mkdir(exist_ok=True)
        stamp.write_text(digest)
    except OSError:
        return
