from pathlib import Path

import pytest
import torch

from fusionkd.distillation import BoxResponse, HeatmapResponse
from fusionkd.errors import UserError
from fusionkd.tasks import DistillationTask, GradientShares, gradient_norms
from fusionkd.teachers import FrozenTeacher
from tests.tasks.conftest import make_data, make_student, make_trainer
from tests.tasks.test_training import Recorder


def test_norms_against_known_gradients() -> None:
    x, y = torch.tensor([3.0, 4.0], requires_grad=True), torch.tensor(1.0, requires_grad=True)
    losses = {"square": (x**2).sum() / 2, "both": 2 * x[0] + y, "constant": torch.tensor(7.0), "other": 5.0 * y}
    norms = gradient_norms(losses, [x, y])
    assert norms["square"] == pytest.approx(5.0)
    assert norms["both"] == pytest.approx(5**0.5)
    assert norms["constant"] == 0.0
    assert gradient_norms({"other": losses["other"]}, [x])["other"] == 0.0, "a loss that doesn't reach the parameters"
    sum(losses.values()).backward()  # the graph is still there
    assert x.grad is not None


def test_shares_are_logged_and_change_nothing(trained: Path, tiny_nuscenes: Path, tmp_path: Path) -> None:
    def fit(*callbacks: object) -> tuple[DistillationTask, Recorder]:
        recorder = Recorder()
        task = DistillationTask(
            make_student(seed=1),
            teachers={"lidar": FrozenTeacher(str(trained))},
            terms={"heatmap": HeatmapResponse("lidar"), "box": BoxResponse("lidar")},
        )
        trainer = make_trainer(tmp_path, callbacks=[recorder, *callbacks])
        trainer.fit(task, make_data(tiny_nuscenes))
        return task, recorder

    watched, seen = fit(GradientShares(every_n_steps=1))
    alone, _ = fit()
    for name in ("distill/heatmap", "distill/box", "loss/heatmap", "loss/box"):
        assert {f"gradient/{name}", f"share/{name}"} <= seen.names
    assert not watched.step_losses, "no step's graph is kept"
    for name, value in alone.student.state_dict().items():
        assert torch.equal(value, watched.student.state_dict()[name]), name


def test_no_interval_is_a_mistake() -> None:
    with pytest.raises(UserError, match="at least 1, found 0"):
        GradientShares(0)
