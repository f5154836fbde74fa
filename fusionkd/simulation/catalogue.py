"""What may stand or drive in the world: nuScenes' categories and attributes, sizes per class, and shapes."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from fusionkd.simulation import alike, heavy_vehicles, small_objects, vehicles
from fusionkd.simulation.parts import Shape

Size = tuple[float, float, float]

CATEGORIES: Final[tuple[tuple[str, str], ...]] = (
    ("human.pedestrian.adult", "Simulated adult."),
    ("human.pedestrian.child", "Simulated child."),
    ("human.pedestrian.wheelchair", "Not in the simulated world."),
    ("human.pedestrian.stroller", "Not in the simulated world."),
    ("human.pedestrian.personal_mobility", "Not in the simulated world."),
    ("human.pedestrian.police_officer", "Not in the simulated world."),
    ("human.pedestrian.construction_worker", "Simulated worker in bright clothes."),
    ("animal", "Not in the simulated world."),
    ("vehicle.car", "Simulated car."),
    ("vehicle.motorcycle", "Simulated motorcycle; its rider, if any, is part of it."),
    ("vehicle.bicycle", "Simulated bicycle; its rider, if any, is part of it."),
    ("vehicle.bus.bendy", "Not in the simulated world."),
    ("vehicle.bus.rigid", "Simulated bus."),
    ("vehicle.truck", "Simulated truck."),
    ("vehicle.construction", "Simulated excavator or wheel loader."),
    ("vehicle.emergency.ambulance", "Not in the simulated world."),
    ("vehicle.emergency.police", "Not in the simulated world."),
    ("vehicle.trailer", "Simulated trailer."),
    ("movable_object.barrier", "Simulated road barrier."),
    ("movable_object.trafficcone", "Simulated traffic cone."),
    ("movable_object.pushable_pullable", "Not in the simulated world."),
    ("movable_object.debris", "Not in the simulated world."),
    ("static_object.bicycle_rack", "Not in the simulated world."),
)
"""Names of nuScenes' 23 categories and what stands behind them here."""

ATTRIBUTES: Final[tuple[tuple[str, str], ...]] = (
    ("vehicle.moving", "Vehicle is moving."),
    ("vehicle.stopped", "Vehicle stands and means to go on."),
    ("vehicle.parked", "Vehicle stands for long."),
    ("cycle.with_rider", "Somebody rides the cycle."),
    ("cycle.without_rider", "Nobody rides the cycle."),
    ("pedestrian.sitting_lying_down", "The person sits or lies."),
    ("pedestrian.standing", "The person stands."),
    ("pedestrian.moving", "The person moves."),
)

CATEGORY_OF: Final[dict[str, str]] = {
    "car": "vehicle.car",
    "truck": "vehicle.truck",
    "construction_vehicle": "vehicle.construction",
    "bus": "vehicle.bus.rigid",
    "trailer": "vehicle.trailer",
    "barrier": "movable_object.barrier",
    "motorcycle": "vehicle.motorcycle",
    "bicycle": "vehicle.bicycle",
    "pedestrian": "human.pedestrian.adult",
    "traffic_cone": "movable_object.trafficcone",
}
"""Per detection class, its usual category."""

SIZES_M: Final[dict[str, tuple[Size, Size]]] = {
    "car": ((4.63, 1.95, 1.73), (0.42, 0.13, 0.20)),
    "truck": ((6.94, 2.51, 2.85), (1.60, 0.28, 0.50)),
    "construction_vehicle": ((6.37, 2.82, 3.19), (1.20, 0.35, 0.50)),
    "bus": ((11.2, 2.95, 3.47), (1.60, 0.15, 0.25)),
    "trailer": ((11.8, 2.90, 3.85), (2.60, 0.20, 0.45)),
    "barrier": ((0.50, 2.53, 0.98), (0.08, 0.45, 0.10)),
    "motorcycle": ((2.11, 0.77, 1.47), (0.20, 0.10, 0.12)),
    "bicycle": ((1.70, 0.60, 1.28), (0.14, 0.08, 0.12)),
    "pedestrian": ((0.73, 0.67, 1.77), (0.12, 0.08, 0.11)),
    "traffic_cone": ((0.41, 0.41, 1.07), (0.06, 0.06, 0.18)),
}
"""Mean and deviation of length, width and height per class, about those of nuScenes' training set."""

SLACK_M: Final[Size] = (0.06, 0.06, 0.04)
"""What an annotated box is larger than the shape, so that range noise stays inside."""


@dataclass(frozen=True)
class Thing:
    """One object of a scene, before it is put anywhere.

    Attributes:
        kind: Detection class.
        category: nuScenes category.
        lwh_m: Size of its annotated box.
        shape: Its solids.
        rider: For cycles, whether somebody rides; False for the rest.
        parked: For vehicles, whether they stand for good.
    """

    kind: str
    category: str
    lwh_m: Size
    shape: Shape
    rider: bool = False
    parked: bool = False

    def attribute(self, speed_mps: float) -> str:
        """Name of the nuScenes attribute at a speed, or the empty string for classes without."""
        if self.kind in ("barrier", "traffic_cone"):
            return ""
        if self.kind == "pedestrian":
            return "pedestrian.moving" if speed_mps > 0.25 else "pedestrian.standing"
        if self.kind in ("motorcycle", "bicycle"):
            return "cycle.with_rider" if self.rider else "cycle.without_rider"
        if speed_mps > 0.4:
            return "vehicle.moving"
        return "vehicle.parked" if self.parked else "vehicle.stopped"


def draw_size(generator: np.random.Generator, spread: tuple[Size, Size]) -> Size:
    """Length, width and height of one object, from mean and deviation; within two deviations of the mean."""
    mean, deviation = (np.array(row) for row in spread)
    # Long ones are also wide and high.
    common, own = generator.normal(), generator.normal(size=3)
    size = mean + deviation * np.clip(0.7 * common + 0.7 * own, -2.0, 2.0)
    return (float(size[0]), float(size[1]), float(size[2]))


def make_thing(
    generator: np.random.Generator,
    kind: str,
    *,
    rider: bool = False,
    parked: bool = False,
    moving: bool = False,
    variant: str = "",
    look_alike: float = 0.0,
) -> Thing:
    """One object of a class with a size, a shape and colours of its own.

    Args:
        generator: Source of size, shape and colours.
        kind: Detection class.
        rider: For cycles.
        parked: For vehicles.
        moving: For pedestrians: legs apart.
        look_alike: Share of those vehicles and cycles whose outline doesn't tell the class, see ``alike``.
        variant: ``worker`` or ``child`` for pedestrians, ``plastic``, ``concrete`` or ``board`` for barriers.
    """
    if kind in (*alike.BOX_KINDS, *alike.CYCLE_KINDS) and generator.random() < look_alike:
        return _alike(generator, kind, rider=rider, parked=parked)
    length, width, height = draw_size(generator, SIZES_M[kind])
    category = CATEGORY_OF[kind]
    if kind == "pedestrian" and variant == "child":
        length, width, height = 0.65 * length, 0.7 * width, 0.72 * height
        category = "human.pedestrian.child"
    elif kind == "pedestrian" and variant == "worker":
        category = "human.pedestrian.construction_worker"
    elif kind in ("motorcycle", "bicycle"):
        height += 0.32 if rider else -0.22
    inner = (length - SLACK_M[0], width - SLACK_M[1], height - SLACK_M[2])
    if kind == "pedestrian":
        shape = small_objects.pedestrian(generator, *inner, moving=moving, worker=variant == "worker")
    elif kind == "motorcycle":
        shape = small_objects.motorcycle(generator, *inner, rider=rider)
    elif kind == "bicycle":
        shape = small_objects.bicycle(generator, *inner, rider=rider)
    elif kind == "barrier":
        number = ("plastic", "concrete", "board").index(variant or "plastic")
        shape = small_objects.barrier(generator, *inner, kind=number, red=bool(generator.random() < 0.5))
    elif kind == "traffic_cone":
        shape = small_objects.traffic_cone(generator, *inner)
    else:
        builders = {
            "car": vehicles.car,
            "truck": heavy_vehicles.truck,
            "construction_vehicle": heavy_vehicles.construction_vehicle,
            "bus": vehicles.bus,
            "trailer": heavy_vehicles.trailer,
        }
        shape = builders[kind](generator, *inner)
    return Thing(kind, category, (length, width, height), shape, rider, parked)


def _alike(generator: np.random.Generator, kind: str, *, rider: bool, parked: bool) -> Thing:
    """A vehicle or cycle that only its colours tell from another class."""
    if kind in alike.BOX_KINDS:
        length, width, height = draw_size(generator, alike.BOX_SIZE_M)
        shape = alike.box_body(generator, kind, (length - SLACK_M[0], width - SLACK_M[1], height - SLACK_M[2]))
    else:
        length, width, height = draw_size(generator, alike.CYCLE_SIZE_M)
        height += 0.32 if rider else -0.12
        inner = (length - SLACK_M[0], width - SLACK_M[1], height - SLACK_M[2])
        shape = alike.cycle(generator, kind, inner, rider=rider)
    return Thing(kind, CATEGORY_OF[kind], (length, width, height), shape, rider, parked)
