import pytest
import torch
from torch import Tensor, nn

from fusionkd.distillation import check_modules, recording
from fusionkd.errors import UserError


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
