"""A callback that keeps what a training of ``kd_gain.py`` reached, scene by scene resampled."""

import json
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np

from fusionkd.geometry import DETECTION_CLASSES
from fusionkd.metrics import Detections, DetectionTruth, evaluate, figures_by_distance, scene_bootstrap
from fusionkd.tasks import SupervisedTask

DRAWS = 200
"""Resampled sets of validation scenes; the same ones for every training, so that differences are paired."""


class KeepFigures(pl.Callback):
    """Writes the student's figures after validation.

    Args:
        path: The JSON file.
    """

    def __init__(self, path: str) -> None:
        self.path = Path(path)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Judge what the metric has collected; the task computes and resets it afterwards."""
        assert isinstance(pl_module, SupervisedTask)
        metric = pl_module.metrics["val"]
        index = pl_module.data.index
        scene_of = dict(zip(index.sample_tokens, index.samples.scene, strict=True))
        scenes = [str(scene_of[token]) for token in metric.truth.tokens]
        content = judged(metric.truth, metric.results(), scenes) | {"simulated": pl_module.data.is_simulated}
        self.path.write_text(json.dumps(content))


def judged(truth: DetectionTruth, found: Detections, scenes: list[str]) -> dict[str, Any]:
    """All seven figures, APs per class and range, and mAP and NDS on resampled scenes."""
    figures = evaluate(truth, found)
    errors = dict(zip(("mATE", "mASE", "mAOE", "mAVE", "mAAE"), figures.mean_tp_error.tolist(), strict=True))
    ranges = figures_by_distance(truth, found, edges_m=(0.0, 20.0, 30.0, 50.0))
    drawn = scene_bootstrap(truth, found, scenes, draws=DRAWS)
    return {
        "figures": {"mAP": figures.mean_ap, "NDS": figures.nds, **errors},
        "AP": dict(zip(DETECTION_CLASSES, np.round(figures.class_ap, 5).tolist(), strict=True)),
        "AP by range": {span: round(part.mean_ap_present, 5) for span, part in ranges.items()},
        "resampled": {
            "mAP": [round(figures.mean_ap, 5) for figures in drawn],
            "NDS": [round(figures.nds, 5) for figures in drawn],
        },
    }
