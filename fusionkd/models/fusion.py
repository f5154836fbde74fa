"""The one model: cameras, LiDAR or both, on a BEV grid. Teachers and students differ in their parts only."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from fusionkd.errors import UserError
from fusionkd.geometry import BevGrid
from fusionkd.models.camera import CameraBranch
from fusionkd.models.fuser import ModalityDropout, SingleModality
from fusionkd.models.head import CenterHead
from fusionkd.models.lidar import LidarEncoder
from fusionkd.models.values import FusionOutput, SensorBatch


class TensorOutput(NamedTuple):
    """The tensors of ``FusionOutput`` alone; None where the model has no such part."""

    heatmap: Tensor
    box_regression: Tensor
    heading_axis: Tensor | None
    bev: Tensor
    camera_bev: Tensor | None
    lidar_bev: Tensor | None
    depth_logits: Tensor | None


class FusionModel(nn.Module):
    """A detector on a BEV grid.

    Any modality may be absent at run time: the batch's presence masks say so, and the model answers
    from what is left.

    Args:
        grid: Of the BEV features, the head and the output.
        fuser: Joins the branches' features: ``ConvFuser`` or ``GatedFuser`` for two, ``SingleModality`` for one.
        backbone: Between fuser and head, such as ``BevBackbone``; ``torch.nn.Identity`` for none.
        head: Heatmaps and box regression.
        camera: Camera branch, or None for a model without.
        lidar: LiDAR branch, or None for a model without.
        modality_dropout: What is lost in training; None for nothing.
        frame: Name of the coordinate frame of the grid.

    Raises:
        UserError: If there is no branch, or the parts don't fit each other.
    """

    def __init__(
        self,
        grid: BevGrid,
        *,
        fuser: nn.Module,
        backbone: nn.Module,
        head: CenterHead,
        camera: CameraBranch | None = None,
        lidar: LidarEncoder | None = None,
        modality_dropout: ModalityDropout | None = None,
        frame: str = "ego",
    ) -> None:
        super().__init__()
        branches = [branch for branch in (camera, lidar) if branch is not None]
        if not branches:
            raise UserError("A FusionModel needs a camera branch, a LiDAR branch or both; found neither.")
        if lidar is None and camera is not None and camera.lift.measured is not None:
            raise UserError("The camera branch reads the LiDAR's depth (measured_depth), but there is no LiDAR branch.")
        if isinstance(fuser, SingleModality) == (len(branches) == 2):
            raise UserError(f"{type(fuser).__name__} doesn't fit a FusionModel of {len(branches)} branch(es).")
        self.grid = grid
        self.camera = camera
        self.lidar = lidar
        self.fuser = fuser
        self.backbone = backbone
        self.head = head
        self.modality_dropout = modality_dropout or ModalityDropout()
        self.frame = frame
        self.spec: dict[str, Any] | None = None
        """How the model is built, class paths and arguments; set by ``build_model`` and the command line."""
        self._check_parts([branch.out_channels for branch in branches])

    def forward(self, batch: SensorBatch) -> FusionOutput:
        """The maps of a batch."""
        size_px = (batch.images.shape[-2], batch.images.shape[-1])
        tensors = self.forward_tensors(
            batch.images,
            self.cells(batch.image_from_ego, size_px=size_px),
            self.measured(batch, size_px=size_px),
            camera_present=batch.camera_present,
            lidar=self.lidar_view(batch.lidar),
            lidar_present=batch.lidar_present,
        )
        return FusionOutput(
            **tensors._asdict(),
            grid=self.grid,
            classes=self.head.classes,
            task_of_class=self.head.task_of_class,
            frame=self.frame,
            depth_edges_m=None if self.camera is None else self.camera.lift.bins.edges_m,
        )

    def forward_tensors(
        self,
        images: Tensor,
        cells: Tensor | None,
        measured: Tensor | None = None,
        *,
        camera_present: Tensor,
        lidar: Mapping[str, Tensor] | None,
        lidar_present: Tensor,
    ) -> TensorOutput:
        """The maps from tensors alone: what is exported, and what ``forward`` itself runs.

        Args:
            images: (B, N, 3, H, W) normalised.
            cells: ``cells`` of the cameras; None for a model without.
            measured: ``measured`` of the frame; None for a model that doesn't read it.
            camera_present: (B, N) bool.
            lidar: ``lidar_view`` of the batch; None for a model without LiDAR.
            lidar_present: (B,) bool.
        """
        present = self.modality_dropout(torch.stack([camera_present.any(dim=1), lidar_present], dim=1))  # (B, 2)
        features, masks = [], []
        camera_bev = lidar_bev = depth_logits = None
        if self.camera is not None:
            assert cells is not None
            if measured is not None:
                # A lost LiDAR measured nothing.
                there = present[:, 1, None, None, None]
                measured = torch.where(there, measured, self.grid.rows * self.grid.columns)
            camera_bev, depth_logits = self.camera(images, cells, measured, present=camera_present, grid=self.grid)
            features.append(camera_bev)
            masks.append(present[:, 0])
        if self.lidar is not None:
            assert lidar is not None
            lidar_bev = self.lidar(lidar, batch_size=lidar_present.shape[0], grid=self.grid)
            features.append(lidar_bev)
            masks.append(present[:, 1])
        bev = self.backbone(self.fuser(features, torch.stack(masks, dim=1)))
        heatmap, regression, axis = self.head(bev)
        return TensorOutput(heatmap, regression, axis, bev, camera_bev, lidar_bev, depth_logits)

    def cells(self, image_from_ego: Tensor, *, size_px: tuple[int, int]) -> Tensor | None:
        """Where the cameras' frustum points lie on the grid; None for a model without cameras."""
        return None if self.camera is None else self.camera.cells(image_from_ego, grid=self.grid, size_px=size_px)

    def measured(self, batch: SensorBatch, *, size_px: tuple[int, int]) -> Tensor | None:
        """Where the LiDAR says that image features stand; None for a model that doesn't ask it."""
        if self.camera is None or self.camera.lift.measured is None:
            return None
        return self.camera.measured(batch.image_from_ego, batch.lidar_depth, grid=self.grid, size_px=size_px)

    def lidar_view(self, views: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Tensor] | None:
        """The LiDAR view that the model reads; None for a model without LiDAR.

        Raises:
            UserError: If the batch doesn't have it.
        """
        if self.lidar is None:
            return None
        if self.lidar.view not in views:
            raise UserError(
                f"The model reads the LiDAR view {self.lidar.view!r}, but the data makes {', '.join(sorted(views))}. "
                f"Add it to data.lidar_views or change the model's lidar.view."
            )
        return dict(views[self.lidar.view])

    @torch.no_grad()
    def _check_parts(self, branches: list[int]) -> None:
        self.eval()  # batch statistics must not see the zeros
        zeros = [torch.zeros(1, width, 16, 16) for width in branches]
        try:
            self.head(self.backbone(self.fuser(zeros, torch.ones(1, len(branches), dtype=torch.bool))))
        except RuntimeError as error:
            raise UserError(
                f"The parts of this FusionModel don't fit: its branches give {branches} channels. Set the fuser's "
                f"in_channels to these, the backbone's in_channels to the fuser's channels and the head's to the "
                f"backbone's ({error})."
            ) from None
        self.train()
