"""What a network reads and how its answers become boxes: all that the vehicle needs to know beside the weights."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from fusionkd.errors import UserError
from fusionkd.geometry import CAMERAS, BevGrid
from fusionkd.geometry.nms import CircleNms, NoNms, RotatedNms
from fusionkd.geometry.selection import BoxSelection
from fusionkd.preprocess.images import IMAGENET_MEAN, IMAGENET_STD
from fusionkd.preprocess.views import PillarView, RasterView

FORMAT = "fusionkd-deploy-1"
"""Version of the description."""

_VIEWS = {"raster": RasterView, "pillars": PillarView}
_NMS = {"circle": CircleNms, "rotated": RotatedNms, "none": NoNms}


@dataclass(frozen=True)
class CameraSpec:
    """The camera input.

    Attributes:
        size_px: (height, width) of the network's images.
        feature_size: (h, w) of the feature maps that are lifted.
        depth_m: The D depths at which they are placed.
        crop: What of an image is cut off once it has the network's width; ``top`` is the only way.
        mean: RGB mean in units of 1.
        std: RGB deviation.
        names: The cameras, in the order of every camera axis.
        measured_depth: Whether the newest sweep says where image features stand, beside the network's own depth.
        fixed_rig: (N, 4, 4) ``image_from_ego`` for which the network was made; None for a network that is told
            where the cameras are in each frame.
    """

    size_px: tuple[int, int]
    feature_size: tuple[int, int]
    depth_m: tuple[float, ...]
    crop: str = "top"
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    names: tuple[str, ...] = CAMERAS
    measured_depth: bool = False
    fixed_rig: tuple[tuple[tuple[float, ...], ...], ...] | None = None

    def __post_init__(self) -> None:
        for name in ("size_px", "feature_size", "depth_m", "mean", "std", "names"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if self.fixed_rig is not None:
            rig = tuple(tuple(tuple(row) for row in matrix) for matrix in self.fixed_rig)
            object.__setattr__(self, "fixed_rig", rig)
            if np.shape(rig) != (len(self.names), 4, 4):
                raise UserError(
                    f"CameraSpec.fixed_rig must be of shape {(len(self.names), 4, 4)}, found {np.shape(rig)}."
                )
        if len(self.size_px) != 2 or len(self.feature_size) != 2 or min(*self.size_px, *self.feature_size) < 1:
            raise UserError(
                f"CameraSpec needs a height and a width of at least 1 in size_px and feature_size, found "
                f"{self.size_px} and {self.feature_size}."
            )
        if not self.depth_m or min(self.depth_m) <= 0:
            raise UserError(f"CameraSpec.depth_m needs depths above 0, found {self.depth_m}.")
        if self.crop != "top":
            raise UserError(f"CameraSpec.crop must be 'top', found {self.crop!r}.")
        if len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
            raise UserError(f"CameraSpec needs three numbers in mean and std, found {self.mean} and {self.std}.")


@dataclass(frozen=True)
class DeploySpec:
    """Everything between sensor bytes and boxes that is not in the network itself.

    Attributes:
        grid: The BEV grid of the network's answers.
        classes: Class names, in the order of labels.
        task_of_class: Task of each class.
        camera: The camera input, or None for a network without cameras.
        lidar: The LiDAR view, or None for a network without LiDAR.
        num_sweeps: LiDAR sweeps fused, the newest included; fewer where a drive begins.
        selection: Which candidates become boxes.
        candidates: Cells per task that the network turns into candidates.
        peaks: Whether only local maxima of the heatmap are candidates.
        frame: Name of the coordinate frame of the grid.
    """

    grid: BevGrid
    classes: tuple[str, ...]
    task_of_class: tuple[int, ...]
    camera: CameraSpec | None = None
    lidar: RasterView | PillarView | None = None
    num_sweeps: int = 10
    selection: BoxSelection = field(default_factory=BoxSelection)
    candidates: int = 300
    peaks: bool = True
    frame: str = "ego"

    def __post_init__(self) -> None:
        object.__setattr__(self, "classes", tuple(self.classes))
        object.__setattr__(self, "task_of_class", tuple(self.task_of_class))
        if self.camera is None and self.lidar is None:
            raise UserError("A DeploySpec needs a camera input, a LiDAR view or both; found neither.")
        if self.lidar is None and self.camera is not None and self.camera.measured_depth:
            raise UserError("A DeploySpec whose camera input has measured_depth needs a LiDAR view; found none.")
        if len(self.classes) != len(self.task_of_class) or not self.classes:
            raise UserError(
                f"A DeploySpec needs one task per class, found {len(self.classes)} classes and "
                f"{len(self.task_of_class)} tasks."
            )
        if self.num_sweeps < 1 or self.candidates < 1:
            raise UserError(
                f"A DeploySpec needs num_sweeps and candidates of at least 1, found {self.num_sweeps} and "
                f"{self.candidates}."
            )
        self._check_ranges()

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the arrays of ``prepare`` that the network reads, in order."""
        names: tuple[str, ...] = ()
        if self.camera is not None:
            names += ("images", "camera_present") + (("cells",) if self.camera.fixed_rig is None else ())
            names += ("measured",) if self.camera.measured_depth else ()
        if self.lidar is not None:
            names += (*self.lidar.arrays, "lidar_present")
        return names

    def to_json(self) -> str:
        """The description as text, for a file's metadata."""
        content = {"format": FORMAT, **asdict(self)}
        content["lidar"] = _named(self.lidar, _VIEWS)
        content["selection"]["nms"] = _named(self.selection.nms, _NMS)
        return json.dumps(content)

    @classmethod
    def from_json(cls, text: str, *, source: str = "the description") -> "DeploySpec":
        """The description that a text holds.

        Args:
            text: Of ``to_json``.
            source: Where it comes from, for messages.

        Raises:
            UserError: If it is none, or of another version.
        """
        try:
            content = json.loads(text)
            if not isinstance(content, dict) or content.pop("format", None) != FORMAT:
                raise UserError(
                    f"{source} doesn't hold a description of format {FORMAT}. Export the model again with this "
                    f"version of fusionkd."
                )
            selection = content.pop("selection")
            selection["range_m"] = _tuple(selection["range_m"])
            nms = _built(selection.pop("nms"), _NMS)
            camera, lidar = content.pop("camera"), content.pop("lidar")
            return cls(
                grid=BevGrid(**content.pop("grid")),
                camera=None if camera is None else CameraSpec(**camera),
                lidar=None if lidar is None else _built(lidar, _VIEWS),
                selection=BoxSelection(**selection, nms=nms),
                **content,
            )
        except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
            raise UserError(
                f"{source} can't be read as a description of a network: {type(error).__name__} {error}. Export the "
                f"model again."
            ) from None

    def _check_ranges(self) -> None:
        if self.lidar is None:
            return
        for side in ("x_min_m", "x_max_m", "y_min_m", "y_max_m"):
            wanted, found = getattr(self.grid, side), getattr(self.lidar.grid, side)
            if abs(wanted - found) > 1e-6:
                raise UserError(
                    f"The LiDAR view's grid covers another range than the network's: {side} is {found} instead of "
                    f"{wanted}."
                )


def _named(value: Any, kinds: Mapping[str, type]) -> dict[str, Any] | None:
    names = {kind: name for name, kind in kinds.items()}
    return None if value is None else {"kind": names[type(value)], **asdict(value)}


def _built(content: dict[str, Any], kinds: Mapping[str, type]) -> Any:
    values = dict(content)
    kind = values.pop("kind")
    if kind not in kinds:
        raise UserError(f"A description names the kind {kind!r}; there are {', '.join(kinds)}.")
    if "grid" in values:
        values["grid"] = BevGrid(**values["grid"])
    return kinds[kind](**{name: _tuple(value) for name, value in values.items()})


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
