"""Lightning's door into nuScenes: one object that finds, indexes, reads, augments and batches the data."""

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

import lightning.pytorch as pl

from fusionkd.data.augmentation import AugmentationPlan, BevAugmentation, ImageAugmentation, LidarAugmentation
from fusionkd.data.collate import Collator
from fusionkd.data.dataset import NuScenesDataset
from fusionkd.data.frames import Batch, Frame
from fusionkd.data.gt_database import GtDatabase, GtPaste, GtPaster
from fusionkd.data.image_cache import ImageCache
from fusionkd.data.index import FrameRecord, NuScenesIndex
from fusionkd.data.loading import FrameLoader, LoaderDataset, OnBadFrame, SkippedFrames, frame_loader
from fusionkd.data.missing import simulate
from fusionkd.data.sampling import EvaluationSampler, TrainingSampler
from fusionkd.data.splits import default_split, scenes_of
from fusionkd.errors import UserError
from fusionkd.geometry import DETECTION_CLASSES, BevGrid
from fusionkd.preprocess.images import base_size_px
from fusionkd.preprocess.views import PillarView, RasterView
from fusionkd.preprocess.warmup import announce_slowness, compile_kernels

DEFAULT_GRID = BevGrid()
"""+-51.2 m in cells of 0.8 m."""

SIMULATED_MARK = "simulated.json"
"""A file of this name at the root says that the data is simulated."""


class NuScenesDataModule(pl.LightningDataModule):
    """Training, validation and test batches of a nuScenes version, real or simulated.

    Args:
        root: Folder with ``samples/``, ``sweeps/`` and the version's folder of tables.
        version: ``v1.0-mini``, ``v1.0-trainval``, ``v1.0-test`` or one of your own.
        if_missing: With no such version at the root, ``raise`` stops with where to get it, ``simulate``
            writes a simulated world there once.
        world: Settings of the simulated world (``fusionkd.simulation.WorldSettings``) that differ from the default.
        train_split: Split name or scene names; None takes nuScenes' own for the version.
        val_split: The same for validation.
        test_split: The same for testing; None takes the validation scenes.
        labelled_scenes: Training scenes whose annotations may be used; None means all.
        unlabelled_scenes: Training scenes that are used without annotations; ``rest`` means those of the
            training split that aren't labelled.
        sweeps_as_unlabelled: Whether the LiDAR sweeps between the training scenes' keyframes are used as
            unlabelled frames, each with its nearest camera images.
        sweep_stride: Use every n-th of those sweeps.
        unlabelled_per_batch: How many frames of a batch are unlabelled; None draws from all frames alike.
        grid: The BEV grid of the run; models and losses are linked to it.
        image_size_px: (height, width) of the images: scaled to the width, then cropped at the top.
        lidar_views: What the models' LiDAR branches read, by name; None makes ``pillars`` (0.4 m, all sweeps)
            and ``raster`` (the grid's cells, three sweeps).
        num_sweeps: LiDAR sweeps fused per frame.
        depth_stride: Pixels per cell of the LiDAR depth maps.
        min_box_points: Annotations with fewer LiDAR and radar points are left out of batches.
        bev_augmentation: For training; None for none.
        gt_paste: Objects to paste into the LiDAR in training; None for none.
        image_augmentation: For training; None for none.
        lidar_augmentation: For training; None for none.
        class_balanced: Whether every class leads equally many training draws.
        batch_size: Frames per batch and process.
        num_workers: Loader processes; the batches don't depend on it.
        seed: Of the order and the augmentation.
        on_bad_frame: Whether a frame with a missing or malformed file stops the run or is skipped.
        cache_images_gb: Decoded, scaled images are kept in a file beside the index if all of them fit into
            this size; 0 decodes them anew each time.
    """

    def __init__(
        self,
        root: str = "data/nuscenes",
        version: str = "v1.0-mini",
        *,
        if_missing: Literal["raise", "simulate"] = "raise",
        world: dict[str, int | bool | float | str] | None = None,
        train_split: str | list[str] | None = None,
        val_split: str | list[str] | None = None,
        test_split: str | list[str] | None = None,
        labelled_scenes: list[str] | None = None,
        unlabelled_scenes: list[str] | Literal["rest"] | None = None,
        sweeps_as_unlabelled: bool = False,
        sweep_stride: int = 1,
        unlabelled_per_batch: int | None = None,
        grid: BevGrid = DEFAULT_GRID,
        image_size_px: tuple[int, int] = (96, 256),
        lidar_views: dict[str, RasterView | PillarView] | None = None,
        num_sweeps: int = 10,
        depth_stride: int = 8,
        min_box_points: int = 1,
        bev_augmentation: BevAugmentation | None = None,
        image_augmentation: ImageAugmentation | None = None,
        lidar_augmentation: LidarAugmentation | None = None,
        gt_paste: GtPaste | None = None,
        class_balanced: bool = False,
        batch_size: int = 4,
        num_workers: int = 2,
        seed: int = 0,
        on_bad_frame: OnBadFrame = "raise",
        cache_images_gb: float = 4.0,
    ) -> None:
        super().__init__()
        self.root = Path(root)
        self.version = version
        self.grid = grid
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.classes: tuple[str, ...] = DETECTION_CLASSES
        if image_size_px[0] % depth_stride or image_size_px[1] % depth_stride:
            raise UserError(
                f"depth_stride {depth_stride} must divide the height and width of image_size_px, found "
                f"{image_size_px[0]}x{image_size_px[1]}."
            )
        self._if_missing = if_missing
        self._world = world or {}
        self._splits = {"train": train_split, "val": val_split, "test": test_split or val_split}
        self._labelled_scenes = labelled_scenes
        self._unlabelled_scenes = unlabelled_scenes
        self._sweep_stride = sweep_stride if sweeps_as_unlabelled else None
        self._unlabelled_per_batch = unlabelled_per_batch
        self.image_size_px = image_size_px
        self.num_sweeps = num_sweeps
        self.min_box_points = min_box_points
        self._plan = AugmentationPlan(seed, bev_augmentation, image_augmentation, lidar=lidar_augmentation)
        self._gt_paste = gt_paste
        self._class_balanced = class_balanced
        self._on_bad_frame = on_bad_frame
        self._cache_images_gb = cache_images_gb
        views: Mapping[str, RasterView | PillarView] = lidar_views or default_views(self.grid)
        self.collator = Collator(views, depth_stride=depth_stride)
        self._index: NuScenesIndex | None = None
        self.skipped: dict[str, SkippedFrames] = {}

    def prepare_data(self) -> None:
        """Find the data, or write a simulated world where none is and the config allows it; index it."""
        if self._if_missing == "simulate" and not (self.root / self.version / "sample_data.json").is_file():
            simulate(self.root, self.version, self._world)
        NuScenesIndex.load(self.root, self.version)
        # Here, so that loader processes find the kernels compiled instead of each compiling them.
        compile_kernels(announce_slowness())
        if self._gt_paste is not None:
            self._paster(self.records("train"))

    @property
    def index(self) -> NuScenesIndex:
        """The index of the data; loaded when first asked for."""
        if self._index is None:
            self._index = NuScenesIndex.load(self.root, self.version)
        return self._index

    @property
    def is_simulated(self) -> bool:
        """Whether the data is a simulated world; its figures say nothing about real streets."""
        return (self.root / SIMULATED_MARK).is_file()

    def scenes(self, stage: Literal["train", "val", "test"]) -> list[str]:
        """Scene names of a stage.

        Raises:
            UserError: If the split or a scene doesn't exist.
        """
        return scenes_of(self.index, self._splits[stage] or default_split(self.version, stage))

    def records(self, stage: Literal["train", "val", "test"]) -> list[FrameRecord]:
        """The frames of a stage; those of training are labelled or not as configured."""
        scenes = self.scenes(stage)
        if stage != "train":
            return self.index.records(scenes)
        labelled = scenes if self._labelled_scenes is None else self._named(self._labelled_scenes)
        unlabelled = self._unlabelled(scenes, labelled)
        records = self.index.records(labelled) + self.index.records(unlabelled, labelled=False)
        if self._sweep_stride is not None:
            records += self.index.sweep_records(labelled + unlabelled, stride=self._sweep_stride)
        return records

    def dataset(self, records: list[FrameRecord], *, num_sweeps: int | None = None) -> NuScenesDataset:
        """Plain frames of some records with this module's settings."""
        return NuScenesDataset(
            self.index,
            records,
            image_size_px=self.image_size_px,
            num_sweeps=num_sweeps or self.num_sweeps,
            min_box_points=self.min_box_points,
            image_cache=self._image_cache(),
        )

    def frame(self, token: str, *, num_sweeps: int | None = None) -> Frame:
        """One frame without augmentation, for pictures.

        Args:
            token: Sample token, or sample_data token of a LiDAR sweep.
            num_sweeps: Sweeps to fuse; None takes the module's number.

        Raises:
            UserError: If there is no such frame or a file of it is missing or malformed.
        """
        record = self.index.record(token)
        return self.dataset([record], num_sweeps=num_sweeps)[0]

    def batch(self, frames: list[Frame]) -> Batch:
        """One batch of plain frames."""
        return self.collator.batch(frames)

    def train_dataloader(self) -> FrameLoader:
        """Training batches: augmented, in random order, all of ``batch_size``."""
        records = self.records("train")
        labelled = [item for item, record in enumerate(records) if record.labelled]
        sampler = TrainingSampler(
            labelled,
            [item for item, record in enumerate(records) if not record.labelled],
            batch_size=self.batch_size,
            unlabelled_per_batch=self._unlabelled_per_batch,
            frame_classes=self._frame_classes([records[item] for item in labelled]) if self._class_balanced else None,
            seed=self._plan.seed,
        )
        dataset = LoaderDataset(
            self.dataset(records),
            self.collator,
            plan=replace(self._plan, paster=self._paster(records)),
            skipped=self._skipped("train", records),
            replace_bad=True,
        )
        return frame_loader(dataset, sampler, batch_size=self.batch_size, num_workers=self.num_workers, drop_last=True)

    def val_dataloader(self) -> FrameLoader:
        """Every validation frame once."""
        return self._evaluation("val")

    def test_dataloader(self) -> FrameLoader:
        """Every test frame once."""
        return self._evaluation("test")

    def recorded_dataloader(self, records: list[FrameRecord]) -> FrameLoader:
        """Each of some records once, as it was recorded, in order, one frame a batch."""
        dataset = LoaderDataset(self.dataset(records), self.collator, skipped=self._skipped("recorded", records))
        sampler = EvaluationSampler(len(records), rank=0, world_size=1)
        return frame_loader(dataset, sampler, batch_size=1, num_workers=self.num_workers, drop_last=False)

    def _evaluation(self, stage: Literal["val", "test"]) -> FrameLoader:
        records = self.records(stage)
        sampler = EvaluationSampler(len(records))
        if len(records) < sampler.num_replicas:
            raise UserError(
                f"The {stage} split has {len(records)} frames for {sampler.num_replicas} processes, and each needs "
                f"one at least. Use fewer devices or name more scenes."
            )
        dataset = LoaderDataset(self.dataset(records), self.collator, skipped=self._skipped(stage, records))
        return frame_loader(
            dataset,
            sampler,
            batch_size=self.batch_size,
            num_workers=self.num_workers,
            drop_last=False,
        )

    def _skipped(self, stage: str, records: list[FrameRecord]) -> SkippedFrames | None:
        if self._on_bad_frame == "raise":
            return None
        self.skipped[stage] = SkippedFrames([record.token for record in records])
        return self.skipped[stage]

    def _unlabelled(self, scenes: list[str], labelled: list[str]) -> list[str]:
        if self._unlabelled_scenes is None:
            return []
        if self._unlabelled_scenes == "rest":
            return [name for name in scenes if name not in labelled]
        both = sorted(set(self._unlabelled_scenes) & set(labelled))
        if both:
            raise UserError(f"Scene {', '.join(both)} is named both as labelled and in unlabelled_scenes.")
        return self._named(self._unlabelled_scenes)

    def _named(self, scenes: list[str]) -> list[str]:
        return scenes_of(self.index, scenes) if scenes else []

    def _paster(self, records: list[FrameRecord]) -> GtPaster | None:
        if self._gt_paste is None:
            return None
        report = _report_bad_frame if self._on_bad_frame == "skip" else None
        least = self._gt_paste.min_points
        return GtPaster(GtDatabase.beside(self.dataset(records), min_points=least, on_bad_frame=report), self._gt_paste)

    def _frame_classes(self, records: list[FrameRecord]) -> list[list[int]]:
        return [
            sorted(set(self.index.boxes(record.sample, min_points=self.min_box_points).label.tolist()))
            for record in records
        ]

    def _image_cache(self) -> ImageCache | None:
        if len(self.index.images) == 0:
            return None
        height, width = self.index.images.size_px[0]
        image_px = base_size_px((int(height), int(width)), self.image_size_px)
        fits = ImageCache.size_gb(len(self.index.images), image_px) <= self._cache_images_gb
        return ImageCache.beside(self.index, image_px) if fits else None


def _report_bad_frame(record: FrameRecord, error: UserError) -> None:
    print(f"No objects are cut out of frame {record.token}: {error}", file=sys.stderr, flush=True)


def default_views(grid: BevGrid) -> dict[str, RasterView | PillarView]:
    """``pillars`` for a teacher (0.4 m, all sweeps), ``raster`` for a student (the grid's cells, three sweeps)."""
    return {"pillars": PillarView(grid.with_cell(0.4)), "raster": RasterView(grid, max_age_s=0.12)}
