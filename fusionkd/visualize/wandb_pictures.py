"""Pictures of each validation in Weights and Biases."""

from itertools import product
from typing import Any

import lightning.pytorch as pl
import numpy as np
from lightning.pytorch.loggers import WandbLogger
from numpy.typing import NDArray

from fusionkd.data import Frame
from fusionkd.errors import UserError
from fusionkd.geometry import DETECTION_CLASSES, Boxes3D
from fusionkd.metrics import TP_ERRORS
from fusionkd.visualize.bev import RANGE_M, bev_figure
from fusionkd.visualize.scene import SCORE_THRESHOLD, BoxSet, Scene, scene_from_frame

_UNIT_CORNERS = np.array(list(product((-0.5, 0.5), repeat=3)))


class WandbPictures(pl.Callback):
    """When a validation ends, logs one frame from above and in 3D, and the average precision per class.

    The task has ``last_predictions``, boxes in the ego frame by sample token. The frame is the same each time, so
    that progress shows. Where the run isn't logged to Weights and Biases, nothing happens.

    Args:
        token: Sample token of the frame; None takes the middle one of the first validation.
        score_threshold: Predictions below this score are left out.
    """

    def __init__(self, token: str | None = None, score_threshold: float = SCORE_THRESHOLD) -> None:
        self.token = token
        self.score_threshold = score_threshold
        self._frame: Frame | None = None

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the pictures."""
        loggers = [logger for logger in trainer.loggers if isinstance(logger, WandbLogger)]
        if trainer.sanity_checking or not trainer.is_global_zero or not loggers:
            return
        # Imported here because only a run that is tracked needs it.
        import wandb

        content: dict[str, Any] = {"trainer/global_step": trainer.global_step}
        rows = class_rows({name: float(value) for name, value in trainer.callback_metrics.items()})
        if rows:
            content["val/classes"] = wandb.Table(columns=["class", "AP", *TP_ERRORS], data=rows)
        scene = self._scene(trainer, pl_module)
        if scene is not None:
            content["pictures/bev"] = wandb.Image(bev_figure(scene), caption=scene.title)
            content["pictures/scene"] = wandb.Object3D(point_scene(scene), caption=scene.title)
        for logger in loggers:
            logger.experiment.log(content)

    def _scene(self, trainer: pl.Trainer, task: pl.LightningModule) -> Scene | None:
        predictions: dict[str, Boxes3D] = getattr(task, "last_predictions", {})
        token = self._token(predictions)
        if token is None:
            return None
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        if self._frame is None or self._frame.token != token:
            self._frame = data.frame(token)
        return scene_from_frame(
            self._frame,
            predictions[token],
            title=f"{self._frame.scene}, step {trainer.global_step}",
            simulated=bool(data.is_simulated),
            score_threshold=self.score_threshold,
        )

    def _token(self, predictions: dict[str, Boxes3D]) -> str | None:
        if self.token is not None:
            if self.token not in predictions:
                raise UserError(
                    f"WandbPictures: {self.token!r} is not among the {len(predictions)} frames of this validation. "
                    f"Give the sample token of a validation frame, or none."
                )
            return self.token
        # The same frame as last time, so that progress shows.
        if self._frame is not None and self._frame.token in predictions:
            return self._frame.token
        tokens = list(predictions)
        return tokens[len(tokens) // 2] if tokens else None


def point_scene(scene: Scene) -> dict[str, Any]:
    """A scene in the format of ``wandb.Object3D``: points with colours, labelled boxes, headings as vectors."""
    near = np.abs(scene.points_m[:, :2]).max(axis=1, initial=0) < RANGE_M
    # Two decimals, because the numbers are written as text.
    points = np.round(scene.points_m[near].astype(np.float64), 2)
    colours = np.round(scene.point_rgb[near].astype(np.float64) * 255)
    boxes = [box for of_set in scene.box_sets for box in _labelled_boxes(of_set)]
    vectors = [vector for of_set in scene.box_sets for vector in _headings(of_set.boxes)]
    return {
        "type": "lidar/beta",
        "points": np.concatenate([points, colours], axis=1),
        "boxes": np.array(boxes, dtype=object),
        "vectors": np.array(vectors, dtype=object),
    }


def class_rows(metrics: dict[str, float]) -> list[list[str | float | None]]:
    """Average precision and errors per class, from metrics named ``val/AP/car``, ``val/ATE/car``, ...

    Returns:
        Rows (class, AP, errors in the order of ``TP_ERRORS``), None where nuScenes defines none; no rows where
        nothing was measured.
    """
    columns = ("AP", *TP_ERRORS)
    rows: list[list[str | float | None]] = []
    for name in DETECTION_CLASSES:
        values = [metrics.get(f"val/{column}/{name}", float("nan")) for column in columns]
        rows.append([name, *(None if np.isnan(value) else value for value in values)])
    return rows if any(row[1] is not None for row in rows) else []


def box_corners(boxes: Boxes3D) -> NDArray[np.float64]:
    """Corners (N, 8, 3) in the order that ``wandb.box3d`` gives them.

    In float64, because W&B refuses corners that rounding has moved off a box. Not by ``wandb.box3d`` itself, which
    loses the sign of the rotation.
    """
    yaw = boxes.yaw_rad.astype(np.float64)[:, None]
    local = _UNIT_CORNERS * boxes.lwh_m.astype(np.float64)[:, None]  # (N, 8, 3)
    x = local[..., 0] * np.cos(yaw) - local[..., 1] * np.sin(yaw)
    y = local[..., 0] * np.sin(yaw) + local[..., 1] * np.cos(yaw)
    return np.asarray(np.stack([x, y, local[..., 2]], axis=-1) + boxes.xyz_m.astype(np.float64)[:, None])


def _labelled_boxes(of_set: BoxSet) -> list[dict[str, Any]]:
    # Only 0 and 255: W&B's viewer has taken colours both as 0..1 and as 0..255, and these mean the same in both.
    colour = [255 if channel >= 0.5 else 0 for channel in of_set.colour_rgb]
    out = []
    for corners, label, score in zip(box_corners(of_set.boxes), of_set.boxes.label, of_set.boxes.score):
        text = f"{of_set.name}: {DETECTION_CLASSES[label]}"
        box = {"corners": corners.tolist(), "label": text, "color": colour}
        # With a score W&B's viewer can hide the unsure ones.
        out.append({**box, "score": round(float(score), 4)} if of_set.is_prediction else box)
    return out


def _headings(boxes: Boxes3D) -> list[dict[str, list[float]]]:
    reach = boxes.lwh_m[:, 0] / 2 + 1.0
    forward = np.stack([np.cos(boxes.yaw_rad), np.sin(boxes.yaw_rad), np.zeros(len(boxes))], axis=1)
    ends = boxes.xyz_m + reach[:, None] * forward
    return [
        {"start": [round(float(v), 3) for v in start], "end": [round(float(v), 3) for v in end]}
        for start, end in zip(boxes.xyz_m, ends)
    ]
