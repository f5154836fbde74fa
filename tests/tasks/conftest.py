"""A tiny world, a tiny student, and runs that take a second."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch

from fusionkd.data import NuScenesDataModule, RasterView
from fusionkd.geometry import BevGrid
from fusionkd.models import FusionModel, build_model
from fusionkd.tasks import DistillationTask, OneCycle
from tests.data.tiny_world import TinyWorld

GRID = BevGrid(-51.2, 51.2, -51.2, 51.2, 3.2)


def student_spec(width: int = 8, seed_classes: str = "fusionkd.models") -> dict[str, Any]:
    """A LiDAR-only model on a 32 x 32 grid."""

    def part(name: str, **arguments: Any) -> dict[str, Any]:
        return {"class_path": f"{seed_classes}.{name}", "init_args": arguments}

    grid = {"x_min_m": -51.2, "x_max_m": 51.2, "y_min_m": -51.2, "y_max_m": 51.2, "cell_m": 3.2}
    return part(
        "FusionModel",
        grid=grid,
        lidar=part("RasterEncoder", view="raster", in_channels=12, channels=width, depth=1),
        fuser=part("SingleModality", in_channels=width),
        backbone=part("BevBackbone", in_channels=width, channels=width, levels=1),
        head=part("CenterHead", in_channels=width, shared_channels=width, branch_channels=None),
    )


def make_student(width: int = 8, *, seed: int = 0) -> FusionModel:
    torch.manual_seed(seed)
    return build_model(student_spec(width))


def make_data(root: Path, **options: Any) -> NuScenesDataModule:
    settings: dict[str, Any] = {
        "train_split": ["scene-0061", "scene-0103"],
        "val_split": ["scene-0103"],
        "grid": GRID,
        "lidar_views": {"raster": RasterView(GRID)},
        "image_size_px": (32, 64),
        "num_sweeps": 2,
        "batch_size": 2,
        "num_workers": 0,
        "cache_images_gb": 0.0,
    }
    return NuScenesDataModule(str(root), "v1.0-mini", **(settings | options))


def make_trainer(folder: Path, steps: int = 4, **options: Any) -> pl.Trainer:
    settings: dict[str, Any] = {
        "accelerator": "cpu",
        "devices": 1,
        "max_steps": steps,
        "default_root_dir": folder,
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
        "enable_checkpointing": False,
        "log_every_n_steps": 1,
    }
    return pl.Trainer(**(settings | options))


@pytest.fixture(scope="session")
def tiny_nuscenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Root of a tiny world that no test changes."""
    return TinyWorld(tmp_path_factory.mktemp("tasks")).root


@pytest.fixture(scope="session")
def trained(tiny_nuscenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoint of a tiny supervised run."""
    folder = tmp_path_factory.mktemp("trained")
    trainer = make_trainer(folder)
    trainer.fit(DistillationTask(make_student(seed=5), optimizer=OneCycle(lr=1e-2)), make_data(tiny_nuscenes))
    trainer.save_checkpoint(folder / "student.ckpt")
    return folder / "student.ckpt"


@pytest.fixture
def student() -> Callable[..., FusionModel]:
    return make_student
