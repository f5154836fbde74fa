import copy
from dataclasses import replace
from typing import Any

import pytest
import torch

from fusionkd.errors import UserError
from fusionkd.models import CenterLoss, FusionModel, ModalityDropout, build_model, example_batch
from tests.models.conftest import CAMERA, GRID, PAINTED, PILLARS, RASTER, SIZE_PX, SPECS, labelled_batch, spec_of


def _maps(model: FusionModel, batch: Any) -> list[torch.Tensor]:
    with torch.no_grad():
        output = model(batch)
    return [output.heatmap, output.box_regression, output.heading_axis, output.bev]


def test_output_says_what_it_is(model: FusionModel) -> None:
    batch = labelled_batch(model)
    output = model(batch)
    assert output.heatmap.shape == (2, 10, *GRID.shape)
    assert output.box_regression.shape == (2, 1, 10, *GRID.shape)
    assert output.grid == GRID
    assert output.frame == "ego"
    assert (output.camera_bev is None) == (model.camera is None)
    assert (output.depth_logits is None) == (model.camera is None) == (output.depth_edges_m is None)
    assert (output.lidar_bev is None) == (model.lidar is None)
    for bev in (output.camera_bev, output.lidar_bev):
        assert bev is None or bev.shape[-2:] == GRID.shape


def test_the_same_again(model: FusionModel) -> None:
    model.eval()
    batch = labelled_batch(model)
    for a, b, c in zip(_maps(model, batch), _maps(model, batch), _maps(copy.deepcopy(model), batch)):
        assert torch.equal(a, b)
        assert torch.equal(a, c)


def test_training_is_deterministic() -> None:
    results = []
    for _ in range(2):
        torch.manual_seed(5)
        model = build_model(SPECS["camera+pillars"] | {})
        model.modality_dropout = ModalityDropout(0.3, 0.3)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
        for step in range(3):
            optimizer.zero_grad()
            batch = labelled_batch(model, seed=step)
            sum(CenterLoss()(model(batch), batch).values()).backward()
            optimizer.step()
        results.append(torch.cat([parameter.detach().flatten() for parameter in model.parameters()]))
    assert torch.equal(*results)


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_finite_gradients_reach_every_weight(model: FusionModel, precision: torch.dtype) -> None:
    batch = labelled_batch(model)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == torch.bfloat16):
        output = model(batch)
    losses = CenterLoss()(output, batch)
    assert all(loss.dtype == torch.float32 for loss in losses.values())
    sum(losses.values()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert float(parameter.grad.abs().sum()) > 0, name


def test_half_precision_is_close(model: FusionModel) -> None:
    model.eval()
    batch = labelled_batch(model)
    full = _maps(model, batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = _maps(model, batch)
    for a, b in zip(full, half):
        assert float((a - b.float()).abs().mean()) < 0.05 * float(a.abs().mean()) + 1e-3


@pytest.mark.parametrize("spec", ["camera+raster", "camera+pillars", "painted+raster"])
def test_a_lost_modality_does_not_matter(spec: str) -> None:
    torch.manual_seed(0)
    model = build_model(SPECS[spec]).eval()
    batch = labelled_batch(model)
    blind = replace(batch, camera_present=torch.zeros(2, 6, dtype=torch.bool))
    deaf = replace(batch, lidar_present=torch.zeros(2, dtype=torch.bool))
    noise = labelled_batch(model, seed=9)
    full = _maps(model, batch)
    for lost, other in (
        (blind, replace(blind, images=noise.images, image_from_ego=noise.image_from_ego)),
        (deaf, replace(deaf, lidar=noise.lidar, lidar_depth=noise.lidar_depth)),
    ):
        answers = _maps(model, lost)
        for a, b, c in zip(answers, _maps(model, other), full):
            assert torch.isfinite(a).all()
            assert torch.equal(a, b)
            assert not torch.equal(a, c)
    neither = replace(blind, lidar_present=deaf.lidar_present)
    assert all(torch.isfinite(x).all() for x in _maps(model, neither))


def test_one_lost_camera_matters_only_where_it_looks(fused: FusionModel) -> None:
    fused.eval()
    batch = labelled_batch(fused)
    present = torch.ones(2, 6, dtype=torch.bool)
    present[0, 2] = False
    with torch.no_grad():
        whole, lost = fused(batch), fused(replace(batch, camera_present=present))
    assert torch.equal(whole.camera_bev[1], lost.camera_bev[1])
    changed = (whole.camera_bev[0] - lost.camera_bev[0]).abs().sum(dim=0) > 0
    assert 0 < int(changed.sum()) < 0.4 * changed.numel()


def test_a_lidar_without_points() -> None:
    torch.manual_seed(0)
    model = build_model(SPECS["camera+pillars"])
    batch = labelled_batch(model)
    nothing = {name: tensor[:0] for name, tensor in batch.lidar["pillars"].items()}
    empty = replace(batch, lidar={"pillars": nothing}, lidar_present=torch.zeros(2, dtype=torch.bool))
    sum(CenterLoss()(model(empty), empty).values()).backward()
    assert all(torch.isfinite(x).all() for x in _maps(model.eval(), empty))


def test_measured_depth_moves_features_where_the_lidar_says() -> None:
    torch.manual_seed(0)
    model = build_model(SPECS["painted+raster"]).eval()
    batch = labelled_batch(model)
    unknown = replace(batch, lidar_depth=torch.zeros_like(batch.lidar_depth))
    deaf = replace(batch, lidar_present=torch.zeros(2, dtype=torch.bool))
    with torch.no_grad():
        seen, blind, alone = model(batch), model(unknown), model(deaf)
    assert torch.equal(seen.depth_logits, blind.depth_logits)  # the network's own depth is asked in any case
    assert not torch.allclose(seen.camera_bev, blind.camera_bev)
    torch.testing.assert_close(blind.camera_bev, alone.camera_bev)


def test_depth_maps_that_do_not_fit_are_refused() -> None:
    model = build_model(SPECS["painted+raster"])
    batch = labelled_batch(model)
    with pytest.raises(UserError, match=r"depth maps of \(3, 5\) cells.*data\.depth_stride"):
        model(replace(batch, lidar_depth=torch.ones(2, 6, 3, 5)))


def test_modality_dropout_only_in_training(fused: FusionModel) -> None:
    fused.modality_dropout = ModalityDropout(camera=0.0, lidar=1.0)
    batch = labelled_batch(fused)
    silent = replace(batch, lidar={"raster": {"raster": torch.zeros_like(batch.lidar["raster"]["raster"])}})
    fused.train()
    assert torch.equal(fused(batch).heatmap, fused(silent).heatmap)
    fused.eval()
    assert not torch.equal(fused(batch).heatmap, fused(silent).heatmap)


def test_it_learns_a_few_boxes(fused: FusionModel) -> None:
    batch = labelled_batch(fused)
    loss = CenterLoss()
    optimizer = torch.optim.AdamW(fused.parameters(), lr=1e-2)
    totals = []
    for _ in range(60):
        optimizer.zero_grad()
        losses = loss(fused(batch), batch)
        total = torch.stack(list(losses.values())).sum()
        total.backward()
        optimizer.step()
        totals.append({name: float(value.detach()) for name, value in losses.items()})
    for name, first in totals[0].items():
        assert totals[-1][name] < 0.75 * first, name
    assert sum(totals[-1].values()) < 0.3 * sum(totals[0].values())


class _Tensors(torch.nn.Module):
    """What is exported: the model from tensors alone."""

    def __init__(self, model: FusionModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, *args: torch.Tensor, lidar: dict[str, torch.Tensor]) -> tuple[torch.Tensor, ...]:
        images, cells, measured, camera_present, lidar_present = args
        out = self.model.forward_tensors(
            images, cells, measured, camera_present=camera_present, lidar=lidar, lidar_present=lidar_present
        )
        return tuple(x for x in out if x is not None)


@pytest.mark.parametrize("spec", ["camera+raster", "camera+pillars", "painted+raster"])
def test_torch_export(spec: str) -> None:
    torch.manual_seed(0)
    model = build_model(SPECS[spec]).eval()
    batch = labelled_batch(model, frames=1)
    cells = model.cells(batch.image_from_ego, size_px=SIZE_PX)
    measured = model.measured(batch, size_px=SIZE_PX)
    args = (batch.images, cells, measured, batch.camera_present, batch.lidar_present)
    kwargs = {"lidar": model.lidar_view(batch.lidar)}
    with torch.no_grad():
        program = torch.export.export(_Tensors(model), args, kwargs)
        exported = program.module()(*args, **kwargs)
    for a, b in zip(exported, _maps(model, batch)):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


def test_a_missing_view_is_named(fused: FusionModel) -> None:
    batch = labelled_batch(fused)
    with pytest.raises(UserError, match="reads the LiDAR view 'raster', but the data makes near, pillars"):
        fused(replace(batch, lidar={"pillars": {}, "near": {}}))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (spec_of(), "camera branch, a LiDAR branch or both; found neither"),
        (spec_of(CAMERA, RASTER, fuser=spec_of(CAMERA)["init_args"]["fuser"]), "SingleModality doesn't fit"),
        (spec_of(CAMERA, fuser=spec_of(CAMERA, RASTER)["init_args"]["fuser"]), "GatedFuser doesn't fit"),
        (spec_of(PAINTED), "measured_depth.*no LiDAR branch"),
        (
            spec_of(None, PILLARS, head={"class_path": "fusionkd.models.CenterHead", "init_args": {"in_channels": 9}}),
            r"branches give \[8\] channels",
        ),
    ],
    ids=["no branch", "two branches", "one branch", "depth of no LiDAR", "channels"],
)
def test_parts_that_do_not_fit(spec: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        build_model(spec)


def test_example_batch_is_the_same_everywhere(model: FusionModel) -> None:
    a, b, other = (example_batch(model, size_px=SIZE_PX, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(a.images, b.images)
    assert not torch.equal(a.images, other.images)
    cells = model.cells(a.image_from_ego, size_px=SIZE_PX)
    if cells is not None:  # the made-up cameras see the grid
        assert float((cells < GRID.rows * GRID.columns).float().mean()) > 0.2
