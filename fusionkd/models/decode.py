"""From maps to boxes."""

import torch
import torch.nn.functional as F
from torch import Tensor

from fusionkd.errors import UserError
from fusionkd.geometry import Boxes3D
from fusionkd.models.nms import CircleNms, NoNms, RotatedNms
from fusionkd.models.values import FusionOutput


def best_cells(heatmap: Tensor, *, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """The strongest local maxima.

    Args:
        heatmap: Logits, (B, classes, rows, columns).
        count: Cells per frame.

    Returns:
        Score, label and cell (row * columns + column), each (B, count), best first; score 0 beyond the last maximum.
    """
    probability = heatmap.float().sigmoid()
    peak = F.max_pool2d(probability, kernel_size=3, stride=1, padding=1) == probability
    flat = torch.where(peak, probability, 0.0).flatten(1)  # (B, classes * cells)
    score, index = flat.topk(min(count, flat.shape[1]), dim=1)
    cells = heatmap.shape[-2] * heatmap.shape[-1]
    return score, index // cells, index % cells


def boxes_at_cells(output: FusionOutput, label: Tensor, cell: Tensor) -> Tensor:
    """Boxes (B, K, 9), rows (x, y, z, l, w, h, yaw, vx, vy), that the regression gives at some cells."""
    frame = torch.arange(len(label), device=label.device)[:, None]
    task = torch.tensor(output.task_of_class, device=label.device)[label]  # (B, K)
    values = output.box_regression.flatten(3)[frame, task, :, cell].float()  # (B, K, 10)
    grid = output.grid
    sin, cos = values[..., 6], values[..., 7]
    if output.heading_axis is None:
        yaw = torch.atan2(sin, cos)
    else:
        axis = output.heading_axis.flatten(3)[frame, task, :, cell].float()  # (B, K, 2)
        yaw = 0.5 * torch.atan2(axis[..., 0], axis[..., 1])
        behind = sin * yaw.sin() + cos * yaw.cos() < 0
        yaw = torch.where(behind, yaw + torch.pi, yaw)
        yaw = torch.atan2(yaw.sin(), yaw.cos())
    return torch.cat(
        [
            ((cell % grid.columns + values[..., 0]) * grid.cell_m + grid.x_min_m)[..., None],
            ((cell // grid.columns + values[..., 1]) * grid.cell_m + grid.y_min_m)[..., None],
            values[..., 2:3],
            values[..., 3:6].clamp(-5, 5).exp(),
            yaw[..., None],
            values[..., 8:10],
        ],
        dim=-1,
    )


class Decoder:
    """Boxes of a model's maps, in the frame of its grid.

    Args:
        score_threshold: Boxes must score higher.
        max_boxes: Per frame, before suppression.
        nms: Suppression of doubles.
    """

    def __init__(
        self,
        score_threshold: float = 0.05,
        *,
        max_boxes: int = 300,
        nms: CircleNms | RotatedNms | NoNms | None = None,
    ) -> None:
        if not 0 <= score_threshold < 1 or max_boxes < 1:
            raise UserError(
                f"Decoder needs 0 <= score_threshold < 1 and max_boxes >= 1, found {score_threshold}, {max_boxes}."
            )
        self.score_threshold = score_threshold
        self.max_boxes = max_boxes
        self.nms = nms or CircleNms()

    @torch.no_grad()
    def __call__(self, output: FusionOutput) -> list[Boxes3D]:
        """Boxes per frame, best first within each class."""
        score, label, cell = best_cells(output.heatmap, count=self.max_boxes)
        boxes = boxes_at_cells(output, label, cell)
        found = []
        for b in range(len(score)):
            keep = score[b] > self.score_threshold
            frame = Boxes3D.from_array(
                boxes[b][keep].cpu().numpy(), label[b][keep].cpu().numpy(), score[b][keep].cpu().numpy()
            )
            found.append(frame.select(self.nms(frame)))
        return found
