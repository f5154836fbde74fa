"""Image encoders, fuser, backbone, head."""

from pathlib import Path

import pytest
import torch
import torchvision

from fusionkd.errors import UserError
from fusionkd.geometry import DETECTION_CLASSES
from fusionkd.models import (
    NUSCENES_TASKS,
    BevBackbone,
    CameraBranch,
    CenterHead,
    ConvFuser,
    GatedFuser,
    ImageEncoder,
    ModalityDropout,
    PlainEncoder,
    SingleModality,
    build_model,
    example_batch,
)
from tests.models.conftest import GRID, SPECS


@pytest.mark.parametrize(
    ("backbone", "layers", "stride"),
    [
        ("resnet18", ["layer1", "layer2"], 4),
        ("resnet18", ["layer2"], 8),
        ("mobilenet_v3_small", ["features.3", "features.8"], 8),
        ("regnet_x_400mf", ["trunk_output.block2"], 8),
    ],
)
def test_backbones_by_name(backbone: str, layers: list[str], stride: int) -> None:
    encoder = ImageEncoder(backbone, layers, channels=16)
    assert encoder.stride == stride
    assert encoder.training
    assert encoder(torch.zeros(2, 3, 64, 96)).shape == (2, 16, 64 // stride, 96 // stride)
    whole = torchvision.models.get_model(backbone, weights=None)
    assert _parameters(encoder) < _parameters(whole)


def _parameters(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_weights_of_the_whole_network(tmp_path: Path) -> None:
    torch.manual_seed(3)
    network = torchvision.models.resnet18()
    torch.save(network.state_dict(), tmp_path / "resnet18.pth")
    encoder = ImageEncoder("resnet18", ["layer1"], channels=8, weights=str(tmp_path / "resnet18.pth"))
    images = torch.randn(1, 3, 32, 32)
    stem = torch.nn.Sequential(network.conv1, network.bn1, network.relu, network.maxpool, network.layer1).eval()
    with torch.no_grad():
        torch.testing.assert_close(encoder.body.eval()(images)["0"], stem(images))


@pytest.mark.parametrize(
    "wrong",
    [{"backbone": "resnet19"}, {"layers": ["layer9"]}, {"weights": "nowhere.pth"}],
    ids=["backbone", "layer", "weights"],
)
def test_wrong_backbones_are_named(wrong: dict[str, object]) -> None:
    with pytest.raises(UserError) as error:
        ImageEncoder(**wrong)  # type: ignore[arg-type]
    (value,) = wrong.values()
    assert (value[0] if isinstance(value, list) else value) in str(error.value)


def test_plain_encoder() -> None:
    encoder = PlainEncoder([6, 8, 10], channels=12)
    assert encoder(torch.zeros(2, 3, 48, 64)).shape == (2, 12, 6, 8)
    with pytest.raises(UserError, match="two levels"):
        PlainEncoder([6])


def test_images_that_are_no_multiple_of_the_stride() -> None:
    branch = CameraBranch(PlainEncoder([6, 8]), image_scale=0.5)
    assert branch.feature_size((96, 256)) == (6, 16)
    with pytest.raises(UserError, match=r"90 x 256.*stride 8.*data\.image_size_px"):
        branch.feature_size((90, 256))
    with pytest.raises(UserError, match="image_scale"):
        CameraBranch(PlainEncoder([6, 8]), image_scale=1.5)


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_images_scaled_inside_the_branch(scale: float) -> None:
    """A scene of one colour ramp: the smaller images must look at the same places."""
    torch.manual_seed(0)
    model = build_model(SPECS["camera"])
    branch = CameraBranch(model.camera.encoder, channels=3, image_scale=scale).eval()
    batch = example_batch(model, size_px=(64, 128))
    cells = branch.cells(batch.image_from_ego, grid=GRID, size_px=(64, 128))
    bev, logits = branch(batch.images, cells, present=batch.camera_present, grid=GRID)
    assert logits.shape[-2:] == cells.shape[-2:] == (8 * scale, 16 * scale)
    seen = (bev.abs().sum(dim=1)[0] > 0).float()
    ahead, behind = seen[:, GRID.columns // 2 :], seen[:, : GRID.columns // 2].flip(1)
    assert float(seen.mean()) > 0.1
    assert float((ahead - behind).abs().mean()) < 0.2  # six cameras look all around


def test_gated_fuser() -> None:
    torch.manual_seed(0)
    fuser = GatedFuser([3, 5], 4).eval()
    camera, lidar = torch.randn(3, 3, 6, 6), torch.randn(3, 5, 6, 6)
    present = torch.tensor([[True, True], [True, False], [False, False]])
    with torch.no_grad():
        fused = fuser([camera, lidar], present)
        mapped = [layer(x) for layer, x in zip(fuser.maps, (camera, lidar))]
        low, high = torch.minimum(*mapped)[0], torch.maximum(*mapped)[0]
        other = fuser([camera, lidar + 5 * (torch.arange(3) > 0)[:, None, None, None]], present)
    # Between the two where both are there, the present one alone, nothing at all.
    assert bool(((fused[0] >= low - 1e-6) & (fused[0] <= high + 1e-6)).all())
    assert float((fused[0] - low).abs().max()) > 1e-3
    torch.testing.assert_close(fused[1], mapped[0][1])
    assert float(fused[2].abs().sum()) == 0
    assert torch.equal(fused, other)


def test_gates_depend_on_the_cell() -> None:
    torch.manual_seed(0)
    fuser = GatedFuser([2, 2], 2, kernel=3).eval()
    camera, lidar = torch.randn(1, 2, 5, 5), torch.randn(1, 2, 5, 5)
    votes = sum(gate(layer(x)) for gate, layer, x in zip(fuser.gates, fuser.maps, (camera, lidar)))
    weight = votes.softmax(dim=1)
    wanted = sum(layer(x) * weight[:, m : m + 1] for m, (layer, x) in enumerate(zip(fuser.maps, (camera, lidar))))
    torch.testing.assert_close(fuser([camera, lidar], torch.ones(1, 2, dtype=torch.bool)), wanted)
    assert weight.std().item() > 0


def test_conv_fuser() -> None:
    torch.manual_seed(0)
    fuser = ConvFuser([3, 5], 4).eval()
    camera, lidar = torch.randn(2, 3, 6, 6), torch.randn(2, 5, 6, 6)
    present = torch.tensor([[True, True], [False, True]])
    with torch.no_grad():
        fused = fuser([camera, lidar], present)
        conv, norm, _ = fuser.layers
        sides = [conv.weight[:, :3], conv.weight[:, 3:]]
        parts = [torch.nn.functional.conv2d(x, side, padding=1) for x, side in zip((camera, lidar), sides)]
        wanted = [parts[0][0] + parts[1][0], parts[1][1]]  # both; the lost one adds nothing
        torch.testing.assert_close(fused, norm(torch.stack(wanted)).relu())
    assert fuser.out_channels == 4


def test_single_modality() -> None:
    features = torch.randn(2, 3, 4, 4)
    out = SingleModality(3)([features], torch.tensor([[True], [False]]))
    assert torch.equal(out[0], features[0])
    assert float(out[1].abs().sum()) == 0


def test_modality_dropout() -> None:
    dropout = ModalityDropout(camera=0.3, lidar=0.2)
    torch.manual_seed(0)
    both = torch.ones(20000, 2, dtype=torch.bool)
    kept = dropout(both)
    lost = (~kept).float().mean(dim=0)
    assert lost.tolist() == pytest.approx([0.3, 0.2], abs=0.01)
    assert bool(kept.any(dim=1).all())  # never both
    alone = torch.tensor([[True, False], [False, True]]).repeat(1000, 1)
    assert torch.equal(dropout(alone), alone)
    assert torch.equal(dropout.eval()(both), both)
    torch.manual_seed(0)
    assert torch.equal(dropout.train()(both), kept)


@pytest.mark.parametrize("wrong", [(-0.1, 0.0), (0.6, 0.6)])
def test_wrong_probabilities(wrong: tuple[float, float]) -> None:
    with pytest.raises(UserError, match="ModalityDropout"):
        ModalityDropout(*wrong)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("levels", [1, 3])
def test_backbone_keeps_the_resolution(stride: int, levels: int) -> None:
    backbone = BevBackbone(5, channels=16, levels=levels, stride=stride, out_channels=7)
    assert backbone(torch.randn(2, 5, 24, 40)).shape == (2, 7, 24, 40)
    assert BevBackbone(5, channels=16).out_channels == 16


def test_backbone_sees_far() -> None:
    torch.manual_seed(0)
    backbone = BevBackbone(1, channels=8, levels=3).eval()
    x = torch.randn(1, 1, 64, 64, requires_grad=True)
    backbone(x)[0, :, 32, 32].sum().backward()
    reach = x.grad[0, 0].nonzero()
    assert int(reach[:, 0].max() - reach[:, 0].min()) > 20


SHUFFLED = (("bicycle", "car"), tuple(name for name in DETECTION_CLASSES if name not in ("bicycle", "car")))


@pytest.mark.parametrize("tasks", [None, NUSCENES_TASKS, SHUFFLED], ids=["one", "six", "shuffled"])
@pytest.mark.parametrize("width", [None, 4])
def test_head_shapes_and_prior(tasks: tuple[tuple[str, ...], ...] | None, width: int | None) -> None:
    torch.manual_seed(0)
    head = CenterHead(6, tasks=tasks, shared_channels=8, branch_channels=width)
    heatmap, regression, axis = head(torch.randn(2, 6, 12, 10))
    groups = len(tasks) if tasks else 1
    assert heatmap.shape == (2, 10, 12, 10)
    assert regression.shape == (2, groups, 10, 12, 10)
    assert axis is not None
    assert axis.shape == (2, groups, 2, 12, 10)
    assert 0.05 < heatmap.sigmoid().mean().item() < 0.2
    assert CenterHead(6, heading_axis=False)(torch.randn(1, 6, 4, 4))[2] is None


@pytest.mark.parametrize("width", [None, 4])
def test_heatmap_channels_are_in_the_order_of_the_labels(width: int | None) -> None:
    torch.manual_seed(0)
    head = CenterHead(3, tasks=SHUFFLED, shared_channels=4, branch_channels=width).eval()
    assert head.classes == DETECTION_CLASSES
    assert [head.task_of_class[DETECTION_CLASSES.index(name)] for name in ("bicycle", "car", "truck")] == [0, 0, 1]
    bev = torch.randn(1, 3, 5, 5)
    with torch.no_grad():
        before = head(bev)[0]
        last = head.task_heads[0]
        layer = last if width is None else last["heatmap"][1]
        layer.bias[-2] += 1.0  # bicycle is the first of its task's two heatmaps
        changed = (head(bev)[0] - before).abs().amax(dim=(0, 2, 3))
    assert torch.nonzero(changed > 0.5).flatten().tolist() == [DETECTION_CLASSES.index("bicycle")]


@pytest.mark.parametrize(
    ("tasks", "named"),
    [
        ([["car", "lorry"]], "unknown: lorry"),
        ([list(DETECTION_CLASSES[:-1])], "missing: traffic_cone"),
        ([list(DETECTION_CLASSES), ["car"]], "named twice: car"),
    ],
)
def test_wrong_tasks_are_named(tasks: list[list[str]], named: str) -> None:
    with pytest.raises(UserError, match=named):
        CenterHead(3, tasks=tasks)
