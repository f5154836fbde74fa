"""Losses on annotations."""

from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fusionkd.models.targets import CenterTargets, center_targets
from fusionkd.models.values import FusionOutput
from fusionkd.models.view_transform import nearest_depth


class LabelledBatch(Protocol):
    """The part of a batch that the losses read; ``fusionkd.data.Batch`` is one."""

    @property
    def gt_boxes(self) -> Tensor:
        """(B, M, 9) rows x, y, z, l, w, h, yaw, vx, vy; velocity NaN where unknown."""

    @property
    def gt_label(self) -> Tensor:
        """(B, M), -1 where there is no box."""

    @property
    def labelled(self) -> Tensor:
        """(B,) bool."""

    @property
    def lidar_depth(self) -> Tensor:
        """(B, N, h, w) metres, 0 where unknown."""

    @property
    def camera_present(self) -> Tensor:
        """(B, N) bool."""


@dataclass(frozen=True)
class LossWeights:
    """Weights of the named losses; 0 switches one off.

    Attributes:
        heatmap: Gaussian focal loss.
        heatmap_quality: Quality focal loss on the same targets: the form that the heatmap response
            of distillation has, so that a run without teachers can have it too.
        box: L1 on offsets, height and log size.
        velocity: L1 on velocity, movers weighted.
        heading: L1 on (sin yaw, cos yaw).
        heading_axis: L1 on (sin 2 yaw, cos 2 yaw).
        direction: Logistic loss on which way along the axis the object faces.
        depth: Cross-entropy of the view transform's depth.
    """

    heatmap: float = 1.0
    heatmap_quality: float = 1.0
    box: float = 0.25
    velocity: float = 0.1
    heading: float = 0.25
    heading_axis: float = 0.25
    direction: float = 0.1
    depth: float = 0.5


class CenterLoss(nn.Module):
    """All losses of a CenterHead on annotations, by name, weighted; their sum is what is minimised.

    Args:
        weights: Of the losses.
        moving_from_mps: Speed from which an object counts as a mover.
        mover_weight: Weight of a mover's velocity against 1 for what stands. About half of all objects stand,
            and zero is the median that an unweighted L1 loss finds.
        direction_sharpness: Slope of the direction loss.
        depth_on_unlabelled: Whether frames without labels count for the depth loss, whose target is the LiDAR's.
        overlap: Of the Gaussian targets, see ``gaussian_radius``.
        min_radius: Of the Gaussian targets, in cells.
    """

    def __init__(
        self,
        weights: LossWeights | None = None,
        *,
        moving_from_mps: float = 0.5,
        mover_weight: float = 2.0,
        direction_sharpness: float = 4.0,
        depth_on_unlabelled: bool = True,
        overlap: float = 0.1,
        min_radius: int = 2,
    ) -> None:
        super().__init__()
        self.weights = weights or LossWeights()
        self.moving_from_mps = moving_from_mps
        self.mover_weight = mover_weight
        self.direction_sharpness = direction_sharpness
        self.depth_on_unlabelled = depth_on_unlabelled
        self.overlap = overlap
        self.min_radius = min_radius

    def forward(self, output: FusionOutput, batch: LabelledBatch, *, score: Tensor | None = None) -> dict[str, Tensor]:
        """Weighted losses by name, float32 scalars; finite also with no object and no labelled frame.

        Args:
            output: The model's.
            batch: With the boxes that it should find.
            score: (B, M) in [0, 1], how much each of them counts; None for annotations, which count in full.
        """
        targets = center_targets(
            batch.gt_boxes,
            torch.where(batch.labelled[:, None], batch.gt_label, -1),
            grid=output.grid,
            classes=len(output.classes),
            score=score,
            overlap=self.overlap,
            min_radius=self.min_radius,
        )
        losses = self._heatmap(output.heatmap, targets, batch.labelled) | self._boxes(output, targets)
        if output.depth_logits is not None:
            losses["depth"] = self._depth(output, batch)
        weights = {name: float(getattr(self.weights, name)) for name in losses}
        return {name: weights[name] * value for name, value in losses.items() if weights[name] != 0}

    def _heatmap(self, heatmap: Tensor, targets: CenterTargets, labelled: Tensor) -> dict[str, Tensor]:
        target = targets.heatmap[labelled]
        scored = target if targets.scored_heatmap is targets.heatmap else targets.scored_heatmap[labelled]
        gaussian, quality = heatmap_losses(heatmap[labelled].float(), target, scored)
        objects = targets.score.sum().clamp(min=1)
        return {"heatmap": gaussian / objects, "heatmap_quality": quality / objects}

    def _boxes(self, output: FusionOutput, targets: CenterTargets) -> dict[str, Tensor]:
        values = gather_objects(output.box_regression, targets, output.task_of_class)  # (B, M, 10)
        error = (values - targets.regression).abs()
        speed = targets.regression[..., 8:].norm(dim=-1)
        mover = torch.where(speed > self.moving_from_mps, self.mover_weight, 1.0)
        agreement = (values[..., 6:8] * targets.regression[..., 6:8]).sum(dim=-1)
        losses = {
            "box": masked_mean(error[..., :6].sum(dim=-1), targets.score),
            "velocity": masked_mean(error[..., 8:].sum(dim=-1), mover * targets.velocity_known * targets.score),
            "heading": masked_mean(error[..., 6:8].sum(dim=-1), targets.score),
            "direction": masked_mean(F.softplus(-self.direction_sharpness * agreement), targets.score),
        }
        if output.heading_axis is not None:
            axis = gather_objects(output.heading_axis, targets, output.task_of_class)  # (B, M, 2)
            losses["heading_axis"] = masked_mean((axis - targets.axis).abs().sum(dim=-1), targets.score)
        return losses

    def _depth(self, output: FusionOutput, batch: LabelledBatch) -> Tensor:
        assert output.depth_logits is not None
        assert output.depth_edges_m is not None
        counts = batch.camera_present
        if not self.depth_on_unlabelled:
            counts = counts & batch.labelled[:, None]
        depth_m = batch.lidar_depth * counts[:, :, None, None]
        return depth_loss(output.depth_logits, depth_m, edges_m=output.depth_edges_m)


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


def heatmap_losses(logits: Tensor, target: Tensor, scored: Tensor) -> tuple[Tensor, Tensor]:
    """Two losses on heatmaps, each summed over all cells; they share the costly passes over the maps.

    The Gaussian focal loss with exponents 2 and 4 (Law & Deng, CornerNet, ECCV 2018, equation 1) is
    ``-(1 - p)^2 log p`` at centres and ``-(1 - t)^4 p^2 log(1 - p)`` elsewhere; the quality focal loss with beta 2
    (Li et al., NeurIPS 2020, equation 5) is ``|t - p|^2 BCE(p, t)``. Boxes may have a score: the first loss takes it
    as the weight of a centre, the second as the peak of its target.

    Args:
        logits: Before the sigmoid that makes p.
        target: t in [0, 1], exactly 1 at centres.
        scored: t with the boxes' scores as peaks; ``target`` itself where all scores are 1.

    Returns:
        The Gaussian focal and the quality focal loss.
    """
    probability, surprise = logits.sigmoid(), F.softplus(logits)  # p and -log(1 - p)
    # At centres the weight below is zero: what they add is gathered from those few cells alone.
    weight = (1 - target).square_().square_()
    elsewhere = (surprise * probability.square() * weight).sum()
    at_centre = target >= 1
    centre = logits[at_centre]
    gaussian = elsewhere + (F.softplus(-centre) * centre.neg().sigmoid().square() * scored[at_centre]).sum()
    quality = ((scored - probability).square() * (surprise - logits * scored)).sum()
    return gaussian, quality


def depth_loss(logits: Tensor, depth_m: Tensor, *, edges_m: tuple[float, ...]) -> Tensor:
    """Cross-entropy of depth bins where the LiDAR knows the depth (Li et al., BEVDepth, AAAI 2023).

    Args:
        logits: (B, N, bins, h, w).
        depth_m: (B, N, k h, k w) nearest LiDAR depth per cell, 0 where unknown; the nearest of k x k cells counts.
        edges_m: The bins' borders.

    Returns:
        Mean over the cells with a depth between the first and the last border; zero if there is none.

    Raises:
        UserError: If the depth maps' size is no multiple of the logits'.
    """
    nearest = nearest_depth(depth_m, size=(logits.shape[-2], logits.shape[-1])).flatten(0, 1)  # (B * N, h, w)
    known = (nearest >= edges_m[0]) & (nearest < edges_m[-1])
    rows = logits.flatten(0, 1).permute(0, 2, 3, 1)[known].float()  # (known cells, bins)
    bins = torch.bucketize(nearest[known], torch.tensor(edges_m, device=nearest.device), right=True) - 1
    return F.cross_entropy(rows, bins, reduction="sum") / max(len(bins), 1)
