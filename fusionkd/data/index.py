"""An index over a nuScenes version: everything the tables say, as arrays, built once."""

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fusionkd.data.cache import cache_folder, short_hash
from fusionkd.data.index_arrays import Annotations, IndexArrays, load_arrays, save_arrays
from fusionkd.data.index_build import build_arrays
from fusionkd.data.tables import as_text, fingerprint, version_folder
from fusionkd.errors import UserError
from fusionkd.geometry import CAMERAS, Boxes3D, invert_rigid, transform_points, wrap_angle_rad

_FORMAT = "fusionkd-index-2"


@dataclass(frozen=True)
class FrameRecord:
    """Which recordings make up one frame: rows of the index's arrays.

    Attributes:
        token: Sample token of a keyframe, sample_data token of a sweep between keyframes.
        scene: Scene name.
        timestamp_us: Time of the LiDAR sweep.
        sweep: Row of the LiDAR sweep.
        images: Rows of the images in the order of ``CAMERAS``; -1 where the tables name none.
        sample: Row of the keyframe, -1 for a sweep between keyframes.
        labelled: Whether the keyframe's annotations may be used.
    """

    token: str
    scene: str
    timestamp_us: int
    sweep: int
    images: tuple[int, ...]
    sample: int
    labelled: bool


class NuScenesIndex:
    """The tables of one nuScenes version as arrays.

    Load one with ``NuScenesIndex.load(root, version)``.

    Args:
        root: Folder with ``samples/``, ``sweeps/`` and the version's folder of tables.
        version: Name of the version, for example ``v1.0-mini``.
        arrays: What the tables say.
        fingerprint: Stands for the tables that the arrays were built from.
    """

    def __init__(self, root: Path, version: str, *, arrays: IndexArrays, fingerprint: str) -> None:
        self.root = root
        self.version = version
        self.fingerprint = fingerprint
        self.scenes = arrays.scenes
        self.samples = arrays.samples
        self.sweeps = arrays.sweeps
        self.images = arrays.images
        self.calibrations = arrays.calibrations
        self.annotations: Annotations = arrays.annotations
        self.scene_names: tuple[str, ...] = as_text(arrays.scenes.name)
        self.category_names: tuple[str, ...] = as_text(arrays.category_names)
        self.attribute_names: tuple[str, ...] = as_text(arrays.attribute_names)

    @classmethod
    def load(cls, root: str | Path, version: str = "v1.0-mini") -> "NuScenesIndex":
        """The index of a version: from its file where the tables are unchanged, else built and kept.

        The file lies in ``ROOT/.fusionkd``, or in the user's cache folder if the root is read-only.

        Raises:
            UserError: If the root, the version or a table is missing or malformed.
        """
        root = Path(root)
        folder = version_folder(root, version)
        tables = f"{_FORMAT};{fingerprint(folder)}"
        path = cache_folder(root) / f"index-{version}.arrays"
        arrays = load_arrays(path, tables)
        if arrays is None:
            begin = time.perf_counter()
            arrays = build_arrays(folder)
            save_arrays(path, arrays, tables)
            seconds = time.perf_counter() - begin
            if seconds > 2:
                print(f"Indexed the tables in {folder} in {seconds:.0f} s; kept in {path}.", file=sys.stderr)
        return cls(root, version, arrays=arrays, fingerprint=short_hash(tables))

    def __len__(self) -> int:
        """Number of keyframes."""
        return len(self.samples.token)

    @cached_property
    def sample_tokens(self) -> tuple[str, ...]:
        """Tokens of the keyframes in the table's order."""
        return as_text(self.samples.token)

    @cached_property
    def row_of_sample(self) -> dict[str, int]:
        """Row of each sample token."""
        return {token: row for row, token in enumerate(self.sample_tokens)}

    def records(self, scenes: Sequence[str], *, labelled: bool = True) -> list[FrameRecord]:
        """The keyframes of some scenes, in the sample table's order (the devkit's).

        Args:
            scenes: Scene names.
            labelled: Whether their annotations may be used.

        Raises:
            UserError: If a scene isn't in the tables or a keyframe has no LiDAR sweep.
        """
        wanted = self._scene_rows(scenes)
        rows = np.flatnonzero(np.isin(self.samples.scene, wanted))
        return [self._keyframe(int(row), labelled) for row in rows]

    def sweep_records(self, scenes: Sequence[str], *, stride: int = 1) -> list[FrameRecord]:
        """The LiDAR sweeps between the keyframes of some scenes, each with its nearest image per camera.

        Args:
            scenes: Scene names.
            stride: Take every n-th of them, in time.

        Raises:
            UserError: If a scene isn't in the tables.
        """
        records: list[FrameRecord] = []
        for scene in self._scene_rows(scenes):
            rows = self._sweeps_of_scene[scene]
            rows = rows[~self.sweeps.is_keyframe[rows]]
            rows = rows[np.argsort(self.sweeps.timestamp_us[rows], kind="stable")][::stride]
            images = self._nearest_images(int(scene), self.sweeps.timestamp_us[rows])
            records += [self._between(int(row), tuple(near)) for row, near in zip(rows, images.tolist())]
        return records

    def record(self, token: str) -> FrameRecord:
        """The frame of a sample token, or of the sample_data token of a LiDAR sweep.

        Raises:
            UserError: If the token is neither.
        """
        row = self.row_of_sample.get(token)
        if row is not None:
            return self._keyframe(row, labelled=True)
        found = np.flatnonzero(self.sweeps.token == token.encode())
        if len(found) == 0:
            raise UserError(
                f"No frame {token!r} in {self.version} at {self.root}: it is no token of sample.json and of no "
                f"LiDAR sweep in sample_data.json. The first sample token is {self.sample_tokens[0]!r}."
            )
        time_us = self.sweeps.timestamp_us[found[:1]]
        images = self._nearest_images(int(self.sweeps.scene[found[0]]), time_us)
        return self._between(int(found[0]), tuple(images[0].tolist()))

    def global_from_ego(self, sample: int) -> NDArray[np.float64]:
        """(4, 4) pose of the BEV frame of a keyframe: ego at the LiDAR's time."""
        return self.sweeps.global_from_ego(int(self.samples.sweep[sample]))

    def boxes(self, sample: int, *, min_points: int = 0) -> Boxes3D:
        """A keyframe's boxes of the ten detection classes in its ego frame.

        Args:
            sample: Row of the keyframe.
            min_points: Boxes with fewer LiDAR and radar points are left out; the devkit doesn't
                evaluate boxes with none.
        """
        a, rows = self.annotations, self.annotations.rows(sample)
        points = a.num_lidar_pts[rows] + a.num_radar_pts[rows]
        keep = np.flatnonzero((a.label[rows] >= 0) & (points >= min_points)) + rows.start
        ego_from_global = invert_rigid(self.global_from_ego(sample))
        # In float64: global coordinates reach kilometres, where float32 has steps of 0.1 mm.
        heading = np.stack([np.cos(a.yaw_rad[keep]), np.sin(a.yaw_rad[keep])], axis=1) @ ego_from_global[:2, :2].T
        return Boxes3D(
            transform_points(ego_from_global, a.xyz_m[keep]).astype(np.float32),
            a.lwh_m[keep].astype(np.float32),
            wrap_angle_rad(np.arctan2(heading[:, 1], heading[:, 0])).astype(np.float32),
            (a.velocity_mps[keep] @ ego_from_global[:2, :2].T).astype(np.float32),
            a.label[keep],
            np.ones(len(keep), np.float32),
        )

    @cached_property
    def _sweeps_of_scene(self) -> list[NDArray[np.int64]]:
        return _rows_by(self.sweeps.scene, len(self.scene_names))

    @cached_property
    def _images_of_scene(self) -> list[NDArray[np.int64]]:
        return _rows_by(self.images.scene, len(self.scene_names))

    def _scene_rows(self, scenes: Sequence[str]) -> NDArray[np.int64]:
        rows = {name: row for row, name in enumerate(self.scene_names)}
        unknown = sorted(set(scenes) - set(rows))
        if unknown:
            raise UserError(
                f"No scene {', '.join(unknown)} in {self.version} at {self.root}. Its {len(rows)} scenes are: "
                f"{', '.join(self.scene_names[:20])}{' ...' if len(rows) > 20 else ''}."
            )
        return np.array([rows[name] for name in scenes], dtype=np.int64)

    def _keyframe(self, row: int, labelled: bool) -> FrameRecord:
        sweep = int(self.samples.sweep[row])
        if sweep < 0:
            raise UserError(
                f"Sample {self.sample_tokens[row]} in {self.root / self.version} has no LIDAR_TOP keyframe in "
                f"sample_data.json; the tables are incomplete."
            )
        return FrameRecord(
            token=self.sample_tokens[row],
            scene=self.scene_names[self.samples.scene[row]],
            timestamp_us=int(self.sweeps.timestamp_us[sweep]),
            sweep=sweep,
            images=tuple(self.samples.image[row].tolist()),
            sample=row,
            labelled=labelled,
        )

    def _between(self, row: int, images: tuple[int, ...]) -> FrameRecord:
        return FrameRecord(
            token=self.sweeps.token[row].decode(),
            scene=self.scene_names[self.sweeps.scene[row]],
            timestamp_us=int(self.sweeps.timestamp_us[row]),
            sweep=row,
            images=images,
            sample=-1,
            labelled=False,
        )

    def _nearest_images(self, scene: int, time_us: NDArray[np.int64]) -> NDArray[np.int64]:
        """Rows (T, 6) of a scene's images nearest in time, keyframes or not; -1 for a camera without any."""
        out = np.full((len(time_us), len(CAMERAS)), -1, dtype=np.int64)
        for camera in range(len(CAMERAS)):
            rows = self._images_of_scene[scene]
            rows = rows[self.images.camera[rows] == camera]
            if len(rows) == 0:
                continue
            rows = rows[np.argsort(self.images.timestamp_us[rows], kind="stable")]
            times = self.images.timestamp_us[rows]
            after = np.clip(np.searchsorted(times, time_us), 1, max(len(times) - 1, 1))
            after = np.minimum(after, len(times) - 1)
            before = np.maximum(after - 1, 0)
            nearer = np.abs(time_us - times[before]) <= np.abs(times[after] - time_us)
            out[:, camera] = rows[np.where(nearer, before, after)]
        return out


def _rows_by(group: NDArray[np.int64], groups: int) -> list[NDArray[np.int64]]:
    """The rows of each group, in order."""
    order = np.argsort(group, kind="stable")
    return np.split(order, np.searchsorted(group[order], np.arange(1, groups)))
