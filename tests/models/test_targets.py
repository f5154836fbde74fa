import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fusionkd.models import CenterTargets, Decoder, FusionOutput, NoNms, center_targets
from fusionkd.models.targets import gaussian_radius
from tests.models.conftest import GRID


def _radius(length: float, width: float, overlap: float) -> float:
    """CenterPoint's radius, restated: its three cases divide by 2 where the quadratic formula divides by 2a."""
    roots = []
    for a, b, c in (
        (1, length + width, width * length * (1 - overlap) / (1 + overlap)),
        (4, 2 * (length + width), (1 - overlap) * width * length),
        (4 * overlap, -2 * overlap * (length + width), (overlap - 1) * width * length),
    ):
        roots.append((b + math.sqrt(b * b - 4 * a * c)) / 2)
    return min(roots)


@given(length=st.floats(0.2, 40), width=st.floats(0.2, 40), overlap=st.floats(0.05, 0.9))
def test_gaussian_radius(length: float, width: float, overlap: float) -> None:
    ours = gaussian_radius(torch.tensor(length).double(), torch.tensor(width).double(), overlap=overlap)
    assert float(ours) == pytest.approx(_radius(length, width, overlap), rel=1e-5)


def _drawn(boxes: np.ndarray, labels: np.ndarray, min_radius: int) -> np.ndarray:
    """The heatmap cell by cell."""
    heatmap = np.zeros((10, GRID.rows, GRID.columns))
    for box, label in zip(boxes, labels):
        if label < 0 or not GRID.contains(box[:2]):
            continue
        column, row = np.floor(GRID.cell_from_metre(box[:2])).astype(int)
        radius = max(min_radius, int(_radius(box[3] / GRID.cell_m, box[4] / GRID.cell_m, 0.1)))
        sigma = (2 * radius + 1) / 6
        for r in range(max(0, row - radius), min(GRID.rows, row + radius + 1)):
            for c in range(max(0, column - radius), min(GRID.columns, column + radius + 1)):
                value = math.exp(-((r - row) ** 2 + (c - column) ** 2) / (2 * sigma**2))
                heatmap[label, r, c] = max(heatmap[label, r, c], value)
    return heatmap


@pytest.mark.parametrize("min_radius", [0, 2])
@pytest.mark.parametrize("seed", range(3))
def test_heatmap_against_loops(seed: int, min_radius: int) -> None:
    rng = np.random.default_rng(seed)
    boxes = rng.uniform([-30, -30, -2, 0.3, 0.3, 1, -3, -9, -9], [30, 30, 1, 25, 12, 3, 3, 9, 9], (2, 40, 9))
    labels = rng.integers(-1, 10, (2, 40))
    targets = center_targets(
        torch.from_numpy(boxes), torch.from_numpy(labels), grid=GRID, classes=10, min_radius=min_radius
    )
    for b in range(2):
        wanted = _drawn(boxes[b].astype(np.float32), labels[b], min_radius)
        np.testing.assert_allclose(targets.heatmap[b].numpy(), wanted, atol=1e-5)
        on_grid = (labels[b] >= 0) & GRID.contains(boxes[b, :, :2])
        assert targets.mask[b].numpy().tolist() == on_grid.tolist()
        assert 0 < on_grid.sum() < 40
        where = targets.heatmap[b].flatten(1)[targets.label[b], targets.cell[b]]
        assert torch.equal(where[targets.mask[b]], torch.ones(int(on_grid.sum())))


def test_borders_of_the_grid() -> None:
    boxes = torch.zeros(1, 4, 9)
    boxes[0, :, 3:6] = 1.0
    boxes[0, :, :2] = torch.tensor([[-25.6, -25.6], [25.6, 0.0], [25.59, 25.59], [-25.61, 0.0]])
    targets = center_targets(boxes, torch.zeros(1, 4, dtype=torch.int64), grid=GRID, classes=1)
    assert targets.mask[0].tolist() == [True, False, True, False]
    assert targets.cell[0, [0, 2]].tolist() == [0, GRID.rows * GRID.columns - 1]


def test_unknown_velocity_and_no_boxes() -> None:
    boxes = torch.ones(1, 2, 9)
    boxes[0, 0, 7] = torch.nan
    targets = center_targets(boxes, torch.tensor([[3, 3]]), grid=GRID, classes=10)
    assert targets.velocity_known[0].tolist() == [False, True]
    assert torch.isfinite(targets.regression).all()
    empty = center_targets(boxes, torch.tensor([[-1, -1]]), grid=GRID, classes=10)
    assert not empty.mask.any()
    assert not empty.velocity_known.any()
    assert float(empty.heatmap.sum()) == 0


def as_output(targets: CenterTargets, *, axis: bool) -> FusionOutput:
    """The maps of a network that answers exactly its targets."""
    frames, classes = targets.heatmap.shape[:2]
    regression = torch.zeros(frames, 1, 10, GRID.rows * GRID.columns)
    heading_axis = torch.zeros(frames, 1, 2, GRID.rows * GRID.columns)
    for b in range(frames):
        for m in torch.nonzero(targets.mask[b]).flatten().tolist():
            regression[b, 0, :, targets.cell[b, m]] = targets.regression[b, m]
            heading_axis[b, 0, :, targets.cell[b, m]] = targets.axis[b, m]
    return FusionOutput(
        heatmap=torch.logit(targets.heatmap, eps=1e-6),
        box_regression=regression.unflatten(3, GRID.shape),
        heading_axis=heading_axis.unflatten(3, GRID.shape) if axis else None,
        bev=targets.heatmap,
        camera_bev=None,
        lidar_bev=None,
        depth_logits=None,
        grid=GRID,
        classes=tuple("abcdefghij"[:classes]),
        task_of_class=(0,) * classes,
    )


BOX = st.tuples(
    st.integers(0, 9),
    st.floats(-0.49, 0.49),
    st.floats(-0.49, 0.49),
    st.floats(-4, 2),
    st.floats(0.3, 18),
    st.floats(0.3, 5),
    st.floats(0.3, 5),
    st.floats(-math.pi, math.pi),
    st.floats(-15, 15),
    st.floats(-15, 15),
)


@pytest.mark.parametrize("axis", [True, False])
@given(drawn=st.lists(BOX, min_size=1, max_size=9))
def test_what_is_encoded_is_decoded(drawn: list[tuple[float, ...]], axis: bool) -> None:
    # One box in the middle of each of nine far cells, so that no two meet.
    rows = []
    for place, (_, dx, dy, *rest) in enumerate(drawn):
        middle = GRID.metre_from_cell([5.5 + 10 * (place % 3), 5.5 + 10 * (place // 3)])
        rows.append([middle[0] + dx * GRID.cell_m, middle[1] + dy * GRID.cell_m, *rest])
    boxes = torch.tensor([rows], dtype=torch.float64)
    labels = torch.tensor([[box[0] for box in drawn]])
    output = as_output(center_targets(boxes, labels, grid=GRID, classes=10), axis=axis)
    (found,) = Decoder(0.9, nms=NoNms())(output)
    assert len(found) == len(drawn)
    for row, label in zip(boxes[0].numpy(), labels[0].tolist()):
        match = int(np.argmin(np.linalg.norm(found.xyz_m - row[:3], axis=1)))
        assert found.label[match] == label
        np.testing.assert_allclose(found.xyz_m[match], row[:3], atol=1e-4)
        np.testing.assert_allclose(found.lwh_m[match], row[3:6], rtol=1e-4)
        np.testing.assert_allclose(found.velocity_mps[match], row[7:9], atol=1e-5)
        turn = (found.yaw_rad[match] - row[6] + math.pi) % (2 * math.pi) - math.pi
        assert abs(turn) < 1e-4


@pytest.mark.parametrize("degrees", range(-180, 181, 15))
def test_every_direction(degrees: int) -> None:
    yaw = math.radians(degrees)
    boxes = torch.tensor([[[0.3, 0.2, 0, 4, 2, 1.5, yaw, 0, 0]]])
    for axis in (True, False):
        targets = center_targets(boxes, torch.zeros(1, 1, dtype=torch.int64), grid=GRID, classes=1)
        (found,) = Decoder(0.9)(as_output(targets, axis=axis))
        assert abs((float(found.yaw_rad[0]) - yaw + math.pi) % (2 * math.pi) - math.pi) < 1e-5
        assert abs(float(found.yaw_rad[0])) <= math.pi + 1e-6
