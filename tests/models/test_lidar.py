import numpy as np
import pytest
import torch

from fusionkd.errors import UserError
from fusionkd.geometry import BevGrid
from fusionkd.models import PillarEncoder, RasterEncoder
from fusionkd.models.lidar import PillarFeatureNet, scatter_pillars
from fusionkd.preprocess import bev_raster, hard_pillars
from tests.models.conftest import GRID


def _view(points: np.ndarray, grid: BevGrid) -> dict[str, torch.Tensor]:
    pillars = hard_pillars(points, grid, max_points=6, max_pillars=500)
    coords = np.concatenate([np.zeros((len(pillars), 1), np.int64), pillars.row_column], axis=1)
    return {
        "points": torch.from_numpy(pillars.points),
        "count": torch.from_numpy(pillars.count),
        "coords": torch.from_numpy(coords),
    }


def _points(seed: int, count: int = 300) -> np.ndarray:
    rng = np.random.default_rng(seed)
    low, high = [-25, -25, -4, 0, 0], [25, 25, 2, 255, 0.45]
    return rng.uniform(low, high, (count, 5)).astype(np.float32)


def test_decorated_points_against_loops() -> None:
    view = _view(_points(0), GRID)
    ours = PillarFeatureNet.decorate(**view, grid=GRID).numpy()
    for p, k in np.ndindex(ours.shape[:2]):
        count = int(view["count"][p])
        if k >= count:
            assert not ours[p, k].any()
            continue
        held = view["points"][p, :count].numpy().astype(np.float64)
        _, row, column = view["coords"][p].tolist()
        middle = [*GRID.metre_from_cell([column + 0.5, row + 0.5]), 0.5 * (GRID.z_min_m + GRID.z_max_m)]
        wanted = [*held[k], *(held[k, :3] - held[:, :3].mean(axis=0)), *(held[k, :3] - middle)]
        np.testing.assert_allclose(ours[p, k], wanted, atol=2e-4)


def test_empty_slots_take_part_in_the_maximum() -> None:
    torch.manual_seed(0)
    net = PillarFeatureNet(16).eval()
    torch.nn.init.normal_(net.norm.bias)
    one = {"points": torch.zeros(1, 4, 5), "count": torch.tensor([1]), "coords": torch.tensor([[0, 3, 3]])}
    one["points"][0, 0] = torch.tensor([-20.0, -20.0, 0.0, 10.0, 0.0])
    full = {name: tensor[:, :1] if name == "points" else tensor for name, tensor in one.items()}
    with torch.no_grad():
        padded, alone = net(**one, grid=GRID), net(**full, grid=GRID)
        nothing = net.norm(torch.zeros(1, 16))
    torch.testing.assert_close(padded, torch.maximum(alone, nothing.relu()))
    assert not torch.equal(padded, alone)


def test_scatter_puts_pillars_in_their_cells() -> None:
    features = torch.arange(6.0).reshape(3, 2) + 1
    coords = torch.tensor([[0, 1, 2], [1, 0, 0], [1, 3, 4]])
    canvas = scatter_pillars(features, coords, batch_size=2, shape=(4, 5))
    assert canvas.shape == (2, 2, 4, 5)
    for feature, (b, r, c) in zip(features, coords.tolist()):
        assert torch.equal(canvas[b, :, r, c], feature)
    assert float(canvas.sum()) == float(features.sum())


def test_a_frame_does_not_see_its_neighbour() -> None:
    torch.manual_seed(0)
    encoder = PillarEncoder(
        pillars_per_cell=2, pillar_channels=8, channels=[8, 8], layers=[1, 1], strides=[2, 2], neck_channels=4
    ).eval()
    first, second = (_view(_points(seed), encoder.pillar_grid(GRID)) for seed in (1, 2))
    shifted = second | {"coords": second["coords"] + torch.tensor([1, 0, 0])}
    both = {name: torch.cat([first[name], shifted[name]]) for name in first}
    with torch.no_grad():
        together = encoder(both, batch_size=2, grid=GRID)
        apart = [encoder(view, batch_size=1, grid=GRID) for view in (first, second)]
    assert together.shape == (2, 8, *GRID.shape)
    torch.testing.assert_close(together, torch.cat(apart), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("training", [True, False])
def test_no_point_at_all(training: bool) -> None:
    encoder = PillarEncoder(pillars_per_cell=2, channels=[8], layers=[1], strides=[2], neck_channels=4)
    encoder.train(training)
    view = _view(np.zeros((0, 5), np.float32), encoder.pillar_grid(GRID))
    out = encoder(view, batch_size=2, grid=GRID)
    assert out.shape == (2, 4, *GRID.shape)
    assert torch.isfinite(out).all()


@pytest.mark.parametrize(("per_cell", "strides"), [(4, (2, 2, 2)), (2, (2, 2, 2)), (1, (1, 2, 2)), (1, (2, 1, 2))])
def test_any_strides_reach_the_grid(per_cell: int, strides: tuple[int, ...]) -> None:
    encoder = PillarEncoder(
        pillars_per_cell=per_cell, channels=[4, 4, 4], layers=[0, 0, 0], strides=strides, neck_channels=3
    )
    out = encoder(encoder.example(GRID, torch.Generator()), batch_size=1, grid=GRID)
    assert out.shape == (1, 9, *GRID.shape)


def test_settings_of_unequal_length_are_refused() -> None:
    with pytest.raises(UserError, match="one number per block"):
        PillarEncoder(channels=[4, 4], layers=[1], strides=[2, 2])


@pytest.mark.parametrize("stride", [1, 2])
def test_raster(stride: int) -> None:
    encoder = RasterEncoder(in_channels=7, channels=5, stride=stride)
    raster = bev_raster(_points(0), GRID.with_cell(GRID.cell_m / stride), z_slices=3)
    out = encoder({"raster": torch.from_numpy(raster)[None]}, batch_size=1, grid=GRID)
    assert out.shape == (1, 5, *GRID.shape)


def test_a_raster_of_another_shape_is_named() -> None:
    encoder = RasterEncoder("near", in_channels=7)
    with pytest.raises(UserError, match=r"'near' has shape \(1, 6, 32, 32\), the model reads \(1, 7, 32, 32\)"):
        encoder({"raster": torch.zeros(1, 6, *GRID.shape)}, batch_size=1, grid=GRID)
