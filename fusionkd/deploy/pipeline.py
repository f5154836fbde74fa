"""A frame's whole way, sensor bytes to boxes, around a network of any kind."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fusionkd.deploy.clock import NO_CLOCK, Clock
from fusionkd.deploy.prepare import prepare
from fusionkd.deploy.raw import RawFrame
from fusionkd.deploy.spec import DeploySpec
from fusionkd.geometry import Boxes3D


@dataclass(frozen=True)
class Candidates:
    """What a network answers for one frame: boxes before threshold and suppression.

    Attributes:
        score: (K,) float32 in [0, 1].
        label: (K,) int64.
        boxes: (K, 9) float32 rows x, y, z, l, w, h, yaw, vx, vy in the frame of the grid.
    """

    score: NDArray[np.float32]
    label: NDArray[np.int64]
    boxes: NDArray[np.float32]

    def __post_init__(self) -> None:
        if self.score.shape != self.label.shape or self.boxes.shape != (*self.score.shape, 9):
            raise ValueError(
                f"Candidates must be of shapes (K,), (K,) and (K, 9), found {self.score.shape}, {self.label.shape} "
                f"and {self.boxes.shape}."
            )


class Network(Protocol):
    """Runs a model on the arrays of one frame."""

    @property
    def name(self) -> str:
        """Which runtime, such as ``onnxruntime``."""

    @property
    def device(self) -> str:
        """Where it runs, in words."""

    def __call__(self, inputs: Mapping[str, NDArray[Any]], clock: Clock = NO_CLOCK) -> Candidates:
        """The candidates of a frame.

        Args:
            inputs: Of ``prepare``.
            clock: Notes the stages, at least ``network``.
        """


def finish(candidates: Candidates, spec: DeploySpec, clock: Clock = NO_CLOCK) -> Boxes3D:
    """The boxes that are kept, best first. Stages: ``decode``, ``nms``."""
    with clock.span("decode"):
        boxes = spec.selection.admit(candidates.score, candidates.label, candidates.boxes)
    with clock.span("nms"):
        return spec.selection.suppress(boxes, spec.task_of_class)


@dataclass(frozen=True)
class Pipeline:
    """Sensor bytes to boxes.

    Attributes:
        spec: What the network reads and how its answers become boxes.
        network: The model in its runtime.
        threads: CPU threads that share a frame's images; the network has its own.
    """

    spec: DeploySpec
    network: Network
    threads: int = 1

    def __post_init__(self) -> None:
        if self.threads < 1:
            raise ValueError(f"A pipeline needs 1 thread at least, found threads={self.threads}.")

    def __call__(self, raw: RawFrame, clock: Clock = NO_CLOCK) -> Boxes3D:
        """The boxes of a frame, best first, in the frame of the grid.

        Args:
            raw: The frame; a lost camera is None among its images, a lost LiDAR has no sweeps.
            clock: Notes the stages.

        Raises:
            UserError: If an image or the number of cameras is another than the network reads.
        """
        inputs = prepare(raw, self.spec, clock, threads=self.threads)
        return finish(self.network(inputs, clock), self.spec, clock)
