"""How much each teacher's word counts."""

from collections.abc import Iterable, Mapping, Sequence

from fusionkd.errors import UserError

Trust = dict[str, float | dict[str, float]]
"""By teacher, a factor for all classes or one per class; 1 where nothing is said."""


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
        self._weights = weights or {}
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

    def check(self, classes: Sequence[str]) -> None:
        """Compare the names with the student's classes.

        Raises:
            UserError: If a class isn't one of them.
        """
        for name, said in self._weights.items():
            unknown = sorted(set(said) - set(classes)) if isinstance(said, Mapping) else []
            if unknown:
                raise UserError(
                    f"{self._term}: class_weights of '{name}' name the unknown class {', '.join(unknown)}; "
                    f"the classes are {', '.join(classes)}."
                )

    def row(self, teacher: str, classes: Sequence[str]) -> list[float]:
        """A teacher's factors in the order of ``classes``."""
        said = self._weights.get(teacher, 1.0)
        return [said.get(label, 1.0) if isinstance(said, Mapping) else said for label in classes]
