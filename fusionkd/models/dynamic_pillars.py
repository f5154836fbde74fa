"""Dynamic pillars on the device: for points that are kept there. Equal to the Numba kernel's."""

from dataclasses import dataclass

import torch
from torch import Tensor

from fusionkd.geometry import BevGrid
from fusionkd.preprocess.cells import lattice


@dataclass(frozen=True)
class DevicePillars:
    """Pillars that keep every point, see ``preprocess.DynamicPillars``.

    Attributes:
        points: (N, C) float32, the points on the grid in their order.
        pillar_of_point: (N,) int64, index into ``row_column``.
        row_column: (P, 2) int64, cells of the pillars in order of their first point.
    """

    points: Tensor
    pillar_of_point: Tensor
    row_column: Tensor

    def __len__(self) -> int:
        return len(self.row_column)

    def mean(self) -> Tensor:
        """(P, C) mean of each pillar's points; its gradient reaches the points."""
        total = self.points.new_zeros(len(self), self.points.shape[1])
        count = torch.bincount(self.pillar_of_point, minlength=len(self))
        return total.index_add(0, self.pillar_of_point, self.points) / count[:, None]


def scatter_pillars(points: Tensor, grid: BevGrid) -> DevicePillars:
    """``preprocess.dynamic_pillars`` by torch's own operators, on whichever device the points are.

    Args:
        points: (P, C) float32, C >= 3: x, y, z in the grid's frame, and whatever follows. Points off the grid or not
            finite in x, y, z are dropped.
        grid: The pillars' footprints and the range of heights.

    Returns:
        The points on the grid, their pillars and the pillars' cells.

    Raises:
        ValueError: If ``points`` is not (P, >=3) of float32.
    """
    if points.ndim != 2 or points.shape[1] < 3 or points.dtype != torch.float32:
        raise ValueError(
            f"points must be float32 of shape (points, at least 3 columns), found {points.dtype} of "
            f"{tuple(points.shape)}."
        )
    low, size, shape = (torch.as_tensor(part, device=points.device) for part in lattice(grid))
    cell = torch.floor((points[:, :3] - low) / size)  # (P, 3)
    inside = ((cell >= 0) & (cell < shape)).all(dim=1)
    column, row = cell[inside, :2].long().unbind(dim=1)
    cells, pillar = torch.unique(row * grid.columns + column, return_inverse=True)
    # torch.unique sorts by cell; the kernel numbers pillars by their first point.
    place = torch.arange(len(pillar), device=points.device)
    first = place.new_full((len(cells),), len(pillar)).scatter_reduce(0, pillar, place, "amin")
    order = torch.argsort(first)
    number = torch.empty_like(order)
    number[order] = torch.arange(len(order), device=points.device)
    cells = cells[order]
    row_column = torch.stack([cells // grid.columns, cells % grid.columns], dim=1)  # (P, 2)
    return DevicePillars(points[inside], number[pillar], row_column)
