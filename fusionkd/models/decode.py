"""From maps to boxes."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from fusionkd.errors import UserError
from fusionkd.geometry import Boxes3D
from fusionkd.geometry.nms import CircleNms, NoNms, RotatedNms
from fusionkd.geometry.selection import BoxSelection
from fusionkd.models.values import FusionOutput


def best_cells(
    heatmap: Tensor, *, task_of_class: Sequence[int], count: int, peaks: bool = True
) -> tuple[Tensor, Tensor, Tensor]:
    """The strongest cells of every task.

    Args:
        heatmap: Logits, (B, classes, rows, columns).
        task_of_class: Task of each class.
        count: Cells per task and frame.
        peaks: Whether only local maxima of 3x3 cells count.

    Returns:
        Score, label and cell (row * columns + column), each (B, tasks * count), best first within each task;
        score 0 beyond the last maximum.
    """
    score = heatmap.float().sigmoid()
    if peaks:
        score = torch.where(F.max_pool2d(score, kernel_size=3, stride=1, padding=1) == score, score, 0.0)
    cells = score.shape[-2] * score.shape[-1]
    scores, labels, places = [], [], []
    for task in range(max(task_of_class) + 1):
        classes = torch.tensor([c for c, t in enumerate(task_of_class) if t == task], device=score.device)
        flat = score[:, classes].flatten(1)  # (B, classes of the task * cells)
        best, index = flat.topk(min(count, flat.shape[1]), dim=1)
        scores.append(best)
        labels.append(classes[index // cells])
        places.append(index % cells)
    return torch.cat(scores, dim=1), torch.cat(labels, dim=1), torch.cat(places, dim=1)


def yaw_of(heading: Tensor, axis: Tensor | None) -> Tensor:
    """Heading in radians, in [-pi, pi].

    Args:
        heading: (..., 2) sin and cos of the yaw.
        axis: (..., 2) sin and cos of twice the yaw: the axis's angle comes from here and only the way along it
            from ``heading``, so that a doubtful direction doesn't bend the angle. None takes all of ``heading``.
    """
    sin, cos = heading.unbind(dim=-1)
    if axis is None:
        return torch.atan2(sin, cos)
    yaw = 0.5 * torch.atan2(axis[..., 0], axis[..., 1])
    behind = sin * yaw.sin() + cos * yaw.cos() < 0
    # The axis's angle lies within a quarter turn of +x: half a turn towards zero keeps the range.
    return torch.where(behind, yaw - torch.pi * torch.where(yaw > 0, 1.0, -1.0), yaw)


def boxes_at_cells(output: FusionOutput, label: Tensor, cell: Tensor) -> Tensor:
    """The boxes that the regression gives at some cells.

    Args:
        output: Maps of B frames.
        label: (B, K) class of each cell.
        cell: (B, K), row * columns + column.

    Returns:
        (B, K, 9) float32 rows x, y, z, l, w, h, yaw, vx, vy in the frame of the output's grid.
    """
    frame = torch.arange(len(label), device=label.device)[:, None]
    task = torch.tensor(output.task_of_class, device=label.device)[label]  # (B, K)
    values = output.box_regression.flatten(3)[frame, task, :, cell].float()  # (B, K, 10)
    axis = None if output.heading_axis is None else output.heading_axis.flatten(3)[frame, task, :, cell].float()
    grid = output.grid
    column, row = cell % grid.columns, cell // grid.columns
    place = [
        (column + values[..., 0]) * grid.cell_m + grid.x_min_m,
        (row + values[..., 1]) * grid.cell_m + grid.y_min_m,
        values[..., 2],
    ]
    # An untrained network may answer any logarithm; 150 m and 7 mm are no sizes of objects.
    size = values[..., 3:6].clamp(-5, 5).exp()
    yaw = yaw_of(values[..., 6:8], axis)
    return torch.cat([torch.stack(place, dim=-1), size, yaw[..., None], values[..., 8:10]], dim=-1)


class Decoder:
    """Boxes of a model's maps, in the frame of its grid.

    Args:
        score_threshold: Boxes must score higher.
        max_boxes: Boxes kept per frame, the best ones.
        nms: Suppression of doubles.
        candidates: Cells per task that become boxes before suppression.
        peaks: Whether only local maxima of the heatmap become boxes.
        max_boxes_per_task: Boxes kept per task and frame; None for no such limit.
        range_m: Lowest x, y, z and highest x, y, z that a centre may have; None for no limit.
    """

    def __init__(
        self,
        score_threshold: float = 0.05,
        *,
        max_boxes: int = 300,
        nms: CircleNms | RotatedNms | NoNms | None = None,
        candidates: int = 300,
        peaks: bool = True,
        max_boxes_per_task: int | None = None,
        range_m: tuple[float, float, float, float, float, float] | None = None,
    ) -> None:
        if not 0 <= score_threshold < 1 or max_boxes < 1 or candidates < 1:
            raise UserError(
                f"Decoder needs 0 <= score_threshold < 1, max_boxes >= 1 and candidates >= 1, found {score_threshold}, "
                f"{max_boxes} and {candidates}."
            )
        self.selection = BoxSelection(
            score_threshold,
            max_boxes=max_boxes,
            nms=nms or CircleNms(),
            max_boxes_per_task=max_boxes_per_task,
            range_m=range_m,
        )
        self.candidates = candidates
        self.peaks = peaks

    @torch.no_grad()
    def __call__(self, output: FusionOutput) -> list[Boxes3D]:
        """Boxes per frame, best first."""
        frames = zip(*(tensor.cpu().numpy() for tensor in self.decode_tensors(output)))
        return [self.selection.suppress(self.selection.admit(*frame), output.task_of_class) for frame in frames]

    def decode_tensors(self, output: FusionOutput) -> tuple[Tensor, Tensor, Tensor]:
        """Candidates as tensors of static shape: score (B, K), label (B, K) and boxes (B, K, 9)."""
        score, label, cell = best_cells(
            output.heatmap, task_of_class=output.task_of_class, count=self.candidates, peaks=self.peaks
        )
        return score, label, boxes_at_cells(output, label, cell)
