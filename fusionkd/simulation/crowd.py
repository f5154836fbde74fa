"""The records that a scene's inhabitants are kept in while it is being filled; in the straightened road frame."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fusionkd.simulation.catalogue import Thing, make_thing
from fusionkd.simulation.traffic import Driver


@dataclass(frozen=True)
class Resident:
    """A thing that stands still at x, d, turned against the road by yaw."""

    thing: Thing
    x_m: float
    d_m: float
    yaw_rad: float


@dataclass(frozen=True)
class Walker:
    """A person on a straight way.

    Attributes:
        thing: The person.
        start_m: x and d at the first step.
        direction: Unit vector.
        speed_mps: Walking speed.
        from_s: When the walk begins; the person stands before.
        on_road: Whether the way crosses a carriageway, so that drivers look out.
    """

    thing: Thing
    start_m: tuple[float, float]
    direction: tuple[float, float]
    speed_mps: float
    from_s: float
    on_road: bool


@dataclass
class Crowd:
    """All objects of a scene while it is being filled.

    ``drivers[i]`` moves ``driven[i]``; what it tows, if anything, is ``towed[i]`` with the distance behind it.
    The ego car is driver 0 and has no thing. ``look_alike`` is the setting of that name.
    """

    look_alike: float = 0.0

    residents: list[Resident] = field(default_factory=list)
    walkers: list[Walker] = field(default_factory=list)
    drivers: list[Driver] = field(default_factory=list)
    driven: list[Thing | None] = field(default_factory=list)
    towed: list[tuple[Thing, float] | None] = field(default_factory=list)

    def make(self, generator: np.random.Generator, kind: str, **options: Any) -> Thing:
        """A thing of a class for this scene; ``options`` are those of ``make_thing``."""
        return make_thing(generator, kind, look_alike=self.look_alike, **options)


def draw_class(generator: np.random.Generator, mix: dict[str, float]) -> str:
    """One class by its share."""
    names = list(mix)
    weights = np.array([mix[name] for name in names])
    return names[int(generator.choice(len(names), p=weights / weights.sum()))]
