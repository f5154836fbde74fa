"""Per frame and stage, nanoseconds: the only input of every verdict."""

import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusionkd.errors import UserError

FORMAT = "fusionkd-trace-1"
"""Version of the trace files."""

_ARRAYS = ("stage_ns", "arrival_ns", "start_ns", "finish_ns", "arrival_index")


@dataclass(frozen=True)
class LatencyTrace:
    """What happened to every processed frame, on one monotonic clock.

    Attributes:
        stages: Names of the stages, paths such as ``preprocess/sweeps``, in the order in which they run.
        stage_ns: (F, S) int64 time in each stage.
        arrival_ns: (F,) int64 when the frame's sensor bytes were there; in a single stream equal to ``start_ns``.
        start_ns: (F,) int64 when work on it began.
        finish_ns: (F,) int64 when its boxes were there.
        arrival_index: (F,) int64 number of the frame in the sensor's stream. Numbers that are left out are frames
            that were dropped.
        arrived: Frames that arrived, dropped ones included.
        cold: The first, cold frames: those before ``cold`` are reported apart and take no part in a verdict.
        scenario: ``single_stream`` or ``constant_stream``.
        period_ns: Time between arrivals of a constant stream; 0 in a single stream.
        overrun: What a constant stream does with a frame that arrives during another: ``skip``, ``run_on``, or ``""``.
        about: The machine, the model, the backend, the versions: plain values.
        modelled: Whether these times were computed by a model of a device instead of measured.
    """

    stages: tuple[str, ...]
    stage_ns: NDArray[np.int64]
    arrival_ns: NDArray[np.int64]
    start_ns: NDArray[np.int64]
    finish_ns: NDArray[np.int64]
    arrival_index: NDArray[np.int64]
    arrived: int
    cold: int = 1
    scenario: str = "single_stream"
    period_ns: int = 0
    overrun: str = ""
    about: Mapping[str, Any] = field(default_factory=dict)
    modelled: bool = False

    def __post_init__(self) -> None:
        frames = len(self.finish_ns)
        for name in ("arrival_ns", "start_ns", "finish_ns", "arrival_index"):
            self._check_array(name, (frames,))
        self._check_array("stage_ns", (frames, len(self.stages)))
        if len(set(self.stages)) != len(self.stages):
            raise UserError(f"A trace's stages must differ, found {', '.join(self.stages)}.")
        if not 0 <= self.cold <= frames:
            raise UserError(f"A trace of {frames} frames can't have {self.cold} cold ones.")
        if self.scenario not in ("single_stream", "constant_stream"):
            raise UserError(f"A trace's scenario must be single_stream or constant_stream, found {self.scenario!r}.")
        self._check_order()

    @property
    def frames(self) -> int:
        """Processed frames, cold ones included."""
        return len(self.finish_ns)

    @property
    def latency_ns(self) -> NDArray[np.int64]:
        """(F,) from arrival to boxes: waiting counts."""
        return self.finish_ns - self.arrival_ns

    @property
    def busy_ns(self) -> NDArray[np.int64]:
        """(F,) from the begin of the work to boxes."""
        return self.finish_ns - self.start_ns

    @property
    def uncovered_ns(self) -> NDArray[np.int64]:
        """(F,) time of the work that lies in no stage."""
        covered: NDArray[np.int64] = self.stage_ns.sum(axis=1)
        return self.busy_ns - covered

    @property
    def dropped(self) -> int:
        """Frames that arrived and were never processed."""
        return self.arrived - self.frames

    def stage(self, name: str) -> NDArray[np.int64]:
        """Time (F,) in a stage, or in a group of stages.

        Args:
            name: A stage's path or its group (``network``); where there is neither, its last part (``camera``). All
                that match are added.

        Raises:
            UserError: If none matches; the message lists the stages.
        """
        total: NDArray[np.int64] = self.stage_ns[:, columns_of(self.stages, name)].sum(axis=1)
        return total

    def _check_array(self, name: str, shape: tuple[int, ...]) -> None:
        value = getattr(self, name)
        if value.shape != shape or value.dtype != np.int64:
            raise UserError(
                f"A trace's {name} must be int64 of shape {shape}, found {value.dtype} of shape {value.shape}."
            )

    def _check_order(self) -> None:
        back = np.flatnonzero((self.finish_ns < self.start_ns) | (self.start_ns < self.arrival_ns))
        if len(back):
            raise UserError(
                f"The clock of this trace steps backwards: frame {back[0]} arrives at {self.arrival_ns[back[0]]} ns, "
                f"starts at {self.start_ns[back[0]]} and finishes at {self.finish_ns[back[0]]}. Measure again with a "
                f"monotonic clock."
            )
        for name in ("arrival_ns", "start_ns", "finish_ns"):
            step = np.flatnonzero(np.diff(getattr(self, name)) < 0)
            if len(step):
                raise UserError(
                    f"The clock of this trace steps backwards: {name} of frame {step[0] + 1} lies before that of frame "
                    f"{step[0]}. Measure again with a monotonic clock."
                )
        if self.stage_ns.size and self.stage_ns.min() < 0:
            raise UserError("The clock of this trace steps backwards: a stage took a negative time.")
        drawn = np.diff(self.arrival_index)
        if self.frames and (drawn.min(initial=1) < 1 or self.arrival_index[-1] >= self.arrived):
            raise UserError(
                f"A trace's arrival_index must rise and stay below arrived ({self.arrived}); it ends at "
                f"{self.arrival_index[-1]}."
            )


def columns_of(stages: Sequence[str], name: str) -> list[int]:
    """The stages that a name stands for, as ``LatencyTrace.stage`` reads it.

    Args:
        stages: Paths.
        name: A path, a group or a last part.

    Raises:
        UserError: If none matches; the message lists the stages.
    """
    columns = [k for k, stage in enumerate(stages) if f"{stage}/".startswith(f"{name}/")]
    columns = columns or [k for k, stage in enumerate(stages) if stage.endswith(f"/{name}")]
    if not columns:
        raise UserError(f"The trace has no stage {name!r}; it has {', '.join(stages) or 'none'}.")
    return columns


def write_trace(trace: LatencyTrace, path: str | Path) -> None:
    """Write a trace as an ``.npz`` file: arrays, and the rest as JSON.

    Raises:
        UserError: If ``about`` holds more than plain values.
    """
    rest = {name: getattr(trace, name) for name in LatencyTrace.__dataclass_fields__ if name not in _ARRAYS}
    try:
        text = json.dumps({"format": FORMAT, **rest})
    except TypeError as error:
        raise UserError(f"A trace's 'about' may hold plain values only: {error}.") from None
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as file:
        np.savez_compressed(
            file, header=np.frombuffer(text.encode(), np.uint8), **{name: getattr(trace, name) for name in _ARRAYS}
        )


def read_trace(path: str | Path) -> LatencyTrace:
    """Read a trace; nothing is unpickled.

    Raises:
        UserError: If the file is missing, damaged, no trace, or its clock steps backwards.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            header = json.loads(file["header"].tobytes())
            arrays = {name: file[name] for name in _ARRAYS}
    except FileNotFoundError:
        raise UserError(f"There is no trace {path}.") from None
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} can't be read as a trace: {error}. Traces are written by check_deadline.") from None
    if not isinstance(header, dict) or header.pop("format", None) != FORMAT:
        raise UserError(f"{path} is no trace of format {FORMAT}. Traces are written by check_deadline --trace FILE.")
    unknown = set(header) ^ (set(LatencyTrace.__dataclass_fields__) - set(_ARRAYS))
    if unknown:
        raise UserError(f"The header of {path} has missing or unknown entries: {', '.join(sorted(unknown))}.")
    return LatencyTrace(**{**header, "stages": tuple(header["stages"])}, **arrays)
