"""Membership audits against scikit-learn, SciPy and plain loops, and their interval against its promise."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from fusionkd.errors import UserError
from fusionkd.metrics import likelihood_ratio_scores, logit_confidence, loss_scores, membership_leak

SCORES = st.lists(st.integers(-4, 4).map(float), min_size=2, max_size=30)
"""Few values, so that there are ties."""


@settings(max_examples=60, deadline=None)
@given(members=SCORES, others=SCORES)
def test_areas_and_rates_are_scikit_learns(members: list[float], others: list[float]) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    truth, scores = [1] * len(members) + [0] * len(others), members + others
    leak = membership_leak(members, others, false_positive_rate=0.2)
    assert leak.auc == pytest.approx(metrics.roc_auc_score(truth, scores))
    accused, found, _ = metrics.roc_curve(truth, scores, drop_intermediate=False)
    assert leak.advantage == pytest.approx((found - accused).max())
    assert leak.true_positive_rate == pytest.approx(found[accused <= 0.2].max())
    low, high = leak.interval
    assert 0 <= low <= leak.auc <= high <= 1


def test_variance_is_delongs_as_written_in_the_paper() -> None:
    rng = np.random.default_rng(0)
    members, others = rng.normal(0.7, 1, 23).round(1), rng.normal(0, 1, 31).round(1)
    kernel = np.array([[1.0 if m > o else 0.5 if m == o else 0.0 for o in others] for m in members])
    area = kernel.mean()
    variance = kernel.mean(axis=1).var(ddof=1) / len(members) + kernel.mean(axis=0).var(ddof=1) / len(others)
    half = 1.959964 * np.sqrt(variance) / (area * (1 - area))
    wanted = stats.logistic.cdf(stats.logistic.ppf(area) + np.array([-half, half]))
    assert membership_leak(members, others).interval == pytest.approx(tuple(wanted), abs=1e-6)


def coverage(copies: int, *, grouped: bool) -> float:
    """How often the interval holds the true area, where each example stands ``copies`` times in the data."""
    rng, held, truth = np.random.default_rng(1), 0, float(stats.norm.cdf(1 / np.sqrt(2)))
    for _ in range(400):
        members, others = np.repeat(rng.normal(1, 1, 60), copies), np.repeat(rng.normal(0, 1, 60), copies)
        groups = np.repeat(np.arange(60), copies) if grouped else None
        low, high = membership_leak(members, others, member_groups=groups, other_groups=groups).interval
        held += low <= truth <= high
    return held / 400


def test_interval_holds_the_truth_as_often_as_it_says() -> None:
    assert 0.92 <= coverage(1, grouped=False) <= 0.98
    assert 0.92 <= coverage(5, grouped=True) <= 0.98
    assert coverage(5, grouped=False) < 0.75, "copies of a frame are no new evidence"


def test_no_leak_and_a_full_one() -> None:
    same = np.random.default_rng(2).normal(size=400)
    none = membership_leak(same, same)
    assert none.auc == 0.5
    assert none.advantage == 0.0
    assert none.interval[0] < 0.5 < none.interval[1]
    full = membership_leak([3.0, 4.0], [1.0, 2.0])
    assert (full.auc, full.advantage, full.true_positive_rate) == (1.0, 1.0, 1.0)


def test_logit_confidence_is_stable_and_exact() -> None:
    logits = np.random.default_rng(3).normal(size=(7, 5))
    label = np.array([0, 1, 2, 3, 4, 0, 1])
    p = (np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True))[np.arange(7), label]
    np.testing.assert_allclose(logit_confidence(logits, label), np.log(p / (1 - p)), rtol=1e-9)
    sure = logit_confidence(np.array([[900.0, 0.0, 0.0]]), np.array([0]))
    assert sure == pytest.approx(900 - np.log(2))


@pytest.mark.parametrize("models", [16, 200])
def test_likelihood_ratio_is_that_of_normal_distributions(models: int) -> None:
    rng = np.random.default_rng(4)
    shadow, observed = rng.normal(size=(models, 6)), rng.normal(size=6)
    inside = rng.permuted(np.tile(np.arange(models)[:, None] % 2 == 0, 6), axis=0)
    wanted = []
    for example in range(6):
        terms = []
        for side in (True, False):
            own = shadow[inside[:, example] == side, example]
            if models == 200:
                deviation = own.std(ddof=1)
            else:
                residuals = [shadow[inside[:, k] == side, k] - shadow[inside[:, k] == side, k].mean() for k in range(6)]
                degrees = sum(len(r) - 1 for r in residuals)
                deviation = np.sqrt(sum(float((r**2).sum()) for r in residuals) / degrees)
            terms.append(stats.norm.logpdf(observed[example], own.mean(), deviation))
        wanted.append(terms[0] - terms[1])
    np.testing.assert_allclose(likelihood_ratio_scores(observed, shadow, inside), wanted, rtol=1e-9)


def test_shadow_models_see_what_a_loss_does_not() -> None:
    """Members gain by being seen, but examples differ in difficulty by far more."""
    rng = np.random.default_rng(5)
    difficulty = rng.normal(0, 5, 300)

    def trained() -> tuple[np.ndarray, np.ndarray]:
        seen = rng.permutation(300) < 150
        return difficulty + seen + rng.normal(0, 0.5, 300), seen

    confidence, member = trained()
    shadow, inside = map(np.array, zip(*[trained() for _ in range(32)]))
    scores = likelihood_ratio_scores(confidence, shadow, inside)
    by_shadow = membership_leak(scores[member], scores[~member])
    by_loss = membership_leak(*(loss_scores(-confidence[side]) for side in (member, ~member)))
    assert by_shadow.auc > 0.85
    assert by_loss.interval[0] < 0.6
    assert by_shadow.interval[0] > by_loss.interval[1]


def test_nonsense_is_refused() -> None:
    with pytest.raises(UserError, match="two members"):
        membership_leak([1.0], [1.0, 2.0])
    with pytest.raises(UserError, match="1 of 2 scores of others"):
        membership_leak([1.0, 2.0], [1.0, np.nan])
    with pytest.raises(UserError, match="found 1 groups for 2 of 2"):
        membership_leak([1.0, 2.0], [1.0, 2.0], member_groups=["a", "a"])
    inside = np.zeros((6, 2), bool)
    inside[:3, 0] = True
    with pytest.raises(UserError, match="6 shadow models, and 1 examples"):
        likelihood_ratio_scores(np.zeros(2), np.zeros((6, 2)), inside)
    with pytest.raises(UserError, match="found"):
        likelihood_ratio_scores(np.zeros(3), np.zeros((6, 2)), np.zeros((6, 2)))
