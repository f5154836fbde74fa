"""The deadline contract: what is promised, as a small YAML file under version control."""

import difflib
import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

from fusionkd.errors import UserError

SCENARIOS = ("single_stream", "constant_stream")
OVERRUNS = ("skip", "run_on")
ACCURACIES = ("nds", "map")
"""Figures that may have a floor, from 0 to 1; case doesn't matter."""


@dataclass(frozen=True)
class WeaklyHard:
    """At most ``misses`` frames miss their deadline in any ``window`` consecutive frames."""

    misses: int
    window: int

    def __post_init__(self) -> None:
        _check_count("weakly_hard.misses", self.misses, least=0)
        _check_count("weakly_hard.window", self.window, least=1)
        if self.misses >= self.window:
            raise UserError(
                f"weakly_hard allows {self.misses} misses in {self.window} frames, which forbids nothing: misses must "
                f"be fewer than the window's frames."
            )


@dataclass(frozen=True)
class DeadlineContract:
    """What a detector on a device promises. ``docs/deadline_verdict.md`` tells what each entry means.

    Attributes:
        deadline_ms: From a frame's arrival to its boxes.
        percentile: Share of frames, in %, that come by then.
        confidence: Of the verdict.
        weakly_hard: Limit of misses in a window, or None.
        stages_ms: Budgets of stages, of the same percentile.
        memory_mib: Most memory, or None.
        energy_mj_per_frame: Most energy, or None.
        accuracy: Least figures, such as ``{"nds": 0.3}``.
        scenario: ``single_stream`` or ``constant_stream``.
        rate_hz: Of a constant stream.
        overrun: Of a constant stream: ``skip`` (the newest frame wins, the default) or ``run_on`` (frames queue).
    """

    deadline_ms: float
    percentile: float = 99.9
    confidence: float = 0.95
    weakly_hard: WeaklyHard | None = None
    stages_ms: Mapping[str, float] = field(default_factory=dict)
    memory_mib: float | None = None
    energy_mj_per_frame: float | None = None
    accuracy: Mapping[str, float] = field(default_factory=dict)
    scenario: str = "single_stream"
    rate_hz: float | None = None
    overrun: str | None = None

    def __post_init__(self) -> None:
        _check_budget("deadline_ms", self.deadline_ms)
        _check_between("percentile", self.percentile, 0, 100)
        _check_between("confidence", self.confidence, 0.5, 1)
        for stage, budget in self.stages_ms.items():
            _check_budget(f"stages_ms.{stage}", budget)
        for name in ("memory_mib", "energy_mj_per_frame", "rate_hz"):
            if getattr(self, name) is not None:
                _check_budget(name, getattr(self, name))
        for name, floor in self.accuracy.items():
            _check_known(f"accuracy.{name}", name.lower(), ACCURACIES)
            _check_between(f"accuracy.{name}", floor, 0, 1)
        _check_known("scenario", self.scenario, SCENARIOS)
        self._check_stream()

    def _check_stream(self) -> None:
        constant = self.scenario == "constant_stream"
        if constant and self.rate_hz is None:
            raise UserError("rate_hz is missing: a constant_stream needs the rate of its sensor, such as rate_hz: 20.")
        for name in ("rate_hz", "overrun"):
            if not constant and getattr(self, name) is not None:
                raise UserError(f"{name} has no meaning in a single_stream: remove it, or ask for a constant_stream.")
        if self.overrun is not None:
            _check_known("overrun", self.overrun, OVERRUNS)
        if constant and self.overrun is None:
            object.__setattr__(self, "overrun", "skip")


def read_contract(path: str | Path) -> DeadlineContract:
    """Read a contract.

    Raises:
        UserError: If the file is missing, no YAML, or holds an unknown, doubled or impossible entry; the message names
            the file and the entry.
    """
    try:
        content = yaml.load(Path(path).read_text(encoding="utf-8"), Loader=_StrictLoader)
    except FileNotFoundError:
        raise UserError(f"There is no contract {path}; examples are in configs/deadlines.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"The contract {path} can't be read: {error}.") from None
    except yaml.YAMLError as error:
        raise UserError(f"The contract {path} is no YAML: {' '.join(str(error).split())}.") from None
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    if not isinstance(content, dict):
        raise UserError(f"The contract {path} must hold entries such as 'deadline_ms: 50', found {_found(content)}.")
    try:
        return _contract(content)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


class _StrictLoader(yaml.SafeLoader):
    """A key that stands twice is a mistake, not a choice of the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, Hashable) and key in seen:
                raise UserError(f"{key} stands twice; remove one.")
            seen.add(key if isinstance(key, Hashable) else None)
        return super().construct_mapping(node, deep)


def _contract(content: dict[Any, Any]) -> DeadlineContract:
    _check_keys("", content, tuple(f.name for f in fields(DeadlineContract)))
    if "deadline_ms" not in content:
        raise UserError("deadline_ms is missing: the contract promises nothing without it, such as deadline_ms: 50.")
    given = dict(content)
    for name in ("stages_ms", "accuracy", "weakly_hard"):
        if name in given and not isinstance(given[name], dict):
            raise UserError(f"{name} must hold entries of its own, found {_found(given[name])}.")
    for name in ("stages_ms", "accuracy"):
        for key in given.get(name, {}):
            if not isinstance(key, str):
                raise UserError(f"{name}.{key} must be a name, found {_found(key)}.")
    for name in given:
        if given[name] is None:
            raise UserError(f"{name} is empty: give it a value or remove it.")
    if "weakly_hard" in given:
        names = tuple(f.name for f in fields(WeaklyHard))
        _check_keys("weakly_hard.", given["weakly_hard"], names)
        for name in names:
            if name not in given["weakly_hard"]:
                raise UserError(f"weakly_hard.{name} is missing: write weakly_hard: {{misses: 1, window: 20}}.")
        given["weakly_hard"] = WeaklyHard(**given["weakly_hard"])
    return DeadlineContract(**given)


def _check_keys(prefix: str, content: dict[Any, Any], known: tuple[str, ...]) -> None:
    for key in content:
        _check_known(f"{prefix}{key}", key, known, what="is no entry of a contract")


def _check_known(name: str, value: Any, known: tuple[str, ...], *, what: str | None = None) -> None:
    if isinstance(value, str) and value in known:
        return
    close = difflib.get_close_matches(str(value), known, n=1)
    hint = f" Did you mean {close[0]}?" if close else ""
    if what is None:
        what = f"must be one of {', '.join(known)}, found {_found(value)}"
        raise UserError(f"{name} {what}.{hint}")
    raise UserError(f"{name} {what}; there are {', '.join(known)}.{hint}")


def _check_number(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise UserError(f"{name} must be a number, found {_found(value)}.")
    return float(value)


def _check_budget(name: str, value: Any) -> None:
    if _check_number(name, value) <= 0:
        raise UserError(f"{name} must be above 0, found {value}.")


def _check_between(name: str, value: Any, least: float, most: float) -> None:
    if not least < _check_number(name, value) < most:
        raise UserError(f"{name} must lie between {least} and {most}, both excluded, found {value}.")


def _check_count(name: str, value: Any, *, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise UserError(f"{name} must be a whole number, found {_found(value)}.")
    if value < least:
        raise UserError(f"{name} must be at least {least}, found {value}.")


def _found(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, str):
        return f"the text '{value}'"
    return f"{value!r}"
