"""The teachers of a run, kept out of Lightning's sight."""

from collections.abc import Collection, Mapping
from typing import Any

import torch

from fusionkd.models.values import FusionOutput, SensorBatch
from fusionkd.teachers import FrozenTeacher


class Faculty:
    """Teachers by name, outside the task's tree of modules.

    So they are in no checkpoint, no optimiser, no weight average and no gradient synchronisation, and
    ``fit`` can't put them into training mode. The price: moving them to the device is done here.

    Args:
        teachers: The teachers.
    """

    def __init__(self, teachers: Mapping[str, FrozenTeacher]) -> None:
        self.teachers = dict(teachers)

    def __len__(self) -> int:
        return len(self.teachers)

    def __deepcopy__(self, memo: dict[int, Any]) -> "Faculty":
        """Frozen teachers are shared by copies of a task."""
        return self

    def to(self, device: torch.device) -> None:
        """Move all teachers."""
        for teacher in self.teachers.values():
            teacher.to(device)

    def outputs(self, batch: SensorBatch, names: Collection[str] | None = None) -> dict[str, FusionOutput]:
        """What the teachers say about a batch, without gradients.

        Args:
            batch: The frames.
            names: Which teachers; None asks all.
        """
        asked = self.teachers if names is None else {name: self.teachers[name] for name in self.teachers if name in names}
        return {name: teacher(batch) for name, teacher in asked.items()}
