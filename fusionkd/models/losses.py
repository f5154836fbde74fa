"""Losses on annotations."""

from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fusionkd.models.targets import CenterTargets, center_targets
from fusionkd.models.values import FusionOutput


class LabelledBatch(Protocol):
    """The part of a batch that the losses read; ``fusionkd.data.Batch`` is one."""

    @property
    def gt_boxes(self) -> Tensor:
        """(B, M, 9)."""

    @property
    def gt_label(self) -> Tensor:
        """(B, M), -1 where there is no box."""

    @property
    def labelled(self) -> Tensor:
        """(B,) bool."""

    @property
    def lidar_depth(self) -> Tensor:
        """(B, N, h, w) metres, 0 where unknown."""


@dataclass(frozen=True)
class LossWeights:
    """Weights of the named losses; 0 switches one off.

    Attributes:
        heatmap: Gaussian focal loss.
        heatmap_quality: Quality focal loss on the same targets: the form that the heatmap response
            of distillation has, so that a run without teachers can have it too.
        box: L1 on offsets, height and size.
        velocity: L1 on velocity.
        heading: L1 on (sin yaw, cos yaw).
        axis: L1 on (sin 2 yaw, cos 2 yaw).
        direction: Logistic loss on the direction's side.
        depth: Cross-entropy of the view transform's depth.
    """

    heatmap: float = 1.0
    heatmap_quality: float = 1.0
    box: float = 0.25
    velocity: float = 0.1
    heading: float = 0.25
    axis: float = 0.25
    direction: float = 0.1
    depth: float = 0.5


class CenterLoss(nn.Module):
    """All losses of a CenterHead on annotations, by name, weighted; their sum is what is minimised.

    Frames without labels count for the depth loss alone, whose target comes from the LiDAR.

    Args:
        weights: Of the losses.
        moving_from_mps: Speed from which an object counts as a mover.
        mover_weight: Weight of a mover's velocity against 1 for what stands. Half of all objects stand,
            and zero is the median that an unweighted L1 loss would find.
        overlap: Of the Gaussian targets, see ``gaussian_radius``.
        min_radius: Of the Gaussian targets, in cells.
    """

    def __init__(
        self,
        weights: LossWeights | None = None,
        *,
        moving_from_mps: float = 0.5,
        mover_weight: float = 5.0,
        overlap: float = 0.1,
        min_radius: int = 2,
    ) -> None:
        super().__init__()
        self.weights = weights or LossWeights()
        self.moving_from_mps = moving_from_mps
        self.mover_weight = mover_weight
        self.overlap = overlap
        self.min_radius = min_radius

    def forward(self, output: FusionOutput, batch: LabelledBatch) -> dict[str, Tensor]:
        """Weighted losses by name, float32 scalars; finite also with no object and no labelled frame."""
        label = torch.where(batch.labelled[:, None], batch.gt_label, -1)
        targets = center_targets(
            batch.gt_boxes,
            label,
            grid=output.grid,
            classes=len(output.classes),
            overlap=self.overlap,
            min_radius=self.min_radius,
        )
        losses = self._heatmap(output, targets, batch.labelled) | self._boxes(output, targets)
        if output.depth_logits is not None and output.depth_edges_m is not None:
            losses["depth"] = depth_loss(output.depth_logits, batch.lidar_depth, edges_m=output.depth_edges_m)
        weights = {name: float(getattr(self.weights, name)) for name in losses}
        return {name: weights[name] * value for name, value in losses.items() if weights[name] != 0}

    def _heatmap(self, output: FusionOutput, targets: CenterTargets, labelled: Tensor) -> dict[str, Tensor]:
        logits = output.heatmap[labelled].float()
        heatmap = targets.heatmap[labelled]
        objects = targets.mask.sum().clamp(min=1)
        return {
            "heatmap": gaussian_focal(logits, heatmap).sum() / objects,
            "heatmap_quality": quality_focal(logits, heatmap).sum() / objects,
        }

    def _boxes(self, output: FusionOutput, targets: CenterTargets) -> dict[str, Tensor]:
        values = gather_objects(output.box_regression, targets, output.task_of_class)  # (B, M, 10)
        error = (values - targets.regression).abs()
        speed = targets.regression[..., 8:].norm(dim=-1)
        weight = torch.where(speed > self.moving_from_mps, self.mover_weight, 1.0)
        direction = (values[..., 6:8] * targets.regression[..., 6:8]).sum(dim=-1)
        losses = {
            "box": masked_mean(error[..., :6].sum(dim=-1), targets.mask),
            "heading": masked_mean(error[..., 6:8].sum(dim=-1), targets.mask),
            "velocity": masked_mean(error[..., 8:].sum(dim=-1), targets.velocity_known * weight),
            "direction": masked_mean(F.softplus(-4 * direction), targets.mask),
        }
        if output.heading_axis is not None:
            axis = gather_objects(output.heading_axis, targets, output.task_of_class)  # (B, M, 2)
            losses["axis"] = masked_mean((axis - targets.axis).abs().sum(dim=-1), targets.mask)
        return losses


def gather_objects(maps: Tensor, targets: CenterTargets, task_of_class: tuple[int, ...]) -> Tensor:
    """Values (B, M, C), float32, of per-task maps (B, tasks, C, rows, columns) at every object's centre."""
    task = torch.tensor(task_of_class, device=maps.device)[targets.label]  # (B, M)
    flat = maps.flatten(3)  # (B, tasks, C, cells)
    frame = torch.arange(len(maps), device=maps.device)[:, None]
    return flat[frame, task, :, targets.cell].float()


def masked_mean(values: Tensor, weight: Tensor) -> Tensor:
    """Weighted mean, zero where nothing has weight."""
    weight = weight.to(values.dtype)
    return (values * weight).sum() / weight.sum().clamp(min=1)


def gaussian_focal(logits: Tensor, target: Tensor, *, alpha: float = 2.0, beta: float = 4.0) -> Tensor:
    """CornerNet's focal loss per cell (Law & Deng, ECCV 2018, equation 1).

    Args:
        logits: Before the sigmoid.
        target: In [0, 1], exactly 1 at centres.
        alpha: Focusing on what is wrong.
        beta: Mercy near centres.
    """
    probability = logits.sigmoid()
    positive = -F.logsigmoid(logits) * (1 - probability) ** alpha
    negative = -F.logsigmoid(-logits) * probability**alpha * (1 - target) ** beta
    return torch.where(target >= 1, positive, negative)


def quality_focal(logits: Tensor, target: Tensor, *, beta: float = 2.0) -> Tensor:
    """Quality focal loss per cell (Li et al., NeurIPS 2020, equation 5): |t - p|^beta BCE(p, t)."""
    weight = (target - logits.sigmoid()).abs() ** beta
    return weight * F.binary_cross_entropy_with_logits(logits, target, reduction="none")


def depth_loss(logits: Tensor, depth_m: Tensor, *, edges_m: tuple[float, ...]) -> Tensor:
    """Cross-entropy of depth bins where the LiDAR knows the depth.

    Args:
        logits: (B, N, bins, h, w).
        depth_m: (B, N, k h, k w), 0 where unknown; of each k x k block the nearest depth counts.
        edges_m: Borders of the bins; depths beyond them don't count.

    Raises:
        ValueError: If the maps don't divide.
    """
    height, width = logits.shape[-2:]
    factor = depth_m.shape[-1] // width
    if depth_m.shape[-2:] != (height * factor, width * factor):
        raise ValueError(
            f"Depth maps of {tuple(depth_m.shape[-2:])} don't fit depth logits of {(height, width)}: set the data's "
            f"depth_stride to the stride of the camera branch, or to a divisor of it."
        )
    far = torch.where(depth_m > 0, depth_m, torch.inf).flatten(0, 1)[:, None]  # (B * N, 1, k h, k w)
    nearest = -F.max_pool2d(-far, factor)[:, 0]  # (B * N, h, w)
    known = (nearest >= edges_m[0]) & (nearest < edges_m[-1])
    width_m = edges_m[1] - edges_m[0]
    bins = ((nearest - edges_m[0]) / width_m).nan_to_num(0, 0, 0).long().clamp(0, len(edges_m) - 2)
    loss = F.cross_entropy(logits.float().flatten(0, 1), bins, reduction="none")  # (B * N, h, w)
    return masked_mean(loss, known)
