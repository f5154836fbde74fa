"""How much of the teacher the student's features tell."""

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fusionkd.distillation.feature_term import AlignedMaps, FeatureTerm, channels
from fusionkd.models.values import FusionOutput

_LEAST_VARIANCE = 1e-5


def variational_information(student: Tensor, teacher: Tensor, mask: Tensor, *, variance: Tensor) -> Tensor:
    """Negative log-likelihood of the teacher under a Gaussian about the student (Ahn et al., VID, CVPR 2019).

    ``(t - s)^2 / (2 sigma_c^2) + log(sigma_c)``, with one variance per channel; the constant is left out, and the
    mean over channels and weighted cells is taken where the paper sums. A lower bound of the mutual information grows
    as it falls.

    Args:
        student: (B, C, rows, columns), the Gaussian's mean.
        teacher: (B, C, rows, columns).
        mask: (B, 1, rows, columns), weights in [0, 1].
        variance: (C,), above 0.

    Returns:
        A scalar, the mean of ``log(sigma_c)`` at equality (below 0 for small variances); 0 for an empty mask.
    """
    spread = variance[:, None, None]  # (C, 1, 1)
    likelihood = 0.5 * ((student - teacher).square() / spread + spread.log())
    return (likelihood.mean(dim=1, keepdim=True) * mask).sum() / mask.sum().clamp(min=1e-6)


class VariationalInformation(FeatureTerm):
    """Student features, through a 1x1 adapter, predict a teacher's with a learned certainty (VID, CVPR 2019).

    Each channel of each teacher has a variance that is learned beside the student, 1 at the start; channels that the
    student cannot tell come to count less. The loss falls below 0 once the student is sure, so that only its gradient
    has a meaning. The arguments are those of ``FeatureTerm``.
    """

    def build(self, student: FusionOutput, teachers: Mapping[str, FusionOutput]) -> None:
        """Make the adapters and the variances."""
        super().build(student, teachers)
        # softplus(start) + least = 1
        start = math.log(math.expm1(1.0 - _LEAST_VARIANCE))
        sizes = channels(teachers, self.teacher_tap)
        self.spreads = nn.ParameterDict(
            {name: nn.Parameter(torch.full((size,), start)) for name, size in sizes.items()}
        )

    def variance(self, teacher: str) -> Tensor:
        """The learned variance of each of a teacher's channels, (C,), above 0."""
        return F.softplus(self.spreads[teacher]) + _LEAST_VARIANCE

    def compare(self, maps: AlignedMaps) -> Tensor:
        """``variational_information`` over the mask."""
        return variational_information(
            maps.student, maps.teacher, maps.cells, variance=self.variance(maps.teacher_name)
        )
