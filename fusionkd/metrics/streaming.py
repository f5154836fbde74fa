"""Streaming accuracy: a late detection is judged against the world as it is when the detection is there.

Li, Wang and Ramanan, "Towards Streaming Perception" (ECCV 2020), section 3, eq. 1: at every evaluation time the newest
output that is *finished* answers, whatever it was computed from; Wang et al., "Are We Ready for Vision-Centric Driving
Streaming Perception? The ASAP Benchmark" (CVPR 2023) do so with nuScenes' figures. Frames arrive at the sensor's rate,
a model takes as long for each as it was measured to take, and the world goes on meanwhile. Everything here is in the
global frame, so that the car's own movement between a frame and its use is accounted for, as odometry would.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from fusionkd.errors import UserError
from fusionkd.metrics.detection import evaluate
from fusionkd.metrics.detections import Detections
from fusionkd.metrics.figures import NuScenesFigures
from fusionkd.metrics.truth import DetectionTruth

Overrun = Literal["skip", "run_on"]
"""What happens to frames that arrive while another is at work: all but the newest are dropped, or they queue."""


@dataclass(frozen=True, eq=False)
class Stream:
    """One drive: frames as they arrive, and the times at which somebody wants to know where everything is.

    Attributes:
        frames: Tokens of F frames.
        arrival_ns: When each frame's sensor bytes are there, which is the time that its boxes are for; strictly rising,
            (F,) int64.
        samples: Tokens of E evaluation times; they name samples of the truth.
        sample_ns: Those times on the same clock, (E,) int64.

    Raises:
        UserError: If lengths differ or frames don't arrive one after the other.
    """

    frames: tuple[str, ...]
    arrival_ns: NDArray[np.int64]
    samples: tuple[str, ...]
    sample_ns: NDArray[np.int64]

    def __post_init__(self) -> None:
        for names, times in (("frames", "arrival_ns"), ("samples", "sample_ns")):
            tokens, values = getattr(self, names), getattr(self, times)
            if values.shape != (len(tokens),) or values.dtype != np.int64:
                raise UserError(
                    f"Stream.{times} must be int64 of shape ({len(tokens)},), as there are {len(tokens)} {names}; "
                    f"found {values.dtype} of shape {values.shape}."
                )
        if np.any(np.diff(self.arrival_ns) <= 0):
            late = int(np.argmax(np.diff(self.arrival_ns) <= 0)) + 1
            raise UserError(f"Stream.arrival_ns must rise; frame {self.frames[late]} is no later than the one before.")


class Schedule(NamedTuple):
    """Which frames one processor works on, and when; K of them.

    Attributes:
        frame: Number of the frame in the stream, rising, (K,) int64.
        start_ns: (K,) int64.
        finish_ns: (K,) int64.
    """

    frame: NDArray[np.int64]
    start_ns: NDArray[np.int64]
    finish_ns: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Replay:
    """What is on show at each evaluation time.

    Attributes:
        samples: Tokens of E evaluation times.
        shown: The frame whose boxes are the newest finished ones; None where none is finished yet.
        age_s: Time since that frame's sensor bytes were there; NaN where none is finished, (E,).
        arrived: Frames that arrived.
        processed: Frames that were worked on.
    """

    samples: tuple[str, ...]
    shown: tuple[str | None, ...]
    age_s: NDArray[np.float64]
    arrived: int
    processed: int

    @property
    def blind(self) -> float:
        """Share of the evaluation times at which no output was finished yet."""
        return float(np.isnan(self.age_s).mean())

    @property
    def frames(self) -> frozenset[str]:
        """Frames whose boxes are ever on show: those that a model has to be run on."""
        return frozenset(token for token in self.shown if token is not None)


def schedule(
    arrival_ns: NDArray[np.int64], busy_ns: NDArray[np.int64], *, overrun: Overrun, first: int = 0
) -> Schedule:
    """What one processor does with a stream.

    It takes a frame as soon as it is idle: with ``skip`` the newest that is there, with ``run_on`` the oldest that is
    left. A frame that arrives at the very moment at which another is finished is there.

    Args:
        arrival_ns: Strictly rising, (F,).
        busy_ns: Times that frames take, used in turns, over and over, (N,); not negative.
        overrun: What happens to frames that arrive meanwhile.
        first: Which of the times the first frame takes.

    Raises:
        UserError: If there is no such policy, no time or a negative one.
    """
    if overrun not in get_args(Overrun):
        raise UserError(f"overrun must be one of {', '.join(get_args(Overrun))}, found {overrun!r}.")
    if len(busy_ns) == 0 or busy_ns.min() < 0:
        raise UserError("A stream needs at least one time that a frame takes, and none that is negative.")
    rows: list[tuple[int, int, int]] = []
    frame, idle_ns = 0, 0
    while frame < len(arrival_ns):
        start_ns = max(idle_ns, int(arrival_ns[frame])) if rows else int(arrival_ns[frame])
        idle_ns = start_ns + int(busy_ns[(first + len(rows)) % len(busy_ns)])
        rows.append((frame, start_ns, idle_ns))
        newest = int(np.searchsorted(arrival_ns, idle_ns, side="right")) - 1
        frame = max(newest, frame + 1) if overrun == "skip" else frame + 1
    columns = np.array(rows, dtype=np.int64).reshape(-1, 3)
    return Schedule(columns[:, 0], columns[:, 1], columns[:, 2])


def replay(streams: Iterable[Stream], busy_ns: NDArray[np.int64], *, overrun: Overrun) -> Replay:
    """Replay measured times against drives; each drive begins with an idle processor.

    Args:
        streams: The drives.
        busy_ns: Times that frames take, in the order in which they were measured, (N,) int64; they are used in turns.
        overrun: What happens to frames that arrive while another is at work.

    Raises:
        UserError: As ``schedule``.
    """
    samples: list[str] = []
    shown: list[str | None] = []
    ages: list[NDArray[np.float64]] = []
    arrived = processed = 0
    for stream in streams:
        done = schedule(stream.arrival_ns, busy_ns, overrun=overrun, first=processed)
        newest = np.searchsorted(done.finish_ns, stream.sample_ns, side="right") - 1  # (E,)
        frame = np.append(done.frame, -1)[newest]  # -1 before the first output
        samples += stream.samples
        shown += [stream.frames[number] if number >= 0 else None for number in frame]
        since_ns = stream.sample_ns - np.append(stream.arrival_ns, 0)[frame]
        ages.append(np.where(frame >= 0, since_ns * 1e-9, np.nan))
        arrived += len(stream.frames)
        processed += len(done.frame)
    return Replay(tuple(samples), tuple(shown), np.concatenate([np.zeros(0), *ages]), arrived, processed)


def on_show(replayed: Replay, outputs: Detections, *, forward: bool) -> Detections:
    """The boxes that are on show at each evaluation time.

    Args:
        replayed: What is on show when.
        outputs: Boxes of at least the frames of ``replayed``, by the frames' tokens.
        forward: Whether boxes are moved on by their own velocities for as long as they are old; those of unknown
            velocity stay.

    Raises:
        UserError: If a frame that is on show has no boxes.
    """
    boxes = outputs.shown_at(replayed.samples, replayed.shown)
    if not forward:
        return boxes
    age_s = np.repeat(replayed.age_s, np.diff(boxes.start))
    xyz_m = boxes.xyz_m.copy()
    xyz_m[:, :2] += np.nan_to_num(boxes.velocity_mps) * age_s[:, None]
    return replace(boxes, xyz_m=xyz_m)


def streaming_figures(
    truth: DetectionTruth, outputs: Detections, replayed: Replay, *, forward: bool
) -> NuScenesFigures:
    """The nuScenes figures of what is on show, each evaluation time a sample.

    Args:
        truth: Annotations at the evaluation times; other samples don't count.
        outputs: Boxes by frame.
        replayed: What is on show when.
        forward: Whether boxes are moved on by their own velocities.

    Raises:
        UserError: If the truth lacks an evaluation time, or a frame on show has no boxes.
    """
    return evaluate(truth, on_show(replayed, outputs, forward=forward), missing="ignore")


def offline_figures(truth: DetectionTruth, outputs: Detections, samples: Sequence[str]) -> NuScenesFigures:
    """The nuScenes figures of frames as if no time passed while they were computed.

    Args:
        truth: Annotations of at least these frames.
        outputs: Boxes of at least these frames.
        samples: Tokens of frames that are samples of the truth too: the keyframes.
    """
    at_once = Replay(tuple(samples), tuple(samples), np.zeros(len(samples)), len(samples), len(samples))
    return streaming_figures(truth, outputs, at_once, forward=False)
