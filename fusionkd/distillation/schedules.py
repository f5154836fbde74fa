"""How a term's weight changes over the training run.

A schedule is a function of progress, 0 at the first step and 1 at the last, so that it stays right
when the number of steps changes.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from fusionkd.errors import UserError


class Schedule:
    """Factor on a term's weight; this one is always 1."""

    def factor(self, progress: float) -> float:
        """Factor at ``progress`` in [0, 1]."""
        return 1.0


class Constant(Schedule):
    """The same factor all the time."""


@dataclass(frozen=True)
class LinearRamp(Schedule):
    """A straight line between two points of the run, level before and after.

    Attributes:
        begin: Progress where the line begins.
        end: Progress where it ends.
        first: Factor before ``begin``.
        last: Factor after ``end``.
    """

    begin: float = 0.0
    end: float = 1.0
    first: float = 0.0
    last: float = 1.0

    def __post_init__(self) -> None:
        _check_span("LinearRamp", self.begin, self.end)

    def factor(self, progress: float) -> float:
        """Factor at ``progress`` in [0, 1]."""
        share = min(max((progress - self.begin) / (self.end - self.begin), 0.0), 1.0)
        return self.first + (self.last - self.first) * share


@dataclass(frozen=True)
class Cosine(Schedule):
    """Half a cosine wave from one factor to another, level before and after.

    Attributes:
        begin: Progress where the wave begins.
        end: Progress where it ends.
        first: Factor before ``begin``.
        last: Factor after ``end``.
    """

    begin: float = 0.0
    end: float = 1.0
    first: float = 1.0
    last: float = 0.0

    def __post_init__(self) -> None:
        _check_span("Cosine", self.begin, self.end)

    def factor(self, progress: float) -> float:
        """Factor at ``progress`` in [0, 1]."""
        share = min(max((progress - self.begin) / (self.end - self.begin), 0.0), 1.0)
        return self.last + (self.first - self.last) * 0.5 * (1.0 + math.cos(math.pi * share))


class Step(Schedule):
    """Jumps from factor to factor.

    Args:
        at: Progress of each jump, ascending.
        factors: One more than there are jumps.

    Raises:
        UserError: If the numbers don't fit together.
    """

    def __init__(self, at: Sequence[float], factors: Sequence[float]) -> None:
        if len(factors) != len(at) + 1:
            raise UserError(
                f"Step needs one factor more than jumps, found {len(at)} in 'at' and {len(factors)} in 'factors'."
            )
        if any(later <= earlier for earlier, later in pairwise(at)):
            raise UserError(f"Step's 'at' must ascend, found {list(at)}.")
        self.at = tuple(at)
        self.factors = tuple(factors)

    def factor(self, progress: float) -> float:
        """Factor at ``progress`` in [0, 1]."""
        return self.factors[sum(progress >= jump for jump in self.at)]


@dataclass(frozen=True)
class StopAfter(Schedule):
    """Factor 1, then 0: the student finishes on labels alone.

    Attributes:
        progress: Where the term stops.
    """

    progress: float = 0.8

    def factor(self, progress: float) -> float:
        """Factor at ``progress`` in [0, 1]."""
        return 1.0 if progress < self.progress else 0.0


def _check_span(name: str, begin: float, end: float) -> None:
    if not 0.0 <= begin < end <= 1.0:
        raise UserError(f"{name} needs 0 <= begin < end <= 1 (shares of the run), found {begin} and {end}.")
