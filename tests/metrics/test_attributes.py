"""The attribute rule."""

import numpy as np
import pytest
from nuscenes.eval.detection.utils import detection_name_to_rel_attributes

from fusionkd.errors import UserError
from fusionkd.geometry import DETECTION_CLASSES
from fusionkd.metrics import ATTRIBUTES, attribute_for
from fusionkd.metrics.attributes import attribute_index, attributes_for


@pytest.mark.parametrize(
    ("class_name", "speed_mps", "attribute"),
    [
        ("car", 3.0, "vehicle.moving"),
        ("car", 0.2, "vehicle.parked"),
        ("bus", 0.0, "vehicle.stopped"),
        ("trailer", float("nan"), "vehicle.parked"),
        ("pedestrian", 0.21, "pedestrian.moving"),
        ("pedestrian", 0.1, "pedestrian.standing"),
        ("bicycle", 1.0, "cycle.with_rider"),
        ("motorcycle", 0.0, "cycle.without_rider"),
        ("barrier", 5.0, ""),
        ("traffic_cone", 0.0, ""),
    ],
)
def test_rule(class_name: str, speed_mps: float, attribute: str) -> None:
    assert attribute_for(class_name, speed_mps) == attribute


@pytest.mark.parametrize("class_name", DETECTION_CLASSES)
@pytest.mark.parametrize("velocity_mps", [[0.0, 0.0], [0.1, -0.1], [0.15, 0.15], [-3.0, 4.0], [np.nan, np.nan]])
def test_many_at_once_and_only_attributes_of_the_class(class_name: str, velocity_mps: list[float]) -> None:
    name = attribute_for(class_name, float(np.hypot(*velocity_mps)))
    label = np.array([DETECTION_CLASSES.index(class_name)])
    assert attributes_for(label, np.array([velocity_mps])).tolist() == [attribute_index(name)]
    assert name in (detection_name_to_rel_attributes(class_name) or [""])


def test_unknown_names_are_refused() -> None:
    with pytest.raises(UserError, match="Unknown class 'tram'"):
        attribute_for("tram", 1.0)
    with pytest.raises(UserError, match=r"Unknown attribute 'vehicle\.flying'"):
        attribute_index("vehicle.flying")
    assert [attribute_index(name) for name in ("", *ATTRIBUTES)] == list(range(-1, 8))
