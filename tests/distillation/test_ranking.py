"""Losses on the order of candidates against loops and closed forms, and which candidates the term ranks."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import permutations

import numpy as np
import pytest
import torch
from scipy.special import softmax
from scipy.stats import entropy
from torch import Tensor

from fusionkd.distillation import Ranking, list_mle, list_net
from fusionkd.errors import UserError
from tests.distillation.conftest import FINE, make_batch, make_output
from tests.distillation.oracles import assert_agree, assert_finite, draw, value_and_gradient

LOSSES: dict[str, Callable[..., Tensor]] = {"list_mle": list_mle, "list_net": list_net}


def looped_list_mle(student: Tensor, teacher: Tensor) -> Tensor:
    """Draws the candidates one by one in the teacher's order."""
    total = student.new_zeros(())
    for scores, wanted in zip(student, teacher):
        left = sorted(range(len(wanted)), key=lambda i: -float(wanted[i]))
        while left:
            chance = scores[left[0]].exp() / scores[left].exp().sum()
            total = total - chance.log() / (len(wanted) * len(student))
            left = left[1:]
    return total


@pytest.mark.parametrize("scale", [0.3, 3.0])
def test_list_mle_is_its_formula(scale: float) -> None:
    student, teacher = draw(3, 7, seed=1, scale=scale), draw(3, 7, seed=2)
    assert_agree(partial(list_mle, teacher=teacher), partial(looped_list_mle, teacher=teacher), student)


def test_list_mle_is_the_likelihood_of_an_order() -> None:
    """The probabilities of all orders of four candidates add up to one."""
    student = draw(1, 4, seed=1)
    orders = torch.tensor(list(permutations(range(4))), dtype=torch.float64)
    chances = torch.stack([torch.exp(-4 * list_mle(student, order[None])) for order in orders])
    assert float(chances.sum()) == pytest.approx(1.0, abs=1e-12)


def test_list_mle_falls_to_zero_as_the_gaps_widen() -> None:
    teacher = draw(2, 6, seed=1)
    place = teacher.argsort(dim=-1).argsort(dim=-1).to(torch.float64)
    losses = [float(list_mle(gap * place, teacher)) for gap in (-1.0, 0.0, 1.0, 10.0, 100.0)]
    assert losses == sorted(losses, reverse=True)
    assert losses[1] == pytest.approx(np.log([1, 2, 3, 4, 5, 6]).mean())
    assert losses[-1] == pytest.approx(0.0, abs=1e-12)
    assert float(list_mle(place, teacher**3)) == pytest.approx(losses[2]), "only the teacher's order counts"


@pytest.mark.parametrize("scale", [0.3, 3.0])
def test_list_net_is_the_relative_entropy_of_standing_first(scale: float) -> None:
    student, teacher = draw(3, 7, seed=1, scale=scale), draw(3, 7, seed=2, scale=scale)
    value, gradient = value_and_gradient(partial(list_net, teacher=teacher), student)
    here, there = softmax(student.numpy(), axis=-1), softmax(teacher.numpy(), axis=-1)
    assert float(value) == pytest.approx(entropy(there, here, axis=-1).mean(), abs=1e-12)
    np.testing.assert_allclose(gradient.numpy(), (here - there) / 3, atol=1e-12)
    assert float(list_net(teacher, teacher)) == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("name", LOSSES)
class TestEveryListLoss:
    def test_does_not_see_the_order_of_candidates_or_a_shift(self, name: str) -> None:
        student, teacher = draw(3, 6, seed=1), draw(3, 6, seed=2)
        order = torch.tensor([3, 1, 5, 0, 2, 4])
        mask = torch.tensor([True, True, True, False, True, True]).expand(3, -1)
        wanted = float(LOSSES[name](student, teacher, mask=mask))
        turned = LOSSES[name](student[:, order] + 5.0, teacher[:, order] - 2.0, mask=mask[:, order])
        assert float(turned) == pytest.approx(wanted, abs=1e-12)

    def test_leaves_masked_candidates_and_short_lists_out(self, name: str) -> None:
        student, teacher = draw(4, 6, seed=1), draw(4, 6, seed=2)
        mask = torch.ones(4, 6, dtype=torch.bool)
        mask[0, [1, 4]], mask[1], mask[2, 1:], mask[3, 4:] = False, False, False, False
        singles = [LOSSES[name](student[:1, [0, 2, 3, 5]], teacher[:1, [0, 2, 3, 5]])]
        singles.append(LOSSES[name](student[3:, :4], teacher[3:, :4]))
        found = LOSSES[name](student, teacher, mask=mask)
        assert float(found) == pytest.approx(float(torch.stack(singles).mean()), abs=1e-12)
        _, gradient = value_and_gradient(partial(LOSSES[name], teacher=teacher, mask=mask), student)
        assert bool((gradient[~mask] == 0).all())

    @pytest.mark.parametrize("count", [0, 1, 2])
    def test_is_finite_for_few_candidates(self, name: str, count: int) -> None:
        student, teacher = draw(2, 6, seed=1), draw(2, 6, seed=2)
        mask = (torch.arange(6) < count).expand(2, -1)
        value = assert_finite(partial(LOSSES[name], teacher=teacher, mask=mask), student)
        assert (value > 0) == (count == 2)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    def test_is_finite_at_extreme_scores(self, name: str, dtype: torch.dtype) -> None:
        student, teacher = draw(3, 6, seed=1, scale=1e4).to(dtype), draw(3, 6, seed=2, scale=1e4).to(dtype)
        mask = torch.tensor([True, True, True, False, True, False]).expand(3, -1)
        for one in (student, -student, torch.zeros_like(student)):
            assert_finite(partial(LOSSES[name], teacher=teacher), one)
            assert_finite(partial(LOSSES[name], teacher=teacher, mask=mask), one)

    def test_takes_16_bits(self, name: str) -> None:
        student, teacher = draw(8, 20, seed=1), draw(8, 20, seed=2)
        rough = LOSSES[name](student.bfloat16(), teacher.bfloat16())
        assert rough.dtype == torch.float32
        assert float(rough) == pytest.approx(float(LOSSES[name](student, teacher)), rel=0.02)


@pytest.mark.parametrize("kind", LOSSES)
@pytest.mark.parametrize("step", [1, 2], ids=["same grid", "finer teacher"])
def test_term_ranks_the_teachers_peaks(kind: str, step: int) -> None:
    student, teacher = make_output(seed=1), make_output(seed=2) if step == 1 else make_output(FINE, seed=2)
    labels, rows, columns = [3, 0, 7, 7], [4, 9, 20, 25], [5, 30, 2, 17]
    scores = torch.tensor([[2.0, -1.0, 0.5, 1.0], [1.0, 0.0, 3.0, 2.5]])
    heatmap = torch.full_like(teacher.heatmap, -9.0)
    heatmap[:, labels, [step * row for row in rows], [step * column for column in columns]] = scores
    wanted = LOSSES[kind](student.heatmap[:, labels, rows, columns], scores)
    found = Ranking("t", kind=kind)(student, {"t": replace(teacher, heatmap=heatmap)}, make_batch())
    assert float(found) == pytest.approx(float(wanted), rel=1e-5)


@pytest.mark.parametrize("kind", LOSSES)
def test_term_leaves_classes_out_that_the_student_lacks(kind: str) -> None:
    student = make_output(seed=1, classes=("car", "bus"), requires_grad=True)
    teacher = make_output(seed=2, classes=("cow", "bus"))
    Ranking("t", kind=kind)(student, {"t": teacher}, make_batch()).backward()
    assert student.heatmap.grad is not None
    assert (student.heatmap.grad.abs().sum(dim=(0, 2, 3)) > 0).tolist() == [False, True]


def test_term_refuses_an_unknown_kind() -> None:
    with pytest.raises(UserError, match="Ranking's kind must be list_mle or list_net, found 'pairs'"):
        Ranking("t", kind="pairs")  # type: ignore[arg-type]
