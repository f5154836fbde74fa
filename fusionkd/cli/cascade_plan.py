"""What a cascade's file says: stages, each a training whose teachers may be the students of earlier ones."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from fusionkd.errors import UserError

PREFIX = "stage:"
"""``stage:NAME`` in a stage's overrides stands for the student of an earlier stage."""

_KEYS = ("folder", "stages", "ensemble")
_STAGE_KEYS = ("configs", "overrides")


@dataclass(frozen=True)
class Stage:
    """One training.

    Attributes:
        name: Of its folder and its row.
        configs: Files of tools/train.py, each overlaying the ones before.
        overrides: What overlays them, as in such a file.
    """

    name: str
    configs: tuple[Path, ...]
    overrides: dict[str, Any]

    def before(self) -> list[str]:
        """Names of the stages whose students it uses."""
        return sorted({text.removeprefix(PREFIX) for text in _strings(self.overrides) if text.startswith(PREFIX)})

    def resolved(self, students: Mapping[str, str]) -> dict[str, Any]:
        """The overrides with something in place of earlier stages.

        Args:
            students: By stage, what to write instead.
        """
        replaced: dict[str, Any] = _replace(
            self.overrides, {f"{PREFIX}{name}": text for name, text in students.items()}
        )
        return replaced


@dataclass(frozen=True)
class Plan:
    """A cascade.

    Attributes:
        folder: Each stage has a folder in it.
        stages: In their order.
        ensemble: Stages whose students are also judged together; empty for none.
        options: Given to every stage's training after its files.
    """

    folder: Path
    stages: tuple[Stage, ...]
    ensemble: tuple[str, ...] = ()
    options: tuple[str, ...] = ()

    def home(self, name: str) -> Path:
        """Folder of a stage."""
        return self.folder / name

    def student(self, name: str) -> Path:
        """Checkpoint that a stage leaves."""
        return self.home(name) / "student.ckpt"

    def settings(self, stage: Stage, students: Mapping[str, str]) -> dict[str, Any]:
        """All that decides what a stage becomes, as plain values.

        Args:
            stage: Which.
            students: By earlier stage, a digest of its student's weights.
        """
        used = {name: f"{PREFIX}{name} ({students[name]})" for name in stage.before()}
        return {
            "configs": [read_yaml(path) for path in stage.configs],
            "overrides": stage.resolved(used),
            "options": list(self.options),
        }


def read_plan(path: Path, *, folder: Path | None = None, options: Sequence[str] = ()) -> Plan:
    """A cascade's file.

    Args:
        path: The file.
        folder: Instead of the file's own.
        options: For every stage's training.

    Raises:
        UserError: If it can't be read, or something in it is missing, unknown or out of order.
    """
    content = read_yaml(path)
    _known(content, _KEYS, where=f"{path}")
    entries = content.get("stages")
    if not isinstance(entries, dict) or not entries:
        raise UserError(f"{path} names no stages. A cascade has 'stages', each with 'configs' and 'overrides'.")
    if folder is None and not isinstance(content.get("folder"), str):
        raise UserError(f"{path} doesn't say where its stages go: give it a 'folder', such as runs/{path.stem}.")
    stages = tuple(_stage(name, entry, path=path) for name, entry in entries.items())
    for number, stage in enumerate(stages):
        earlier = [other.name for other in stages[:number]]
        for name in stage.before():
            if name not in earlier:
                known = ", ".join(earlier) or "none"
                raise UserError(
                    f"{path}: stage '{stage.name}' uses '{PREFIX}{name}', which is no earlier stage; those are: "
                    f"{known}."
                )
    ensemble = tuple(str(name) for name in content.get("ensemble") or ())
    unknown = [name for name in ensemble if name not in entries]
    if unknown or len(ensemble) == 1:
        raise UserError(
            f"{path}: 'ensemble' names at least two of the stages {', '.join(entries)}, found {', '.join(ensemble)}."
        )
    return Plan(folder or Path(content["folder"]), stages, ensemble, tuple(options))


def read_yaml(path: Path) -> dict[str, Any]:
    """A file of keys and values.

    Raises:
        UserError: If there is none, or it holds something else.
    """
    if not path.is_file():
        raise UserError(f"There is no configuration {path}.")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise UserError(f"{path} is no YAML: {error}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} holds a {type(content).__name__} instead of keys and values.")
    return content


def flat(value: Any, path: str = "") -> dict[str, Any]:
    """Nested settings as one level of dotted keys."""
    if isinstance(value, list):
        value = {str(number): item for number, item in enumerate(value)}
    if not isinstance(value, dict) or not value:
        return {path: value}
    leaves: dict[str, Any] = {}
    for key, item in value.items():
        leaves |= flat(item, f"{path}.{key}" if path else str(key))
    return leaves


def _stage(name: Any, entry: Any, *, path: Path) -> Stage:
    if not isinstance(name, str) or not re.fullmatch(r"[\w-]+", name):
        raise UserError(
            f"{path}: a stage's name is made of letters, digits, _ and -, because its folder has it: {name!r}."
        )
    if not isinstance(entry, dict) or not isinstance(entry.get("configs"), list) or not entry["configs"]:
        raise UserError(f"{path}: stage '{name}' needs 'configs', a list of files of tools/train.py.")
    _known(entry, _STAGE_KEYS, where=f"{path}: stage '{name}'")
    configs = tuple(Path(str(config)) for config in entry["configs"])
    for config in configs:
        if not config.is_file():
            raise UserError(f"{path}: stage '{name}' names the configuration {config}, and there is no such file.")
    return Stage(name, configs, entry.get("overrides") or {})


def _known(content: Mapping[str, Any], keys: Sequence[str], *, where: str) -> None:
    strange = [str(key) for key in content if key not in keys]
    if strange:
        raise UserError(f"{where} has the unknown key {', '.join(strange)}; there are {', '.join(keys)}.")


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _strings(item)


def _replace(value: Any, texts: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _replace(item, texts) for key, item in value.items()}
    if isinstance(value, list):
        return [_replace(item, texts) for item in value]
    return texts.get(value, value) if isinstance(value, str) else value
