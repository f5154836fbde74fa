"""A network for a fixed rig can be exported for any car's, not only for the made-up frame's."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fusionkd.deploy import load
from fusionkd.errors import UserError
from fusionkd.export.example import example_raw
from fusionkd.export.onnx import export_onnx, exportable
from fusionkd.export.spec import Trained
from fusionkd.models import build_model
from fusionkd.models.deploying import deploy_spec
from fusionkd.teachers.checkpoints import Record
from tests.models.conftest import SIZE_PX, SPECS


def test_another_cars_rig(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = build_model(SPECS["camera"]).eval()
    spec = deploy_spec(model, views={}, image_size_px=SIZE_PX, num_sweeps=1)
    made_up = example_raw(spec)
    other = replace(made_up, ego_from_camera=np.roll(made_up.ego_from_camera, 1, axis=0))
    export_onnx(exportable(Trained("small", model, spec, Record(), None), fixed_rig=other), tmp_path / "a.onnx")
    pipeline = load(tmp_path / "a.onnx")
    assert len(pipeline(other)) > 0
    with pytest.raises(UserError, match="made for a fixed rig"):
        pipeline(made_up)
