"""From image features to the BEV grid by predicted depth (Philion & Fidler, Lift-Splat-Shoot, ECCV 2020)."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fusionkd.errors import UserError
from fusionkd.geometry import BevGrid
from fusionkd.models.layers import conv_bn_relu
from fusionkd.preprocess.frustum import BORDER_CELLS


@dataclass(frozen=True)
class DepthBins:
    """Depth along the optical axis, cut into bins.

    Attributes:
        min_m: Nearest depth.
        max_m: Farthest depth.
        count: Number of bins.
        spacing: ``uniform``, or ``linear``: bins that grow linearly with depth (CaDDN, Reading et al., CVPR
            2021, equation 1), fine where pixels are many and BEV cells are few pixels wide.
    """

    min_m: float = 1.0
    max_m: float = 61.0
    count: int = 40
    spacing: Literal["uniform", "linear"] = "linear"

    def __post_init__(self) -> None:
        if not (0 < self.min_m < self.max_m and self.count > 1):
            raise UserError(f"DepthBins needs 0 < min_m < max_m and at least 2 bins, found {self}.")
        if self.spacing not in ("uniform", "linear"):
            raise UserError(f"DepthBins.spacing must be 'uniform' or 'linear', found {self.spacing!r}.")

    @property
    def edges_m(self) -> tuple[float, ...]:
        """The ``count + 1`` borders."""
        steps = [float(i) if self.spacing == "uniform" else 0.5 * i * (i + 1) for i in range(self.count + 1)]
        scale = (self.max_m - self.min_m) / steps[-1]
        return tuple(self.min_m + scale * step for step in steps)

    @property
    def centres_m(self) -> tuple[float, ...]:
        """The ``count`` depths at which features are placed."""
        edges = self.edges_m
        return tuple(0.5 * (low + high) for low, high in pairwise(edges))


def frustum_cells(
    image_from_ego: Tensor, centres_m: Tensor, *, grid: BevGrid, size_px: tuple[int, int], size: tuple[int, int]
) -> Tensor:
    """The BEV cell in which every pixel of a feature map lies at every depth.

    Args:
        image_from_ego: (B, N, 4, 4) affine maps to the images, see ``CameraRig.image_from_ego``.
        centres_m: (D,) depths.
        grid: The cells.
        size_px: (height, width) of the images that ``image_from_ego`` maps to.
        size: (h, w) of the feature maps; a feature stands at the middle of the pixels that it covers.

    Returns:
        (B, N, D, h, w) int64: row * columns + column, or rows * columns where the point is off the grid.
    """
    return _cells_at(image_from_ego, centres_m[:, None, None], grid=grid, size_px=size_px, size=size)


def measured_cells(image_from_ego: Tensor, depth_m: Tensor, *, grid: BevGrid, size_px: tuple[int, int]) -> Tensor:
    """The BEV cell in which every pixel of a feature map lies at the depth that was measured there.

    Args:
        image_from_ego: (B, N, 4, 4) affine maps to the images, see ``CameraRig.image_from_ego``.
        depth_m: (B, N, h, w) depths along the optical axis, 0 where unknown, see ``nearest_depth``.
        grid: The cells.
        size_px: (height, width) of the images that ``image_from_ego`` maps to.

    Returns:
        (B, N, h, w) int64: row * columns + column, or rows * columns where the point is off the grid or unknown.
    """
    size = (depth_m.shape[-2], depth_m.shape[-1])
    cells = _cells_at(image_from_ego, depth_m[:, :, None, None], grid=grid, size_px=size_px, size=size)
    return torch.where(depth_m > 0, cells[:, :, 0], grid.rows * grid.columns)


def nearest_depth(depth_m: Tensor, *, size: tuple[int, int]) -> Tensor:
    """Depth maps of fewer cells; the nearest of k x k cells counts.

    Args:
        depth_m: (B, N, k h, k w) metres, 0 where unknown.
        size: (h, w).

    Returns:
        (B, N, h, w) metres, 0 where unknown.

    Raises:
        UserError: If the maps' size is no multiple of that.
    """
    height, width = size
    factor = max(depth_m.shape[-1] // width, 1)
    if depth_m.shape[-2:] != (height * factor, width * factor):
        raise UserError(
            f"LiDAR depth maps of {tuple(depth_m.shape[-2:])} cells don't fit image features of {size}: set "
            f"data.depth_stride to the stride of the camera branch or to a divisor of it."
        )
    far = torch.where(depth_m > 0, depth_m, torch.inf)
    nearest = -F.max_pool2d(-far, factor)  # (B, N, h, w)
    return torch.where(nearest.isinf(), 0.0, nearest)


def _cells_at(
    image_from_ego: Tensor, depth_m: Tensor, *, grid: BevGrid, size_px: tuple[int, int], size: tuple[int, int]
) -> Tensor:
    """Cells (B, N, D, h, w) of depths that broadcast against (B, N, 3, D, h, w)."""

    def steps(count: int, pixels: int) -> Tensor:
        middle = torch.arange(count, device=image_from_ego.device, dtype=torch.float64) + 0.5
        return middle * (pixels / count)

    # Doubles: an inverse in single precision moves far points by centimetres, in half precision by cells.
    ego_from_image = torch.linalg.inv(image_from_ego.to(torch.float64))  # (B, N, 4, 4)
    rows_px, columns_px = torch.meshgrid(steps(size[0], size_px[0]), steps(size[1], size_px[1]), indexing="ij")
    pixel = torch.stack([columns_px, rows_px, torch.ones_like(rows_px)])  # (3, h, w)
    ray = torch.einsum("bnij,jhw->bnihw", ego_from_image[..., :3, :3], pixel)  # (B, N, 3, h, w)
    start = ego_from_image[..., :3, 3, None, None, None]  # (B, N, 3, 1, 1, 1)
    point = ray[:, :, :, None] * depth_m.to(ray) + start  # (B, N, 3, D, h, w)
    x, y, z = point.unbind(dim=2)
    column = torch.floor((x - grid.x_min_m) / grid.cell_m + BORDER_CELLS)
    row = torch.floor((y - grid.y_min_m) / grid.cell_m + BORDER_CELLS)
    inside = (column >= 0) & (column < grid.columns) & (row >= 0) & (row < grid.rows)
    z = z + BORDER_CELLS * grid.cell_m
    inside &= (z >= grid.z_min_m) & (z < grid.z_max_m)
    return torch.where(inside, row * grid.columns + column, float(grid.rows * grid.columns)).long()


def splat_sorted(features: Tensor, probability: Tensor, cell: Tensor, *, cells: int) -> Tensor:
    """Sums of probability times feature per cell, without ever making their product.

    Frustum points are sorted by cell; ``embedding_bag`` then adds up weighted pixels per cell. On a CPU, forward
    and backward take half the time of the product with ``index_add``.

    Args:
        features: (B, N, C, h, w).
        probability: (B, N, D, h, w).
        cell: (B, N, D, h, w) int64, ``cells`` for points that are nowhere.
        cells: Cells per frame.

    Returns:
        (B, C, cells) float32, channels last in memory.
    """
    batch, _, channels = features.shape[:3]
    pixels, bins = features.shape[3] * features.shape[4], probability.shape[2]
    pixel_rows = features.float().permute(0, 1, 3, 4, 2).reshape(-1, channels)  # (B * N * h * w, C)
    frame = torch.arange(batch, device=cell.device).view(-1, 1)
    flat = torch.where(cell < cells, cell + cells * frame[..., None, None, None], -1).flatten()
    point = (flat >= 0).nonzero().squeeze(1)
    by_cell, order = flat[point].to(torch.int32).sort(stable=True)
    point = point[order]
    pixel = point // (bins * pixels) * pixels + point % pixels  # of (B, N, h, w)
    begin = torch.searchsorted(by_cell, torch.arange(batch * cells, device=cell.device, dtype=torch.int32))
    weight = probability.float().flatten()[point]
    summed = F.embedding_bag(pixel, pixel_rows, begin, mode="sum", per_sample_weights=weight)
    return summed.reshape(batch, cells, channels).transpose(1, 2)  # (B, C, cells)


def splat_added(features: Tensor, probability: Tensor, cell: Tensor, *, cells: int) -> Tensor:
    """The same as ``splat_sorted`` by one ``index_add`` of static shape, which exporters and runtimes know."""
    batch, channels = features.shape[0], features.shape[2]
    pixel = features.float().permute(0, 1, 3, 4, 2)[:, :, None]  # (B, N, 1, h, w, C)
    rows = (pixel * probability.float()[..., None]).reshape(-1, channels)  # (B * N * D * h * w, C)
    frame = torch.arange(batch, device=cell.device)[:, None, None, None, None]
    index = (cell + frame * (cells + 1)).flatten()
    summed = rows.new_zeros(batch * (cells + 1), channels).index_add(0, index, rows)
    return summed.reshape(batch, cells + 1, channels)[:, :cells].transpose(1, 2)  # (B, C, cells)


class MeasuredDepth(nn.Module):
    """One more place on each camera's rays: where the LiDAR met something.

    The depth net competes with it: its logits and this module's one go through the same softmax, so that features
    stand mostly where the LiDAR says and, where it says nothing, where the image does. BEVFusion gives its depth net
    the LiDAR's depth as an input (Liu et al., ICRA 2023, DepthLSSTransform); a place of its own is exact instead of
    a bin wide, and as good in the first step of training as in the last.

    Args:
        trust: Logit of a measured depth at the beginning; it is learned.
    """

    def __init__(self, trust: float = 4.0) -> None:
        super().__init__()
        self.trust = nn.Parameter(torch.tensor(trust))

    def forward(self, logits: Tensor, known: Tensor) -> Tensor:
        """Logits of the bins with those of the measured depth behind them.

        Args:
            logits: (B, N, bins, h, w) of the depth net.
            known: (B, N, h, w) bool, where there is a measured depth on the grid.

        Returns:
            (B, N, bins + 1, h, w) float32.
        """
        # A finite penalty has a gradient everywhere.
        measured = torch.where(known, self.trust.float(), -1e4)
        return torch.cat([logits.float(), measured[:, :, None]], dim=2)


class LiftSplat(nn.Module):
    """Depth net and splat; supervise the depth by LiDAR as BEVDepth does (Li et al., AAAI 2023).

    Args:
        in_channels: Of the image features.
        channels: Of the BEV features.
        depth: Depth bins.
        measured: Where the LiDAR's depth has a say; None lifts by the images alone.
    """

    def __init__(
        self, in_channels: int, channels: int, *, depth: DepthBins, measured: MeasuredDepth | None = None
    ) -> None:
        super().__init__()
        self.bins = depth
        self.out_channels = channels
        self.net = nn.Sequential(
            *conv_bn_relu(in_channels, in_channels), nn.Conv2d(in_channels, depth.count + channels, 1)
        )
        self.measured = measured
        self.register_buffer("centres_m", torch.tensor(depth.centres_m, dtype=torch.float64), persistent=False)

    def forward(
        self, features: Tensor, cell: Tensor, measured: Tensor | None = None, *, present: Tensor, grid: BevGrid
    ) -> tuple[Tensor, Tensor]:
        """Lift and splat.

        Args:
            features: (B, N, in_channels, h, w).
            cell: ``frustum_cells`` of the rig.
            measured: ``measured_cells`` of the frame; None without ``MeasuredDepth``.
            present: (B, N) bool; absent cameras leave nothing on the grid.
            grid: The grid.

        Returns:
            BEV features (B, channels, rows, columns) and depth logits (B, N, bins, h, w).
        """
        count = grid.rows * grid.columns
        known = None if measured is None else measured < count
        context, probability, logits = self.predict(features, known, present=present)
        splat = splat_added if _wants_static_shapes(features) else splat_sorted
        places = cell if measured is None else torch.cat([cell, measured[:, :, None]], dim=2)
        bev = splat(context, probability, places, cells=count)
        return bev.reshape(*bev.shape[:2], *grid.shape), logits  # (B, C, rows, columns)

    def predict(
        self, features: Tensor, known: Tensor | None = None, *, present: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """What is to be placed, and where along each ray.

        Args:
            features: (B, N, in_channels, h, w).
            known: (B, N, h, w) bool, where a depth was measured; None without ``MeasuredDepth``.
            present: (B, N) bool.

        Returns:
            Context (B, N, channels, h, w), probability of each depth bin and, behind them, of the measured depth
            (B, N, bins or bins + 1, h, w), zero for absent cameras, and the bins' logits.
        """
        answer = self.net(features.flatten(0, 1)).unflatten(0, features.shape[:2])  # (B, N, bins + C, h, w)
        logits, context = answer.split([self.bins.count, self.out_channels], dim=2)
        places = logits.float()
        if self.measured is not None:
            assert known is not None
            places = self.measured(logits, known)
        return context, places.softmax(dim=2) * present[:, :, None, None, None], logits


def _wants_static_shapes(features: Tensor) -> bool:
    """Whether the forward pass is being written down, for another runtime or as a CUDA graph."""
    return torch.compiler.is_exporting() or (features.is_cuda and torch.cuda.is_current_stream_capturing())
