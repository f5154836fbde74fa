"""Energy of frames and of trainings: told by the device where it can tell, modelled and called so where it can't.

Two models, both far from a measurement:

- Processor time x power per busy core. The power is the user's figure; the processor's rated power over its cores is
  the usual one (the cores' share in Lannelongue, Grealey and Inouye, "Green Algorithms", Advanced Science 8, 2021).
  A GPU, memory, fans and the power supply are left out.
- Arithmetic x energy per operation, from Horowitz, "Computing's energy problem (and what we can do about it)",
  ISSCC 2014, figure 1.1.9 (45 nm, 0.9 V). It counts the arithmetic alone: moving data costs more than that on every
  real chip, so it compares networks and bounds nothing.
"""

import multiprocessing
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from fusionkd.errors import UserError
from fusionkd.models.values import SensorBatch

Precision = Literal["fp32", "fp16", "int8"]

PJ_PER_FLOP: dict[Precision, float] = {"fp32": (3.7 + 0.9) / 2, "fp16": (1.1 + 0.4) / 2, "int8": (0.2 + 0.1) / 2}
"""Half of a multiplication plus an addition (int8: added up in 32 bits), picojoules, at 45 nm (Horowitz 2014)."""

UNCOUNTED = ("grid_sampler", "index_add", "scatter_add", "scatter_reduce", "index_put", "cumsum", "topk", "sort")
"""Operators for which torch's counter has no formula and counts nothing."""


class EnergyReading(Protocol):
    """What a device told about a run."""

    @property
    def source(self) -> str:
        """Who told it, in words."""

    @property
    def duration_s(self) -> float:
        """Length of the run."""

    @property
    def energy_mj(self) -> float | None:
        """Energy of the whole run in millijoules, None where the device can't tell."""


class EnergyTelemetry(Protocol):
    """A device that is listened to for the length of a run."""

    def start(self) -> None:
        """The run begins."""

    def stop(self) -> EnergyReading:
        """The run is over."""


@dataclass(frozen=True)
class Energy:
    """Energy of a run.

    Attributes:
        joules: Of the whole run.
        duration_s: Its length.
        source: Who told it, or by which model.
        modelled: Whether it was computed instead of measured.
    """

    joules: float
    duration_s: float
    source: str
    modelled: bool

    def per(self, count: int) -> float:
        """Joules for each of ``count`` frames or steps.

        Raises:
            UserError: If there was none.
        """
        if count < 1:
            raise UserError("Energy per frame needs a run of at least one frame.")
        return self.joules / count

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "joules": self.joules,
            "duration_s": self.duration_s,
            "source": self.source,
            "kind": "modelled" if self.modelled else "measured",
        }


class EnergyRun:
    """Energy from a start to a stop: the device's own figure, else processor time x power.

    Args:
        telemetry: The device, or None for none that tells.
        watts_per_core: Power of one busy core, for the model; None for no model.

    Raises:
        UserError: If the power isn't positive.
    """

    def __init__(self, telemetry: EnergyTelemetry | None, *, watts_per_core: float | None) -> None:
        if watts_per_core is not None and not 0 < watts_per_core < float("inf"):
            raise UserError(f"watts_per_core must be a positive number of watts, found {watts_per_core}.")
        self._telemetry = telemetry
        self._watts_per_core = watts_per_core
        self._start_s = self._start_cpu_s = 0.0

    def start(self) -> None:
        """The run begins."""
        if self._telemetry is not None:
            self._telemetry.start()
        self._start_s, self._start_cpu_s = time.monotonic(), cpu_time_s()

    def stop(self) -> Energy | None:
        """The run's energy; None where the device can't tell and no power is given."""
        duration_s, busy_s = time.monotonic() - self._start_s, cpu_time_s() - self._start_cpu_s
        reading = None if self._telemetry is None else self._telemetry.stop()
        if reading is not None and reading.energy_mj is not None:
            return Energy(reading.energy_mj * 1e-3, reading.duration_s, reading.source, modelled=False)
        if self._watts_per_core is None:
            return None
        model = f"modelled: {busy_s:.4g} s of processor time x {self._watts_per_core:g} W per core"
        return Energy(busy_s * self._watts_per_core, duration_s, model, modelled=True)


def cpu_time_s() -> float:
    """Processor time of this process and of its children: loader processes alive, and all that have ended."""
    own = os.times()
    total = own.user + own.system + own.children_user + own.children_system
    for child in multiprocessing.active_children():
        total += _cpu_time_of(child.pid)
    return total


def _cpu_time_of(process: int | None) -> float:
    """Processor time of a living process; 0 where the system doesn't show it (only Linux does so in a file)."""
    try:
        text = Path(f"/proc/{process}/stat").read_text()
        # The name may hold blanks and brackets; what follows the last bracket does not.
        fields = text.rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return 0.0


def energy_per_frame(
    work: Callable[[int], object],
    *,
    frames: int,
    telemetry: EnergyTelemetry | None,
    watts_per_core: float | None = None,
    warm_up: int = 3,
) -> Energy | None:
    """Energy of a run of frames; ``Energy.per(frames)`` is that of one, waiting included.

    Args:
        work: Processes frame ``k``.
        frames: Frames that count.
        telemetry: The device, or None.
        watts_per_core: Power for the model where the device can't tell; None for no model.
        warm_up: Frames beforehand.

    Raises:
        UserError: If there is no frame.
    """
    if frames < 1:
        raise UserError(f"Energy per frame needs at least one frame, found {frames}.")
    run = EnergyRun(telemetry, watts_per_core=watts_per_core)
    for number in range(warm_up):
        work(number)
    run.start()
    for number in range(frames):
        work(warm_up + number)
    return run.stop()


@dataclass(frozen=True)
class Arithmetic:
    """Arithmetic of one frame.

    Attributes:
        flops: Convolutions and matrix products; a multiplication with its addition counts as two.
        uncounted: Operators that ran and for which torch's counter has no formula.
    """

    flops: int
    uncounted: tuple[str, ...]

    def modelled_energy_mj(self, precision: Precision) -> float:
        """Millijoules of this arithmetic alone at 45 nm, by ``PJ_PER_FLOP``. Modelled, not measured.

        Raises:
            UserError: If there is no figure for the precision.
        """
        if precision not in PJ_PER_FLOP:
            raise UserError(
                f"There is no energy per operation for {precision!r}; there is for {', '.join(PJ_PER_FLOP)}."
            )
        return self.flops * PJ_PER_FLOP[precision] * 1e-9


@torch.no_grad()
def count_arithmetic(model: nn.Module, batch: SensorBatch) -> Arithmetic:
    """Count the arithmetic of a model on a batch by torch's counter.

    Attention is forced through plain matrix products, since the counter misses the fused operator of the CPU.

    Args:
        model: In eval mode, where the batch is.
        batch: A batch of one frame.
    """
    with sdpa_kernel(SDPBackend.MATH), _Seen() as seen, FlopCounterMode(display=False) as counter:
        model(batch)
    return Arithmetic(counter.get_total_flops(), tuple(sorted(seen.names)))


class _Seen(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes which operators of ``UNCOUNTED`` run."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if name.rstrip("_").startswith(UNCOUNTED):
            self.names.add(name)
        return func(*args, **(kwargs or {}))
