"""Beside the lanes: parked vehicles, road works, people and cycles."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from fusionkd.simulation.crowd import Crowd, Resident, Walker, draw_class
from fusionkd.simulation.ground import CROSS_HALF_M, LANE_M, STOP_LINE_M, STRIP_M, GroundPlan
from fusionkd.simulation.settings import ClassMix
from fusionkd.simulation.town import EAST_M, WEST_M, near_crossing

PARKED_MIX: Final[dict[str, dict[str, float]]] = {
    "flat": {"car": 0.20, "truck": 0.14, "bus": 0.17, "trailer": 0.31, "construction_vehicle": 0.18},
    "nuscenes": {"car": 0.84, "truck": 0.09, "bus": 0.01, "trailer": 0.04, "construction_vehicle": 0.02},
}
BAY_D_M: Final = STRIP_M / 2


@dataclass(frozen=True)
class Kerb:
    """The edge between a carriageway and its pavement.

    Attributes:
        start_m: x and d where it begins.
        along: Unit vector along the road.
        out: Unit vector from the carriageway to the houses.
        length_m: Length.
    """

    start_m: tuple[float, float]
    along: tuple[float, float]
    out: tuple[float, float]
    length_m: float

    def place(self, along_m: float, out_m: float) -> tuple[float, float]:
        """X and d of a point beside the kerb."""
        x, d = self.start_m
        return (
            x + along_m * self.along[0] + out_m * self.out[0],
            d + along_m * self.along[1] + out_m * self.out[1],
        )

    def yaw_out_rad(self) -> float:
        """Heading towards the houses."""
        return float(np.arctan2(self.out[1], self.out[0]))


def park_and_walk(generator: np.random.Generator, plan: GroundPlan, mix: ClassMix, crowd: Crowd) -> None:
    """Fill both sides of all roads and the zebra crossings of the main road."""
    for side in (-1, 1):
        _parking(generator, plan, mix, side, crowd)
        kerb = Kerb((WEST_M, side * plan.half_width_m), (1.0, 0.0), (0.0, float(side)), EAST_M - WEST_M)
        _pavement(generator, plan, mix, crowd, kerb)
    _zebra_people(generator, plan, crowd)
    for crossing in plan.crossings_m:
        for across in (-1, 1):
            for side in (-1, 1):
                start = (crossing + across * CROSS_HALF_M, side * (plan.half_width_m + 8.0))
                kerb = Kerb(start, (0.0, float(side)), (float(across), 0.0), 95.0)
                # Not both: the pavement has no room for it.
                if generator.random() < 0.5:
                    _pavement(generator, plan, mix, crowd, kerb)
                else:
                    _pavement_parking(generator, mix, crowd, kerb)


def _parking(generator: np.random.Generator, plan: GroundPlan, mix: ClassMix, side: int, crowd: Crowd) -> None:
    """The strip along one side: vehicles, gaps and road works."""
    occupied = float(generator.uniform(0.3, 0.65))
    works = float(generator.uniform(0.12, 0.24)) if mix == "flat" else 0.12
    x = WEST_M + float(generator.uniform(0, 8))
    d = side * (plan.lanes * LANE_M + BAY_D_M)
    while x < EAST_M:
        luck = generator.random()
        if luck < works:
            x += _works(generator, plan, mix, crowd, (x, d, side))
        elif luck < works + occupied:
            kind = draw_class(generator, PARKED_MIX[mix])
            thing = crowd.make(generator, kind, parked=True)
            length = thing.lwh_m[0]
            middle = x + length / 2
            if not near_crossing(plan, middle, length / 2 + STOP_LINE_M):
                turned = (side > 0) != (generator.random() < 0.12)
                yaw = (np.pi if turned else 0.0) + float(generator.normal(0, 0.03))
                crowd.residents.append(Resident(thing, middle, d + float(generator.normal(0, 0.1)), yaw))
            x += length + float(generator.uniform(0.6, 2.5))
        else:
            x += float(generator.uniform(5, 12))


def _works(
    generator: np.random.Generator, plan: GroundPlan, mix: ClassMix, crowd: Crowd, at: tuple[float, float, int]
) -> float:
    """A works zone on the strip from x on: barriers along the lane, cones before and behind, perhaps an excavator."""
    x0, d, side = at
    length = float(generator.uniform(11, 20))
    if near_crossing(plan, x0 + length / 2, length / 2 + STOP_LINE_M):
        return 6.0
    edge = d - side * (BAY_D_M - 0.35)
    variant = str(generator.choice(["plastic", "concrete", "board"]))
    if generator.random() < 0.5:
        x = x0 + 3.0
        while x < x0 + length - 4.8:
            thing = crowd.make(generator, "barrier", variant=variant)
            along = thing.lwh_m[1]
            yaw = -side * np.pi / 2 + float(generator.normal(0, 0.05))
            crowd.residents.append(Resident(thing, x + along / 2, edge + float(generator.normal(0, 0.06)), yaw))
            x += along + float(generator.uniform(0.05, 0.4))
    for x in (x0 + 0.5, x0 + 1.8, x0 + length - 1.6, x0 + length - 0.4):
        if generator.random() < 0.5:
            out = edge + side * float(generator.uniform(0.0, 2.0))
            crowd.residents.append(Resident(crowd.make(generator, "traffic_cone"), x, out, 0.0))
    if generator.random() < (0.75 if mix == "flat" else 0.2):
        thing = crowd.make(generator, "construction_vehicle", parked=True)
        yaw = float(generator.choice([0.0, np.pi])) + float(generator.normal(0, 0.08))
        crowd.residents.append(Resident(thing, x0 + length / 2, d + side * 0.6, yaw))
    if generator.random() < 0.4:
        person = crowd.make(generator, "pedestrian", variant="worker")
        where = d + side * (BAY_D_M - 0.3)
        crowd.residents.append(Resident(person, x0 + 1.2, where, float(generator.uniform(-3, 3))))
    return length + 1.0


def _pavement(generator: np.random.Generator, plan: GroundPlan, mix: ClassMix, crowd: Crowd, kerb: Kerb) -> None:
    """People alone and in groups, cycles left standing, single cones."""
    groups, cycles = (0.36, 0.93) if mix == "flat" else (0.60, 0.72)
    along = 0.0
    while along < kerb.length_m:
        along += float(generator.gamma(2.0, 13.0))
        luck = generator.random()
        if luck < groups:
            _group(generator, crowd, kerb, along)
        elif luck < cycles:
            _cycles(generator, plan, crowd, kerb, along)
        else:
            x, d = kerb.place(along, float(generator.uniform(-0.6, 1.0)))
            crowd.residents.append(Resident(crowd.make(generator, "traffic_cone"), x, d, 0.0))


def _cycles(generator: np.random.Generator, plan: GroundPlan, crowd: Crowd, kerb: Kerb, along_m: float) -> None:
    """One to three cycles side by side, across the pavement."""
    kind = "motorcycle" if generator.random() < 0.5 else "bicycle"
    out = float(generator.uniform(1.6, 1.9))
    yaw = kerb.yaw_out_rad() + float(generator.normal(0, 0.3)) + np.pi * float(generator.integers(2))
    for number in range(int(generator.integers(1, 4))):
        x, d = kerb.place(along_m + number * 0.95, out)
        own = yaw + float(generator.normal(0, 0.08))
        thing = crowd.make(generator, kind, parked=True)
        if kerb.along[0] == 0.0 or not near_crossing(plan, x, 0.5):
            crowd.residents.append(Resident(thing, x, d, own))


def _group(generator: np.random.Generator, crowd: Crowd, kerb: Kerb, along_m: float) -> None:
    """One to four people who walk or stand together."""
    walks = generator.random() < 0.65
    heading = float(generator.choice([-1.0, 1.0]))
    speed = float(generator.uniform(0.8, 1.7))
    from_s = float(generator.uniform(2, 14)) if generator.random() < 0.15 else 0.0
    out = float(generator.uniform(2.6, 3.3))
    for number in range(int(generator.choice([1, 2, 3, 4], p=[0.5, 0.3, 0.12, 0.08]))):
        variant = "child" if generator.random() < 0.08 else ""
        thing = crowd.make(generator, "pedestrian", moving=walks, variant=variant)
        x, d = kerb.place(
            along_m + 0.8 * (number // 2) + float(generator.normal(0, 0.15)),
            out + 0.75 * (number % 2) + float(generator.normal(0, 0.1)),
        )
        if walks:
            direction = (heading * kerb.along[0], heading * kerb.along[1])
            crowd.walkers.append(Walker(thing, (x, d), direction, speed, from_s, False))
        else:
            crowd.residents.append(Resident(thing, x, d, float(generator.uniform(-np.pi, np.pi))))


def _pavement_parking(generator: np.random.Generator, mix: ClassMix, crowd: Crowd, kerb: Kerb) -> None:
    """Vehicles left on the pavement of a side road, which has no parking strip."""
    along = float(generator.uniform(0, 15))
    while along < kerb.length_m:
        thing = crowd.make(generator, draw_class(generator, PARKED_MIX[mix]), parked=True)
        length, width, _ = thing.lwh_m
        if generator.random() < 0.4:
            x, d = kerb.place(along + length / 2, width / 2 - 0.2)
            yaw = float(np.arctan2(kerb.along[1], kerb.along[0])) + np.pi * float(generator.integers(2))
            crowd.residents.append(Resident(thing, x, d, yaw + float(generator.normal(0, 0.03))))
        along += length + float(generator.uniform(2, 14))


def _zebra_people(generator: np.random.Generator, plan: GroundPlan, crowd: Crowd) -> None:
    """People who cross the main road at a crossing."""
    for crossing in plan.crossings_m:
        for across in (-1, 1):
            for _ in range(int(generator.choice([0, 1, 2], p=[0.5, 0.35, 0.15]))):
                side = float(generator.choice([-1.0, 1.0]))
                x = crossing + across * (CROSS_HALF_M + 2.7 + float(generator.uniform(-0.9, 0.9)))
                start = side * (plan.half_width_m + float(generator.uniform(0.8, 2.5)))
                thing = crowd.make(generator, "pedestrian", moving=True)
                from_s = float(generator.uniform(0, 16))
                speed = float(generator.uniform(1.0, 1.7))
                crowd.walkers.append(Walker(thing, (x, start), (0.0, -side), speed, from_s, True))
