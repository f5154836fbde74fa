"""Which sensors the next frame may use: a small state machine with hysteresis, free of clocks and threads.

A sensor goes ``ok -> late -> lost -> ok``: data that is too old or absent isn't used in that frame; a few such frames
in a row and the sensor is lost, and comes back only after many good ones. Frames that overrun shed the cameras, the
dearer branch, in the same manner.
"""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from fusionkd.errors import UserError

if TYPE_CHECKING:  # the monitor stays light
    from fusionkd.deploy import RawFrame

Status = Literal["ok", "late", "lost"]
Mode = Literal["full", "cameras_reduced", "lidar_only", "cameras_only", "blind"]

MODES: tuple[Mode, ...] = ("full", "cameras_reduced", "lidar_only", "cameras_only", "blind")


@dataclass(frozen=True)
class Hysteresis:
    """How quickly to give up, and how slowly to trust again.

    Attributes:
        lost_after: Frames in a row without fresh data until a sensor is lost.
        shed_after: Frames in a row that overrun until the cameras are shed.
        back_after: Good frames in a row until what was lost or shed is used again.
        back_most: Where cameras that came back are soon shed again, ``back_after`` doubles up to this.
    """

    lost_after: int = 3
    shed_after: int = 2
    back_after: int = 10
    back_most: int = 640

    def __post_init__(self) -> None:
        for name in ("lost_after", "shed_after", "back_after"):
            if getattr(self, name) < 1:
                raise UserError(f"Hysteresis.{name} must be at least 1 frame, found {getattr(self, name)}.")
        if self.back_most < self.back_after:
            raise UserError(
                f"Hysteresis.back_most must not be below back_after, {self.back_after}; found {self.back_most}."
            )


@dataclass(frozen=True)
class Sensors:
    """What a frame may use.

    Attributes:
        lidar: Whether the LiDAR.
        cameras: Whether each camera, in the order of the frame's images.
        mode: The same in a word: ``full``, ``cameras_reduced`` (LiDAR and some cameras), ``lidar_only``,
            ``cameras_only`` (all or some of them) or ``blind``.
    """

    lidar: bool
    cameras: tuple[bool, ...]
    mode: Mode

    def of(self, raw: "RawFrame") -> "RawFrame":
        """The frame with only these sensors' data: the others look lost to the pipeline."""
        if self.mode == "full":
            return raw
        images = tuple(image if used else None for image, used in zip(raw.images, self.cameras, strict=True))
        if self.lidar:
            return replace(raw, images=images)
        return replace(raw, images=images, sweeps=(), key_from_sweep=raw.key_from_sweep[:0], age_s=raw.age_s[:0])


def all_sensors(cameras: int) -> tuple[Sensors, ...]:
    """Every choice of sensors; bit k of its number is camera k, the highest bit the LiDAR."""
    return tuple(
        _sensors(lidar=bool(number >> cameras), cameras=tuple(bool(number >> k & 1) for k in range(cameras)))
        for number in range(2 << cameras)
    )


def sensor_step(status: Status, run: int, *, fresh: bool, hysteresis: Hysteresis) -> tuple[Status, int]:
    """A sensor's next state.

    Args:
        status: ``ok``; ``late``: not fresh in the last frames; ``lost``: not to be trusted yet.
        run: Frames in a row without fresh data, or with it where the sensor is lost.
        fresh: Whether there is fresh data for this frame.
        hysteresis: How many frames it takes.

    Returns:
        Status and run after this frame's data; the sensor may be used if the status is ``ok``.
    """
    if status == "lost":
        if not fresh:
            return "lost", 0
        return ("ok", 0) if run + 1 >= hysteresis.back_after else ("lost", run + 1)
    if fresh:
        return "ok", 0
    return ("lost", 0) if run + 1 >= hysteresis.lost_after else ("late", run + 1)


@dataclass(frozen=True)
class Load:
    """Whether the frames are too much for the computer.

    Attributes:
        shed: Whether the cameras are shed.
        run: Frames in a row that overran; where the cameras are shed, those in time.
        back_after: Frames in time that it takes now to have the cameras back.
        trial: Frames that the cameras, back again, still have to prove themselves for.
    """

    shed: bool
    run: int
    back_after: int
    trial: int = 0


def load_step(load: Load, *, in_time: bool, hysteresis: Hysteresis) -> Load:
    """The load's next state, after a frame that was in time or overran."""
    if load.shed:
        run = load.run + 1 if in_time else 0
        if run < load.back_after:
            return Load(True, run, load.back_after)
        return Load(False, 0, load.back_after, trial=load.back_after)
    if in_time:
        if load.run == 0 and load.trial == 0:
            return load
        trial = max(load.trial - 1, 0)
        return Load(False, 0, load.back_after if trial else hysteresis.back_after, trial=trial)
    if load.run + 1 < hysteresis.shed_after:
        return Load(False, load.run + 1, load.back_after, trial=load.trial)
    back_after = min(2 * load.back_after, hysteresis.back_most) if load.trial else hysteresis.back_after
    return Load(True, 0, back_after)


def _sensors(*, lidar: bool, cameras: tuple[bool, ...]) -> Sensors:
    if not lidar:
        return Sensors(lidar, cameras, "cameras_only" if any(cameras) else "blind")
    if all(cameras):
        return Sensors(lidar, cameras, "full")
    return Sensors(lidar, cameras, "cameras_reduced" if any(cameras) else "lidar_only")
