from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from fusionkd.distillation import (
    Affinity,
    Contrastive,
    FeatureMimic,
    PearsonFeature,
    RelationDistance,
    Term,
    check_modules,
    recording,
)
from fusionkd.distillation.resample import bev_tap
from fusionkd.errors import UserError
from fusionkd.models.values import FusionOutput
from tests.distillation.conftest import FINE, GRID, make_batch, make_output


class Pair(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, x


def model() -> nn.Sequential:
    return nn.Sequential(nn.Sequential(nn.Linear(3, 4), nn.ReLU()), nn.Linear(4, 2))


def test_recorded_is_what_the_module_gave_with_its_graph() -> None:
    net, x = model(), torch.randn(5, 3)
    with recording(net, ["0.0", "1"]) as found:
        output = net(x)
    assert torch.equal(found["0.0"], net[0][0](x))
    assert found["1"] is output
    (gradient,) = torch.autograd.grad(found["0.0"].sum(), net[0][0].bias)
    assert torch.equal(gradient, torch.full((4,), 5.0))


def test_nothing_stays_behind() -> None:
    net = model()
    with pytest.raises(ZeroDivisionError), recording(net, ["0"]) as found:
        raise ZeroDivisionError
    net(torch.randn(1, 3))
    assert found == {}


def test_last_of_several_passes_counts() -> None:
    net = model()
    with recording(net, ["1"]) as found:
        net(torch.zeros(1, 3))
        output = net(torch.ones(1, 3))
    assert found["1"] is output


@pytest.mark.parametrize(("path", "word"), [("0.2", "0.0"), ("neck", "0")])
def test_path_of_no_module(path: str, word: str) -> None:
    with pytest.raises(UserError, match=word), recording(model(), [path]):
        pass
    with pytest.raises(UserError, match=f"Term 'mine' asks for the tap '{path}' of the student, but no module"):
        check_modules(["bev", path], model(), term="mine", owner="the student")


def test_module_that_gives_two_tensors() -> None:
    net = nn.Sequential(Pair())
    with pytest.raises(UserError, match="'0' gives a tuple"), recording(net, ["0"]):
        net(torch.zeros(1))


def test_fields_are_no_modules() -> None:
    check_modules(["heatmap", "bev", "lidar_bev"], model(), term="mine", owner="the student")


def with_modules(output: FusionOutput, **maps: Tensor) -> FusionOutput:
    return replace(output, hooked=maps)


class TestTermsOnModules:
    def test_map_of_larger_cells_is_resampled_to_the_models_grid(self) -> None:
        output = make_output()
        coarse = torch.arange(16.0).reshape(1, 1, 4, 4).expand(2, 1, 4, 4)
        fine = bev_tap(with_modules(output, neck=coarse), "neck")
        assert fine.shape == (2, 1, GRID.rows, GRID.columns)
        # Cells in the middle of a coarse cell keep its value; the mean of all is that of the coarse cells.
        assert float(fine[0, 0].mean()) == pytest.approx(7.5, abs=0.5)
        assert float(fine[0, 0, 12, 12]) == pytest.approx(float(coarse[0, 0, 1, 1]), abs=0.7)
        assert bev_tap(output, "bev") is output.bev

    @pytest.mark.parametrize("shape", [(2, 4, 5, 4), (6, 4, 4, 4), (2, 4)])
    def test_map_of_other_ground_is_refused(self, shape: tuple[int, ...]) -> None:
        with pytest.raises(UserError, match="no map of the grid's 32 x 32 cells for 2 frames"):
            bev_tap(with_modules(make_output(), neck=torch.zeros(shape)), "neck")

    @pytest.mark.parametrize("term", [FeatureMimic, PearsonFeature, RelationDistance, Affinity, Contrastive])
    def test_terms_read_modules(self, term: Callable[..., Term]) -> None:
        neck = torch.randn(2, 6, 16, 16, requires_grad=True)
        student = with_modules(make_output(seed=1), neck=neck)
        teachers = {"t": with_modules(make_output(FINE, seed=2), **{"necks.0": torch.randn(2, 3, 8, 8)})}
        made = term("t", student_tap="neck", teacher_tap="necks.0")
        made.prepare("mine", student, teachers)
        made(student, teachers, make_batch()).backward()
        assert neck.grad is not None
        assert float(neck.grad.abs().sum()) > 0

    def test_image_maps_are_compared_with_image_maps(self) -> None:
        encoder = torch.randn(2 * 3, 4, 6, 10, requires_grad=True)
        student = with_modules(make_output(seed=1), encoder=encoder)
        teachers = {"t": with_modules(make_output(seed=2), encoder=torch.randn(2 * 3, 5, 12, 20))}
        term = FeatureMimic("t", student_tap="encoder", teacher_tap="encoder", mask="none")
        term.prepare("mine", student, teachers)
        term(student, teachers, make_batch()).backward()
        assert encoder.grad is not None
        for wrong in ({"mask": "teacher"}, {"teacher_tap": "bev"}):
            options = {"student_tap": "encoder", "teacher_tap": "encoder", "mask": "none"} | wrong
            refused = FeatureMimic("t", **options)
            refused.prepare("mine", student, teachers)
            with pytest.raises(UserError, match="images with each other and the mask 'none'"):
                refused(student, teachers, make_batch())
