"""What a validation leaves in an offline W&B run."""

import json
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger, WandbLogger
from picture_frames import boxes, made_up_frame
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader

from fusionkd.data import Frame
from fusionkd.errors import UserError
from fusionkd.geometry import Boxes3D
from fusionkd.visualize import WandbPictures, scene_from_frame
from fusionkd.visualize.wandb_pictures import box_corners, class_rows, point_scene

TOKENS = ("a" * 32, "b" * 32, "c" * 32)
ANNOTATIONS = boxes(("car", 10, 0), ("pedestrian", 5, 5), yaw_rad=0.4)
PREDICTIONS = boxes(("car", 10.5, 0), ("bus", -8, 3), score=0.75, yaw_rad=-0.4)


class _Data(pl.LightningDataModule):
    is_simulated = True

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    def frame(self, token: str) -> Frame:
        self.asked.append(token)
        frame = made_up_frame(ANNOTATIONS)
        return Frame(**{**vars(frame), "token": token})

    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(torch.zeros(2, 1), batch_size=1)

    def val_dataloader(self) -> DataLoader[Any]:
        return DataLoader(torch.zeros(1, 1), batch_size=1)


class _Task(pl.LightningModule):
    def __init__(self, predictions: dict[str, Boxes3D]) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.last_predictions = predictions

    def training_step(self, batch: Tensor, index: int) -> Tensor:
        return self.layer(batch).sum()

    def validation_step(self, batch: Tensor, index: int) -> None:
        for name, value in (("AP/car", 0.25), ("AP/car@0.5", 0.1), ("ATE/car", 0.5), ("AP/bus", 0.0)):
            self.log(f"val/{name}", value)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def _fit(folder: Path, callback: WandbPictures, logger: Any, task: _Task | None = None) -> _Data:
    data = _Data()
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=2,
        logger=logger,
        callbacks=[callback],
        default_root_dir=folder,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
    )
    trainer.fit(task or _Task(dict.fromkeys(TOKENS, PREDICTIONS)), datamodule=data)
    return data


@pytest.fixture
def _quiet_wandb(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, value in (("WANDB_MODE", "offline"), ("WANDB_SILENT", "true"), ("WANDB_CONSOLE", "off")):
        monkeypatch.setenv(name, value)
    for name in ("WANDB_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR", "WANDB_CONFIG_DIR", "WANDB_ARTIFACT_DIR"):
        monkeypatch.setenv(name, str(tmp_path))


@pytest.mark.usefixtures("_quiet_wandb")
def test_an_offline_run_keeps_pictures_scenes_and_the_table(tmp_path: Path) -> None:
    import wandb

    logger = WandbLogger(project="test", save_dir=tmp_path, offline=True)
    data = _fit(tmp_path, WandbPictures(), logger)
    wandb.finish()
    # Two validations (the sanity check logs nothing), one frame read once: the middle one.
    assert data.asked == [TOKENS[1]]
    (media,) = tmp_path.glob("wandb/offline-run-*/files/media")
    pictures = sorted(media.glob("images/pictures/bev_*.png"))
    scenes = sorted(media.glob("object3D/pictures/scene_*.pts.json"))
    tables = sorted(media.glob("table/val/classes_*.table.json"))
    assert (len(pictures), len(scenes), len(tables)) == (2, 2, 2)
    assert Image.open(pictures[0]).size == (1000, 1120)
    assert np.asarray(Image.open(pictures[0]).convert("L")).std() > 10
    content = json.loads(scenes[0].read_text())
    assert content["type"] == "lidar/beta"
    assert [box["label"] for box in content["boxes"]] == [
        "annotation, found: car",
        "prediction, matched: car",
        "annotation, missed: pedestrian",
        "prediction, invented: bus",
    ]
    table = json.loads(tables[0].read_text())
    assert table["columns"] == ["class", "AP", "ATE", "ASE", "AOE", "AVE", "AAE"]
    assert len(table["data"]) == 10
    assert table["data"][0] == ["car", 0.25, 0.5, None, None, None, None]


def test_other_loggers_are_left_alone(tmp_path: Path) -> None:
    data = _fit(tmp_path, WandbPictures(), CSVLogger(tmp_path))
    assert data.asked == []
    assert not list(tmp_path.rglob("media"))


@pytest.mark.usefixtures("_quiet_wandb")
def test_a_token_that_was_not_validated_is_named(tmp_path: Path) -> None:
    import wandb

    logger = WandbLogger(project="test", save_dir=tmp_path, offline=True)
    with pytest.raises(UserError, match="'nothing' is not among the 3 frames of this validation"):
        _fit(tmp_path, WandbPictures(token="nothing"), logger)
    wandb.finish()


@pytest.mark.usefixtures("_quiet_wandb")
def test_a_task_without_predictions_still_has_its_table(tmp_path: Path) -> None:
    import wandb

    logger = WandbLogger(project="test", save_dir=tmp_path, offline=True)
    _fit(tmp_path, WandbPictures(), logger, _Task({}))
    wandb.finish()
    (media,) = tmp_path.glob("wandb/offline-run-*/files/media")
    assert len(list(media.glob("table/val/classes_*.json"))) == 2
    assert not (media / "images").exists()


def test_the_scene_is_in_wandbs_format() -> None:
    frame = made_up_frame(ANNOTATIONS)
    scene = scene_from_frame(frame, PREDICTIONS, title="t", simulated=False)
    content = point_scene(scene)
    xyz, rgb = content["points"][:, :3], content["points"][:, 3:]
    assert np.abs(xyz - frame.points[:, :3]).max() <= 0.0051
    assert rgb.min() >= 0
    assert rgb.max() <= 255
    np.testing.assert_array_equal(rgb, np.round(rgb))
    for box in content["boxes"]:
        prediction = box["label"].startswith("prediction")
        assert set(box) == {"corners", "label", "color"} | ({"score"} if prediction else set())
        assert box["color"] == ([255, 255, 0] if prediction else [0, 255, 255])
        assert np.shape(box["corners"]) == (8, 3)
    assert [box.get("score") for box in content["boxes"]] == [None, 0.75, None, 0.75]
    vectors = content["vectors"]
    assert len(vectors) == 4
    np.testing.assert_allclose(vectors[0]["start"], [10, 0, 0.8], atol=1e-3)
    np.testing.assert_allclose(vectors[0]["end"], [10 + 3.25 * np.cos(0.4), 3.25 * np.sin(0.4), 0.8], atol=1e-3)


def test_a_scene_without_points_and_boxes_can_be_logged() -> None:
    frame = made_up_frame(None, points=np.zeros((0, 5), np.float32))
    content = point_scene(scene_from_frame(frame, None, title="t", simulated=False))
    assert content["points"].shape == (0, 6)
    assert len(content["boxes"]) == 0


def test_corners_have_wandbs_order_and_form_a_box() -> None:
    import wandb

    # wandb.box3d drops signs, so only turns to the left can be compared with it.
    box = boxes(("car", 12, -3), yaw_rad=0.6)
    wanted = wandb.box3d(
        center=box.xyz_m[0].astype(float),
        size=box.lwh_m[0].astype(float),
        orientation=[np.cos(0.3), 0, 0, np.sin(0.3)],
        color=(1, 1, 1),
    )
    np.testing.assert_allclose(box_corners(box)[0], wanted["corners"], atol=1e-6)
    right = boxes(("car", 12, -3), yaw_rad=-0.6)
    ours, known = box_corners(right)[0], right.corners()[0]
    gap = np.linalg.norm(ours[:, None] - known, axis=2)
    assert sorted(gap.argmin(axis=1).tolist()) == list(range(8))
    assert gap.min(axis=1).max() < 1e-5


def test_classes_that_were_not_measured_make_no_table() -> None:
    assert class_rows({"val/mAP": 0.1}) == []
    rows = class_rows({"val/AP/barrier": 0.5, "val/AVE/barrier": float("nan"), "val/ASE/barrier": 0.2})
    assert [row for row in rows if row[0] == "barrier"] == [["barrier", 0.5, None, 0.2, None, None, None]]
