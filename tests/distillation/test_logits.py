"""Losses on logits against torchdistill, or against loops where it has none."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor

from fusionkd.distillation import correlation_kd, decoupled_kd, logit_kl, standardized_logit_kl
from tests.distillation.oracles import assert_agree, assert_finite, draw, torchdistill_on_logits, value_and_gradient

TARGET = torch.tensor([3, 0, 4, 2, 2, 1, 0])
LOSSES: dict[str, Callable[..., Tensor]] = {
    "logit_kl": logit_kl,
    "decoupled": lambda student, teacher, **options: decoupled_kd(
        student, teacher, TARGET[: len(student)] % student.shape[1], **options
    ),
    "correlation": correlation_kd,
    "standardized": standardized_logit_kl,
}


@pytest.mark.parametrize("temperature", [1.0, 4.0])
@pytest.mark.parametrize("scale", [0.3, 5.0])
class TestAgainstTorchdistill:
    """Its KL losses leave the factor T^2 out when they are given no targets; ``batchmean`` is our mean over samples."""

    def test_logit_kl(self, temperature: float, scale: float) -> None:
        student, teacher = draw(7, 5, seed=1, scale=scale), draw(7, 5, seed=2, scale=scale)
        oracle = torchdistill_on_logits("KDLoss", teacher, temperature=temperature, beta=1.0)
        ours = partial(logit_kl, teacher=teacher, temperature=temperature)
        assert_agree(ours, lambda logits: temperature**2 * oracle(logits), student)

    def test_standardized_logit_kl(self, temperature: float, scale: float) -> None:
        student, teacher = draw(7, 5, seed=1, scale=scale), draw(7, 5, seed=2, scale=scale)
        # Its eps is added to the deviation; ours is a lower bound.
        oracle = torchdistill_on_logits("LogitStdKDLoss", teacher, temperature=temperature, beta=1.0, eps=0.0)
        ours = partial(standardized_logit_kl, teacher=teacher, temperature=temperature)
        assert_agree(ours, lambda logits: temperature**2 * oracle(logits), student)

    @pytest.mark.parametrize(("beta", "gamma"), [(1.0, 0.0), (0.0, 1.0), (0.7, 2.0)])
    def test_correlation_kd(self, temperature: float, scale: float, beta: float, gamma: float) -> None:
        student, teacher = draw(7, 5, seed=1, scale=scale), draw(7, 5, seed=2, scale=scale)
        oracle = torchdistill_on_logits("DISTLoss", teacher, tau=temperature, beta=beta, gamma=gamma)
        assert_agree(
            partial(correlation_kd, teacher=teacher, temperature=temperature, beta=beta, gamma=gamma), oracle, student
        )


def looped_dkd(student: Tensor, teacher: Tensor, *, alpha: float, beta: float, temperature: float) -> Tensor:
    """Decoupled KD from probabilities, sample by sample and class by class."""
    total = student.new_zeros(())
    for here, there, label in zip(student, teacher, TARGET.tolist()):
        p = [torch.exp(z / temperature) / torch.exp(here / temperature).sum() for z in here]
        q = [torch.exp(z / temperature) / torch.exp(there / temperature).sum() for z in there]
        total = total + alpha * q[label] * torch.log(q[label] / p[label])
        total = total + alpha * (1 - q[label]) * torch.log((1 - q[label]) / (1 - p[label]))
        for other in set(range(len(p))) - {label}:
            among_p, among_q = p[other] / (1 - p[label]), q[other] / (1 - q[label])
            total = total + beta * among_q * torch.log(among_q / among_p)
    return total * temperature**2 / len(student)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 0.0), (0.0, 1.0), (1.0, 8.0)])
def test_decoupled_kd_is_its_formula(temperature: float, alpha: float, beta: float) -> None:
    student, teacher = draw(7, 5, seed=1, scale=2.0), draw(7, 5, seed=2, scale=2.0)
    options = {"alpha": alpha, "beta": beta, "temperature": temperature}
    assert_agree(
        partial(decoupled_kd, teacher=teacher, target=TARGET, **options),
        partial(looped_dkd, teacher=teacher, **options),
        student,
    )


def test_decoupled_parts_add_up_to_the_whole() -> None:
    """KL = TCKD + (1 - p_t) NCKD, equation 5 of the paper, for each sample."""
    student, teacher = draw(7, 5, seed=1, scale=2.0), draw(7, 5, seed=2, scale=2.0)
    for here, there, target in zip(student.split(1), teacher.split(1), TARGET.split(1)):
        others = 1.0 - float(there.softmax(dim=-1)[0, target])
        parts = decoupled_kd(here, there, target, alpha=1.0, beta=others, temperature=1.0)
        assert float(parts) == pytest.approx(float(logit_kl(here, there, temperature=1.0)), abs=1e-12)


@pytest.mark.parametrize("name", LOSSES)
class TestEveryLossOnLogits:
    def test_is_zero_at_equality(self, name: str) -> None:
        logits = draw(7, 5, seed=1, scale=3.0)
        assert float(LOSSES[name](logits, logits)) == pytest.approx(0.0, abs=1e-12)
        assert float(LOSSES[name](draw(7, 5, seed=3), logits)) > 0.01

    def test_does_not_see_a_constant_added_to_a_sample(self, name: str) -> None:
        student, teacher = draw(7, 5, seed=1), draw(7, 5, seed=2)
        moved = LOSSES[name](student + draw(7, 1, seed=3, scale=9.0), teacher - draw(7, 1, seed=4, scale=9.0))
        assert float(moved) == pytest.approx(float(LOSSES[name](student, teacher)), abs=1e-10)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    def test_is_finite_at_extreme_logits(self, name: str, dtype: torch.dtype) -> None:
        sure = 1e4 * torch.nn.functional.one_hot(TARGET, 5)
        alike = torch.zeros(7, 5)
        for student in (sure, -sure, sure.roll(1, dims=0), alike, 1e4 * draw(7, 5, seed=1)):
            for teacher in (sure, alike, 1e4 * draw(7, 5, seed=2)):
                assert_finite(partial(LOSSES[name], teacher=teacher.to(dtype)), student.to(dtype))

    @pytest.mark.parametrize("samples", [0, 1, 2])
    @pytest.mark.parametrize("classes", [2, 5])
    def test_is_finite_for_few_samples(self, name: str, samples: int, classes: int) -> None:
        student, teacher = draw(samples, classes, seed=1), draw(samples, classes, seed=2)
        value = assert_finite(partial(LOSSES[name], teacher=teacher), student)
        assert value == 0.0 if samples == 0 else value > -1e-12
        assert float(LOSSES[name](teacher, teacher)) == pytest.approx(0.0, abs=1e-12)

    def test_leaves_samples_of_weight_zero_out(self, name: str) -> None:
        student, teacher = draw(7, 5, seed=1), draw(7, 5, seed=2)
        weight = torch.tensor([1.0, 1, 1, 1, 0, 0, 0], dtype=torch.float64)
        wanted = LOSSES[name](student[:4], teacher[:4])
        assert float(LOSSES[name](student, teacher, weight=weight)) == pytest.approx(float(wanted), abs=1e-12)
        assert float(LOSSES[name](student, teacher, weight=0.5 * weight)) == pytest.approx(float(wanted), abs=1e-12)
        assert assert_finite(partial(LOSSES[name], teacher=teacher, weight=0 * weight), student) == 0.0

    def test_counts_a_sample_of_double_weight_twice(self, name: str) -> None:
        student, teacher = draw(4, 5, seed=1), draw(4, 5, seed=2)
        weight = torch.tensor([0.5, 0.5, 0.5, 1.0], dtype=torch.float64)
        twice = TARGET[[0, 1, 2, 3, 3]]
        if name == "decoupled":
            wanted = decoupled_kd(student[[0, 1, 2, 3, 3]], teacher[[0, 1, 2, 3, 3]], twice)
        else:
            wanted = LOSSES[name](student[[0, 1, 2, 3, 3]], teacher[[0, 1, 2, 3, 3]])
        assert float(LOSSES[name](student, teacher, weight=weight)) == pytest.approx(float(wanted), abs=1e-12)

    def test_takes_16_bits(self, name: str) -> None:
        student, teacher = draw(64, 5, seed=1, scale=2.0), draw(64, 5, seed=2, scale=2.0)
        index = torch.arange(64) % 5
        loss = partial(decoupled_kd, target=index) if name == "decoupled" else LOSSES[name]
        rough = loss(student.bfloat16(), teacher.bfloat16())
        assert rough.dtype == torch.float32
        assert float(rough) == pytest.approx(float(loss(student, teacher)), rel=0.01)


def test_standardized_logits_see_no_scale() -> None:
    student, teacher = draw(7, 5, seed=1), draw(7, 5, seed=2)
    stretch = 0.1 + draw(7, 1, seed=3).abs()
    wanted = float(standardized_logit_kl(student, teacher))
    assert float(standardized_logit_kl(student * stretch - 3.0, teacher / stretch + 7.0)) == pytest.approx(wanted)
    assert float(standardized_logit_kl(teacher * stretch, teacher)) == pytest.approx(0.0, abs=1e-12)


def test_correlation_sees_no_positive_affine_map_of_a_row() -> None:
    """Probabilities a p + (1 - a) / K add up to one again; their logits are their logarithms."""
    teacher = draw(7, 5, seed=2)
    probability = teacher.softmax(dim=-1)
    own = torch.linspace(0.1, 0.9, 7, dtype=torch.float64)[:, None]
    softer = (own * probability + (1 - own) / 5).log()
    assert float(correlation_kd(softer, teacher, gamma=0.0)) == pytest.approx(0.0, abs=1e-12)
    assert float(correlation_kd(softer, teacher, beta=0.0)) > 1e-3
    common = (0.4 * probability + 0.6 / 5).log()
    assert float(correlation_kd(common, teacher)) == pytest.approx(0.0, abs=1e-12)
    assert float(logit_kl(common, teacher, temperature=1.0)) > 1e-2


def test_correlation_is_largest_for_the_opposite() -> None:
    teacher = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    assert float(correlation_kd(-teacher, teacher)) == pytest.approx(4.0)


@pytest.mark.parametrize("loss", [correlation_kd, standardized_logit_kl])
def test_dividing_by_no_spread_does_not_blow_the_gradient_up(loss: Callable[..., Tensor]) -> None:
    """A student at its first step says the same of every class."""
    teacher = draw(7, 5, seed=2).float()
    for student in (torch.zeros(7, 5), 1e-6 * draw(7, 5, seed=1).float()):
        _, gradient = value_and_gradient(partial(loss, teacher=teacher), student)
        assert float(gradient.abs().max()) < 500.0
