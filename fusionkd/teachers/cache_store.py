"""The folder of a teacher cache: who answered about what, and one file per frame.

    DIR/KEY/index.json                   teacher, data, what is held, the form of the answers
    DIR/KEY/frames/TOKEN-KIND.safetensors

KEY stands for all that the answers depend on. Files appear whole or not at all, and two processes that write the same
frame write the same bytes, so that any number of them, on any number of machines, can fill one folder.
"""

import json
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Literal

from safetensors import SafetensorError
from safetensors.numpy import load, save

from fusionkd.data.cache import short_hash, write_atomically
from fusionkd.errors import UserError
from fusionkd.teachers.cache_codec import Arrays
from fusionkd.teachers.cache_pack import Form, from_bytes, to_bytes

FORMAT = 1
"""Of the files; older ones are missed."""

Extent = Literal["boxes", "truth", "objects", "everywhere"]
"""Where on a map a term looks.

- boxes: closely, at corners, sides and centres of annotated boxes on labelled frames, of the teacher's best on others;
- truth: around annotated objects on labelled frames, wherever the teacher sees any on others;
- objects: at both on all frames;
- everywhere: at every cell.
"""

_SERVED_BY: Mapping[Extent, frozenset[Extent]] = {
    "boxes": frozenset({"boxes"}),
    "truth": frozenset({"truth", "objects", "everywhere"}),
    "objects": frozenset({"objects", "everywhere"}),
    "everywhere": frozenset({"everywhere"}),
}

_MARK = f"fusionkd-teacher-cache-{FORMAT}"
_LEFT_BEHIND_S = 3600.0
_RESCAN_SHARE = 0.01
_PLAIN_TOKEN = re.compile(r"[\w-]{1,80}")


class CacheFullError(Exception):
    """There is no room for another frame."""


@dataclass(frozen=True)
class Subject:
    """What answers depend on, as plain values.

    Attributes:
        teacher: Weights and configuration.
        data: What the teacher read.
        holds: By field of ``FusionOutput``, where it is kept.
    """

    teacher: Mapping[str, Any]
    data: Mapping[str, Any]
    holds: Mapping[str, Sequence[Extent]]

    def to_json(self) -> dict[str, Any]:
        """Plain values, with the format of the files."""
        plain = {"teacher": self.teacher, "data": self.data, "holds": self.holds}
        content: dict[str, Any] = json.loads(json.dumps(plain))
        return {"format": FORMAT, **content}

    @property
    def key(self) -> str:
        """Name of the folder."""
        return short_hash(json.dumps(self.to_json(), sort_keys=True))


@dataclass
class CacheRoom:
    """How much a cache may take on the disk.

    Nothing is ever thrown out for something new: a full cache says so. Processes that fill it at the same time count
    anew after each hundredth of the limit, so that they overstep it by no more than that each.

    Attributes:
        root: The cache's folder, with all that lies in it.
        max_gb: Limit in units of 10^9 bytes.
    """

    root: Path
    max_gb: float
    _used: int = field(default=0, init=False)
    _since: float = field(default=float("inf"), init=False)

    def take(self, size: int) -> None:
        """Count a file that is going to be written.

        Raises:
            CacheFullError: If it doesn't fit.
        """
        limit = self.max_gb * 1e9
        if self._since + size > _RESCAN_SHARE * limit:
            self._used, self._since = sum(map(_size, _files(self.root))), 0.0
        if self._used + size > limit:
            raise CacheFullError
        self._used += size
        self._since += size


@dataclass(frozen=True)
class CacheStore:
    """The answers about one subject.

    Attributes:
        folder: ``DIR/KEY``.
        form: What all answers have in common.
        holds: By field, where it is kept.
    """

    folder: Path
    form: Form
    holds: Mapping[str, Sequence[Extent]]

    @classmethod
    def find(cls, root: Path, subject: Subject) -> "CacheStore | None":
        """The store whose answers serve a subject: the same teacher and data, and all that is asked for or more.

        Raises:
            UserError: If an index can't be read.
        """
        wanted = subject.to_json()
        for path in _indices(root):
            content = read_index(path)
            if all(content[part] == wanted[part] for part in ("format", "teacher", "data")):
                holds = content["holds"]
                if all(serves(holds.get(name, ()), extents) for name, extents in wanted["holds"].items()):
                    return cls(path.parent, Form.from_json(content["form"]), holds)
        return None

    @classmethod
    def make(cls, root: Path, subject: Subject, form: Form) -> "CacheStore":
        """A new store; two processes that make the same one agree.

        Raises:
            UserError: If the folder can't be made.
        """
        folder = root / subject.key
        content = json.dumps({**subject.to_json(), "form": form.to_json()}, indent=1, sort_keys=True)
        try:
            (folder / "frames").mkdir(parents=True, exist_ok=True)
            _put(folder / "index.json", content.encode())
        except OSError as error:
            raise UserError(f"The teacher cache {root} can't be written: {error}. Give a folder that can.") from None
        return cls(folder, form, subject.holds)

    def path(self, token: str, *, labelled: bool) -> Path:
        """The file of a frame; annotations decide what is kept, so that frames with and without differ."""
        name = token if _PLAIN_TOKEN.fullmatch(token) else short_hash(token)
        return self.folder / "frames" / f"{name}-{'labelled' if labelled else 'unlabelled'}.safetensors"

    def names(self) -> set[str]:
        """Names of the files that are there."""
        return {file.name for file in (self.folder / "frames").iterdir() if not file.name.startswith(".")}

    def write(self, token: str, arrays: Arrays, *, labelled: bool, room: CacheRoom) -> int:
        """Keep a frame's arrays.

        Returns:
            Bytes of the file.

        Raises:
            CacheFullError: If there is no room.
        """
        content = save(to_bytes(arrays, note=self._note(token)), metadata={"format": _MARK})
        room.take(len(content))
        _put(self.path(token, labelled=labelled), content)
        return len(content)

    def read(self, token: str, *, labelled: bool) -> Arrays | None:
        """The arrays of a frame, None where there is no file.

        Raises:
            ValueError: If the file is damaged; the message names it.
        """
        path = self.path(token, labelled=labelled)
        try:
            return from_bytes(load(path.read_bytes()), note=self._note(token))
        except FileNotFoundError:
            return None
        except (SafetensorError, ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path} can't be read: {error}") from None

    def _note(self, token: str) -> dict[str, str]:
        return {"frame": token, "key": self.folder.name}


def read_index(path: Path) -> dict[str, Any]:
    """What an ``index.json`` says.

    Raises:
        UserError: If it can't be read.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content.keys() >= {"format", "teacher", "data", "holds", "form"}:
            return dict(content)
        reason = "parts are missing"
    except (OSError, ValueError, AttributeError) as error:
        reason = str(error)
    raise UserError(f"{path} is no index of a teacher cache: {reason}. Delete {path.parent}; its answers come anew.")


def serves(held: Iterable[Extent], wanted: Iterable[Extent]) -> bool:
    """Whether what is held of a field serves all that is wanted of it."""
    return all(_SERVED_BY[extent] & set(held) for extent in wanted)


def changes(root: Path, subject: Subject) -> str:
    """Why a cache holds nothing for a subject, in words.

    Args:
        root: The cache's folder.
        subject: For which no store was found.
    """
    wanted = _leaves(subject.to_json())
    others = [_leaves({k: v for k, v in read_index(path).items() if k != "form"}) for path in _indices(root)]
    if not others:
        return "it is empty"
    others = [other for other in others if other["teacher.name"] == wanted["teacher.name"]]
    if not others:
        return f"it has none of {wanted['teacher.name']}"
    differences = [
        [name for name in sorted(wanted.keys() | other.keys()) if wanted.get(name) != other.get(name)]
        for other in others
    ]
    nearest = min(range(len(others)), key=lambda number: len(differences[number]))
    said = [
        f"{name} was {_short(others[nearest].get(name))} and is {_short(wanted.get(name))}"
        for name in differences[nearest]
    ]
    return "; ".join(said)


def sweep(root: Path) -> None:
    """Remove unfinished files of processes that were killed: those without a change for an hour."""
    long_ago = time.time() - _LEFT_BEHIND_S
    for file in _files(root):
        with suppress(OSError):
            if file.name.startswith(".") and file.stat().st_mtime < long_ago:
                file.unlink()


def _put(path: Path, content: bytes) -> None:
    def write(stream: BinaryIO) -> None:
        stream.write(content)

    write_atomically(path, write)


def _indices(root: Path) -> list[Path]:
    return sorted(root.glob("*/index.json"))


def _size(file: Path) -> int:
    """Bytes of a file, 0 where another process has just finished or removed it."""
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0


def _files(root: Path) -> Iterator[Path]:
    return (file for file in root.rglob("*") if file.is_file())


def _leaves(content: Any, name: str = "") -> dict[str, Any]:
    if not isinstance(content, dict):
        return {name: content}
    found: dict[str, Any] = {}
    for key, value in content.items():
        found |= _leaves(value, f"{name}.{key}" if name else key)
    return found


def _short(value: Any) -> str:
    text = "absent" if value is None else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
