"""Features that correlate with the teacher's, whatever their scale."""

import torch
from torch import Tensor

from fusionkd.distillation.feature_term import AlignedMaps, FeatureTerm


def pearson_feature(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """Half the squared difference of features that were standardised per channel (Cao et al., PKD, NeurIPS 2022).

    ``1 / 2m * sum_i (s_i - t_i)^2 = 1 - r(s, t)``, for s and t of mean 0 and variance 1 over the m cells of all
    frames; r is Pearson's correlation. The mean over channels is taken. A positive scale and an offset of any
    channel change nothing, so that a teacher of another modality can be followed.

    Args:
        student: (B, C, rows, columns).
        teacher: (B, C, rows, columns).
        mask: (B, 1, rows, columns), weights in [0, 1] of the cells, also in mean and variance.

    Returns:
        A scalar in [0, 2]; 0 for an empty mask. A channel that is the same everywhere correlates with nothing: it
        pays 1/2 and has no gradient.
    """
    share = mask / mask.sum().clamp(min=1e-6)
    difference = standardised(student, share) - standardised(teacher, share)
    return 0.5 * (difference.square().mean(dim=1, keepdim=True) * share).sum()


def standardised(features: Tensor, share: Tensor) -> Tensor:
    """Features with mean 0 and variance 1 per channel.

    Args:
        features: (B, C, rows, columns).
        share: (B, 1, rows, columns), each cell's part in mean and variance; they add up to 1, or are all 0.

    Returns:
        (B, C, rows, columns); zero for channels that are the same everywhere.
    """
    mean = (features * share).sum(dim=(0, 2, 3), keepdim=True)
    centred = features - mean
    variance = (centred.square() * share).sum(dim=(0, 2, 3), keepdim=True)
    # What rounding of the mean leaves of a constant channel is no spread, and would be blown up to one.
    constant = variance <= 1e-10 * mean.square() + 1e-12
    return centred * variance.masked_fill(constant, torch.inf).rsqrt()


class PearsonFeature(FeatureTerm):
    """Student features, through a 1x1 adapter, correlate with a teacher's (PKD; Cao et al., NeurIPS 2022).

    The arguments are those of ``FeatureTerm``.
    """

    def compare(self, maps: AlignedMaps) -> Tensor:
        """``pearson_feature`` over the mask."""
        return pearson_feature(maps.student, maps.teacher, maps.cells)
