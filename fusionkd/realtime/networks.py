"""A trained model as the network of a pipeline, run by PyTorch: eagerly or compiled."""

import copy
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from fusionkd.deploy import NO_CLOCK, Candidates, Clock, DeploySpec
from fusionkd.errors import UserError
from fusionkd.export.network import CandidateNetwork
from fusionkd.models import FusionModel

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
"""What convolutions and matrix products are computed in."""

STAGES = ("camera", "lidar", "fuser", "backbone", "head")
"""Parts of a model that are stages of their own."""

_BETWEEN = "network/between"


class DeviceTensors:
    """A frame's arrays as tensors of a device.

    Args:
        device: Of PyTorch.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._cells: tuple[NDArray[Any], Tensor] | None = None

    def __call__(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, Tensor]:
        """All of them; the frustum cells travel only when the rig has changed."""
        return {name: self._one(name, array) for name, array in inputs.items()}

    def _one(self, name: str, array: NDArray[Any]) -> Tensor:
        if name != "cells":
            return torch.from_numpy(array).to(self._device, non_blocking=True)
        # Frames of one rig share one array.
        if self._cells is None or self._cells[0] is not array:
            self._cells = array, torch.from_numpy(array).to(self._device)
        return self._cells[1]


class EagerNetwork:
    """PyTorch as it is, with a stage per part of the model.

    Stages: ``network/copy``, ``network/camera``, ``network/lidar``, ``network/fuser``, ``network/backbone``,
    ``network/head``, ``network/between`` for what lies between these parts, ``network/candidates``.

    Args:
        model: The trained model.
        spec: How its answers become boxes.
        device: ``cpu``, ``cuda``, ``cuda:0``, ...
        precision: One of ``PRECISIONS``.

    Raises:
        UserError: If there is no such device or precision.
    """

    def __init__(
        self, model: FusionModel, spec: DeploySpec, *, device: str = "cpu", precision: str = "float32"
    ) -> None:
        self.device = check_device(device)
        self.name = "eager" if precision == "float32" else f"eager, {precision}"
        self._autocast = autocast_of(device, precision)
        self._model = CandidateNetwork(copy.deepcopy(model), spec).to(device)
        self._tensors = DeviceTensors(torch.device(device))
        self._clock: Clock = NO_CLOCK
        self._open: AbstractContextManager[None] = nullcontext()
        for stage in STAGES:
            part = getattr(self._model.model, stage)
            if part is not None:
                part.register_forward_pre_hook(lambda _module, _args, stage=stage: self._switch(f"network/{stage}"))
                part.register_forward_hook(lambda _module, _args, _output: self._switch(_BETWEEN), always_call=True)

    @torch.inference_mode()
    def __call__(self, inputs: Mapping[str, NDArray[Any]], clock: Clock = NO_CLOCK) -> Candidates:
        """The candidates of a frame."""
        self._clock = clock
        with clock.span("network/copy"):
            tensors = self._tensors(inputs)
        self._open = clock.span(_BETWEEN)
        self._open.__enter__()
        try:
            with self._autocast:
                maps = self._model.answer(tensors)
        finally:
            self._open.__exit__(None, None, None)
        with clock.span("network/candidates"), self._autocast:
            answer = on_host(self._model.candidates(maps))
            # Giving megabytes of maps back takes a millisecond, which belongs to a stage too.
            del maps, tensors
        return answer

    def _switch(self, stage: str) -> None:
        """One stage ends where the next begins."""
        self._open.__exit__(None, None, None)
        self._open = self._clock.span(stage)
        self._open.__enter__()


class CompiledNetwork:
    """``torch.compile``: the whole way from tensors to candidates is one stage, ``network``.

    Nothing falls back in silence: what can't be compiled stops the run, also a model that PyTorch would give up
    compiling after many different input shapes. For that ``torch._dynamo.config.fail_on_recompile_limit_hit`` is set
    for the process. Python between compiled graphs is no failure; the name tells how many graphs there are.

    Args:
        model: The trained model.
        spec: How its answers become boxes.
        device: ``cpu``, ``cuda``, ``cuda:0``, ...
        precision: One of ``PRECISIONS``.
        mode: Of ``torch.compile``.

    Raises:
        UserError: If there is no such device or precision.
    """

    def __init__(
        self,
        model: FusionModel,
        spec: DeploySpec,
        *,
        device: str = "cpu",
        precision: str = "float32",
        mode: str = "default",
    ) -> None:
        self.device = check_device(device)
        torch._dynamo.config.fail_on_recompile_limit_hit = True
        self._autocast = autocast_of(device, precision)
        self._tensors = DeviceTensors(torch.device(device))
        self._graphs = _graphs_of_process()
        self._title = f"compile, {mode}" if precision == "float32" else f"compile, {mode}, {precision}"
        self._run = torch.compile(CandidateNetwork(copy.deepcopy(model), spec).to(device), mode=mode)

    @property
    def name(self) -> str:
        """Mode, precision and number of compiled graphs; more than one means Python in between."""
        return f"{self._title}, {_graphs_of_process() - self._graphs} graphs"

    @torch.inference_mode()
    def __call__(self, inputs: Mapping[str, NDArray[Any]], clock: Clock = NO_CLOCK) -> Candidates:
        """The candidates of a frame; the first call compiles.

        Raises:
            UserError: If the model can't be compiled here.
        """
        with clock.span("network/copy"):
            tensors = self._tensors(inputs)
        with clock.span("network"), self._autocast:
            try:
                return on_host(self._run(tensors))
            except torch._dynamo.exc.TorchDynamoException as error:
                first = (str(error).strip().splitlines() or [type(error).__name__])[0]
                raise UserError(
                    f"torch.compile can't compile this model on {self.device}: {first} Install a C++ compiler (g++) if "
                    f"there is none, or use --backend eager."
                ) from error


def on_host(answer: Sequence[Tensor]) -> Candidates:
    """Candidates in numpy.

    Args:
        answer: Score (1, K), label (1, K) and boxes (1, K, 9).
    """
    score, label, boxes = (tensor[0].cpu().numpy() for tensor in answer)
    return Candidates(score, label, boxes)


def check_device(device: str) -> str:
    """The device, if it is there.

    Raises:
        UserError: If it isn't.
    """
    try:
        wanted = torch.device(device)
    except RuntimeError:
        raise UserError(f"There is no device {device!r}; devices are cpu, cuda, cuda:0 and so on.") from None
    if wanted.type not in ("cpu", "cuda"):
        raise UserError(f"Networks run on cpu or cuda, found {device!r}.")
    if wanted.type == "cuda" and (wanted.index or 0) >= torch.cuda.device_count():
        raise UserError(
            f"A GPU was asked for ({device}), but PyTorch sees {torch.cuda.device_count()} CUDA devices on this "
            f"machine. Use --device cpu, or a machine with an NVIDIA GPU and its driver."
        )
    return device


def autocast_of(device: str, precision: str) -> AbstractContextManager[Any]:
    """The context in which a precision is used.

    Raises:
        UserError: If there is no such precision.
    """
    if precision not in PRECISIONS:
        raise UserError(f"The precision must be one of {', '.join(PRECISIONS)}, found {precision!r}.")
    if precision == "float32":
        return nullcontext()
    # One object for all frames; it may be entered again and again.
    return torch.autocast(torch.device(device).type, dtype=PRECISIONS[precision])


def _graphs_of_process() -> int:
    from torch._dynamo.utils import counters

    return int(counters["stats"]["unique_graphs"])
