"""Several LiDAR sweeps as one cloud in the ego frame of the keyframe."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from fusionkd.preprocess.checks import checked_count, checked_points, checked_transforms
from fusionkd.preprocess.lanes import is_kept, move_point
from fusionkd.preprocess.recycling import recycled
from fusionkd.preprocess.threads import in_threads

RINGS = 256
"""Ring numbers that a LiDAR file may hold lie below this."""


@njit(cache=True, nogil=True)
def move_sweep(sweep: Any, axes: Any, age_s: Any, min_distance_m: Any, out: Any, at: int, end: int) -> int:
    """Writes the moved points that are kept into ``out``, row after row from ``at``; returns the row after the last.

    Rows from ``end`` on are left alone; no more than ``end - at`` points are kept.
    """
    for i in range(len(sweep)):
        if at == end:  # a point that isn't kept is written, too, before the next one overwrites it
            break
        # Products and sums are float64, as in the devkit: a pose in global metres has no room in float32.
        move_point(out, at, axes, sweep, i, age_s)
        at += is_kept(sweep, i, min_distance_m)
    return at


@njit(cache=True, nogil=True)
def _count_kept(sweep: Any, min_distance_m: Any) -> int:
    kept = 0
    for i in range(len(sweep)):
        kept += is_kept(sweep, i, min_distance_m)
    return kept


@njit(cache=True, nogil=True)
def look_at_sweep(values: Any) -> Any:
    """Whether all numbers of a (P, 5) sweep are finite, and whether all of its fifth column are ring numbers."""
    bits = values.reshape(-1).view(np.int32)
    infinite, stray = False, False
    for i in range(len(bits)):
        infinite |= (bits[i] & 0x7F800000) == 0x7F800000
    for i in range(len(values)):
        ring = values[i, 4]
        stray |= not ((ring >= 0) & (ring < RINGS) & (ring == np.floor(ring)))
    return not infinite, not stray


@dataclass(frozen=True)
class Sweeps:
    """Sweeps and how they are moved, checked; each cloud is looked at when its turn comes.

    Attributes:
        clouds: Per sweep (n, >=4) points in its own sensor frame.
        axes: Per sweep where its sensor's axes and origin come to lie, (S, 4, 4) float64: rows x, y, z, origin;
            the fourth column is zero.
        age_s: (S,) float32.
        min_distance_m: Points nearer than this along x and y are dropped.
    """

    clouds: Sequence[NDArray[Any]]
    axes: NDArray[np.float64]
    age_s: NDArray[np.float32]
    min_distance_m: np.float32

    def __len__(self) -> int:
        return len(self.clouds)

    def cloud(self, sweep: int) -> NDArray[np.float32]:
        """The points of one, as the kernels take them.

        Raises:
            ValueError: If they don't fit.
        """
        return checked_points(self.clouds[sweep], name=f"sweeps[{sweep}]", columns=4, exact=False)

    def each(self) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float64], np.float32, np.float32]]:
        """Per sweep the first four arguments of ``move_sweep``."""
        for sweep in range(len(self)):
            yield self.cloud(sweep), self.axes[sweep], self.age_s[sweep], self.min_distance_m


def checked_sweeps(
    sweeps: Sequence[NDArray[Any]], *, key_from_sweep: NDArray[Any], age_s: ArrayLike, min_distance_m: float
) -> Sweeps:
    """The arguments of ``fuse_sweeps``, checked but for the clouds themselves.

    Raises:
        ValueError: If a transform or age doesn't fit; the message says which and how.
    """
    transforms = checked_transforms(key_from_sweep, name="key_from_sweep", count=len(sweeps))
    ages = np.asarray(age_s, dtype=np.float64)
    if ages.shape != (len(sweeps),):
        raise ValueError(f"age_s must hold one age for each of {len(sweeps)} sweeps, found shape {ages.shape}.")
    if not np.all(np.isfinite(ages)) or np.any(ages < 0):
        raise ValueError(f"age_s must be finite and 0 or more (older sweeps are positive), found {ages.tolist()}.")
    if not min_distance_m >= 0:
        raise ValueError(f"min_distance_m must be 0 or more, found {min_distance_m}.")
    axes = np.zeros((len(sweeps), 4, 4))
    axes[:, :, :3] = transforms[:, :3].transpose(0, 2, 1)  # (S, 4, 3)
    return Sweeps(sweeps, axes, ages.astype(np.float32), np.float32(min_distance_m))


def fuse_sweeps(
    sweeps: Sequence[NDArray[Any]],
    *,
    key_from_sweep: NDArray[Any],
    age_s: ArrayLike,
    min_distance_m: float = 1.0,
    threads: int = 1,
) -> NDArray[np.float32]:
    """Sweeps moved to one frame and joined, each point with the age of its sweep.

    Does what nuScenes' devkit does in ``LidarPointCloud.from_file_multisweep``, for a target frame of
    the caller's choice. Points that are not finite carry nothing and are dropped.

    Args:
        sweeps: Per sweep (n, >=4) float32 points in its own sensor frame: x, y, z in metres, intensity;
            further columns (nuScenes stores the ring there) are left out. Each is asked for when its turn comes, so
            that one that is read only then (``data.reading.SweepFiles``) is still in the nearest cache.
        key_from_sweep: (S, 4, 4) transforms from each sweep's sensor frame to the keyframe's ego frame,
            both at their own times.
        age_s: (S,) age of each sweep, seconds; 0 for the keyframe's own, positive for older ones.
        min_distance_m: Points with |x| and |y| below this, in their own sensor frame, are returns from
            the car itself and are dropped; 0 keeps all.
        threads: Threads that share the sweeps; the result is the same.

    Returns:
        (P, 5) float32: x, y, z in the key frame, intensity, age; sweep after sweep, in order.

    Raises:
        ValueError: If a sweep, transform or age doesn't fit; the message says which and how.
    """
    given = checked_sweeps(sweeps, key_from_sweep=key_from_sweep, age_s=age_s, min_distance_m=min_distance_m)
    if checked_count(threads, name="threads") > 1:
        return _in_parallel(given, threads)
    out, at = np.empty((0, 5), np.float32), 0
    for sweep, (cloud, axes, age, nearest) in enumerate(given.each()):
        if at + len(cloud) > len(out):
            # Room for the sweeps to come, too, if they are as long as this one; what isn't touched costs nothing.
            room = recycled((at + len(cloud) * (len(given) - sweep), 5), np.float32)
            room[:at] = out[:at]
            out = room
        at = move_sweep(cloud, axes, age, nearest, out, at, len(out))
    return out[:at]


def _in_parallel(given: Sweeps, threads: int) -> NDArray[np.float32]:
    kept = np.zeros(len(given), np.int64)

    def count(start: int, stop: int) -> None:
        for k in range(start, stop):
            kept[k] = _count_kept(given.cloud(k), given.min_distance_m)

    in_threads(count, len(given), threads=threads)
    end = np.cumsum(kept)
    out = np.empty((int(kept.sum()), 5), np.float32)

    def move(start: int, stop: int) -> None:
        for k in range(start, stop):
            arguments = given.cloud(k), given.axes[k], given.age_s[k], given.min_distance_m
            move_sweep(*arguments, out, int(end[k] - kept[k]), int(end[k]))

    in_threads(move, len(given), threads=threads)
    return out
