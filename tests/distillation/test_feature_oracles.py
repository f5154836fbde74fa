"""Terms on features against torchdistill, torchmetrics and torch's own losses, in value and gradient."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics.functional import pearson_corrcoef

from fusionkd.distillation import (
    attention_transfer,
    channel_wise,
    contrastive,
    flow_matrix,
    flow_of_solution,
    gradient_attention,
    jacobian_match,
    pearson_feature,
    similarity_preserving,
    variational_information,
)
from tests.distillation.oracles import agree, draw


@pytest.fixture
def maps() -> tuple[Tensor, Tensor]:
    return draw(4, 5, 7, 6, seed=1), draw(4, 5, 7, 6, seed=2) * 2 + 1


@pytest.fixture
def mask() -> Tensor:
    weights = torch.rand(4, 1, 7, 6, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    return weights * (weights > 0.3)


@pytest.fixture
def mid_level() -> Any:
    return pytest.importorskip(
        "torchdistill.losses.mid_level", reason="torchdistill is the oracle; it comes with the extra 'peers'"
    )


EVERYWHERE = torch.ones(4, 1, 7, 6, dtype=torch.float64)
LAYER = {"io": "output", "path": "layer"}


def hooked(value: Any) -> dict[str, dict[str, Any]]:
    """What torchdistill's losses read: outputs by the name of the module."""
    return {"layer": {"output": value}}


def test_pearson_feature_is_one_minus_torchmetrics_correlation(maps: tuple[Tensor, Tensor]) -> None:
    def one_minus_correlation(student: Tensor, teacher: Tensor) -> Tensor:
        rows = [value.permute(0, 2, 3, 1).flatten(0, 2) for value in (student, teacher)]
        return 1 - pearson_corrcoef(*rows).mean()

    agree(lambda student, teacher: pearson_feature(student, teacher, EVERYWHERE), one_minus_correlation, *maps)


def test_pearson_feature_over_a_mask_is_torchs_weighted_correlation(maps: tuple[Tensor, Tensor], mask: Tensor) -> None:
    def one_minus_correlation(student: Tensor, teacher: Tensor) -> Tensor:
        losses = []
        for pair in zip(student.unbind(1), teacher.unbind(1)):
            covariance = torch.cov(torch.stack([channel.flatten() for channel in pair]), aweights=mask.flatten())
            losses.append(1 - covariance[0, 1] / (covariance[0, 0] * covariance[1, 1]).sqrt())
        return torch.stack(losses).mean()

    agree(lambda student, teacher: pearson_feature(student, teacher, mask), one_minus_correlation, *maps)


def test_attention_transfer_is_torchdistills(maps: tuple[Tensor, Tensor], mask: Tensor, mid_level: Any) -> None:
    # Mode 'paper' is the mean over frames of the norm; mode 'code' would be the mean square.
    oracle = mid_level.ATLoss({"pair": {"student": LAYER, "teacher": LAYER}}, mode="paper")
    agree(
        lambda student, teacher: attention_transfer(student, teacher, mask),
        # |F|^2 * mask is the square of F * sqrt(mask).
        lambda student, teacher: oracle(hooked(student * mask.sqrt()), hooked(teacher * mask.sqrt())),
        *maps,
    )


def test_attention_transfer_of_another_power(maps: tuple[Tensor, Tensor]) -> None:
    def restated(student: Tensor, teacher: Tensor) -> Tensor:
        total = torch.zeros((), dtype=torch.float64)
        for here, there in zip(student, teacher):
            q_s, q_t = (sum(channel.abs() ** 3 for channel in value) for value in (here, there))
            total = total + (q_s / (q_s**2).sum().sqrt() - q_t / (q_t**2).sum().sqrt()).square().sum().sqrt()
        return total / len(student)

    agree(lambda student, teacher: attention_transfer(student, teacher, EVERYWHERE, power=3), restated, *maps)


def test_similarity_preserving_restates_the_paper(maps: tuple[Tensor, Tensor], mask: Tensor) -> None:
    def gram(features: Tensor) -> Tensor:
        rows = [
            torch.stack([(a * b * (m * n).sqrt()).sum() for b, n in zip(features, mask)])
            for a, m in zip(features, mask)
        ]
        return torch.stack([row / (row**2).sum().sqrt() for row in rows])

    agree(
        lambda student, teacher: similarity_preserving(student, teacher, mask),
        lambda student, teacher: ((gram(student) - gram(teacher)) ** 2).sum() / 16,
        *maps,
    )


def test_similarity_preserving_is_torchdistills_but_for_the_norm_of_rows(
    maps: tuple[Tensor, Tensor], mask: Tensor, mid_level: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Its normalize(G, 1) divides rows by their L1, since the second argument is the order; the paper has L2.
    monkeypatch.setattr(mid_level, "normalize", lambda matrix, dim: F.normalize(matrix, p=2, dim=dim))
    oracle = mid_level.SPKDLoss("layer", "layer", reduction="batchmean")
    agree(
        lambda student, teacher: similarity_preserving(student, teacher, mask),
        lambda student, teacher: oracle(hooked(student * mask.sqrt()), hooked(teacher * mask.sqrt())),
        *maps,
    )


def test_channel_wise_is_torchdistills_divergence_of_rows(maps: tuple[Tensor, Tensor], mid_level: Any) -> None:
    # Each channel of each frame is a row of logits; without alpha KDLoss leaves T^2 out.
    oracle = mid_level.KDLoss("layer", "output", "layer", "output", temperature=3.0, beta=1.0)
    agree(
        lambda student, teacher: channel_wise(student, teacher, EVERYWHERE, temperature=3.0),
        lambda student, teacher: (
            9 * oracle(hooked(student.flatten(2).flatten(0, 1)), hooked(teacher.flatten(2).flatten(0, 1)))
        ),
        *maps,
    )


def test_channel_wise_weighs_the_cells_of_a_mask(maps: tuple[Tensor, Tensor], mask: Tensor) -> None:
    def restated(student: Tensor, teacher: Tensor) -> Tensor:
        losses = []
        for here, there, weights in zip(student, teacher, mask):
            inside = weights[0] > 0
            w = weights[0][inside]
            for s, t in zip(here[:, inside], there[:, inside]):
                p, q = w * (t / 2).exp() / (w * (t / 2).exp()).sum(), w * (s / 2).exp() / (w * (s / 2).exp()).sum()
                losses.append(4 * (p * (p / q).log()).sum())
        return torch.stack(losses).mean()

    agree(lambda student, teacher: channel_wise(student, teacher, mask, temperature=2.0), restated, *maps)


def test_variational_information_is_torchdistills(maps: tuple[Tensor, Tensor], mid_level: Any) -> None:
    oracle = mid_level.VIDLoss({"pair": {"student": LAYER, "teacher": LAYER}})
    variance = draw(5, seed=4).exp()
    agree(
        lambda student, teacher, v: variational_information(student, teacher, EVERYWHERE, variance=v),
        lambda student, teacher, v: oracle(hooked((student, v[:, None, None])), hooked(teacher)),
        *maps,
        variance,
    )


def test_variational_information_is_torchs_gaussian_likelihood(maps: tuple[Tensor, Tensor], mask: Tensor) -> None:
    def restated(student: Tensor, teacher: Tensor, variance: Tensor) -> Tensor:
        spread = variance[:, None, None].expand_as(student)
        likelihood = F.gaussian_nll_loss(student, teacher, spread, reduction="none")
        return (likelihood * mask).sum() / (5 * mask.sum())

    agree(
        lambda student, teacher, v: variational_information(student, teacher, mask, variance=v),
        restated,
        *maps,
        draw(5, seed=4).exp(),
    )


def test_flow_is_torchdistills(mid_level: Any) -> None:
    layers = [draw(4, channels, 7, 6, seed=channels) for channels in (3, 5)]
    matrix = mid_level.FSPLoss.compute_fsp_matrix
    agree(lambda first, second: flow_matrix(first, second, EVERYWHERE), matrix, *layers)
    # torchdistill sums the norms of columns; the paper has squares, of which ours is the mean.
    agree(
        lambda a, b, c, d: flow_of_solution((a, b), (c, d), EVERYWHERE),
        lambda a, b, c, d: F.mse_loss(matrix(a, b), matrix(c, d)),
        *layers,
        *[draw(4, channels, 7, 6, seed=channels + 10) for channels in (3, 5)],
    )


def test_flow_over_a_mask_is_a_weighted_mean(mask: Tensor) -> None:
    def restated(first: Tensor, second: Tensor) -> Tensor:
        return torch.einsum("bihw,bjhw,bhw->bij", first, second, mask[:, 0] / mask.sum(dim=(2, 3)).reshape(4, 1, 1))

    agree(
        lambda first, second: flow_matrix(first, second, mask),
        restated,
        draw(4, 3, 7, 6, seed=1),
        draw(4, 5, 7, 6, seed=2),
    )


def test_contrastive_is_a_cross_entropy_where_all_objects_are_apart() -> None:
    def restated(student: Tensor, teacher: Tensor) -> Tensor:
        cosine = F.cosine_similarity(student[:, None], teacher[None], dim=-1)
        return F.cross_entropy(cosine / 0.2, torch.arange(8))

    agree(
        lambda student, teacher: contrastive(
            student, teacher, torch.ones(8, dtype=torch.float64), place=torch.arange(8), temperature=0.2
        ),
        restated,
        draw(8, 5, seed=1),
        draw(8, 5, seed=2),
    )


def test_contrastive_tells_no_object_from_its_own_place_nor_from_padding() -> None:
    weight = torch.tensor([0.5, 1.0, 0.0, 0.3, 0.8], dtype=torch.float64)
    place = torch.tensor([4, 4, 7, 1, 2])

    def restated(student: Tensor, teacher: Tensor) -> Tensor:
        total = torch.zeros((), dtype=torch.float64)
        for i in range(5):
            others = [j for j in range(5) if j == i or (place[j] != place[i] and weight[j] > 0)]
            logits = [student[i] @ teacher[j] / student[i].norm() / teacher[j].norm() / 0.1 for j in others]
            total = total - weight[i] * (logits[others.index(i)].exp() / sum(logit.exp() for logit in logits)).log()
        return total / weight.sum()

    agree(
        lambda student, teacher: contrastive(student, teacher, weight, place=place, temperature=0.1),
        restated,
        draw(5, 6, seed=1),
        draw(5, 6, seed=2),
    )


def responses(inputs: Tensor, weights: Tensor) -> Tensor:
    """A model of one hidden layer: (B, D) and (H, D) to (B, H)."""
    return (inputs @ weights.T).tanh() ** 2 + (inputs @ weights.T).sin()


def test_gradient_attention_is_half_the_distance_of_functional_gradients() -> None:
    inputs, teacher = draw(4, 6, seed=1), draw(3, 6, seed=2)

    def loss(value: Tensor, weights: Tensor) -> Tensor:
        return responses(value, weights).square().sum()

    def ours(student: Tensor) -> Tensor:
        x = inputs.clone().requires_grad_()
        return gradient_attention(loss(x, student), loss(x, teacher), student_input=x, teacher_input=x)

    def restated(student: Tensor) -> Tensor:
        gradient = torch.func.grad(loss)
        return 0.5 * (gradient(inputs, student) - gradient(inputs, teacher)).square().sum() / len(inputs)

    agree(ours, restated, draw(3, 6, seed=3))


def test_jacobian_match_is_the_distance_of_rows_of_functional_jacobians() -> None:
    inputs, teacher = draw(4, 6, seed=1), draw(3, 6, seed=2)

    def ours(student: Tensor) -> Tensor:
        x = inputs.clone().requires_grad_()
        return jacobian_match(responses(x, student), responses(x, teacher), student_input=x, teacher_input=x)

    def restated(student: Tensor) -> Tensor:
        total = torch.zeros((), dtype=torch.float64)
        for x in inputs:
            top = int(responses(x[None], teacher)[0].argmax())
            rows = [
                torch.func.jacrev(lambda value, w=weights: responses(value[None], w)[0])(x)[top]
                for weights in (student, teacher)
            ]
            total = total + (rows[0] / rows[0].norm() - rows[1] / rows[1].norm()).square().sum()
        return total / len(inputs)

    agree(ours, restated, draw(3, 6, seed=3))


@pytest.mark.parametrize("function", [gradient_attention, jacobian_match])
def test_input_gradients_are_zero_at_equality_and_teach_the_student_alone(function: Callable[..., Tensor]) -> None:
    x = draw(4, 6, seed=1).requires_grad_()
    student, teacher = draw(3, 6, seed=3).requires_grad_(), draw(3, 6, seed=2).requires_grad_()
    outputs = [responses(x, weights) for weights in (student, teacher, teacher)]
    if function is gradient_attention:
        outputs = [output.sum() for output in outputs]
    assert float(function(outputs[1], outputs[2], student_input=x, teacher_input=x).detach()) == 0.0
    function(outputs[0], outputs[1], student_input=x, teacher_input=x).backward()
    assert student.grad is not None
    assert float(student.grad.abs().sum()) > 0
    assert teacher.grad is None
