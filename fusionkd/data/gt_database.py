"""Objects cut out of training frames and pasted into others (Yan et al., SECOND, Sensors 2018)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from fusionkd.data.cache import cache_folder, short_hash, write_atomically
from fusionkd.data.collate import Sample
from fusionkd.data.dataset import NuScenesDataset
from fusionkd.data.index import FrameRecord
from fusionkd.errors import UserError
from fusionkd.geometry import DETECTION_CLASSES, Boxes3D
from fusionkd.geometry.iou import rotated_iou_bev
from fusionkd.preprocess import points_in_boxes, replace_points_in_boxes

BEV_COLUMNS = (0, 1, 3, 4, 6)
"""Columns x, y, l, w, yaw of a box row."""


@dataclass(frozen=True)
class GtPaste:
    """How many objects to paste.

    Pasted objects exist for the LiDAR alone: no image shows them, and ``Batch.pasted`` marks them. That suits
    LiDAR-only training; fused models learn from it that cameras lie, so it is off by default.

    Attributes:
        fill_up_to: Per class, the number of objects up to which a frame is filled.
        min_points: Objects with fewer points aren't worth pasting.
    """

    fill_up_to: dict[str, int] = field(
        default_factory=lambda: {
            "car": 2,
            "truck": 3,
            "construction_vehicle": 7,
            "bus": 4,
            "trailer": 6,
            "barrier": 2,
            "motorcycle": 6,
            "bicycle": 6,
            "pedestrian": 2,
            "traffic_cone": 2,
        }
    )
    min_points: int = 5

    def __post_init__(self) -> None:
        unknown = sorted(set(self.fill_up_to) - set(DETECTION_CLASSES))
        if unknown:
            raise UserError(
                f"GtPaste.fill_up_to names {', '.join(unknown)}, which is no nuScenes detection class. "
                f"The classes are: {', '.join(DETECTION_CLASSES)}."
            )


@dataclass(frozen=True)
class GtDatabase:
    """M objects with their points, each where it stood in its own ego frame.

    Attributes:
        boxes: Rows (x, y, z, l, w, h, yaw, vx, vy), (M, 9) float32.
        label: (M,) int64.
        points: The points of all objects, one after the other, (P, 5) float32.
        start: Object ``i`` has ``points[start[i]:start[i + 1]]``, (M + 1,).
    """

    boxes: NDArray[np.float32]
    label: NDArray[np.int64]
    points: NDArray[np.float32]
    start: NDArray[np.int64]

    @classmethod
    def beside(
        cls,
        dataset: NuScenesDataset,
        *,
        min_points: int,
        on_bad_frame: Callable[[FrameRecord, UserError], None] | None = None,
    ) -> "GtDatabase":
        """The database of a data set's labelled frames: from its file beside the index, or built and kept.

        Args:
            dataset: The frames to cut objects out of.
            min_points: Objects with fewer points are left out.
            on_bad_frame: Told of each frame that can't be read; None lets the error rise.
        """
        tokens = [record.token for record in dataset.records if record.labelled]
        key = short_hash("gt-1", dataset.index.fingerprint, dataset.num_sweeps, min_points, *tokens)
        path = cache_folder(dataset.index.root) / f"objects-{dataset.index.version}-{key}.npz"
        if path.is_file():
            return cls.load(path)
        database = cls.build(dataset, min_points=min_points, on_bad_frame=on_bad_frame)
        database.save(path)
        return database

    @classmethod
    def build(
        cls,
        dataset: NuScenesDataset,
        *,
        min_points: int,
        on_bad_frame: Callable[[FrameRecord, UserError], None] | None = None,
    ) -> "GtDatabase":
        """Cut the objects out of a data set's labelled frames; see ``beside``."""
        rows, labels, clouds = [], [], []
        for record in (record for record in dataset.records if record.labelled):
            boxes = dataset.index.boxes(record.sample, min_points=min_points)
            try:
                points = dataset.points(record)
            except UserError as error:
                if on_bad_frame is None:
                    raise
                on_bad_frame(record, error)
                continue
            holder = points_in_boxes(points, boxes.to_array())
            for i, row in enumerate(boxes.to_array()):
                inside = points[holder == i]
                if len(inside) >= min_points:
                    rows.append(row)
                    labels.append(boxes.label[i])
                    clouds.append(inside)
        return cls(
            np.array(rows, dtype=np.float32).reshape(-1, 9),
            np.array(labels, dtype=np.int64),
            np.concatenate([np.zeros((0, 5), np.float32), *clouds]),
            np.cumsum([0, *(len(cloud) for cloud in clouds)], dtype=np.int64),
        )

    def save(self, path: Path) -> None:
        """Write the arrays as .npz, atomically."""

        def write(stream: BinaryIO) -> None:
            np.savez(stream, **{part.name: getattr(self, part.name) for part in fields(self)})

        write_atomically(path, write)

    @classmethod
    def load(cls, path: Path) -> "GtDatabase":
        """Read what ``save`` wrote."""
        with np.load(path, allow_pickle=False) as file:
            return cls(**{part.name: file[part.name] for part in fields(cls)})

    def __len__(self) -> int:
        return len(self.label)

    @cached_property
    def items_of_label(self) -> tuple[NDArray[np.int64], ...]:
        """The objects of each class, ascending."""
        return tuple(np.flatnonzero(self.label == label) for label in range(len(DETECTION_CLASSES)))

    def cloud(self, item: int) -> NDArray[np.float32]:
        """The points of one object, (P, 5)."""
        return self.points[self.start[item] : self.start[item + 1]]


@dataclass(frozen=True)
class GtPaster:
    """Pastes objects of a database into samples.

    Attributes:
        database: The objects.
        settings: How many.
    """

    database: GtDatabase
    settings: GtPaste

    def paste(self, sample: Sample, generator: np.random.Generator) -> Sample:
        """A sample with objects pasted where they collide with nothing; unlabelled samples stay as they are.

        An object keeps its own place and range, so that its points are as dense as they ought to be there.
        Points that were inside a pasted box before are removed.
        """
        boxes = sample.frame.boxes
        if boxes is None:
            return sample
        chosen = self._without_collision(self.candidates(boxes, generator), boxes)
        if not chosen:
            return sample
        new = Boxes3D.from_array(self.database.boxes[chosen], self.database.label[chosen])
        objects = np.concatenate([self.database.cloud(item) for item in chosen])
        points = replace_points_in_boxes(sample.frame.points, new.to_array(), objects)
        frame = replace(sample.frame, points=points, boxes=Boxes3D.concatenate([boxes, new]))
        pasted = np.concatenate([sample.pasted, np.ones(len(new), np.bool_)])
        return replace(sample, frame=frame, pasted=pasted)

    def candidates(self, boxes: Boxes3D, generator: np.random.Generator) -> list[int]:
        """Objects drawn for a frame with these boxes, whether they collide or not."""
        items: list[int] = []
        present = np.bincount(boxes.label, minlength=len(DETECTION_CLASSES)).tolist()
        for name, most in self.settings.fill_up_to.items():
            label = DETECTION_CLASSES.index(name)
            wanted, pool = most - present[label], self.database.items_of_label[label]
            if wanted > 0 and len(pool):
                items += generator.choice(pool, size=min(wanted, len(pool)), replace=False).tolist()
        return items

    def _without_collision(self, items: Sequence[int], boxes: Boxes3D) -> list[int]:
        present = boxes.to_array()[:, BEV_COLUMNS]
        drawn = self.database.boxes[list(items)][:, BEV_COLUMNS]
        collide = rotated_iou_bev(drawn, np.concatenate([present, drawn])) > 0  # (drawn, present and drawn)
        free = ~collide[:, : len(present)].any(axis=1)
        chosen: list[int] = []
        for place in np.flatnonzero(free).tolist():
            if not collide[place, len(present) :][chosen].any():
                chosen.append(place)
        return [items[place] for place in chosen]
