"""A small run with one teacher, as a configuration file."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from fusionkd.tasks import DistillationTask
from tests.data.tiny_world import TinyWorld
from tests.tasks.conftest import make_data, make_student, make_trainer, student_spec

TERMS = "fusionkd.distillation"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return TinyWorld(tmp_path_factory.mktemp("cli")).root


@pytest.fixture(scope="module")
def teacher(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("teacher") / "student.ckpt"
    trainer = make_trainer(path.parent, steps=1, limit_val_batches=0)
    trainer.fit(DistillationTask(make_student()), make_data(world))
    trainer.save_checkpoint(path)
    return path


@pytest.fixture
def config(world: Path, teacher: Path, tmp_path: Path) -> Path:
    """A small run with a teacher, as a file."""
    spec = student_spec()
    grid = spec["init_args"].pop("grid")
    content: dict[str, Any] = {
        "trainer": {
            "accelerator": "cpu",
            "max_steps": 2,
            "logger": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "num_sanity_val_steps": 0,
            "default_root_dir": str(tmp_path / "run"),
            "callbacks": [{"class_path": "fusionkd.tasks.EndReport"}],
        },
        "data": {
            "class_path": "fusionkd.data.NuScenesDataModule",
            "init_args": {
                "root": str(world),
                "train_split": ["scene-0061", "scene-0103"],
                "val_split": ["scene-0103"],
                "grid": grid,
                "lidar_views": {"raster": {"class_path": "fusionkd.data.RasterView", "init_args": {"grid": grid}}},
                "image_size_px": [32, 64],
                "num_sweeps": 1,
                "batch_size": 2,
                "num_workers": 0,
                "cache_images_gb": 0,
            },
        },
        "model": {
            "student": spec,
            "teachers": {
                "lidar": {"class_path": "fusionkd.teachers.FrozenTeacher", "init_args": {"checkpoint": str(teacher)}}
            },
            "terms": {
                "heatmap": {"class_path": f"{TERMS}.HeatmapResponse", "init_args": {"teacher": "lidar"}},
                "bev": {"class_path": f"{TERMS}.FeatureMimic", "init_args": {"teacher": "lidar"}},
            },
        },
    }
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(content))
    return path
