"""Do frames depend on each other? Tests of it, and what dependence costs."""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.fft import irfft, next_fast_len, rfft
from scipy.stats import chi2, norm, rankdata

from fusionkd.realtime.steady import FEWEST_FRAMES, is_steady

LEVEL = 0.01
"""Frames count as dependent if independent ones would look so in at most one trace of a hundred."""

LAGS = 20
"""Frames are compared with so many before them."""


def autocorrelation(values: ArrayLike) -> NDArray[np.float64]:
    """Autocorrelation (N,) at the lags 0..N-1, by FFT; zero at all other lags where the values are constant."""
    sample = np.asarray(values, np.float64)
    sample = sample - sample.mean()
    length = next_fast_len(2 * len(sample), real=True)
    covariance = irfft(np.abs(rfft(sample, length)) ** 2, length)[: len(sample)]
    if covariance[0] <= 0:
        return np.asarray(np.arange(len(sample)) == 0, dtype=np.float64)
    return np.asarray(covariance / covariance[0], dtype=np.float64)


def ljung_box(values: ArrayLike, lags: int = LAGS) -> float:
    """Probability that independent values would correlate as much over ``lags`` frames.

    Ljung & Box, "On a measure of lack of fit in time series models", Biometrika 65 (1978), equation 1.5.

    Args:
        values: (N,) N > lags, with finite fourth moments: ranks or indicators of heavy-tailed ones.
        lags: Number of lags.
    """
    sample = np.asarray(values, np.float64)
    n, lag = len(sample), np.arange(1, lags + 1)
    sample = sample - sample.mean()
    power = float(sample @ sample)
    if power <= 0:
        return 1.0
    r = np.array([sample[k:] @ sample[:-k] for k in lag]) / power
    return float(chi2.sf(n * (n + 2) * np.sum(r**2 / (n - lag)), lags))


def normal_scores(values: ArrayLike) -> NDArray[np.float64]:
    """Values (N,) replaced by the normal quantiles of their ranks: no spike outweighs the rest."""
    sample = np.asarray(values, np.float64)
    return np.asarray(norm.ppf((rankdata(sample) - 0.375) / (len(sample) + 0.25)), np.float64)


def slow_frames(values: ArrayLike, percent: float) -> NDArray[np.bool_]:
    """Which of the values (N,) are slow: above the percentile, or above a lower one, so that clusters can be seen.

    At least 3 sqrt(N) frames are slow, so that independent ones are expected to meet nine times at every lag; at most a
    tenth.
    """
    sample = np.asarray(values, np.float64)
    wanted = max((1 - percent / 100) * len(sample), 3 * math.sqrt(len(sample)))
    count = int(min(wanted, len(sample) / 10))
    place = len(sample) - count - 1
    threshold = np.partition(sample, place)[place]
    return np.asarray((sample > threshold) | np.isinf(sample), np.bool_)


def inflation(values: ArrayLike, percent: float) -> float:
    """How many frames count as one independent frame when a high percentile is judged; 1 where none is found dependent.

    Slow frames come in clusters on most machines. What counts for a percentile are the indicators of slow frames: where
    a Ljung-Box test finds them correlated, the result is their integrated autocorrelation time 1 + 2 sum(r), summed
    over Geyer's initial positive sequence ("Practical Markov chain Monte Carlo", Statistical Science 7, 1992).

    A level that drifts or jumps is no cluster, however much its slow frames lie together: where ``is_steady`` denies a
    steady state, the medians of ten parts are taken off first. What drift does to a verdict is a finding of its own.

    Args:
        values: (N,) in the order of the frames; infinite ones are frames that never came.
        percent: That is judged.
    """
    sample = np.asarray(values, np.float64)
    if len(sample) < FEWEST_FRAMES:
        return 1.0
    slow = slow_frames(sample, percent)
    if ljung_box(slow) >= LEVEL:
        return 1.0
    if not is_steady(sample):
        slow = slow_frames(_levelled(sample), percent)
    r = autocorrelation(slow)
    pairs = r[1 : len(r) // 2 * 2 - 1].reshape(-1, 2).sum(axis=1)  # (N / 2 - 1, 2) -> (N / 2 - 1,)
    end = int(np.argmax(pairs <= 0)) if np.any(pairs <= 0) else len(pairs)
    return max(1.0, 1 + 2 * float(pairs[:end].sum()))


def _levelled(sample: NDArray[np.float64]) -> NDArray[np.float64]:
    """Values (N,) without the medians of their ten parts; infinite ones stay so."""
    parts = np.array_split(sample, 10)
    # A part of which most was dropped has an infinite median, and inf - inf is no number.
    return np.concatenate([part - float(np.minimum(np.median(part), 1e300)) for part in parts])
