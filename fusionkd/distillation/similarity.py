"""Which frames the teacher finds alike."""

from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from fusionkd.distillation.feature_term import AlignedMaps, FeatureTerm


def similarity_preserving(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """Distance of the frames' row-normalised Gram matrices (Tung & Mori, ICCV 2019, eq. 4).

    ``1 / B^2 * || G_s - G_t ||_F^2``, where each row of ``Q Q^T`` over L2 is a row of G and the rows of Q are the
    frames' features. Turning all channels, or scaling all features, changes nothing.

    Args:
        student: (B, C, rows, columns).
        teacher: (B, D, rows, columns); its number of channels may differ.
        mask: (B, 1, rows, columns), weights in [0, 1] of the cells in the product of two frames.

    Returns:
        A scalar; 0 for an empty mask, and for a single frame, which is like itself in every model.
    """
    frames = len(student)
    return (_frame_gram(student, mask) - _frame_gram(teacher, mask)).square().sum() / frames**2


def _frame_gram(features: Tensor, mask: Tensor) -> Tensor:
    # Each of the two factors of a product carries the root of the weight.
    flat = (features * mask.sqrt()).flatten(1)  # (B, C * rows * columns)
    return F.normalize(flat @ flat.T, dim=1)  # (B, B)


class SimilarityPreserving(FeatureTerm):
    """Frames that are alike to a teacher are alike to the student (Tung & Mori, ICCV 2019).

    It needs no adapter, because only frames of one model are compared with each other; but it needs batches of at
    least two frames, and says nothing about a single one. The arguments are those of ``FeatureTerm``.
    """

    adapts: ClassVar[bool] = False

    def compare(self, maps: AlignedMaps) -> Tensor:
        """``similarity_preserving`` over the mask."""
        return similarity_preserving(maps.student, maps.teacher, maps.cells)
