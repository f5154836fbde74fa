"""What a vehicle must know to run a model: the description that travels with its weights."""

from collections.abc import Mapping

import numpy as np

from fusionkd.deploy.spec import CameraSpec, DeploySpec
from fusionkd.errors import UserError
from fusionkd.geometry import BevGrid
from fusionkd.models.decode import Decoder
from fusionkd.models.fusion import FusionModel
from fusionkd.models.lidar import LidarEncoder, PillarEncoder, RasterEncoder
from fusionkd.preprocess.views import LidarView, PillarView, RasterView


def deploy_spec(
    model: FusionModel,
    *,
    views: Mapping[str, LidarView],
    image_size_px: tuple[int, int],
    num_sweeps: int,
    decoder: Decoder | None = None,
) -> DeploySpec:
    """The description of a model and of the data that it was trained on.

    Args:
        model: The model.
        views: LiDAR views by name.
        image_size_px: (height, width) of the images.
        num_sweeps: LiDAR sweeps fused.
        decoder: Turns its maps into boxes; None takes the default.

    Raises:
        UserError: If the view that the model reads isn't there, or is of another grid.
    """
    decoder = decoder or Decoder()
    camera = None
    if model.camera is not None:
        size_px = (int(image_size_px[0]), int(image_size_px[1]))
        camera = CameraSpec(
            size_px,
            model.camera.feature_size(size_px),
            model.camera.lift.bins.centres_m,
            measured_depth=model.camera.lift.measured is not None,
        )
    return DeploySpec(
        grid=model.grid,
        classes=model.head.classes,
        task_of_class=model.head.task_of_class,
        camera=camera,
        lidar=_view(model, views),
        num_sweeps=num_sweeps,
        selection=decoder.selection,
        candidates=decoder.candidates,
        peaks=decoder.peaks,
        frame=model.frame,
    )


def _view(model: FusionModel, views: Mapping[str, LidarView]) -> RasterView | PillarView | None:
    encoder = model.lidar
    if encoder is None:
        return None
    if encoder.view not in views:
        raise UserError(
            f"The model reads the LiDAR view {encoder.view!r}, but the data makes {', '.join(sorted(views))}. Give the "
            f"configuration that the model was trained with."
        )
    view = views[encoder.view]
    if not isinstance(view, RasterView | PillarView):
        raise UserError(
            f"The LiDAR view {encoder.view!r} is a {type(view).__name__}; only RasterView and PillarView can be "
            f"described."
        )
    wanted, found = _wanted_shape(encoder, model.grid), _shape(view)
    if wanted is not None and wanted != found:
        raise UserError(
            f"The LiDAR view {encoder.view!r} is {found}, the model reads {wanted}: it was trained on another view or "
            f"grid. Give the configuration that the model was trained with."
        )
    return view


def _shape(view: RasterView | PillarView) -> str:
    cells = f"on {view.grid.rows} x {view.grid.columns} cells"
    if isinstance(view, PillarView):
        return f"pillars {cells}"
    nothing = view.make(np.zeros((0, 5), np.float32))
    return f"raster of {len(nothing['raster'])} channels {cells}"  # type: ignore[arg-type]


def _wanted_shape(encoder: LidarEncoder, grid: BevGrid) -> str | None:
    """The same of the view that an encoder wants; None for an encoder of the user's own."""
    if isinstance(encoder, RasterEncoder):
        rows, columns = grid.rows * encoder.stride, grid.columns * encoder.stride
        return f"raster of {encoder.in_channels} channels on {rows} x {columns} cells"
    if isinstance(encoder, PillarEncoder):
        fine = encoder.pillar_grid(grid)
        return f"pillars on {fine.rows} x {fine.columns} cells"
    return None
