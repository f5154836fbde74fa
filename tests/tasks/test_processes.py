"""Two processes train one student, each on its share of the frames."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch

from fusionkd.distillation import FeatureMimic, HeatmapResponse, StopAfter
from fusionkd.tasks import DistillationTask, StudentAverage
from fusionkd.teachers import FrozenTeacher
from tests.tasks.conftest import make_data, make_student, make_trainer


def fit(root: Path, teacher: Path, folder: Path, *, processes: int) -> tuple[dict[str, torch.Tensor], float]:
    pl.seed_everything(0, verbose=False)
    terms = {"heatmap": HeatmapResponse("lidar"), "bev": FeatureMimic("lidar", schedule=StopAfter(0.4))}
    task = DistillationTask(
        # Without batch statistics, which see only a process's own share, both runs take the same steps.
        frozen_norms(make_student(seed=1)),
        teachers={"lidar": FrozenTeacher(str(teacher))},
        terms=terms,
    )
    strategy = "ddp_fork" if processes > 1 else "auto"
    options = {"devices": processes, "strategy": strategy, "callbacks": [StudentAverage(), Keep(folder)]}
    trainer = make_trainer(folder, steps=3, val_check_interval=3, check_val_every_n_epoch=None, **options)
    trainer.fit(task, make_data(root, batch_size=2 // processes))
    kept = torch.load(folder / "rank0.pt", weights_only=True)
    for rank in range(1, processes):
        other = torch.load(folder / f"rank{rank}.pt", weights_only=True)
        assert all(torch.equal(kept["weights"][name], value) for name, value in other["weights"].items())
        assert kept["mATE"] == other["mATE"]
    return kept["weights"], kept["mATE"]


class Keep(pl.Callback):
    """What each process ends with."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        content = {"weights": pl_module.student.state_dict(), "mATE": pl_module.figures["mATE"]}
        torch.save(content, self.folder / f"rank{trainer.global_rank}.pt")


def frozen_norms(student: torch.nn.Module) -> torch.nn.Module:
    for module in student.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()
            module.train = lambda mode=True, module=module: module  # type: ignore[method-assign, assignment, misc]
    return student


@pytest.mark.slow
def test_two_processes_agree_with_each_other(trained: Path, tiny_nuscenes: Path, tmp_path: Path) -> None:
    (tmp_path / "two").mkdir()
    # Forked from an interpreter of its own: where an earlier test left autograd with threads, this one can't fork.
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as fresh:
        weights, error = fresh.submit(fit, tiny_nuscenes, trained, tmp_path / "two", processes=2).result()
    (tmp_path / "one").mkdir()
    _, alone = fit(tiny_nuscenes, trained, tmp_path / "one", processes=1)
    start = make_student(seed=1).state_dict()
    assert any(not torch.equal(start[name], value) for name, value in weights.items()), "nothing was learnt"
    assert error == pytest.approx(alone, abs=0.2)
