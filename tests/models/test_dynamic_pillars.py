import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from fusionkd.geometry import BevGrid
from fusionkd.models.dynamic_pillars import scatter_pillars
from fusionkd.preprocess import dynamic_pillars

GRID = BevGrid(x_min_m=-4.0, x_max_m=4.0, y_min_m=-2.4, y_max_m=2.4, cell_m=0.8, z_min_m=-1.0, z_max_m=3.0)
BORDERS = [float(np.float32(-4 + 0.8 * k)) for k in range(11)]
ODD = [float("nan"), float("inf"), float("-inf"), float(np.float32(3e38))]
NUMBERS = st.one_of(st.floats(-5, 5, width=32), st.sampled_from([*BORDERS, *ODD]))
CLOUDS = hnp.arrays(np.float32, st.tuples(st.integers(0, 40), st.just(5)), elements=NUMBERS, fill=st.nothing())


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
@given(points=CLOUDS)
def test_scattered_pillars_equal_the_kernels(device: str, points: NDArray[np.float32]) -> None:
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    found, expected = scatter_pillars(torch.from_numpy(points).to(device), GRID), dynamic_pillars(points, GRID)
    np.testing.assert_array_equal(found.points.cpu().numpy(), expected.points)
    np.testing.assert_array_equal(found.pillar_of_point.cpu().numpy(), expected.pillar_of_point)
    np.testing.assert_array_equal(found.row_column.cpu().numpy(), expected.row_column)
    assert len(found) == len(expected)


def test_means_are_those_of_each_pillar() -> None:
    points = np.random.default_rng(0).uniform(-3, 3, (2000, 5)).astype(np.float32)
    found = scatter_pillars(torch.from_numpy(points).requires_grad_(), GRID)
    mean = found.mean()
    for pillar in range(len(found)):
        members = found.points[found.pillar_of_point == pillar]
        torch.testing.assert_close(mean[pillar], members.mean(dim=0))
    (gradient,) = torch.autograd.grad(mean.sum(), found.points)
    count = torch.bincount(found.pillar_of_point)
    torch.testing.assert_close(gradient, (1 / count[found.pillar_of_point])[:, None].expand(-1, 5))


@pytest.mark.parametrize("points", [torch.zeros(4), torch.zeros(4, 2), torch.zeros(4, 5, dtype=torch.float64)])
def test_points_that_are_none_are_refused(points: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="points must be float32 of shape"):
        scatter_pillars(points, GRID)
