"""LiDAR views: what a model's LiDAR branch reads, made from a frame's points."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from fusionkd.errors import UserError
from fusionkd.geometry import BevGrid
from fusionkd.preprocess.clouds import younger
from fusionkd.preprocess.mixing import mixed_pillars
from fusionkd.preprocess.pillars import hard_pillars
from fusionkd.preprocess.raster import bev_raster

Arrays = Mapping[str, NDArray[np.generic]]


class LidarView(Protocol):
    """Makes one view of a frame's points, and one batch of several."""

    def make(self, points: NDArray[np.float32]) -> Arrays:
        """The view of (P, 5) points: x, y, z, intensity, age in the ego frame."""

    def collate(self, frames: Sequence[Arrays]) -> dict[str, NDArray[Any]]:
        """The arrays of several frames' views, joined."""


@dataclass(frozen=True)
class RasterView:
    """A stack of BEV images: occupancy per height slice, height, intensity, density, age.

    Attributes:
        grid: The cells.
        z_slices: Height slices between the grid's ``z_min_m`` and ``z_max_m``.
        stage: What its making is called where time is measured.
        arrays: Names of what ``collate`` gives.
        max_age_s: Older points are left out; None takes all. Sweep k before the frame is about
            0.05 k seconds old at nuScenes' 20 Hz, so 0.12 keeps three sweeps.
        age_slices: Channels that show where points were when; five of 0.1 s make speeds visible. 0 for none.
    """

    stage: ClassVar[str] = "raster"
    arrays: ClassVar[tuple[str, ...]] = ("raster",)

    grid: BevGrid = field(default_factory=BevGrid)
    z_slices: int = 8
    max_age_s: float | None = None
    age_slices: int = 0

    def __post_init__(self) -> None:
        if self.z_slices < 1:
            raise UserError(f"RasterView.z_slices must be at least 1, found {self.z_slices}.")
        if self.age_slices < 0:
            raise UserError(f"RasterView.age_slices must be 0 or more, found {self.age_slices}.")
        _check_age("RasterView", self.max_age_s)

    def make(self, points: NDArray[np.float32]) -> Arrays:
        """``raster``: (C, rows, columns) float32."""
        young = _younger(points, self.max_age_s)
        return {"raster": bev_raster(young, self.grid, z_slices=self.z_slices, age_slices=self.age_slices)}

    def collate(self, frames: Sequence[Arrays]) -> dict[str, NDArray[Any]]:
        """``raster``: (B, C, rows, columns)."""
        return {"raster": np.stack([frame["raster"] for frame in frames])}


@dataclass(frozen=True)
class PillarView:
    """Points grouped by vertical pillars (Lang et al., PointPillars, CVPR 2019).

    Attributes:
        grid: The pillars' footprints.
        max_points: Points kept per pillar.
        max_pillars: Pillars kept per frame.
        stage: What its making is called where time is measured.
        arrays: Names of what ``collate`` gives.
        max_age_s: Older points are left out; None takes all.
        mix_ages: Whether a pillar that is full holds points of all ages alike. A frame's points come newest first:
            without it, full pillars know nothing of how things moved.
    """

    stage: ClassVar[str] = "pillars"
    arrays: ClassVar[tuple[str, ...]] = ("points", "count", "coords")

    grid: BevGrid = field(default_factory=lambda: BevGrid(cell_m=0.4))
    max_points: int = 20
    max_pillars: int = 30000
    max_age_s: float | None = None
    mix_ages: bool = False

    def __post_init__(self) -> None:
        for name in ("max_points", "max_pillars"):
            if getattr(self, name) < 1:
                raise UserError(f"PillarView.{name} must be at least 1, found {getattr(self, name)}.")
        _check_age("PillarView", self.max_age_s)

    def make(self, points: NDArray[np.float32]) -> Arrays:
        """``points`` (P, K, 5), ``count`` (P,) and ``row_column`` (P, 2)."""
        fill = mixed_pillars if self.mix_ages else hard_pillars
        young = _younger(points, self.max_age_s)
        pillars = fill(young, self.grid, max_points=self.max_points, max_pillars=self.max_pillars)
        return {"points": pillars.points, "count": pillars.count, "row_column": pillars.row_column}

    def collate(self, frames: Sequence[Arrays]) -> dict[str, NDArray[Any]]:
        """``points`` (P, K, 5), ``count`` (P,) and ``coords`` (P, 3) int64 of batch, row, column."""
        rows = np.concatenate([frame["row_column"] for frame in frames])  # (P, 2)
        batch = np.repeat(np.arange(len(frames)), [len(frame["count"]) for frame in frames])
        return {
            "points": np.concatenate([frame["points"] for frame in frames]),
            "count": np.concatenate([frame["count"] for frame in frames]),
            "coords": np.concatenate([batch[:, None], rows], axis=1),
        }


def _younger(points: NDArray[np.float32], max_age_s: float | None) -> NDArray[np.float32]:
    return points if max_age_s is None else younger(points, max_age_s)


def _check_age(view: str, max_age_s: float | None) -> None:
    if max_age_s is not None and max_age_s < 0:
        raise UserError(f"{view}.max_age_s must be 0 or more, found {max_age_s}.")
