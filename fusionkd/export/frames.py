"""Frames to calibrate with, to compare on and to judge by."""

from pathlib import Path
from typing import Literal

from fusionkd.data import FrameRecord, NuScenesDataModule, NuScenesDataset
from fusionkd.data.configured import configured_data
from fusionkd.deploy import DeploySpec, RawFrame, prepare
from fusionkd.deploy.prepare import Inputs
from fusionkd.errors import UserError
from fusionkd.export.example import example_raw
from fusionkd.export.raw import parked, raw_frame
from fusionkd.export.spec import Trained

MADE_UP = 4
"""Frames that are made up where there is no data."""


class Frames:
    """Frames of a data set, or made-up ones where there is none.

    Args:
        trained: Who reads them.
        root: Folder of the data; None makes frames up.
        version: Of nuScenes; None takes the only one at the root.

    Raises:
        UserError: If there is no such data.
    """

    def __init__(self, trained: Trained, root: str | None = None, version: str | None = None) -> None:
        self._spec = trained.spec
        self._data = None if root is None else _open(trained, root, version or only_version(Path(root)))
        self.simulated = None if self._data is None else self._data.is_simulated
        """Whether the data is simulated; None for made-up frames."""

    def rig(self) -> RawFrame:
        """A frame that stands for the car at rest.

        Raises:
            UserError: If there is no data.
        """
        dataset, records = self.records("train")
        return parked(dataset, records[0])

    def some(self, count: int, *, spec: DeploySpec, stage: Literal["train", "val"] = "val") -> list[Inputs]:
        """Prepared frames, spread over a split; few where they are made up.

        Args:
            count: How many.
            spec: Who reads them.
            stage: Of which split.
        """
        if self._data is None:
            return [prepare(example_raw(spec, seed=seed), spec) for seed in range(1, 1 + min(count, MADE_UP))]
        dataset, records = self.records(stage)
        step = max(1, len(records) // count)
        return [prepare(raw_frame(dataset, record), spec) for record in records[::step][:count]]

    def records(self, stage: Literal["train", "val"]) -> tuple[NuScenesDataset, list[FrameRecord]]:
        """All frames of a split.

        Raises:
            UserError: If there is no data.
        """
        if self._data is None:
            raise UserError("This needs frames of the data that the model is for: give --root DATA.")
        records = self._data.records(stage)
        return self._data.dataset(records, num_sweeps=self._spec.num_sweeps), records


def only_version(root: Path) -> str:
    """The version of nuScenes at a root.

    Raises:
        UserError: If there is none, or more than one.
    """
    found = sorted(path.parent.name for path in root.glob("*/sample_data.json"))
    if len(found) != 1:
        raise UserError(
            f"There is no version of nuScenes at {root}: no folder there holds sample_data.json."
            if not found
            else f"There are several versions of nuScenes at {root}: {', '.join(found)}. Choose one by --version."
        )
    return found[0]


def _open(trained: Trained, root: str, version: str) -> NuScenesDataModule:
    # Frames are read once or twice; a cache of all images isn't worth its place.
    if trained.config is not None:
        where = {"root": root, "version": version, "if_missing": "raise", "cache_images_gb": 0}
        return configured_data(trained.config, where)
    return NuScenesDataModule(root, version, grid=trained.model.grid, cache_images_gb=0)
