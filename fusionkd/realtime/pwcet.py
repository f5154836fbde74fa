"""Probabilistic worst case: how late one frame in a million comes, from the tail of those seen, or a refusal."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import genpareto, ks_2samp

from fusionkd.errors import UserError
from fusionkd.realtime.independence import LEVEL, ljung_box, normal_scores, slow_frames

FEWEST_EXCEEDANCES = 50
MOST_EXCEEDANCES = 1000
"""Exceedances of the first threshold that is tried: a tenth of the frames, at most so many."""

REACH = 100
"""A bound reaches at most to frames that are so many times rarer than the rarest that could be seen."""

FIT_LEVEL = 0.05
"""The fit is refused if a true generalised Pareto tail would fit worse in less than this share of samples."""

HEAVIEST_SHAPE = 0.5
"""Tails of this shape and above have no variance: what was seen says nothing of what may come."""

_REPLICATES = 499
_SEED = 20


@dataclass(frozen=True)
class PwcetRefused:
    """Why there is no probabilistic worst case.

    Attributes:
        reason: One sentence.
        checks: p-values of the checks that were made, by name.
    """

    reason: str
    checks: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Pwcet:
    """A generalised Pareto tail that passed its checks. Values have the unit of those it was fitted to.

    A negative shape means a tail that ends, and a sample seldom knows where: already for normal latencies such an end
    lies below what comes later. Bounds therefore take the exponential tail with the same mean excess instead, which
    lies above every tail whose failure rate rises (as Abella et al., "Measurement-based worst-case execution time
    estimation using the coefficient of variation", ACM TODAES 22, 2017).

    Attributes:
        threshold: Where the tail begins.
        shape: Fitted xi; below 0 the fitted tail ends, at 0 it is exponential.
        scale: Fitted sigma.
        exceedances: Frames above the threshold.
        frames: All frames.
        confidence: Of the upper bounds.
        checks: p-values of the checks, by name.
        replicates: (3, B) shape, scale and exceedances of bootstrap samples.
    """

    threshold: float
    shape: float
    scale: float
    exceedances: int
    frames: int
    confidence: float
    checks: Mapping[str, float]
    replicates: NDArray[np.float64]

    @property
    def least_probability(self) -> float:
        """The smallest exceedance probability for which a value is given."""
        return 1 / (REACH * self.frames)

    def estimate(self, probability: float) -> float:
        """What a frame exceeds with the given probability (Coles 2001, equation 4.12).

        Raises:
            UserError: If the probability lies beyond the reach of the frames seen, or within the body of the sample.
        """
        self._check(probability)
        return self.threshold + float(_excess(probability, self.shape, self.scale, self.exceedances / self.frames))

    def upper(self, probability: float) -> float:
        """Upper bound of ``estimate`` by parametric bootstrap, at ``confidence``.

        Raises:
            UserError: As ``estimate``.
        """
        self._check(probability)
        shape, scale, exceedances = self.replicates
        best = self.estimate(probability) - self.threshold
        low, high = np.quantile(
            _excess(probability, shape, scale, exceedances / self.frames), [1 - self.confidence, self.confidence]
        )
        # As far as a sample can fall below its truth, on a logarithmic scale, the truth may lie above our sample.
        return self.threshold + float(max(high, best**2 / low))

    def _check(self, probability: float) -> None:
        if not self.least_probability <= probability <= self.exceedances / self.frames:
            raise UserError(
                f"{self.frames:,} frames speak of exceedance probabilities from {self.least_probability:.1e} to "
                f"{self.exceedances / self.frames:.1e}, not of {probability:.1e}: measure more frames."
            )


def fit_pwcet(values: ArrayLike, *, confidence: float = 0.95) -> Pwcet | PwcetRefused:
    """Fit the tail of independent, identically distributed frames, or refuse.

    Peaks over threshold (Davis & Cucu-Grosjean, "A survey of probabilistic timing analysis techniques for real-time
    systems", LITES 6, 2019). Thresholds leave a tenth of the frames, then half as many, and so on; the first with a
    sound fit is taken (Bader, Yan & Zhang, Annals of Applied Statistics 12, 2018).

    Args:
        values: (N,) finite latencies in the order of the frames, warm-up left out.
        confidence: Of the upper bounds.

    Returns:
        The tail, or the reason why the frames allow none: too few, dependent (Ljung-Box on normal scores and on the
        indicators of slow frames), changing (Kolmogorov-Smirnov between the halves), too coarse a clock, no sound fit
        (Anderson-Darling by parametric bootstrap), too heavy a tail.
    """
    sample = np.asarray(values, np.float64)
    count = min(len(sample) // 10, MOST_EXCEEDANCES)
    if count < FEWEST_EXCEEDANCES:
        return PwcetRefused(
            f"{len(sample):,} frames leave {count} in the tail; a fit takes {FEWEST_EXCEEDANCES}, so measure at least "
            f"{10 * FEWEST_EXCEEDANCES} frames."
        )
    checks = _sample_checks(sample)
    failed = [name for name, p in checks.items() if p < LEVEL / len(checks)]
    if failed:
        return PwcetRefused(f"The frames are not independent and identically distributed: {_listed(failed)}.", checks)
    return _fit(sample, count, confidence=confidence, checks=checks)


def fit_tail(excesses: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Shape and scale of generalised Pareto tails by probability-weighted moments.

    Hosking & Wallis, "Parameter and quantile estimation for the generalized Pareto distribution", Technometrics 29
    (1987), with their plotting position (i - 0.35) / n; their k is minus the shape.

    Args:
        excesses: (..., K) above the threshold, ascending.

    Returns:
        Shape and scale, (...).
    """
    k = excesses.shape[-1]
    above = 1 - (np.arange(1, k + 1) - 0.35) / k
    mean, weighted = excesses.mean(axis=-1), (excesses * above).mean(axis=-1)
    return 2 - mean / (mean - 2 * weighted), 2 * mean * weighted / (mean - 2 * weighted)


def anderson_darling(
    excesses: NDArray[np.float64], shape: NDArray[np.float64], scale: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Distance (...) of ascending excesses (..., K) from their generalised Pareto tails, weighted towards the ends."""
    k = excesses.shape[-1]
    # A fitted tail may end before the largest value: its distance is then very large instead of infinite.
    p = np.clip(genpareto.cdf(excesses, shape[..., None], scale=scale[..., None]), 1e-12, 1 - 1e-12)
    weight = 2 * np.arange(1, k + 1) - 1
    return np.asarray(-k - (weight * (np.log(p) + np.log1p(-p[..., ::-1]))).mean(axis=-1), np.float64)


def _sample_checks(sample: NDArray[np.float64]) -> dict[str, float]:
    half = len(sample) // 2
    return {
        "Ljung-Box": ljung_box(normal_scores(sample)),
        "Ljung-Box of slow frames": ljung_box(slow_frames(sample, 99)),
        "same distribution in both halves (Kolmogorov-Smirnov)": float(
            ks_2samp(sample[:half], sample[half:], method="asymp").pvalue
        ),
    }


def _fit(
    sample: NDArray[np.float64], count: int, *, confidence: float, checks: dict[str, float]
) -> Pwcet | PwcetRefused:
    ordered = np.sort(sample)
    refused = PwcetRefused("", checks)
    while count >= FEWEST_EXCEEDANCES:
        threshold = float(ordered[-count - 1])
        tail = ordered[ordered > threshold] - threshold
        if len(np.unique(tail)) < max(FEWEST_EXCEEDANCES, len(tail)) / 2:
            return PwcetRefused(
                f"The clock is too coarse: the {len(tail)} slowest frames show {len(np.unique(tail))} different times.",
                checks,
            )
        shape, scale = (float(value) for value in fit_tail(tail))
        fits, replicates = _bootstrap(tail, shape, scale, frames=len(sample))
        checks = {**checks, "fit (Anderson-Darling)": fits}
        if shape >= HEAVIEST_SHAPE:
            refused = PwcetRefused(f"The tail is too heavy for a bound: its shape is {shape:.2f}.", checks)
        elif fits < FIT_LEVEL:
            refused = PwcetRefused("No tail above any threshold looks like a generalised Pareto one.", checks)
        else:
            return Pwcet(threshold, shape, scale, len(tail), len(sample), confidence, checks, replicates)
        count //= 2
    return refused


def _bootstrap(
    tail: NDArray[np.float64], shape: float, scale: float, *, frames: int
) -> tuple[float, NDArray[np.float64]]:
    """The fit's p-value, and refitted (3, B) shapes, scales and numbers of exceedances."""
    random = np.random.default_rng(_SEED)
    fits = np.sort(genpareto.rvs(shape, scale=scale, size=(_REPLICATES, len(tail)), random_state=random), axis=1)
    shapes, scales = fit_tail(fits)
    own = anderson_darling(tail, np.array(shape), np.array(scale))
    worse = np.count_nonzero(anderson_darling(fits, shapes, scales) >= own)
    counts = random.binomial(frames, len(tail) / frames, size=_REPLICATES)
    return (1 + worse) / (1 + _REPLICATES), np.stack([shapes, scales, counts.astype(np.float64)])


def _excess(
    probability: float,
    shape: float | NDArray[np.float64],
    scale: float | NDArray[np.float64],
    rate: float | NDArray[np.float64],
) -> NDArray[np.float64]:
    ends = np.less(shape, 0)
    mean_excess = scale / (1 - np.asarray(shape))
    tail = genpareto(np.where(ends, 0, shape), scale=np.where(ends, mean_excess, scale))
    return np.asarray(tail.isf(np.minimum(1.0, probability / rate)), np.float64)


def _listed(failed: list[str]) -> str:
    tests = " and ".join(failed)
    return f"{tests} {'denies' if len(failed) == 1 else 'deny'} it at {100 * LEVEL:g} %"
