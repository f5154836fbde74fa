"""nuScenes tables and files, turned into frames and batches."""

from fusionkd.data.augmentation import BevAugmentation, ImageAugmentation, LidarAugmentation
from fusionkd.data.collate import Collator
from fusionkd.data.datamodule import NuScenesDataModule
from fusionkd.data.dataset import NuScenesDataset
from fusionkd.data.frames import Batch, Frame
from fusionkd.data.gt_database import GtDatabase, GtPaste
from fusionkd.data.index import FrameRecord, NuScenesIndex
from fusionkd.preprocess.views import LidarView, PillarView, RasterView

__all__ = [
    "Batch",
    "BevAugmentation",
    "Collator",
    "Frame",
    "FrameRecord",
    "GtDatabase",
    "GtPaste",
    "ImageAugmentation",
    "LidarAugmentation",
    "LidarView",
    "NuScenesDataModule",
    "NuScenesDataset",
    "NuScenesIndex",
    "PillarView",
    "RasterView",
]
