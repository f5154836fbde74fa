"""A checkpoint records what its student reads, so that it can be exported without its configuration."""

import shutil
from pathlib import Path

import pytest
import torch

from fusionkd.errors import UserError
from fusionkd.export.spec import open_trained
from fusionkd.teachers.checkpoints import DEPLOY_KEY
from tests.tasks.conftest import make_data


def test_a_checkpoint_is_enough(trained: Path, tiny_nuscenes: Path, tmp_path: Path) -> None:
    alone = shutil.copy(trained, tmp_path / "student.ckpt")
    spec = open_trained(str(alone)).spec
    data = make_data(tiny_nuscenes)
    assert spec.lidar == data.collator.views["raster"]
    assert spec.num_sweeps == data.num_sweeps
    assert spec.camera is None


def test_one_that_records_nothing_asks_for_its_configuration(trained: Path, tmp_path: Path) -> None:
    content = torch.load(trained, weights_only=True)
    del content[DEPLOY_KEY]
    torch.save(content, tmp_path / "old.ckpt")
    with pytest.raises(UserError, match=r"old\.ckpt doesn't record what it reads .* --config FILE"):
        open_trained(str(tmp_path / "old.ckpt"))


def test_a_configuration_of_another_grid_is_refused(trained: Path, tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(
        "data: {init_args: {lidar_views: {raster: {class_path: fusionkd.data.RasterView, "
        "init_args: {grid: {cell_m: 1.6}}}}}}\n"
    )
    with pytest.raises(UserError, match="trained on another view or grid"):
        open_trained(str(trained), config)
