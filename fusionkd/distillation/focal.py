"""The teacher's features where they matter, and what they take from the whole scene."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from fusionkd.distillation.base import TermBatch
from fusionkd.distillation.feature import masked_mimic
from fusionkd.distillation.feature_term import AlignedMaps, FeatureTerm, channels
from fusionkd.distillation.masks import footprint_scale, teacher_foreground
from fusionkd.distillation.options import check_not_negative
from fusionkd.distillation.schedules import Schedule
from fusionkd.models.values import FusionOutput


def spatial_attention(features: Tensor, *, temperature: float = 0.5) -> Tensor:
    """Where features are strong: ``H W softmax(mean_c |F| / T)`` over the cells (Yang et al., FGD, CVPR 2022).

    Args:
        features: (B, C, rows, columns).
        temperature: T; the lower, the fewer cells stand out.

    Returns:
        (B, 1, rows, columns), 1 on average.
    """
    strength = features.abs().mean(dim=1).flatten(1)  # (B, rows * columns)
    attention = (strength / temperature).softmax(dim=1) * strength.shape[1]
    return attention.reshape_as(features[:, :1])  # (B, 1, rows, columns)


def channel_attention(features: Tensor, *, temperature: float = 0.5) -> Tensor:
    """Which channels are strong: ``C softmax(mean_hw |F| / T)`` over the channels (Yang et al., FGD, CVPR 2022).

    Args:
        features: (B, C, rows, columns).
        temperature: T; the lower, the fewer channels stand out.

    Returns:
        (B, C, 1, 1), 1 on average.
    """
    strength = features.abs().mean(dim=(2, 3), keepdim=True)  # (B, C, 1, 1)
    return (strength / temperature).softmax(dim=1) * features.shape[1]


def focal_feature(
    student: Tensor, teacher: Tensor, foreground: Tensor, *, background: Tensor, background_weight: float = 0.5
) -> Tensor:
    """Squared differences that the teacher's attention weighs, objects and background apart (FGD, CVPR 2022).

    ``sum_ij S_ij A^S_ij mean_c A^C_c (t - s)^2`` over the foreground, and ``background_weight`` times the same over
    the background, with A^S and A^C the teacher's attentions. The scale mask S adds up to 1 over each frame's
    foreground and over its background. The mean over frames is taken relative to the teacher's mean square. (The paper
    sums over objects and channels instead.)

    Args:
        student: (B, C, rows, columns).
        teacher: (B, C, rows, columns).
        foreground: (B, 1, rows, columns), at least 0; equal sums give objects equal weight.
        background: (B, 1, rows, columns), at least 0.
        background_weight: Weight of the background; the foreground has 1.

    Returns:
        A scalar.
    """
    scale_mask = _frame_share(foreground) + background_weight * _frame_share(background)
    attention = spatial_attention(teacher) * channel_attention(teacher)  # (B, C, rows, columns)
    difference = (attention * (student - teacher).square()).mean(dim=1, keepdim=True)
    scale = teacher.square().mean().clamp(min=1e-6).detach()
    return (difference * scale_mask).sum() / len(student) / scale


def attention_difference(student: Tensor, teacher: Tensor) -> Tensor:
    """L1 of spatial plus L1 of channel attention, each a mean (FGD, CVPR 2022); 0 to 4.

    Args:
        student: (B, C, rows, columns).
        teacher: (B, C, rows, columns).
    """
    spatial = (spatial_attention(student) - spatial_attention(teacher)).abs().mean()
    channel = (channel_attention(student) - channel_attention(teacher)).abs().mean()
    return spatial + channel


def focal_global(
    student: Tensor,
    teacher: Tensor,
    foreground: Tensor,
    *,
    background: Tensor,
    context: Callable[[Tensor], Tensor],
    background_weight: float = 0.5,
    attention_weight: float = 1.0,
    relation_weight: float = 1.0,
) -> Tensor:
    """Focal and global distillation (Yang et al., FGD, CVPR 2022).

    ``focal_feature + attention_weight * attention_difference + relation_weight * || R(t) - R(s) ||^2``, the last
    relative to the teacher's own square, see ``masked_mimic``.

    Args:
        student: (B, C, rows, columns).
        teacher: (B, C, rows, columns).
        foreground: (B, 1, rows, columns), at least 0; equal sums give objects equal weight.
        background: (B, 1, rows, columns), at least 0; cells that are in neither are blank in both models.
        context: R, from and to (B, C, rows, columns).
        background_weight: Weight of the background; the foreground has 1.
        attention_weight: Weight of the attentions' difference.
        relation_weight: Weight of the difference after R.

    Returns:
        A scalar; 0 at equality.
    """
    anywhere = ((foreground + background) > 0).to(student.dtype)
    student, teacher = student * anywhere, teacher * anywhere
    focal = focal_feature(student, teacher, foreground, background=background, background_weight=background_weight)
    relation = masked_mimic(context(student), context(teacher), anywhere)
    return focal + attention_weight * attention_difference(student, teacher) + relation_weight * relation


def _frame_share(mask: Tensor) -> Tensor:
    return mask / mask.sum(dim=(2, 3), keepdim=True).clamp(min=1e-6)


class ContextBlock(nn.Module):
    """Adds to every cell what the whole map says (GcBlock; Cao et al., GCNet, ICCVW 2019).

    ``R(F) = F + W_2 relu(LN(W_1 sum_j softmax_j(W_k F) F_j))``, j over all cells. It starts as the identity.

    Args:
        channels: Channels in and out.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = max(channels // 2, 1)
        self.attention = nn.Conv2d(channels, 1, kernel_size=1)
        last = nn.Linear(hidden, channels)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.transform = nn.Sequential(nn.Linear(channels, hidden), nn.LayerNorm(hidden), nn.ReLU(), last)

    def forward(self, features: Tensor) -> Tensor:
        """Features (B, C, rows, columns) with context."""
        share = self.attention(features).flatten(2).softmax(dim=-1)  # (B, 1, rows * columns)
        context = (features.flatten(2) * share).sum(dim=-1)  # (B, C)
        added: Tensor = self.transform(context)[:, :, None, None]  # (B, C, 1, 1)
        return features + added


class FocalGlobal(FeatureTerm):
    """The student imitates what a teacher attends to, and how it relates to the scene (FGD; Yang et al., CVPR 2022).

    Foreground are the footprints of annotated boxes, all boxes of a frame with equal weight, and on unlabelled frames
    the cells where the teacher's score is high. Student features go through a 1x1 adapter. One context block per
    teacher, learned beside the student, relates the cells of both models (the authors' code has one for each model).

    Args:
        teacher: Name or names in the task's ``teachers``; with several, the mean of their losses.
        weight: Factor on the loss.
        student_tap: ``bev``, ``camera_bev`` or ``lidar_bev`` of the student.
        teacher_tap: The same of the teacher.
        background_weight: Weight of the background; the foreground has 1.
        attention_weight: Weight of the attentions' difference.
        relation_weight: Weight of the difference behind the context block.
        schedule: How the factor changes over the run; None keeps it.
    """

    def __init__(
        self,
        teacher: str | list[str],
        weight: float = 1.0,
        *,
        student_tap: str = "bev",
        teacher_tap: str = "bev",
        background_weight: float = 0.5,
        attention_weight: float = 1.0,
        relation_weight: float = 1.0,
        schedule: Schedule | None = None,
    ) -> None:
        super().__init__(teacher, weight, student_tap=student_tap, teacher_tap=teacher_tap, schedule=schedule)
        self.weights = {
            "background_weight": background_weight,
            "attention_weight": attention_weight,
            "relation_weight": relation_weight,
        }
        check_not_negative(self, **self.weights)

    def build(self, student: FusionOutput, teachers: Mapping[str, FusionOutput]) -> None:
        """Make the adapters and the context blocks."""
        super().build(student, teachers)
        sizes = channels(teachers, self.teacher_tap)
        self.contexts = nn.ModuleDict({name: ContextBlock(size) for name, size in sizes.items()})

    def foreground(self, probability: Tensor, batch: TermBatch, student: FusionOutput) -> Tensor:
        """Scale mask of annotated boxes, or the teacher's score: (B, 1, rows, columns)."""
        by_truth = footprint_scale(batch.gt_boxes.float(), batch.gt_label, student.grid)
        return torch.where(batch.labelled[:, None, None, None], by_truth, teacher_foreground(probability))

    def compare(self, maps: AlignedMaps) -> Tensor:
        """``focal_global`` with all cells that aren't foreground as background."""
        background = (maps.seen & (maps.cells == 0)).float()
        context = self.contexts[maps.teacher_name]
        return focal_global(
            maps.student, maps.teacher, maps.cells, background=background, context=context, **self.weights
        )
