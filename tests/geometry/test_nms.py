import numpy as np
import pytest
import shapely
import shapely.affinity
from hypothesis import given
from hypothesis import strategies as st

from fusionkd.errors import UserError
from fusionkd.geometry import Boxes3D
from fusionkd.geometry.nms import CircleNms, NoNms, RotatedNms, circle_nms, rotated_nms


def _random(seed: int, count: int, extent_m: float = 6.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    boxes = np.concatenate(
        [
            rng.uniform(-extent_m, extent_m, (count, 2)),
            rng.uniform(0.5, 5, (count, 2)),
            rng.uniform(-7, 7, (count, 1)),
        ],
        axis=1,
    )
    return boxes.astype(np.float32), rng.permutation(count).astype(np.float32)


@given(seed=st.integers(0, 2**16), count=st.integers(0, 30), radius_m=st.floats(0.1, 6))
def test_circle_nms_against_loops(seed: int, count: int, radius_m: float) -> None:
    boxes, score = _random(seed, count)
    kept: list[int] = []
    for i in np.argsort(-score):
        if all(np.linalg.norm(boxes[i, :2].astype(float) - boxes[j, :2].astype(float)) > radius_m for j in kept):
            kept.append(int(i))
    assert circle_nms(boxes[:, :2], score, radius_m=radius_m).tolist() == kept


def test_circle_border_suppresses() -> None:
    xy, score = np.array([[0.0, 0], [2, 0], [2.001, 0]]), np.array([0.9, 0.8, 0.7])
    assert circle_nms(xy, score, radius_m=2.0).tolist() == [0, 2]


def _polygon(box: np.ndarray) -> shapely.Polygon:
    x, y, length, width, yaw = (float(v) for v in box)
    flat = shapely.box(-length / 2, -width / 2, length / 2, width / 2)
    turned = shapely.affinity.rotate(flat, yaw, origin=(0, 0), use_radians=True)
    return shapely.affinity.translate(turned, x, y)


@pytest.mark.parametrize("seed", range(4))
def test_rotated_nms_against_shapely(seed: int) -> None:
    boxes, score = _random(seed, 40)
    polygons = [_polygon(box) for box in boxes]
    kept: list[int] = []
    for i in np.argsort(-score):
        overlaps = [polygons[i].intersection(polygons[j]).area / polygons[i].union(polygons[j]).area for j in kept]
        assert all(abs(overlap - 0.15) > 1e-5 for overlap in overlaps)  # no case hangs on rounding
        if all(overlap <= 0.15 for overlap in overlaps):
            kept.append(int(i))
    assert 5 < len(kept) < 40
    assert rotated_nms(boxes, score, iou=0.15).tolist() == kept


def _boxes(xy: list[list[float]], label: list[int], score: list[float]) -> Boxes3D:
    rows = np.zeros((len(xy), 9), np.float32)
    rows[:, :2] = xy
    rows[:, 3:6] = [4, 2, 1.5]
    return Boxes3D.from_array(rows, np.array(label), np.array(score))


SAME_PLACE = _boxes([[0, 0], [0.1, 0], [0.2, 0], [9, 9]], [0, 0, 1, 1], [0.5, 0.6, 0.4, 0.9])


@pytest.mark.parametrize(
    ("nms", "kept"),
    [
        (CircleNms([1.0, 1.0]), [3, 1, 2]),
        (CircleNms([1.0], per_task=True), [3, 1]),
        (CircleNms([0.01, 1.0]), [3, 1, 0, 2]),
        (RotatedNms(0.5), [3, 1, 2]),
        (NoNms(), [3, 1, 0, 2]),
    ],
    ids=["circle", "circle per task", "radius per class", "rotated", "none"],
)
def test_classes_and_tasks(nms: CircleNms | RotatedNms | NoNms, kept: list[int]) -> None:
    assert nms(SAME_PLACE, (0, 0)).tolist() == kept
    assert nms(Boxes3D.empty(), (0, 0)).tolist() == []


def test_a_class_without_radius_is_named() -> None:
    with pytest.raises(UserError, match="1 radii, found a box of class 1"):
        CircleNms([1.0])(SAME_PLACE, (0, 0))
