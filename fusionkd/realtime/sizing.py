"""Students of many sizes from one configuration, and which of them are worth training.

A student is as large as its width, its depth, its images and its cells. Pure functions on the configuration's plain
values; who measures them is in ``fusionkd.realtime.racing``.
"""

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from fusionkd.errors import UserError

Spec = dict[str, Any]
"""Class path and arguments, as in a configuration."""

_WIDTHS = ("channels", "in_channels", "widths", "shared_channels", "pillar_channels", "neck_channels", "out_channels")
"""Arguments that are numbers of channels."""

_DEPTHS = ("depth",)
"""Arguments that are numbers of blocks."""

_EIGHT = 8
"""Channels come in multiples of this, which processors like."""

DEFAULT_IMAGE_PX = (96, 256)
"""Of the data module."""


@dataclass(frozen=True)
class Size:
    """How a student differs from the configuration's.

    Attributes:
        width: Factor on all numbers of channels.
        deeper: Residual blocks more, per level of image encoder, LiDAR encoder and BEV backbone.
        image_px: (height, width) of the images that the camera branch works on.
        cell_m: Cell of the BEV grid.
    """

    width: float
    deeper: int
    image_px: tuple[int, int]
    cell_m: float

    @property
    def name(self) -> str:
        """A short name, fit for a file."""
        height, width = self.image_px
        return f"w{self.width:g}-d{self.deeper:+d}-i{height}x{width}-c{self.cell_m:g}"


@dataclass(frozen=True)
class Entry:
    """One student that was measured.

    Attributes:
        size: How it differs.
        parameters: Counted.
        gflops: Counted: convolutions and matrix products of one frame; a multiplication with its addition is two.
        latency_ms: Percentile of its latency, measured.
        low_ms: Lower bound of it.
        high_ms: Upper bound of it; infinite where the frames don't bound it.
        frames: Frames measured.
        outcome: ``meets`` the deadline, ``misses`` it, or ``undecided``.
    """

    size: Size
    parameters: int
    gflops: float
    latency_ms: float
    low_ms: float
    high_ms: float
    frames: int
    outcome: str


def sizes_of(
    config: Mapping[str, Any],
    *,
    widths: Sequence[float],
    depths: Sequence[int],
    images_px: Sequence[tuple[int, int]],
    cells_m: Sequence[float],
) -> list[Size]:
    """Every combination; an empty list takes the configuration's own value.

    Raises:
        UserError: If images are larger than the data's or of another shape.
    """
    base_px = image_px_of(config)
    for height, width in images_px:
        if height > base_px[0] or height * base_px[1] != width * base_px[0]:
            raise UserError(
                f"Images of {height}x{width} can't be made from those of the configuration, {base_px[0]}x{base_px[1]}: "
                f"a student's must be of the same shape and not larger. Raise data.init_args.image_size_px first."
            )
    return [
        Size(width, deeper, image_px, cell_m)
        for width, deeper, image_px, cell_m in product(
            widths or [1.0], depths or [0], images_px or [base_px], cells_m or [cell_m_of(config)]
        )
    ]


def sized_student(config: Mapping[str, Any], size: Size) -> Spec:
    """The student of a size.

    Args:
        config: A training configuration (YAML, as read).
        size: What to change.

    Returns:
        ``model.student`` of the configuration, changed.

    Raises:
        UserError: If the configuration has no student, or the size can't be made from it.
    """
    student = copy.deepcopy(_student(config))
    for holder, name, path in _arguments(student, ()):
        if name in _WIDTHS and path != ("lidar", "in_channels"):  # those are the raster's
            holder[name] = _scaled(holder[name], size.width)
        elif name in _DEPTHS and isinstance(holder[name], int):
            holder[name] = max(holder[name] + size.deeper, 0)
    camera = student["init_args"].get("camera")
    if camera:
        scale = size.image_px[0] / image_px_of(config)[0] * camera["init_args"].get("image_scale", 1.0)
        camera["init_args"]["image_scale"] = scale
    return student


def sized_data(config: Mapping[str, Any], size: Size) -> dict[str, Any]:
    """What of ``data.init_args`` changes with the size: the grid, and the LiDAR view that the student reads.

    Raises:
        UserError: If the view isn't a raster or pillars in plain arguments.
    """
    settings = config["data"]["init_args"]
    factor = size.cell_m / cell_m_of(config)
    changed: dict[str, Any] = {"grid": {**settings.get("grid", {}), "cell_m": size.cell_m}}
    lidar, views = _student(config)["init_args"].get("lidar"), settings.get("lidar_views")
    if lidar and views and factor != 1:
        name = lidar["init_args"].get("view", "raster" if lidar["class_path"].endswith("RasterEncoder") else "pillars")
        if name not in views:
            raise UserError(f"The student reads the LiDAR view {name!r}, which data.lidar_views doesn't have.")
        view = copy.deepcopy(views[name])
        grid = view.setdefault("init_args", {}).setdefault("grid", {})
        default_m = 0.8 if view["class_path"].endswith("RasterView") else 0.4
        grid["cell_m"] = round(grid.get("cell_m", default_m) * factor, 6)
        changed["lidar_views"] = {**views, name: view}
    return changed


def overlay(config: Mapping[str, Any], size: Size) -> dict[str, Any]:
    """A configuration to put after the training configuration: ``fit --config CONFIG --config OVERLAY``."""
    return {"data": {"init_args": sized_data(config, size)}, "model": {"student": sized_student(config, size)}}


def pareto(entries: Sequence[Entry]) -> list[Entry]:
    """Those that meet the deadline and are beaten by no other, the quickest first.

    One beats another that has no more parameters, no more GFLOPs and no lower latency, if they differ in any.
    """
    met = [entry for entry in entries if entry.outcome == "meets"]
    kept = [one for one in met if not any(_beats(other, one) for other in met)]
    return sorted(kept, key=lambda entry: entry.latency_ms)


def image_px_of(config: Mapping[str, Any]) -> tuple[int, int]:
    """(height, width) of the data's images."""
    height, width = config["data"]["init_args"].get("image_size_px", DEFAULT_IMAGE_PX)
    return int(height), int(width)


def cell_m_of(config: Mapping[str, Any]) -> float:
    """Cell of the data's grid."""
    return float(config["data"]["init_args"].get("grid", {}).get("cell_m", 0.8))


def _student(config: Mapping[str, Any]) -> Spec:
    student = config.get("model", {}).get("student")
    if not isinstance(student, dict) or "init_args" not in student or "init_args" not in config.get("data", {}):
        raise UserError("The configuration has no model.student and data.init_args; give that of a training run.")
    return student


def _arguments(value: Any, path: tuple[str, ...]) -> Iterator[tuple[dict[str, Any], str, tuple[str, ...]]]:
    """Every argument of a description: who holds it, its name, and its path without ``init_args``."""
    if not isinstance(value, dict):
        return
    for name, content in list(value.items()):
        here = path if name == "init_args" else (*path, name)
        if isinstance(content, dict):
            yield from _arguments(content, here)
        elif name != "class_path":
            yield value, name, here


def _scaled(value: Any, factor: float) -> Any:
    if isinstance(value, list):
        return [_scaled(one, factor) for one in value]
    return max(_EIGHT, _EIGHT * math.floor(value * factor / _EIGHT + 0.5)) if isinstance(value, int) else value


def _beats(one: Entry, other: Entry) -> bool:
    ours = (-one.latency_ms, one.parameters, one.gflops)
    theirs = (-other.latency_ms, other.parameters, other.gflops)
    return ours != theirs and all(a >= b for a, b in zip(ours, theirs))
