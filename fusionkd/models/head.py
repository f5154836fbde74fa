"""CenterHead: class heatmaps and box regression (Yin et al., CenterPoint, CVPR 2021)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fusionkd.errors import UserError
from fusionkd.geometry import DETECTION_CLASSES

_BRANCHES = {"reg": 2, "height": 1, "dim": 3, "rot": 2, "vel": 2}
"""Regression branches and their channels, in the order of ``REGRESSION_CHANNELS``."""

NUSCENES_TASKS: tuple[tuple[str, ...], ...] = (
    ("car",),
    ("truck", "construction_vehicle"),
    ("bus", "trailer"),
    ("barrier",),
    ("motorcycle", "bicycle"),
    ("pedestrian", "traffic_cone"),
)
"""CenterPoint's six groups of classes that share a regression."""


class ConvModule(nn.Module):
    """Convolution, batch normalisation, ReLU with the names that public checkpoints use."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, out_channels, rows, columns)."""
        return torch.relu(self.bn(self.conv(x)))


class CenterHead(nn.Module):
    """Heatmaps of all classes and, per task, box regression maps.

    Args:
        in_channels: Of the BEV features.
        tasks: Groups of classes that share one regression; together they name every class once, in
            the order of the labels. None takes one group of all ten classes.
        shared_channels: Width of the convolution that all branches share.
        branch_channels: Width of each branch's own convolution; None for branches of one 1x1
            convolution, which is far lighter.
        heading_axis: Whether there is a branch for the heading's axis (sin 2 yaw, cos 2 yaw).
    """

    def __init__(
        self,
        in_channels: int,
        *,
        tasks: Sequence[Sequence[str]] | None = None,
        shared_channels: int = 64,
        branch_channels: int | None = 64,
        heading_axis: bool = True,
    ) -> None:
        super().__init__()
        groups = [list(DETECTION_CLASSES)] if tasks is None else [list(task) for task in tasks]
        self.classes = tuple(name for group in groups for name in group)
        unknown = sorted(set(self.classes) - set(DETECTION_CLASSES))
        if unknown or len(set(self.classes)) != len(self.classes):
            raise UserError(
                f"CenterHead.tasks must name each class once, of {', '.join(DETECTION_CLASSES)}; "
                f"found {'unknown ' + ', '.join(unknown) if unknown else 'a class twice'}."
            )
        self.task_of_class = tuple(index for index, group in enumerate(groups) for _ in group)
        self.shared_conv = ConvModule(in_channels, shared_channels)
        branches = _BRANCHES | ({"axis": 2} if heading_axis else {})
        self.task_heads = nn.ModuleList(
            _task_head(shared_channels, branch_channels, branches | {"heatmap": len(group)}) for group in groups
        )
        self.heading_axis = heading_axis

    def forward(self, bev: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Heatmap logits (B, classes, ...), regression (B, tasks, 10, ...) and axis (B, tasks, 2, ...) or None."""
        shared = self.shared_conv(bev)
        answers = [{name: branch(shared) for name, branch in head.items()} for head in self.task_heads]  # type: ignore[operator, union-attr]
        heatmap = torch.cat([answer["heatmap"] for answer in answers], dim=1)
        regression = torch.stack([torch.cat([answer[name] for name in _BRANCHES], dim=1) for answer in answers], dim=1)
        axis = torch.stack([answer["axis"] for answer in answers], dim=1) if self.heading_axis else None
        return heatmap, regression, axis


def _task_head(in_channels: int, width: int | None, branches: dict[str, int]) -> nn.ModuleDict:
    head = nn.ModuleDict()
    for name, channels in branches.items():
        if width is None:
            last = nn.Conv2d(in_channels, channels, 1)
            head[name] = nn.Sequential(last)
        else:
            last = nn.Conv2d(width, channels, 3, padding=1)
            head[name] = nn.Sequential(ConvModule(in_channels, width), last)
        if name == "heatmap":
            # A tenth of all cells answers yes at the start, as in CenterNet (Zhou et al., 2019).
            nn.init.constant_(last.bias, -2.19)  # type: ignore[arg-type]
    return head
