"""The one model: cameras, LiDAR or both, on a BEV grid. Teachers and students differ in their parts only."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from fusionkd.errors import UserError
from fusionkd.geometry import BevGrid
from fusionkd.models.backbone import BevBackbone
from fusionkd.models.camera import CameraBranch
from fusionkd.models.fuser import GatedFuser, ModalityDropout, SingleModality
from fusionkd.models.head import CenterHead
from fusionkd.models.lidar import PillarEncoder, RasterEncoder
from fusionkd.models.values import FusionOutput, SensorBatch


@dataclass(frozen=True)
class TensorOutput:
    """The tensors of ``FusionOutput``, before they are given their meaning; None where there is no such part."""

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
        camera: Camera branch, or None for a model without.
        lidar: LiDAR branch, or None for a model without.
        fuser: Joins the branches' features, camera first.
        backbone: Between fuser and head.
        head: Heatmaps and box regression.
        modality_dropout: What is lost in training; None for nothing.
        frame: Name of the coordinate frame of the grid.

    Raises:
        UserError: If there is no branch or the parts' channels don't fit.
    """

    def __init__(
        self,
        grid: BevGrid,
        *,
        camera: CameraBranch | None = None,
        lidar: PillarEncoder | RasterEncoder | None = None,
        fuser: GatedFuser | SingleModality,
        backbone: BevBackbone | nn.Identity,
        head: CenterHead,
        modality_dropout: ModalityDropout | None = None,
        frame: str = "ego",
    ) -> None:
        super().__init__()
        branches = [branch for branch in (camera, lidar) if branch is not None]
        if not branches:
            raise UserError("A FusionModel needs a camera branch, a LiDAR branch or both; found neither.")
        if isinstance(fuser, SingleModality) == (len(branches) == 2):
            raise UserError(f"{type(fuser).__name__} doesn't fit a model with {len(branches)} branch(es).")
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
        self._check_channels([branch.out_channels for branch in branches])

    def forward(self, batch: SensorBatch) -> FusionOutput:
        """The maps of a batch."""
        size_px = (batch.images.shape[-2], batch.images.shape[-1])
        cell_index = None if self.camera is None else self.camera.cell_index(batch.image_from_ego, size_px)
        tensors = self.forward_tensors(
            batch.images,
            cell_index,
            camera_present=batch.camera_present,
            lidar=None if self.lidar is None else self._view(batch.lidar),
            lidar_present=batch.lidar_present,
        )
        return FusionOutput(
            heatmap=tensors.heatmap,
            box_regression=tensors.box_regression,
            heading_axis=tensors.heading_axis,
            bev=tensors.bev,
            camera_bev=tensors.camera_bev,
            lidar_bev=tensors.lidar_bev,
            depth_logits=tensors.depth_logits,
            grid=self.grid,
            classes=self.head.classes,
            task_of_class=self.head.task_of_class,
            frame=self.frame,
            depth_edges_m=None if self.camera is None else self.camera.depth.edges_m,
        )

    def forward_tensors(
        self,
        images: Tensor,
        cell_index: Tensor | None,
        *,
        camera_present: Tensor,
        lidar: Mapping[str, Tensor] | None,
        lidar_present: Tensor,
    ) -> TensorOutput:
        """The maps from tensors alone, without any value object: what is exported.

        Args:
            images: (B, N, 3, H, W) normalised.
            cell_index: ``CameraBranch.cell_index`` of the rig; None for a model without cameras.
            camera_present: (B, N) bool.
            lidar: The tensors of the model's view; None for a model without LiDAR.
            lidar_present: (B,) bool.
        """
        present = torch.stack([camera_present.any(dim=1), lidar_present], dim=1)  # (B, 2)
        present = self.modality_dropout(present)
        features, masks = [], []
        camera_bev = lidar_bev = depth_logits = None
        if self.camera is not None and cell_index is not None:
            camera_bev, depth_logits = self.camera(images, cell_index, camera_present)
            features.append(camera_bev)
            masks.append(present[:, 0])
        if self.lidar is not None and lidar is not None:
            lidar_bev = self.lidar(lidar, len(lidar_present))
            features.append(lidar_bev)
            masks.append(present[:, 1])
        bev = self.backbone(self.fuser(features, torch.stack(masks, dim=1)))
        heatmap, regression, axis = self.head(bev)
        return TensorOutput(heatmap, regression, axis, bev, camera_bev, lidar_bev, depth_logits)

    def _view(self, views: Mapping[str, Mapping[str, Tensor]]) -> Mapping[str, Tensor]:
        assert self.lidar is not None
        if self.lidar.view not in views:
            raise UserError(
                f"The model reads the LiDAR view {self.lidar.view!r}, but the data makes {', '.join(sorted(views))}. "
                f"Add it to data.lidar_views or change the model's lidar.view."
            )
        return views[self.lidar.view]

    def _check_channels(self, branches: list[int]) -> None:
        probe = [torch.zeros(1, width, 8, 8) for width in branches]
        training = self.training
        self.eval()
        try:
            with torch.no_grad():
                self.head(self.backbone(self.fuser(probe, torch.ones(1, len(branches), dtype=torch.bool))))
        except RuntimeError as error:
            raise UserError(
                f"The parts of this FusionModel don't fit: the branches give {branches} channels. Set the fuser's "
                f"in_channels to these, the backbone's to the fuser's channels and the head's to the backbone's "
                f"({error})."
            ) from None
        self.train(training)


@dataclass(frozen=True)
class ExampleBatch:
    """A made-up batch of one frame, to count operations, to compare numbers, to export."""

    images: Tensor
    camera_present: Tensor
    image_from_ego: Tensor
    lidar: Mapping[str, Mapping[str, Tensor]]
    lidar_present: Tensor

    def to(self, device: torch.device | str) -> "ExampleBatch":
        """The batch on another device."""
        names = ("images", "camera_present", "image_from_ego", "lidar_present")
        moved = {name: getattr(self, name).to(device) for name in names}
        lidar = {view: {name: x.to(device) for name, x in tensors.items()} for view, tensors in self.lidar.items()}
        return replace(self, lidar=lidar, **moved)


def example_batch(model: FusionModel, *, size_px: tuple[int, int] = (96, 256), seed: int = 0) -> ExampleBatch:
    """One made-up frame in the shapes that a model reads; the same numbers on every machine.

    Args:
        model: Who will read it.
        size_px: (height, width) of the images.
        seed: Of the numbers.
    """
    generator = torch.Generator().manual_seed(seed)
    yaw = torch.arange(6) * (torch.pi / 3)
    focal, (height, width) = 0.8 * size_px[1], size_px
    zero, one = torch.zeros(6), torch.ones(6)
    rotation = torch.stack(
        [
            torch.stack([yaw.sin(), -yaw.cos(), zero, zero], dim=-1),
            torch.stack([zero, zero, -one, 1.5 * one], dim=-1),
            torch.stack([yaw.cos(), yaw.sin(), zero, zero], dim=-1),
            torch.stack([zero, zero, zero, one], dim=-1),
        ],
        dim=1,
    )  # (6, 4, 4): camera from ego
    intrinsics = torch.tensor(
        [[focal, 0, width / 2, 0], [0, focal, height / 2, 0], [0, 0, 1, 0], [0, 0, 0, 1]], dtype=torch.float32
    )
    lidar = {} if model.lidar is None else {model.lidar.view: model.lidar.example(model.grid, generator)}
    return ExampleBatch(
        images=torch.randn(1, 6, 3, height, width, generator=generator),
        camera_present=torch.ones(1, 6, dtype=torch.bool),
        image_from_ego=(intrinsics @ rotation)[None],
        lidar=lidar,
        lidar_present=torch.ones(1, dtype=torch.bool),
    )
