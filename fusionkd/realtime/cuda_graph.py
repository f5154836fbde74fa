"""CUDA graphs: the whole forward pass is launched at once, so that the host's part of a frame all but vanishes."""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from fusionkd.deploy import NO_CLOCK, Candidates, Clock, DeploySpec
from fusionkd.errors import UserError
from fusionkd.export.network import CandidateNetwork
from fusionkd.models import FusionModel
from fusionkd.models.fusion import TensorOutput
from fusionkd.preprocess.views import PillarView
from fusionkd.realtime.networks import autocast_of, check_device, on_host

_WARM_UP = 3
"""Runs before the capture, in which libraries choose their algorithms and take their memory."""


class CudaGraphNetwork:
    """A model whose forward pass is captured once and replayed for every frame.

    Stages: ``network/copy``, ``network/graph``, ``network/candidates``.

    Args:
        model: The trained model.
        spec: How its answers become boxes; inputs must have one shape, so its LiDAR view can't be pillars.
        device: ``cuda``, ``cuda:0``, ...
        precision: One of ``PRECISIONS``.

    Raises:
        UserError: If the device is no CUDA device or isn't there, or the inputs' shapes change from frame to frame.
    """

    def __init__(
        self, model: FusionModel, spec: DeploySpec, *, device: str = "cuda", precision: str = "float32"
    ) -> None:
        if torch.device(device).type != "cuda":
            raise UserError(
                f"CUDA graphs run on a GPU, found --device {device}. Use --device cuda, or another backend."
            )
        self.device = check_device(device)
        if isinstance(spec.lidar, PillarView):
            raise UserError(
                "CUDA graphs need inputs of one shape, but the number of pillars changes from frame to frame. Use a "
                "model with a raster view, or the backend compile."
            )
        self.name = "cuda_graph" if precision == "float32" else f"cuda_graph, {precision}"
        self._autocast = autocast_of(device, precision)
        self._model = CandidateNetwork(copy.deepcopy(model), spec).to(device)
        self._graph: torch.cuda.CUDAGraph | None = None
        self._inputs: dict[str, Tensor] = {}
        self._cells: NDArray[Any] | None = None
        self._maps: TensorOutput | None = None

    @torch.inference_mode()
    def __call__(self, inputs: Mapping[str, NDArray[Any]], clock: Clock = NO_CLOCK) -> Candidates:
        """The candidates of a frame; the first call captures."""
        with clock.span("network/copy"):
            self._fill(inputs)
        with clock.span("network/graph"):
            if self._graph is None:
                self._capture()
            assert self._graph is not None
            self._graph.replay()
        with clock.span("network/candidates"), self._autocast:
            assert self._maps is not None
            return on_host(self._model.candidates(self._maps))

    def _fill(self, inputs: Mapping[str, NDArray[Any]]) -> None:
        """Copy a frame into the tensors that the graph reads; the cells only when the rig has changed."""
        for name, array in inputs.items():
            if name not in self._inputs:
                self._inputs[name] = torch.from_numpy(array).to(self.device)
            elif name != "cells" or self._cells is not array:
                self._inputs[name].copy_(torch.from_numpy(array), non_blocking=True)
        self._cells = inputs.get("cells")

    def _capture(self) -> None:
        side = torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(side), self._autocast:
            for _ in range(_WARM_UP):
                self._model.answer(self._inputs)
        torch.cuda.current_stream(self.device).wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph), self._autocast:
            self._maps = self._model.answer(self._inputs)
        self._graph = graph
