"""CenterHead: class heatmaps and box regression (Yin et al., CenterPoint, CVPR 2021)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fusionkd.errors import UserError
from fusionkd.geometry import DETECTION_CLASSES
from fusionkd.models.values import REGRESSION_CHANNELS

NUSCENES_TASKS: tuple[tuple[str, ...], ...] = (
    ("car",),
    ("truck", "construction_vehicle"),
    ("bus", "trailer"),
    ("barrier",),
    ("motorcycle", "bicycle"),
    ("pedestrian", "traffic_cone"),
)
"""CenterPoint's six groups of classes that share a regression."""

_BRANCHES = {"reg": 2, "height": 1, "dim": 3, "rot": 2, "vel": 2}
"""Regression branches and their channels, in the order of ``REGRESSION_CHANNELS``."""

_PRIOR_LOGIT = -2.19
"""A tenth of all cells answers yes at the start, as in CenterNet (Zhou et al., 2019)."""


class ConvModule(nn.Module):
    """Convolution, batch normalisation and ReLU under the names that public checkpoints use."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, out_channels, rows, columns)."""
        return torch.relu(self.bn(self.conv(x)))


class SeparateTaskHead(nn.ModuleDict):
    """Two 3x3 convolutions per branch, as public CenterPoint checkpoints have.

    Args:
        in_channels: Of the shared features.
        width: Of each branch's first convolution.
        branches: Names and channels of the branches, ``heatmap`` last.
    """

    def __init__(self, in_channels: int, *, width: int, branches: dict[str, int]) -> None:
        super().__init__()
        for name, channels in branches.items():
            self[name] = nn.Sequential(ConvModule(in_channels, width), nn.Conv2d(width, channels, 3, padding=1))
        nn.init.constant_(self["heatmap"][1].bias, _PRIOR_LOGIT)  # type: ignore[index, arg-type]

    def forward(self, shared: Tensor) -> Tensor:
        """All branches' channels, in order."""
        return torch.cat([branch(shared) for branch in self.values()], dim=1)


class LightTaskHead(nn.Conv2d):
    """All branches by one 1x1 convolution.

    Args:
        in_channels: Of the shared features.
        branches: Names and channels of the branches, ``heatmap`` last.
    """

    def __init__(self, in_channels: int, *, branches: dict[str, int]) -> None:
        super().__init__(in_channels, sum(branches.values()), 1)
        assert self.bias is not None
        nn.init.zeros_(self.bias)
        nn.init.constant_(self.bias[-branches["heatmap"] :], _PRIOR_LOGIT)


class CenterHead(nn.Module):
    """Heatmaps of all classes and, per task, box regression maps.

    Args:
        in_channels: Of the BEV features.
        tasks: Groups of classes that share one regression; together they name every detection class once.
            None takes one group of all ten classes.
        shared_channels: Width of the 3x3 convolution that all tasks share.
        branch_channels: Width of each branch's own convolution; None for light tasks of one 1x1 convolution.
        heading_axis: Whether there is a branch for the heading's axis (sin 2 yaw, cos 2 yaw).

    Raises:
        UserError: If a class is unknown, missing or named twice.
    """

    def __init__(
        self,
        in_channels: int,
        *,
        tasks: Sequence[Sequence[str]] | None = None,
        shared_channels: int = 64,
        branch_channels: int | None = None,
        heading_axis: bool = True,
    ) -> None:
        super().__init__()
        groups = [list(task) for task in tasks] if tasks is not None else [list(DETECTION_CLASSES)]
        _check_tasks(groups)
        self.heading_axis = heading_axis
        self.classes = DETECTION_CLASSES
        named = [name for group in groups for name in group]
        self.order = [named.index(name) for name in self.classes]
        """Channel of each class where tasks stand one after the other."""
        self.task_of_class = tuple(next(t for t, g in enumerate(groups) if name in g) for name in self.classes)
        self.shared_conv = ConvModule(in_channels, shared_channels)
        heads: list[nn.Module] = []
        for group in groups:
            branches = _BRANCHES | ({"axis": 2} if heading_axis else {}) | {"heatmap": len(group)}
            if branch_channels is None:
                heads.append(LightTaskHead(shared_channels, branches=branches))
            else:
                heads.append(SeparateTaskHead(shared_channels, width=branch_channels, branches=branches))
        self.task_heads = nn.ModuleList(heads)

    def forward(self, bev: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Heatmap logits (B, classes, ...), regression (B, tasks, 10, ...) and axis (B, tasks, 2, ...) or None."""
        shared = self.shared_conv(bev)
        answers = [head(shared) for head in self.task_heads]
        box = len(REGRESSION_CHANNELS)
        first = box + 2 * self.heading_axis
        heatmap = torch.cat([answer[:, first:] for answer in answers], dim=1)
        if self.order != sorted(self.order):
            heatmap = heatmap[:, self.order]
        regression = torch.stack([answer[:, :box] for answer in answers], dim=1)  # (B, tasks, 10, rows, columns)
        axis = torch.stack([answer[:, box:first] for answer in answers], dim=1) if self.heading_axis else None
        return heatmap, regression, axis


def _check_tasks(groups: list[list[str]]) -> None:
    named = [name for group in groups for name in group]
    problems = {
        "unknown": sorted(set(named) - set(DETECTION_CLASSES)),
        "missing": [name for name in DETECTION_CLASSES if name not in named],
        "named twice": sorted({name for name in named if named.count(name) > 1}),
    }
    found = "; ".join(f"{what}: {', '.join(names)}" for what, names in problems.items() if names)
    if found:
        raise UserError(f"CenterHead.tasks must name each of {', '.join(DETECTION_CLASSES)} once; {found}.")
