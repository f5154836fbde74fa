"""What the teacher says about a class: losses on plain logits of any classifier.

All of them take (N, K) logits of N samples and K >= 2 classes, average over samples, and are 0 where both sides agree.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from fusionkd.distillation.numerics import at_least_float32, weighted_mean

# Logits that spread less than this are all alike: dividing by their deviation would only magnify noise.
_LEAST_DEVIATION = 1e-3
# The same for probabilities, relative to their size.
_LEAST_RELATIVE_SPREAD = 1e-3


def logit_kl(student: Tensor, teacher: Tensor, *, temperature: float = 4.0, weight: Tensor | None = None) -> Tensor:
    """T^2 KL(softmax(t / T) || softmax(s / T)) (Hinton et al., 2015, section 2).

    The factor T^2 keeps the gradient's size when the temperature changes.

    Args:
        student: (N, K) logits.
        teacher: (N, K) logits.
        temperature: T; the higher, the more the unlikely classes count.
        weight: (N,) in [0, 1], 0 where a sample doesn't count; None counts all alike.

    Returns:
        A scalar, at least 0; it doesn't see a constant added to a sample's logits.
    """
    divergence = _divergence(_log_softmax(student, temperature), _log_softmax(teacher, temperature))
    return temperature**2 * weighted_mean(divergence, weight)


def decoupled_kd(
    student: Tensor,
    teacher: Tensor,
    target: Tensor,
    *,
    alpha: float = 1.0,
    beta: float = 8.0,
    temperature: float = 4.0,
    weight: Tensor | None = None,
) -> Tensor:
    """T^2 (alpha TCKD + beta NCKD): target and other classes apart (Zhao et al., CVPR 2022, eq. 7).

    TCKD is KL(b_t || b_s) of the two probabilities "target" and "not target", NCKD is KL(q_t || q_s) of the
    distributions among the other classes. ``logit_kl`` is TCKD + (1 - p_t) NCKD, where p_t is the teacher's
    probability of the target: there, a sure teacher says nothing about the other classes.

    Args:
        student: (N, K) logits.
        teacher: (N, K) logits.
        target: (N,) int64, each sample's class.
        alpha: Weight of TCKD.
        beta: Weight of NCKD.
        temperature: T.
        weight: (N,) in [0, 1], 0 where a sample doesn't count; None counts all alike.

    Returns:
        A scalar, at least 0.
    """
    is_target = F.one_hot(target, student.shape[-1]).bool()  # (N, K)
    here_binary, here_others = _decouple(_log_softmax(student, temperature), is_target)
    there_binary, there_others = _decouple(_log_softmax(teacher, temperature), is_target)
    divergence = alpha * _divergence(here_binary, there_binary) + beta * _divergence(here_others, there_others)
    return temperature**2 * weighted_mean(divergence, weight)


def correlation_kd(
    student: Tensor,
    teacher: Tensor,
    *,
    beta: float = 1.0,
    gamma: float = 1.0,
    temperature: float = 1.0,
    weight: Tensor | None = None,
) -> Tensor:
    """T^2 (beta L_inter + gamma L_intra), the loss DIST (Huang et al., NeurIPS 2022, section 4).

    With p = softmax(logits / T), L_inter is the mean over samples of 1 - Pearson(p_s[n, :], p_t[n, :]) and L_intra
    the mean over classes of 1 - Pearson(p_s[:, k], p_t[:, k]). Only what rises with what counts, so that a student
    need not be as sure as its teacher.

    Args:
        student: (N, K) logits.
        teacher: (N, K) logits.
        beta: Weight of the relation between classes.
        gamma: Weight of the relation within a class.
        temperature: T.
        weight: (N,) in [0, 1], 0 where a sample doesn't count; None counts all alike.

    Returns:
        A scalar in [0, 2 T^2 (beta + gamma)]. A row or column in which the teacher's probabilities are all alike
        has no correlation and is left out; so is L_intra of a single sample.
    """
    here = (at_least_float32(student) / temperature).softmax(dim=-1)
    there = (at_least_float32(teacher) / temperature).softmax(dim=-1)
    samples = here.new_ones(len(here)) if weight is None else weight.to(here.dtype)
    inter, informative = _pearson_distance(here, there, weight=here.new_ones(here.shape[-1]))
    intra, informative_class = _pearson_distance(here.T, there.T, weight=samples)
    between = weighted_mean(inter, samples * informative)
    within = weighted_mean(intra, informative_class.to(here.dtype))
    return temperature**2 * (beta * between + gamma * within)


def standardized_logit_kl(
    student: Tensor, teacher: Tensor, *, temperature: float = 2.0, weight: Tensor | None = None
) -> Tensor:
    """``logit_kl`` of z-scored logits, (z - mean(z)) / std(z) over the classes (Sun et al., CVPR 2024, section 4).

    The deviation is that of K - 1 degrees of freedom, as in the authors' code; the paper's divides by K, which is
    another temperature.

    Args:
        student: (N, K) logits.
        teacher: (N, K) logits.
        temperature: T, applied after the standardisation.
        weight: (N,) in [0, 1], 0 where a sample doesn't count; None counts all alike.

    Returns:
        A scalar, at least 0; it sees neither shift nor positive scale of a sample's logits. Of two classes nothing is
        left but which is higher, without a gradient: it needs three to teach.
    """
    return logit_kl(_standardise(student), _standardise(teacher), temperature=temperature, weight=weight)


def _log_softmax(logits: Tensor, temperature: float) -> Tensor:
    return (at_least_float32(logits) / temperature).log_softmax(dim=-1)


def _divergence(student: Tensor, teacher: Tensor) -> Tensor:
    """KL(teacher || student) of (N, K) log-probabilities, (N,)."""
    return F.kl_div(student, teacher, reduction="none", log_target=True).sum(dim=-1)


def _decouple(log_probability: Tensor, is_target: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probabilities of target and not target, (N, 2), and of the classes among the others, (N, K).

    The probability of "not target" is summed, not taken as 1 - p, which a sure model would round to 0.
    """
    target = log_probability[is_target]  # (N,)
    others = log_probability.masked_fill(is_target, -torch.inf).logsumexp(dim=-1)  # (N,)
    among = (log_probability - others[:, None]).masked_fill(is_target, 0.0)  # equal on both sides: no divergence
    return torch.stack([target, others], dim=-1), among


def _pearson_distance(student: Tensor, teacher: Tensor, *, weight: Tensor) -> tuple[Tensor, Tensor]:
    """1 - Pearson of each of R rows, whose L values count with ``weight`` (L,): (R,), and whether it has one, (R,)."""
    share = weight / weight.sum().clamp(min=1e-6)
    here, _ = _unit_deviation(student, share)
    there, informative = _unit_deviation(teacher, share)
    return 1.0 - (here * there).sum(dim=-1), informative


def _unit_deviation(values: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
    """Rows less their mean and of length one, and whether they vary at all."""
    root = share.sqrt()
    deviation = (values - (values * share).sum(dim=-1, keepdim=True)) * root
    length = torch.linalg.vector_norm(deviation, dim=-1, keepdim=True)
    size = torch.linalg.vector_norm(values.detach() * root, dim=-1, keepdim=True)
    least = (_LEAST_RELATIVE_SPREAD * size).clamp(min=1e-12)
    return deviation / torch.maximum(length, least), (length > least)[..., 0]


def _standardise(logits: Tensor) -> Tensor:
    centred = at_least_float32(logits) - at_least_float32(logits).mean(dim=-1, keepdim=True)
    length = torch.linalg.vector_norm(centred, dim=-1, keepdim=True)
    deviation: Tensor = length / (logits.shape[-1] - 1) ** 0.5
    return centred / deviation.clamp(min=_LEAST_DEVIATION)
