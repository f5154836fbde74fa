"""How much each teacher's word counts."""

from collections.abc import Iterable, Sequence

from fusionkd.errors import UserError


class ClassTrust:
    """A factor per teacher and class; 1 where nothing is said.

    Args:
        weights: By teacher, then by class.
        term: Whose option it is, for messages.
        teachers: The term's teachers.

    Raises:
        UserError: If a teacher isn't one of the term's, or a factor is negative.
    """

    def __init__(self, weights: dict[str, dict[str, float]] | None, *, term: str, teachers: Iterable[str]) -> None:
        self._weights = weights or {}
        self._term = term
        known = tuple(teachers)
        strangers = sorted(set(self._weights) - set(known))
        if strangers:
            raise UserError(
                f"{term}: class_weights name {', '.join(strangers)}; the term's teachers are {', '.join(known)}."
            )
        for name, factors in self._weights.items():
            negative = [f"{label}: {factor}" for label, factor in factors.items() if factor < 0]
            if negative:
                raise UserError(f"{term}: class_weights of '{name}' must be at least 0, found {', '.join(negative)}.")

    def check(self, classes: Sequence[str]) -> None:
        """Compare the names with the student's classes.

        Raises:
            UserError: If a class isn't one of them.
        """
        for name, factors in self._weights.items():
            unknown = sorted(set(factors) - set(classes))
            if unknown:
                raise UserError(
                    f"{self._term}: class_weights of '{name}' name the unknown class {', '.join(unknown)}; "
                    f"the classes are {', '.join(classes)}."
                )

    def row(self, teacher: str, classes: Sequence[str]) -> list[float]:
        """A teacher's factors in the order of ``classes``."""
        factors = self._weights.get(teacher, {})
        return [factors.get(label, 1.0) for label in classes]
