"""What a model gives away about who was in its training set: membership inference.

An attack gives every example a score, the higher the surer it is that the example was learned from. How well the
scores tell members from others is the leak.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from fusionkd.errors import UserError

# Fewer shadow models than this on a side say too little about an example's own spread (Carlini et al., section VI.C).
_ENOUGH_SHADOWS = 64


@dataclass(frozen=True)
class MembershipLeak:
    """How well an attack tells members from others.

    Attributes:
        auc: Probability that a member has a higher score than another; 0.5 for no leak.
        interval: 95 % interval of ``auc``.
        advantage: Highest true minus false positive rate over all thresholds (Yeom et al., CSF 2018, definition 4).
        true_positive_rate: Share of members that are found ...
        false_positive_rate: ... where at most this share of others is accused.
    """

    auc: float
    interval: tuple[float, float]
    advantage: float
    true_positive_rate: float
    false_positive_rate: float


def membership_leak(
    members: ArrayLike,
    others: ArrayLike,
    *,
    member_groups: ArrayLike | None = None,
    other_groups: ArrayLike | None = None,
    false_positive_rate: float = 0.01,
) -> MembershipLeak:
    """Judge an attack by its scores.

    The interval is DeLong's (Biometrics 1988), with examples of a group (frames of a scene) taken together as by
    Obuchowski (Biometrics 1997), on the logit scale, so that it stays within [0, 1].

    Args:
        members: (M,) scores of examples that were learned from.
        others: (N,) scores of examples that weren't.
        member_groups: (M,) which examples belong together; None takes each for itself.
        other_groups: (N,) the same of the others; no group has examples on both sides.
        false_positive_rate: Where ``true_positive_rate`` is read. With fewer than its reciprocal of others no other
            may be accused at all.

    Raises:
        UserError: If a side has fewer than two examples or groups, a score isn't a number, or groups and scores
            differ in number.
    """
    inside, outside = _scores(members, "members"), _scores(others, "others")
    groups = _groups(member_groups, len(inside), "members"), _groups(other_groups, len(outside), "others")
    area, variance = _area(inside, outside, *groups)
    thresholds = np.unique(np.concatenate([inside, outside]))
    found = _share_at_least(inside, thresholds)
    accused = _share_at_least(outside, thresholds)
    allowed = accused <= false_positive_rate
    return MembershipLeak(
        auc=area,
        interval=_logit_interval(area, variance),
        advantage=float(max((found - accused).max(), 0.0)),
        true_positive_rate=float(found[allowed].max(initial=0.0)),
        false_positive_rate=false_positive_rate,
    )


def loss_scores(loss: ArrayLike) -> NDArray[np.float64]:
    """Scores of the loss threshold attack: what a model does well on it has seen (Yeom et al., CSF 2018, section 3.3).

    Args:
        loss: (N,) of each example.
    """
    return -np.asarray(loss, np.float64)


def logit_confidence(logits: ArrayLike, label: ArrayLike) -> NDArray[np.float64]:
    """log(p / (1 - p)) of the right class (Carlini et al., S&P 2022, equation 6), stable for any logits.

    Args:
        logits: (..., K) of K classes.
        label: (...) int.

    Returns:
        (...), about normally distributed over trainings of a model.
    """
    values = np.asarray(logits, np.float64)
    right = np.asarray(label)[..., None]
    chosen = np.take_along_axis(values, right, axis=-1)[..., 0]
    others = values.copy()
    np.put_along_axis(others, right, -np.inf, axis=-1)
    confidence: NDArray[np.float64] = chosen - np.logaddexp.reduce(others, axis=-1)
    return confidence


def likelihood_ratio_scores(confidence: ArrayLike, shadow: ArrayLike, inside: ArrayLike) -> NDArray[np.float64]:
    """Scores of the likelihood ratio attack, a stronger shadow-model attack (LiRA; Carlini et al., S&P 2022, alg. 1).

    Shadow models are trained as the attacked model was, each on another half of the data. An example's score is
    log N(c; mu_in, s_in) - log N(c; mu_out, s_out), where the means are over the shadow models that have and haven't
    seen it. With fewer than 64 on each side the deviations are shared by all examples, as the paper advises.

    Args:
        confidence: (N,) the attacked model's ``logit_confidence``.
        shadow: (S, N) that of S shadow models.
        inside: (S, N) bool, whether a shadow model learned from an example.

    Raises:
        UserError: If the shapes don't go together, or an example lacks shadow models on a side.
    """
    observed, reference = np.asarray(confidence, np.float64), np.asarray(shadow, np.float64)
    seen = np.asarray(inside, bool)
    if reference.ndim != 2 or reference.shape != seen.shape or observed.shape != reference.shape[1:]:
        raise UserError(
            f"A likelihood ratio attack needs (N,) confidences beside (S, N) of shadow models and (S, N) of who has "
            f"seen what; found {observed.shape}, {reference.shape} and {seen.shape}."
        )
    lonely = int(((seen.sum(axis=0) < 1) | ((~seen).sum(axis=0) < 1)).sum())
    if lonely or len(reference) < 4:
        raise UserError(
            f"Every example must have been in some shadow models and not in others, of at least four; here are "
            f"{len(reference)} shadow models, and {lonely} examples that all or none have seen."
        )
    score: NDArray[np.float64] = _log_normal(observed, reference, seen) - _log_normal(observed, reference, ~seen)
    return score


def _log_normal(observed: NDArray[np.float64], shadow: NDArray[np.float64], chosen: NDArray[Any]) -> Any:
    """Log density of N(mean, variance) of the chosen shadow models at the observed value, (N,)."""
    count = chosen.sum(axis=0)
    mean = (shadow * chosen).sum(axis=0) / count
    squares = ((shadow - mean) ** 2 * chosen).sum(axis=0)
    if count.min() >= _ENOUGH_SHADOWS:
        variance = squares / (count - 1)
    else:
        variance = np.full(len(mean), squares.sum() / max(float((count - 1).sum()), 1.0))
    return stats.norm.logpdf(observed, mean, np.sqrt(variance.clip(min=1e-12)))


def _area(
    inside: NDArray[np.float64], outside: NDArray[np.float64], groups_in: NDArray[Any], groups_out: NDArray[Any]
) -> tuple[float, float]:
    """Area under the curve and its variance, by placement values."""
    place_in = _share_below(outside, inside)  # (M,) of each member: the others it stands above
    place_out = 1.0 - _share_below(inside, outside)  # (N,) of each other: the members above it
    area = float(place_in.mean())
    return area, _variance(place_in - area, groups_in) + _variance(place_out - area, groups_out)


def _variance(deviation: NDArray[np.float64], groups: NDArray[Any]) -> float:
    """Variance of the mean of values that belong to groups."""
    sums = np.bincount(groups, deviation)
    return float(len(sums) / (len(sums) - 1) * (sums**2).sum() / len(deviation) ** 2)


def _share_below(values: NDArray[np.float64], at: NDArray[np.float64]) -> NDArray[np.float64]:
    """Share of the values below each of the others; equal ones count half."""
    ordered = np.sort(values)
    low, high = np.searchsorted(ordered, at, "left"), np.searchsorted(ordered, at, "right")
    share: NDArray[np.float64] = (low + high) / (2.0 * len(values))
    return share


def _share_at_least(values: NDArray[np.float64], at: NDArray[np.float64]) -> NDArray[np.float64]:
    share: NDArray[np.float64] = 1.0 - np.searchsorted(np.sort(values), at, "left") / len(values)
    return share


def _logit_interval(area: float, variance: float) -> tuple[float, float]:
    if not 0.0 < area < 1.0:
        return area, area
    logit = np.log(area / (1.0 - area))
    half = stats.norm.ppf(0.975) * np.sqrt(variance) / (area * (1.0 - area))
    low, high = 1.0 / (1.0 + np.exp(-np.array([logit - half, logit + half])))
    return float(low), float(high)


def _scores(values: ArrayLike, side: str) -> NDArray[np.float64]:
    scores = np.asarray(values, np.float64)
    if scores.ndim != 1 or len(scores) < 2:
        raise UserError(f"An audit needs at least two {side} in one row of scores, found {scores.shape}.")
    if np.isnan(scores).any():
        raise UserError(f"{int(np.isnan(scores).sum())} of {len(scores)} scores of {side} are not numbers.")
    return scores


def _groups(groups: ArrayLike | None, count: int, side: str) -> NDArray[Any]:
    """Numbers from 0 without gaps."""
    if groups is None:
        return np.arange(count)
    names, number = np.unique(np.asarray(groups), return_inverse=True)
    if len(number) != count or len(names) < 2:
        raise UserError(
            f"An audit needs at least two groups of {side} and one group per score, found {len(names)} groups for "
            f"{len(number)} of {count} scores."
        )
    return np.asarray(number)
