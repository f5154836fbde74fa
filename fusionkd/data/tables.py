"""The JSON tables of a nuScenes version, read column by column with errors that name the record."""

import gc
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, repeat
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from fusionkd.errors import UserError

TABLES: tuple[str, ...] = (
    "category",
    "attribute",
    "visibility",
    "instance",
    "sensor",
    "calibrated_sensor",
    "ego_pose",
    "log",
    "scene",
    "sample",
    "sample_data",
    "sample_annotation",
)
"""The tables that an index is built from, ``NAME.json`` in the folder of the version."""

DOWNLOAD_HINT = (
    "nuScenes can be downloaded from https://www.nuscenes.org/nuscenes#download after registration (the mini split "
    "is enough to start). Unpacked, the root must hold the folders samples/, sweeps/ and {version}/ (the JSON tables)."
)
"""Where the data comes from and how it must lie; formatted with the version's name."""


def version_folder(root: Path, version: str) -> Path:
    """The folder of a version's tables.

    Raises:
        UserError: If the root or the version isn't there; the message lists the versions that are.
    """
    folder = root / version
    if not folder.is_dir():
        hint = DOWNLOAD_HINT.format(version=version)
        if not root.is_dir():
            raise UserError(f"No nuScenes at {root.resolve()}: there is no such folder. {hint}")
        present = sorted(path.parent.name for path in root.glob("*/sample_data.json"))
        found = f"found only {', '.join(present)}" if present else "found no folder with tables"
        raise UserError(f"No nuScenes version {version!r} at {root.resolve()}: {found}. {hint}")
    return folder


def fingerprint(folder: Path) -> str:
    """Names, sizes and modification times of a version's tables, as one string.

    Raises:
        UserError: If a table is missing.
    """
    parts = []
    for name in TABLES:
        try:
            stat = os.stat(f"{folder}{os.sep}{name}.json")
        except FileNotFoundError:
            raise UserError(
                f"Table {folder / name}.json is missing. A nuScenes version needs all of: "
                f"{', '.join(f'{t}.json' for t in TABLES)}."
            ) from None
        parts.append(f"{name}:{stat.st_size}:{stat.st_mtime_ns}")
    return ";".join(parts)


class Table:
    """The records of one JSON table, handed out as columns.

    Args:
        path: The table's file: a JSON list of objects.

    Raises:
        UserError: If the file isn't valid JSON or isn't a list.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        records = _read_json(path)
        if not isinstance(records, list):
            raise UserError(f"Table {path} must hold a JSON list of records, found a {type(records).__name__}.")
        self._length = len(records)
        self._records: list[dict[str, Any]] = records
        self._columns: dict[str, list[Any]] = {}
        self._part_into_columns()

    def _part_into_columns(self) -> None:
        """All columns at once, each record being looked at once; the records are let go if all are alike."""
        first = self._records[0] if self._records else None
        if not isinstance(first, dict) or len(first) < 2:
            return
        try:
            values = zip(*map(itemgetter(*first), self._records))
            self._columns = dict(zip(first, map(list, values)))
        except (KeyError, TypeError):
            return  # a column that is asked for tells which record lacks it
        self._records = []

    def __len__(self) -> int:
        return self._length

    def column(self, key: str) -> list[Any]:
        """The values of one key, in the table's order.

        Raises:
            UserError: If a record lacks the key.
        """
        if key not in self._columns:
            try:
                if self._length and not self._records:
                    raise KeyError(key)
                self._columns[key] = [record[key] for record in self._records]
            except (KeyError, TypeError):
                lacks = (i for i, r in enumerate(self._records) if not isinstance(r, dict) or key not in r)
                raise UserError(
                    f"Record {next(lacks, 0)} of table {self.path} has no key {key!r}; every record needs it."
                ) from None
        return self._columns[key]

    def numbers(self, key: str, *shape: int) -> NDArray[np.float64]:
        """A column of finite numbers, (records, *shape) float64.

        Raises:
            UserError: If a value isn't finite or has another shape.
        """
        values = self.column(key)
        try:
            array = _as_floats(values, shape)
        except (ValueError, TypeError):
            array = np.full((1, *shape), np.nan)
        if not np.all(np.isfinite(array)):
            number = next((i for i, value in enumerate(values) if not _is_finite(value, shape)), 0)
            wanted = f"{shape[0]} finite numbers" if shape else "a finite number"
            raise UserError(
                f"Record {number} of table {self.path} has {key}={values[number]!r}; expected {wanted}."
            ) from None
        return array

    def strings(self, key: str) -> NDArray[np.bytes_]:
        """A column of text as fixed-width UTF-8 bytes (compact, and saved without pickle)."""
        return as_bytes(self.column(key))

    def rows_by_token(self) -> dict[str, int]:
        """Row of each token."""
        return dict(zip(self.column("token"), range(len(self))))

    def links(self, key: str, rows: dict[str, int], *, to: str, optional: bool = False) -> NDArray[np.int64]:
        """A column of tokens as rows of the table that they point to.

        Args:
            key: Name of the column.
            rows: Row of each token in the other table.
            to: The other table's name, for the message.
            optional: Whether an empty token is allowed; it becomes -1.

        Raises:
            UserError: If a token isn't in the other table.
        """
        return self.rows_of(key, self.column(key), rows, to=to, optional=optional)

    def rows_of(
        self, key: str, tokens: Sequence[str], rows: dict[str, int], *, to: str, optional: bool = False
    ) -> NDArray[np.int64]:
        """Like ``links`` for tokens that were taken out of this table by other means."""
        found = np.fromiter(map(rows.get, tokens, repeat(-1)), dtype=np.int64, count=len(tokens))
        for number in np.flatnonzero(found < 0):
            if not (optional and tokens[number] == ""):
                raise UserError(
                    f"Record {number} of table {self.path} has {key}={tokens[number]!r}, which is no token of "
                    f"{to}.json. The tables don't belong together, or one of them is incomplete."
                )
        return found


def as_bytes(values: Iterable[str]) -> NDArray[np.bytes_]:
    """Text as an array of fixed-width UTF-8 bytes."""
    return np.array([value.encode() for value in values], dtype=np.bytes_)


def as_text(values: NDArray[np.bytes_]) -> tuple[str, ...]:
    """The text of an array that ``as_bytes`` made."""
    return tuple(value.decode() for value in values.tolist())


def _read_json(path: Path) -> Any:
    try:
        content = path.read_bytes()
        try:
            return orjson.loads(content)
        except ValueError:
            # Python also writes and reads NaN, which isn't JSON; the checks to come name the record that holds it.
            return json.loads(content)
    except (ValueError, OSError) as error:
        raise UserError(f"Table {path} can't be read as JSON: {error}. Was its download or copy cut off?") from None


def _as_floats(values: list[Any], shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Numbers, or lists of as many numbers; an exception or NaN where they are something else."""
    if shape and set(map(type, values)) <= {list} and set(map(len, values)) <= {shape[0]}:
        return np.fromiter(chain.from_iterable(values), np.float64, len(values) * shape[0]).reshape(-1, *shape)
    return np.asarray(values, dtype=np.float64).reshape(len(values), *shape)


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    """For code that makes millions of dictionaries: they set the collector off again and again, in vain."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


def _is_finite(value: Any, shape: tuple[int, ...]) -> bool:
    try:
        array = np.asarray(value, dtype=np.float64)
    except (ValueError, TypeError):
        return False
    return array.shape == shape and bool(np.all(np.isfinite(array)))
