"""How much each teacher's word counts."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from fusionkd.errors import UserError

Trust = dict[str, float | dict[str, float]] | Literal["recorded"]
"""By teacher, a factor for all classes or one per class; 1 where nothing is said. ``recorded`` takes the AP per class
that each teacher's file says it reached."""

_LEAST_PRECISION = 0.01
"""A class that no teacher finds has the same weight from all."""


class ClassTrust:
    """A factor per teacher and class.

    Args:
        weights: What is said about it; None trusts all alike.
        term: Whose option it is, for messages.
        teachers: The term's teachers.

    Raises:
        UserError: If a teacher isn't one of the term's, or a factor is negative.
    """

    def __init__(self, weights: Trust | None, *, term: str, teachers: Iterable[str]) -> None:
        self.is_said = bool(weights)
        self.is_recorded = weights == "recorded"
        self._weights: dict[str, float | dict[str, float]] = {} if isinstance(weights, str) else dict(weights or {})
        self._term = term
        known = tuple(teachers)
        strangers = sorted(set(self._weights) - set(known))
        if strangers:
            raise UserError(
                f"{term}: class_weights name {', '.join(strangers)}; the term's teachers are {', '.join(known)}."
            )
        for name, said in self._weights.items():
            factors = said if isinstance(said, Mapping) else {"all classes": said}
            negative = [f"{label}: {factor}" for label, factor in factors.items() if factor < 0]
            if negative:
                raise UserError(f"{term}: class_weights of '{name}' must be at least 0, found {', '.join(negative)}.")

    def know(self, records: Mapping[str, Mapping[str, float]]) -> None:
        """Take the recorded precisions, if this is what was asked for.

        Args:
            records: Recorded nuScenes figures by teacher, AP per class as ``AP/car``.

        Raises:
            UserError: If a teacher has none.
        """
        if self.is_recorded:
            self._weights = {
                name: recorded_precision(name, figures, term=self._term) for name, figures in records.items()
            }

    def check(self, classes: Sequence[str]) -> None:
        """Compare the names with the student's classes.

        Raises:
            UserError: If a class isn't one of them.
        """
        for name, said in self._weights.items():
            # What a record says about other classes is of no use, and no mistake.
            named = set(said) if isinstance(said, Mapping) and not self.is_recorded else set()
            unknown = sorted(named - set(classes))
            if unknown:
                raise UserError(
                    f"{self._term}: class_weights of '{name}' name the unknown class {', '.join(unknown)}; "
                    f"the classes are {', '.join(classes)}."
                )

    def row(self, teacher: str, classes: Sequence[str]) -> list[float]:
        """A teacher's factors in the order of ``classes``."""
        said = self._weights.get(teacher, 1.0)
        return [said.get(label, 1.0) if isinstance(said, Mapping) else said for label in classes]


def recorded_precision(teacher: str, figures: Mapping[str, float], *, term: str) -> dict[str, float]:
    """The AP per class of a teacher's record, at least 0.01.

    Args:
        teacher: Its name, for the message.
        figures: nuScenes figures by name.
        term: Whose option it is, for the message.

    Raises:
        UserError: If there are none.
    """
    found = {name[3:]: value for name, value in figures.items() if name.startswith("AP/") and "@" not in name}
    if not found:
        raise UserError(
            f"{term} weighs teachers by their recorded AP per class, but the file of teacher '{teacher}' has no record "
            f"of it. Give numbers instead."
        )
    return {name: max(value, _LEAST_PRECISION) if value == value else _LEAST_PRECISION for name, value in found.items()}
