"""Figures of an ensemble, against what each of its members reaches alone."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from fusionkd.data import Batch
from fusionkd.geometry import Boxes3D
from fusionkd.metrics import DetectionTruth
from fusionkd.tasks import evaluate_models
from fusionkd.tasks.evaluation import evaluate_ensemble
from tests.tasks.conftest import make_data


class Knows(nn.Module):
    """Answers with the annotations of some classes."""

    def __init__(self, *labels: int) -> None:
        super().__init__()
        self.labels = labels

    def forward(self, batch: Batch) -> list[Boxes3D]:
        found = []
        for rows, label in zip(batch.gt_boxes.numpy(), batch.gt_label.numpy()):
            known = np.isin(label, self.labels)
            found.append(Boxes3D.from_array(rows[known], label[known], np.full(known.sum(), 0.8)))
        return found


def decoder(answer: Any) -> Any:
    return answer


def test_members_that_know_different_classes_know_all_of_them_together(tiny_nuscenes: Path) -> None:
    data = make_data(tiny_nuscenes)
    truth = DetectionTruth.from_index(data.index, data.scenes("val"))
    models = {"even": Knows(0, 2, 4, 6, 8), "odd": Knows(1, 3, 5, 7, 9)}
    options: dict[str, Any] = {"decoder": decoder, "device": torch.device("cpu")}
    alone = evaluate_models(models, data.val_dataloader(), truth, **options)
    together = evaluate_ensemble(list(models.values()), data.val_dataloader(), truth, **options)
    assert 0 < alone["even"]["mAP"] < together["mAP"]
    assert 0 < alone["odd"]["mAP"] < together["mAP"]
    assert together["mAP"] == pytest.approx(alone["even"]["mAP"] + alone["odd"]["mAP"])
    twice = evaluate_ensemble([models["even"]] * 2, data.val_dataloader(), truth, **options)
    assert twice["mAP"] == pytest.approx(alone["even"]["mAP"])
    assert twice["NDS"] == pytest.approx(alone["even"]["NDS"], abs=1e-5)
