"""Traces whose truth is known."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

from fusionkd.realtime import LatencyTrace

STAGES = ("preprocess/sweeps", "preprocess/raster", "images/decode", "network/camera", "network/lidar", "decode")
SHARES = (0.06, 0.05, 0.13, 0.42, 0.28, 0.06)


def single_stream(latency_ms: NDArray[np.float64], *, cold: int = 0, **changes: Any) -> LatencyTrace:
    """Frames one behind the other, split into six stages by fixed shares."""
    busy = np.round(np.asarray(latency_ms) * 1e6).astype(np.int64)
    finish = np.cumsum(busy)
    values: dict[str, Any] = {
        "stages": STAGES,
        "stage_ns": (busy[:, None] * np.array(SHARES) * 0.995).astype(np.int64),
        "arrival_ns": finish - busy,
        "start_ns": finish - busy,
        "finish_ns": finish,
        "arrival_index": np.arange(len(busy), dtype=np.int64),
        "arrived": len(busy),
        "cold": cold,
    }
    return LatencyTrace(**{**values, **changes})


def constant_stream(busy_ms: NDArray[np.float64], *, period_ms: float, cold: int = 0, **changes: Any) -> LatencyTrace:
    """Frames at a fixed period; the newest wins. ``busy_ms`` has an entry for each arrival, used if it is processed."""
    period = round(period_ms * 1e6)
    busy = np.round(np.asarray(busy_ms) * 1e6).astype(np.int64)
    index, start, free = [], [], 0
    for k in range(len(busy)):
        # A frame waits until the one before is done, and is dropped if another arrives by then.
        begin = max(free, k * period)
        if begin >= (k + 1) * period:
            continue
        index.append(k)
        start.append(begin)
        free = begin + int(busy[k])
    kept, begins = np.array(index, np.int64), np.array(start, np.int64)
    values: dict[str, Any] = {
        "stages": STAGES,
        "stage_ns": (busy[kept][:, None] * np.array(SHARES) * 0.995).astype(np.int64),
        "arrival_ns": kept * period,
        "start_ns": begins,
        "finish_ns": begins + busy[kept],
        "arrival_index": kept,
        "arrived": len(busy),
        "cold": cold,
        "scenario": "constant_stream",
        "period_ns": period,
        "overrun": "skip",
    }
    return LatencyTrace(**{**values, **changes})


def autoregressive(phi: float, frames: int, *, repetitions: int, seed: int) -> NDArray[np.float64]:
    """Stationary AR(1) of unit variance, (repetitions, frames)."""
    noise = np.random.default_rng(seed).normal(size=(repetitions, frames + 500)) * np.sqrt(1 - phi**2)
    return np.asarray(lfilter([1], [1, -phi], noise, axis=1)[:, 500:])


def bursty(frames: int, *, share: float, length: float, seed: int) -> NDArray[np.bool_]:
    """Which frames lie in a burst: geometric bursts of a mean length that take a share of the time."""
    random = np.random.default_rng(seed)
    inside: list[NDArray[np.bool_]] = []
    total = 0
    while total < frames:
        calm, slow = random.geometric(share / (length * (1 - share))), random.geometric(1 / length)
        inside += [np.zeros(calm, np.bool_), np.ones(slow, np.bool_)]
        total += calm + slow
    return np.concatenate(inside)[:frames]
