"""What is exported: a model's pure-tensor forward with the candidates of its decoder, and the same run by torch."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fusionkd.deploy import NO_CLOCK, Candidates, Clock, DeploySpec
from fusionkd.deploy.onnx import OUTPUTS
from fusionkd.models import Decoder, FusionModel, FusionOutput
from fusionkd.models.fusion import TensorOutput

MAPS = ("heatmap", "box_regression", "heading_axis", "bev")
"""Maps that an exported network can answer beside its candidates."""


class CandidateNetwork(nn.Module):
    """A model and its decoder's candidates, from tensors to tensors of static shape.

    Args:
        model: In eval mode.
        spec: How its maps become candidates.
        maps: Which of ``MAPS`` are answered too; those that the model lacks are left out.
    """

    def __init__(self, model: FusionModel, spec: DeploySpec, *, maps: Sequence[str] = ()) -> None:
        super().__init__()
        self.model = model.eval()
        self.decoder = Decoder(candidates=spec.candidates, peaks=spec.peaks)
        has_axis = model.head.heading_axis
        self.outputs = (*OUTPUTS, *(name for name in maps if has_axis or name != "heading_axis"))
        """Names of the answers, in order."""

    def answer(self, inputs: Mapping[str, Tensor]) -> TensorOutput:
        """The model's maps.

        Args:
            inputs: Of ``fusionkd.deploy.prepare``, at least those that the model reads.
        """
        device = next(iter(inputs.values())).device
        there = torch.ones(1, 1, dtype=torch.bool, device=device)
        no_images = torch.zeros(1, 1, 3, 1, 1, device=device)
        return self.model.forward_tensors(
            inputs.get("images", no_images),
            inputs.get("cells", no_images),
            inputs.get("measured"),
            camera_present=inputs.get("camera_present", there),
            lidar=inputs,
            lidar_present=inputs.get("lidar_present", there[0]),
        )

    def candidates(self, answer: TensorOutput) -> tuple[Tensor, Tensor, Tensor]:
        """Score (1, K), label (1, K) and boxes (1, K, 9)."""
        head = self.model.head
        output = FusionOutput(
            **answer._asdict(), grid=self.model.grid, classes=head.classes, task_of_class=head.task_of_class
        )
        return self.decoder.decode_tensors(output)

    def forward(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """The candidates and the maps."""
        answer = self.answer(inputs)
        return (*self.candidates(answer), *(getattr(answer, name) for name in self.outputs[len(OUTPUTS) :]))


class TorchNetwork:
    """A model run by torch as training runs it: the reference of every comparison.

    Args:
        model: In eval mode, on the CPU.
        spec: How its maps become candidates.
    """

    name = "torch"
    device = "cpu"

    def __init__(self, model: FusionModel, spec: DeploySpec) -> None:
        self.module = CandidateNetwork(model, spec, maps=MAPS)
        self._inputs = spec.inputs

    def __call__(self, inputs: Mapping[str, NDArray[Any]], clock: Clock = NO_CLOCK) -> Candidates:
        """The candidates of a frame. Stage: ``network``."""
        with clock.span("network"):
            score, label, boxes = self.run(inputs, OUTPUTS)
        return Candidates(score[0], label[0], boxes[0])

    @torch.no_grad()
    def run(self, inputs: Mapping[str, NDArray[Any]], outputs: Sequence[str]) -> list[NDArray[Any]]:
        """Some of the answers, by name."""
        answers = self.module({name: torch.from_numpy(inputs[name]) for name in self._inputs})
        by_name = dict(zip(self.module.outputs, answers))
        return [np.asarray(by_name[name]) for name in outputs]
