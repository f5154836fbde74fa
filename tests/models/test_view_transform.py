import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fusionkd.errors import UserError
from fusionkd.geometry import BevGrid, CameraRig, rigid_from_yaw
from fusionkd.models import DepthBins
from fusionkd.models.view_transform import (
    LiftSplat,
    MeasuredDepth,
    frustum_cells,
    measured_cells,
    nearest_depth,
    splat_added,
    splat_sorted,
)

GRID = BevGrid(-20.0, 20.0, -12.0, 12.0, 0.8)


def _rig() -> CameraRig:
    """Three cameras, one with a cropped and scaled image."""
    forward = np.array([[0.0, 0, 1, 0.5], [-1, 0, 0, 0.1], [0, -1, 0, 1.6], [0, 0, 0, 1]])
    mounts = np.stack([rigid_from_yaw(yaw, [0.3, 0.2, 0.0]) @ forward for yaw in (0.1, 2.0, -1.7)])
    intrinsics = np.tile(np.array([[60.0, 0, 31], [0, 58.0, 17], [0, 0, 1]]), (3, 1, 1))
    augmented = np.tile(np.eye(3), (3, 1, 1))
    augmented[1] = [[1.2, 0, -5], [0, 1.1, -3], [0, 0, 1]]
    return CameraRig(intrinsics, mounts, augmented, (32, 64))


def test_frustum_points_project_back_to_their_pixels() -> None:
    rig = _rig()
    centres = DepthBins(2.0, 22.0, 9).centres_m
    size = (4, 8)
    image_from_ego = torch.from_numpy(rig.image_from_ego.astype(np.float32))[None]
    cells = frustum_cells(image_from_ego, torch.tensor(centres), grid=GRID, size_px=rig.size_px, size=size)
    assert cells.shape == (1, 3, 9, 4, 8)
    found = 0
    for camera, bin_index, row, column in np.ndindex(3, 9, 4, 8):
        pixel = np.array([(column + 0.5) * 8, (row + 0.5) * 8, 1.0])
        ray = np.linalg.inv(rig.image_aug[camera] @ rig.intrinsics[camera]) @ pixel
        point = rig.ego_from_camera[camera] @ np.append(ray * centres[bin_index], 1.0)
        inside = GRID.contains(point[:2]) and GRID.z_min_m <= point[2] < GRID.z_max_m
        wanted = GRID.rows * GRID.columns
        if inside:
            c, r = np.floor(GRID.cell_from_metre(point[:2]))
            wanted = int(r) * GRID.columns + int(c)
            pixel_back, depth = rig.project(camera, point[None, :3])
            assert np.allclose(pixel_back, pixel[:2], atol=1e-6)
            assert depth[0] == pytest.approx(centres[bin_index])
            found += 1
        assert int(cells[0, camera, bin_index, row, column]) == wanted
    assert 100 < found < 3 * 9 * 32  # some on the grid, some off it


def test_a_bev_augmentation_moves_the_cells() -> None:
    rig = _rig()
    flip = np.diag([1.0, -1, 1, 1])
    plain = torch.from_numpy(rig.image_from_ego)[None]
    flipped = torch.from_numpy(rig.image_from_ego @ flip)[None]
    centres = torch.tensor([7.03, 11.21])
    kind = {"grid": GRID, "size_px": (32, 64), "size": (4, 8)}
    a, b = frustum_cells(plain, centres, **kind), frustum_cells(flipped, centres, **kind)  # type: ignore[arg-type]
    nowhere = GRID.rows * GRID.columns
    mirrored = (GRID.rows - 1 - a // GRID.columns) * GRID.columns + a % GRID.columns
    assert torch.equal(b, torch.where(a == nowhere, nowhere, mirrored))


def test_autocast_leaves_the_geometry_alone() -> None:
    image_from_ego = torch.from_numpy(_rig().image_from_ego.astype(np.float32))[None]
    centres = torch.tensor(DepthBins().centres_m)
    plain = frustum_cells(image_from_ego, centres, grid=GRID, size_px=(32, 64), size=(4, 8))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = frustum_cells(image_from_ego, centres, grid=GRID, size_px=(32, 64), size=(4, 8))
    assert torch.equal(plain, cast)


def test_measured_cells_are_the_frustums_at_that_depth() -> None:
    image_from_ego = torch.from_numpy(_rig().image_from_ego)[None]
    depths = torch.tensor([3.07, 7.03, 11.21, 200.0], dtype=torch.float64)
    torch.manual_seed(0)
    which = torch.randint(0, 4, (1, 3, 4, 8))
    kind = {"grid": GRID, "size_px": (32, 64)}
    cells = frustum_cells(image_from_ego, depths, size=(4, 8), **kind)  # type: ignore[arg-type]
    wanted = cells.gather(2, which[:, :, None])[:, :, 0]
    depth_m = depths[which]
    assert torch.equal(measured_cells(image_from_ego, depth_m, **kind), wanted)  # type: ignore[arg-type]
    depth_m[..., ::2] = 0
    wanted[..., ::2] = GRID.rows * GRID.columns
    assert torch.equal(measured_cells(image_from_ego, depth_m, **kind), wanted)  # type: ignore[arg-type]
    assert 0 < int((wanted < GRID.rows * GRID.columns).sum()) < wanted.numel()


def test_nearest_depth() -> None:
    depth_m = torch.tensor([[[[0.0, 9, 0, 0], [4, 5, 0, 0]]]])
    assert nearest_depth(depth_m, size=(1, 2)).tolist() == [[[[4.0, 0.0]]]]
    assert torch.equal(nearest_depth(depth_m, size=(2, 4)), depth_m)
    for size in ((1, 3), (2, 2), (1, 4), (4, 8)):
        with pytest.raises(UserError, match=r"data\.depth_stride"):
            nearest_depth(depth_m, size=size)


def test_a_measured_depth_competes_with_the_bins() -> None:
    logits = torch.zeros(1, 1, 3, 1, 2)
    known = torch.tensor([[[[True, False]]]])
    module = MeasuredDepth(trust=math.log(3.0))
    share = module(logits, known).softmax(dim=2)
    torch.testing.assert_close(share[0, 0, :, 0, 0], torch.tensor([1 / 6, 1 / 6, 1 / 6, 1 / 2]))
    torch.testing.assert_close(share[0, 0, :, 0, 1], torch.tensor([1 / 3, 1 / 3, 1 / 3, 0.0]))
    share[0, 0, 3].sum().backward()
    assert module.trust.grad == pytest.approx(0.25)


@pytest.mark.parametrize("spacing", ["uniform", "linear"])
def test_depth_bins(spacing: str) -> None:
    bins = DepthBins(2.0, 58.0, 12, spacing)  # type: ignore[arg-type]
    edges = np.array(bins.edges_m)
    assert edges[0] == 2.0
    assert edges[-1] == pytest.approx(58.0)
    widths = np.diff(edges)
    growth = 0.0 if spacing == "uniform" else widths[0]
    assert np.allclose(np.diff(widths), growth)
    assert np.allclose(bins.centres_m, 0.5 * (edges[1:] + edges[:-1]))


@pytest.mark.parametrize("wrong", [{"min_m": 0.0}, {"max_m": 0.5}, {"count": 1}, {"spacing": "log"}])
def test_wrong_depth_bins(wrong: dict[str, object]) -> None:
    with pytest.raises(UserError, match="DepthBins"):
        DepthBins(**wrong)  # type: ignore[arg-type]


def _naive(features: torch.Tensor, probability: torch.Tensor, cell: torch.Tensor, *, cells: int) -> torch.Tensor:
    batch, cameras, channels, height, width = features.shape
    out = torch.zeros(batch, channels, cells, dtype=features.dtype)
    for b, n, d, i, j in np.ndindex(batch, cameras, probability.shape[2], height, width):
        c = int(cell[b, n, d, i, j])
        if c < cells:
            out[b, :, c] += probability[b, n, d, i, j] * features[b, n, :, i, j]
    return out


@pytest.mark.parametrize("splat", [splat_sorted, splat_added])
@given(seed=st.integers(0, 2**16), cells=st.integers(1, 30))
def test_splat_against_loops(splat: Callable[..., torch.Tensor], seed: int, cells: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(2, 2, 3, 2, 3, generator=generator)
    probability = torch.rand(2, 2, 4, 2, 3, generator=generator)
    cell = torch.randint(0, cells + 1, (2, 2, 4, 2, 3), generator=generator)
    torch.testing.assert_close(
        splat(features, probability, cell, cells=cells), _naive(features, probability, cell, cells=cells)
    )


def test_both_splats_have_the_same_gradients() -> None:
    torch.manual_seed(0)
    cell = torch.randint(0, 21, (2, 3, 5, 4, 6))
    direction = torch.randn(2, 7, 20)
    gradients = []
    for splat in (splat_sorted, splat_added):
        torch.manual_seed(1)
        features = torch.randn(2, 3, 7, 4, 6, requires_grad=True)
        probability = torch.rand(2, 3, 5, 4, 6, requires_grad=True)
        (splat(features, probability, cell, cells=20) * direction).sum().backward()
        gradients.append((features.grad, probability.grad))
    for a, b in zip(*gradients):
        torch.testing.assert_close(a, b)
        assert float(a.abs().sum()) > 0


@pytest.mark.parametrize("splat", [splat_sorted, splat_added])
def test_nothing_on_the_grid(splat: Callable[..., torch.Tensor]) -> None:
    features, probability = torch.ones(1, 1, 2, 2, 2, requires_grad=True), torch.ones(1, 1, 3, 2, 2)
    out = splat(features, probability, torch.full((1, 1, 3, 2, 2), 4), cells=4)
    assert torch.equal(out, torch.zeros(1, 2, 4))
    out.sum().backward()
    assert torch.equal(features.grad, torch.zeros_like(features))


def test_an_absent_camera_leaves_nothing() -> None:
    torch.manual_seed(0)
    lift = LiftSplat(4, 3, depth=DepthBins(count=5)).eval()
    grid = BevGrid(-4.0, 4.0, -4.0, 4.0, 1.0)
    features = torch.randn(1, 2, 4, 3, 3)
    cell = torch.randint(0, 65, (1, 2, 5, 3, 3))
    present = torch.tensor([[True, False]])
    with torch.no_grad():
        lost, _ = lift(features, cell, present=present, grid=grid)
        features[:, 1] = torch.randn(4, 3, 3) * 100
        other, _ = lift(features, cell, present=present, grid=grid)
        nothing, _ = lift(features, cell, present=~present & False, grid=grid)
    assert torch.equal(lost, other)
    assert float(lost.abs().sum()) > 0
    assert float(nothing.abs().sum()) == 0
