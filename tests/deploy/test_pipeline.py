"""From candidates to boxes, and the whole way without torch."""

import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from fusionkd.data import NuScenesDataset
from fusionkd.deploy import NO_CLOCK, Candidates, Clock, Pipeline, finish
from fusionkd.export import raw_frame
from fusionkd.geometry import DETECTION_CLASSES
from fusionkd.models import Decoder, FusionOutput
from tests.deploy.test_prepare import GRID, Stages, spec

# Raw images and a network of the script's own: nothing of this needs torch, Lightning or OpenCV.
WITHOUT_TORCH = """
import sys
import numpy as np
import onnxruntime
from fusionkd.deploy import CameraSpec, Candidates, DeploySpec, Pipeline, RawFrame
from fusionkd.geometry import BevGrid
from fusionkd.preprocess.views import PillarView
grid = BevGrid(cell_m=1.6)
spec = DeploySpec(grid, ("car",), (0,), camera=CameraSpec((20, 64), (5, 16), (2.0, 9.0)), lidar=PillarView(grid))
class Network:
    name, device = "own", "cpu"
    def __call__(self, inputs, clock=None):
        self.seen = inputs
        return Candidates(np.full(1, 0.5, np.float32), np.zeros(1, np.int64), np.ones((1, 9), np.float32))
points = np.random.default_rng(0).normal(0, 20, (500, 5)).astype(np.float32)
eyes = np.tile(np.eye(4), (6, 1, 1))
raw = RawFrame("a", (points.tobytes(),), eyes[:1], np.zeros(1), (np.zeros((36, 64, 3), np.uint8),) * 6,
               np.tile(np.diag([50.0, 50.0, 1.0]), (6, 1, 1)), eyes, (36, 64))
pipeline = Pipeline(spec, Network())
assert len(pipeline(raw)) == 1
assert len(pipeline.network.seen["points"]) > 50
heavy = {"torch", "torchvision", "lightning", "cv2", "jsonargparse", "onnx", "rich"} & set(sys.modules)
assert not heavy, heavy
"""


def test_the_runtime_needs_neither_torch_nor_opencv() -> None:
    result = subprocess.run([sys.executable, "-c", WITHOUT_TORCH], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def _output(seed: int, tasks: int = 2) -> FusionOutput:
    generator = torch.Generator().manual_seed(seed)
    return FusionOutput(
        heatmap=2 * torch.randn(1, 10, 12, 12, generator=generator),
        box_regression=torch.randn(1, tasks, 10, 12, 12, generator=generator),
        heading_axis=torch.randn(1, tasks, 2, 12, 12, generator=generator),
        bev=torch.zeros(1, 1, 12, 12),
        camera_bev=None,
        lidar_bev=None,
        depth_logits=None,
        grid=GRID,
        classes=DETECTION_CLASSES,
        task_of_class=tuple(c % tasks for c in range(10)),
    )


@given(seed=st.integers(0, 2**16), threshold=st.floats(0, 0.99), most=st.integers(1, 50))
def test_finishing_is_what_the_decoder_does(seed: int, threshold: float, most: int) -> None:
    output = _output(seed)
    decoder = Decoder(threshold, max_boxes=most, candidates=40)
    score, label, boxes = (tensor[0].numpy() for tensor in decoder.decode_tensors(output))
    here = spec(task_of_class=output.task_of_class, selection=decoder.selection)
    found, (wanted,) = finish(Candidates(score, label, boxes), here), decoder(output)
    np.testing.assert_array_equal(found.to_array(), wanted.to_array())
    np.testing.assert_array_equal(found.score, wanted.score)
    np.testing.assert_array_equal(found.label, wanted.label)


class FixedAnswer:
    """Two cars far apart, one of which is seen twice."""

    name, device = "fixed", "cpu"

    def __call__(self, inputs: Mapping[str, NDArray[Any]], clock: Clock = NO_CLOCK) -> Candidates:
        with clock.span("network"):
            boxes = np.zeros((4, 9), np.float32)
            boxes[:, 0] = [0, 0.5, 30, 40]
        return Candidates(np.array([0.4, 0.6, 0.3, 0.01], np.float32), np.zeros(4, np.int64), boxes)


def test_the_whole_way_is_in_stages(tiny: NuScenesDataset) -> None:
    stages = Stages()
    found = Pipeline(spec(), FixedAnswer())(raw_frame(tiny, tiny.records[0]), stages)
    assert found.score.tolist() == pytest.approx([0.6, 0.3])
    assert stages.entered[-3:] == ["network", "decode", "nms"]
    assert len(set(stages.entered)) == 8


def test_candidates_check_themselves() -> None:
    with pytest.raises(ValueError, match=r"\(K, 9\), found \(2,\), \(2,\) and \(2, 7\)"):
        Candidates(np.zeros(2, np.float32), np.zeros(2, np.int64), np.zeros((2, 7), np.float32))
