"""Several LiDAR sweeps as one cloud in the ego frame of the keyframe."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from fusionkd.preprocess.checks import checked_points, checked_transforms


@njit(cache=True, nogil=True)
def _append_sweep(sweep: Any, key_from_sweep: Any, age_s: Any, min_distance_m: Any, out: Any, at: int) -> int:
    t = key_from_sweep
    for i in range(len(sweep)):
        x, y, z, intensity = sweep[i, 0], sweep[i, 1], sweep[i, 2], sweep[i, 3]
        if abs(x) < min_distance_m and abs(y) < min_distance_m:
            continue
        if not (np.isfinite(x) and np.isfinite(y) and np.isfinite(z) and np.isfinite(intensity)):
            continue
        # The products are float64, as in the devkit: a pose in global metres has no room in float32.
        out[at, 0] = t[0, 0] * x + t[0, 1] * y + t[0, 2] * z + t[0, 3]
        out[at, 1] = t[1, 0] * x + t[1, 1] * y + t[1, 2] * z + t[1, 3]
        out[at, 2] = t[2, 0] * x + t[2, 1] * y + t[2, 2] * z + t[2, 3]
        out[at, 3] = intensity
        out[at, 4] = age_s
        at += 1
    return at


def fuse_sweeps(
    sweeps: Sequence[NDArray[Any]],
    *,
    key_from_sweep: NDArray[Any],
    age_s: ArrayLike,
    min_distance_m: float = 1.0,
) -> NDArray[np.float32]:
    """Sweeps moved to one frame and joined, each point with the age of its sweep.

    Does what nuScenes' devkit does in ``LidarPointCloud.from_file_multisweep``, for a target frame of
    the caller's choice. Points that are not finite carry nothing and are dropped.

    Args:
        sweeps: Per sweep (n, >=4) float32 points in its own sensor frame: x, y, z in metres, intensity;
            further columns (nuScenes stores the ring there) are left out.
        key_from_sweep: (S, 4, 4) transforms from each sweep's sensor frame to the keyframe's ego frame,
            both at their own times.
        age_s: (S,) age of each sweep, seconds; 0 for the keyframe's own, positive for older ones.
        min_distance_m: Points with |x| and |y| below this, in their own sensor frame, are returns from
            the car itself and are dropped; 0 keeps all.

    Returns:
        (P, 5) float32: x, y, z in the key frame, intensity, age; sweep after sweep, in order.

    Raises:
        ValueError: If a sweep, transform or age doesn't fit; the message says which and how.
    """
    clouds = [checked_points(s, name=f"sweeps[{k}]", columns=4, exact=False) for k, s in enumerate(sweeps)]
    transforms = checked_transforms(key_from_sweep, name="key_from_sweep", count=len(clouds))
    ages = np.asarray(age_s, dtype=np.float64)
    if ages.shape != (len(clouds),):
        raise ValueError(f"age_s must hold one age for each of {len(clouds)} sweeps, found shape {ages.shape}.")
    if not np.all(np.isfinite(ages)) or np.any(ages < 0):
        raise ValueError(f"age_s must be finite and 0 or more (older sweeps are positive), found {ages.tolist()}.")
    if not min_distance_m >= 0:
        raise ValueError(f"min_distance_m must be 0 or more, found {min_distance_m}.")
    out = np.empty((sum(map(len, clouds)), 5), np.float32)
    at = 0
    for cloud, transform, age in zip(clouds, transforms, ages):
        at = _append_sweep(cloud, transform, np.float32(age), np.float32(min_distance_m), out, at)
    return out[:at]
