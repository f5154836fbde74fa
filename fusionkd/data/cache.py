"""Where fusionkd keeps what it derives from a data set, and how files get there whole."""

import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO


def cache_folder(root: Path) -> Path:
    """A writable folder for files derived from the data at a root.

    It is ``.fusionkd`` beside the data; for read-only data ``$XDG_CACHE_HOME/fusionkd/HASH`` (by default
    ``~/.cache``), where the hash stands for the root's absolute path.
    """
    beside = root / ".fusionkd"
    try:
        if not beside.is_dir():
            beside.mkdir(exist_ok=True)
        if os.access(beside, os.W_OK):
            return beside
    except OSError:
        pass
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = home / "fusionkd" / hashlib.sha256(str(root.resolve()).encode()).hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def write_atomically(path: Path, write: Callable[[BinaryIO], None]) -> None:
    """Let a function write a file that appears whole or not at all.

    Several processes may do this at the same time; the last one wins, readers see one or the other.
    """
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            write(stream)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def write_text_atomically(path: Path, text: str) -> None:
    """Write a text file that appears whole or not at all."""

    def write(stream: BinaryIO) -> None:
        stream.write(text.encode())

    write_atomically(path, write)


def short_hash(*parts: object) -> str:
    """16 hexadecimal digits that change with any of the parts."""
    return hashlib.sha256("\n".join(str(part) for part in parts).encode()).hexdigest()[:16]
