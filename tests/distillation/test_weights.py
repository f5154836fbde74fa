"""Weights of teachers against plain restatements, and what must hold for any of them."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize
from torch import Tensor

from fusionkd.distillation import (
    confidence_weights,
    disagreement,
    dynamic_average_weights,
    entropy_weights,
    min_norm_weights,
)
from fusionkd.distillation.weights import bernoulli_entropy
from tests.distillation.oracles import draw

LISTS = st.lists(st.floats(0, 50), min_size=2, max_size=5)


@given(values=LISTS)
def test_weights_add_up_to_one_and_favour_whom_they_should(values: list[float]) -> None:
    given_values = torch.tensor(values, dtype=torch.float64)
    for weights in (entropy_weights(given_values), confidence_weights(given_values)):
        assert float(weights.sum()) == pytest.approx(1.0)
        assert bool((weights >= 0).all())
        order = sorted(range(len(values)), key=values.__getitem__)
        assert all(weights[a] >= weights[b] - 1e-12 for a, b in itertools.pairwise(order)), "less is better"


@pytest.mark.parametrize("teachers", [1, 2, 4])
def test_equal_teachers_count_alike(teachers: int) -> None:
    same = torch.full((teachers,), 0.7)
    gradients = torch.ones(teachers, 5)
    found = [entropy_weights(same), confidence_weights(same), dynamic_average_weights(same, same)]
    for weights in (*found, min_norm_weights(gradients)):
        torch.testing.assert_close(weights, torch.full((teachers,), 1 / teachers))


def test_confidence_is_equation_3() -> None:
    error = [0.3, 1.2, 0.8]
    total = sum(map(math.exp, error))
    wanted = [(1 - math.exp(value) / total) / 2 for value in error]
    torch.testing.assert_close(confidence_weights(torch.tensor(error)), torch.tensor(wanted))


def test_dynamic_average_is_equation_7_up_to_the_number_of_tasks() -> None:
    last, before = [0.5, 1.0, 3.0], [1.0, 1.0, 2.0]
    rate = [a / b for a, b in zip(last, before)]
    paper = [3 * math.exp(r / 2) / sum(math.exp(q / 2) for q in rate) for r in rate]
    found = dynamic_average_weights(torch.tensor(last), torch.tensor(before))
    torch.testing.assert_close(3 * found, torch.tensor(paper))
    assert found.argmax() == 2, "whose loss rises counts most"
    assert bool(torch.isfinite(dynamic_average_weights(torch.tensor([0.0, 1.0]), torch.tensor([0.0, 0.0]))).all())


def quadratic_program(gram: np.ndarray, cap: float) -> float:
    """The least value that SciPy finds."""
    count = len(gram)
    found = optimize.minimize(
        lambda w: w @ gram @ w,
        np.full(count, 1 / count),
        jac=lambda w: 2 * gram @ w,
        bounds=[(0, cap)] * count,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1},
        method="SLSQP",
        options={"ftol": 1e-14, "maxiter": 500},
    )
    return float(found.fun)


@settings(max_examples=60, deadline=None)
@given(teachers=st.integers(2, 5), seed=st.integers(0, 10_000), room=st.floats(0.02, 1))
def test_shortest_mean_gradient_is_scipys(teachers: int, seed: int, room: float) -> None:
    gradients = draw(teachers, 7, seed=seed)
    cap = 1 / teachers + room * (1 - 1 / teachers)
    weights = min_norm_weights(gradients, cap=cap)
    assert float(weights.sum()) == pytest.approx(1.0)
    assert bool(((weights >= -1e-12) & (weights <= cap + 1e-9)).all())
    gram = (gradients @ gradients.T).numpy()
    found = float(weights.numpy() @ gram @ weights.numpy())
    assert found <= quadratic_program(gram / gram.max(), cap) * gram.max() + 1e-6 * gram.max()


def test_no_teacher_loses_along_the_agreed_direction() -> None:
    gradients = draw(3, 20, seed=1) + 0.5
    direction = min_norm_weights(gradients) @ gradients
    assert bool((gradients @ direction >= -1e-6).all())


def test_opposed_teachers_cancel_and_silence_is_uniform() -> None:
    torch.testing.assert_close(min_norm_weights(torch.tensor([[1.0, 0.0], [-3.0, 0.0]])), torch.tensor([0.75, 0.25]))
    torch.testing.assert_close(min_norm_weights(torch.zeros(4, 3)), torch.full((4,), 0.25))
    with pytest.raises(ValueError, match="cap"):
        min_norm_weights(torch.ones(2, 3), cap=0.4)


def naive_disagreement(probability: list[float], known: list[float]) -> float:
    def entropy(p: float) -> float:
        return -sum(q * math.log(q) for q in (p, 1 - p) if q > 0)

    if sum(known) == 0:
        return 0.0
    share = [k / sum(known) for k in known]
    mean = sum(s * p for s, p in zip(share, probability))
    return entropy(mean) - sum(s * entropy(p) for s, p in zip(share, probability))


@given(
    rows=st.lists(st.tuples(st.floats(0, 1), st.sampled_from([0.0, 0.5, 1.0])), min_size=1, max_size=5),
)
def test_disagreement_is_the_jensen_shannon_divergence(rows: list[tuple[float, float]]) -> None:
    probability, known = (list(column) for column in zip(*rows))
    one: list[Tensor] = [torch.tensor(column, dtype=torch.float64)[:, None] for column in (probability, known)]
    found = float(disagreement(one[0], one[1]))
    assert found == pytest.approx(naive_disagreement(probability, known), abs=1e-9)
    assert 0 <= found <= math.log(2) + 1e-9


def test_extremes_are_finite() -> None:
    p = torch.tensor([0.0, 1.0], requires_grad=True)
    assert bernoulli_entropy(p).tolist() == [0.0, 0.0]
    assert float(disagreement(torch.tensor([[0.0], [1.0]]), torch.ones(2, 1))) == pytest.approx(math.log(2))
    assert entropy_weights(torch.tensor([0.0, 1e4])).tolist() == [1.0, 0.0]
    assert confidence_weights(torch.tensor([0.0, 1e4])).tolist() == [1.0, 0.0]
