"""What a model costs: parameters, arithmetic, time for one frame."""

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from fusionkd.models.values import FusionOutput, SensorBatch


@dataclass(frozen=True)
class Cost:
    """What one frame costs.

    Attributes:
        parameters: Number of weights.
        gflops: Arithmetic of convolutions and matrix products, 10^9 operations; a multiplication with its addition
            counts as two.
        ms_per_frame: Median time of network and decoding for a batch of one that is ready in memory.
    """

    parameters: int
    gflops: float
    ms_per_frame: float


def measure_cost(
    model: nn.Module,
    batch: SensorBatch,
    *,
    decode: Callable[[FusionOutput], object],
    device: torch.device,
    repeats: int = 7,
) -> Cost:
    """Measure a model on one frame.

    Args:
        model: In eval mode, on the device.
        batch: A batch of one, on the device.
        decode: Turns the output into boxes; part of the time.
        device: Where the model is.
        repeats: Timed runs, after two that warm up.
    """
    with torch.no_grad(), _eval(model):
        with FlopCounterMode(display=False) as counter:
            model(batch)
        times_ms = []
        for run in range(repeats + 2):
            _wait(device)
            begin = time.perf_counter()
            decode(model(batch))
            _wait(device)
            if run >= 2:
                times_ms.append((time.perf_counter() - begin) * 1e3)
    return Cost(
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        gflops=counter.get_total_flops() / 1e9,
        ms_per_frame=statistics.median(times_ms),
    )


@contextmanager
def _eval(model: nn.Module) -> Iterator[None]:
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
