"""The teachers of a run, kept out of Lightning's sight."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor

from fusionkd.data import Batch
from fusionkd.distillation import module_taps, recording
from fusionkd.models.values import FusionOutput
from fusionkd.teachers import CachedTeacher, Teacher

_MAPS = ("heatmap", "box_regression", "heading_axis", "bev", "camera_bev", "lidar_bev")


class Faculty:
    """Teachers by name who answer from a batch alone, outside the task's tree of modules.

    So frozen ones are in no checkpoint, no optimiser, no weight average and no gradient synchronisation, and
    ``fit`` can't put them into training mode. The price: moving them to the device is done here.

    Args:
        teachers: The teachers.
        remember: Keep the teachers' answers about each frame in memory (16 bits, about 0.7 MB per frame and
            teacher without features, 2-3 MB with) and don't ask again. Only for frames in their true position:
            a batch with BEV augmentation or pasted objects is always asked about anew, and so is a teacher that
            changes.
    """

    def __init__(self, teachers: Mapping[str, Teacher], *, remember: bool = False) -> None:
        self.teachers = dict(teachers)
        self.remember = remember
        self.needed: dict[str, set[str]] = {name: set(_MAPS) for name in self.teachers}
        """Per teacher the taps that some term reads; others aren't remembered, and modules not recorded."""
        self._answers: dict[str, dict[str, dict[str, Tensor]]] = {name: {} for name in self.teachers}
        self._forms: dict[str, FusionOutput] = {}

    def __len__(self) -> int:
        return len(self.teachers)

    def __deepcopy__(self, memo: dict[int, Any]) -> "Faculty":
        """Frozen teachers are shared by copies of a task."""
        return self

    def to(self, device: torch.device) -> None:
        """Move all teachers."""
        for teacher in self.teachers.values():
            teacher.to(device)

    def outputs(self, batch: Batch, names: Collection[str] | None = None) -> dict[str, FusionOutput]:
        """What the teachers say about a batch, without gradients.

        Args:
            batch: The frames.
            names: Which teachers; None asks all.
        """
        asked = [name for name in self.teachers if names is None or name in names]
        fixed = {name for name in asked if self.teachers[name].fixed}
        recalled = fixed if self.remember and fixed and in_true_position(batch) else set()
        return {name: self._recall(name, batch) if name in recalled else self.ask(name, batch) for name in asked}

    def ask(self, name: str, batch: Batch) -> FusionOutput:
        """One teacher's answer, nothing remembered, with what its modules gave where ``needed`` says so.

        It is read where the teacher has a cache that holds it.
        """
        teacher = self.teachers[name]
        kept = teacher.recall(batch) if isinstance(teacher, CachedTeacher) else None
        if kept is not None:
            return kept
        with recording(teacher.model, module_taps(self.needed[name]) - set(_MAPS)) as hooked:
            answer: FusionOutput = teacher(batch)
        return replace(answer, hooked=hooked)

    def _recall(self, name: str, batch: Batch) -> FusionOutput:
        known = self._answers[name]
        # One by one, so that an answer doesn't depend on the company in which a frame was first asked about.
        for row in [row for row, token in enumerate(batch.token) if token not in known]:
            part = batch if len(batch) == 1 else select_frames(batch, [row])
            answer = self.ask(name, part)
            self._forms.setdefault(name, _without_maps(answer))
            fields = {key: getattr(answer, key) for key in _MAPS if key in self.needed[name]}
            maps = {key: value for key, value in fields.items() if isinstance(value, Tensor)} | dict(answer.hooked)
            # All rows belong to the frame: a camera encoder's maps have one per image.
            known[batch.token[row]] = {key: value.half().clone() for key, value in maps.items()}
        rows = [known[token] for token in batch.token]
        # Mixed precision would refuse to stack the one 16-bit type while it works in the other.
        with torch.autocast(device_type=batch.device.type, enabled=False):
            stacked: dict[str, Any] = {key: torch.cat([row[key] for row in rows]) for key in rows[0]}
        hooked = {key: stacked.pop(key) for key in rows[0] if key not in _MAPS}
        return replace(self._forms[name], **stacked, hooked=hooked)


def in_true_position(batch: Batch) -> bool:
    """Whether no frame of a batch was flipped, turned, scaled, moved or pasted into."""
    identity = torch.eye(4, device=batch.device, dtype=batch.ego_from_augmented.dtype)
    return bool(torch.equal(batch.ego_from_augmented, identity.expand_as(batch.ego_from_augmented))) and not bool(
        batch.pasted.any()
    )


def select_frames(batch: Batch, rows: Sequence[int]) -> Batch:
    """Some frames of a batch, in the given order.

    Args:
        batch: The frames.
        rows: Which of them.
    """
    index = torch.tensor(list(rows), device=batch.device)
    changed: dict[str, Any] = {
        field.name: getattr(batch, field.name)[index]
        for field in fields(batch)
        if isinstance(getattr(batch, field.name), Tensor)
    }
    changed["token"] = tuple(batch.token[row] for row in rows)
    changed["lidar"] = {view: _select_view(tensors, index, len(batch)) for view, tensors in batch.lidar.items()}
    return replace(batch, **changed)


def _select_view(tensors: Mapping[str, Tensor], index: Tensor, frames: int) -> dict[str, Tensor]:
    if "coords" not in tensors:
        return {name: tensor[index] for name, tensor in tensors.items()}
    # A pillar view has one row per pillar; its first coordinate is the frame.
    place = torch.full((frames,), -1, device=index.device)
    place[index] = torch.arange(len(index), device=index.device)
    frame = place[tensors["coords"][:, 0]]
    kept = frame >= 0
    selected = {name: tensor[kept] for name, tensor in tensors.items()}
    selected["coords"] = torch.cat([frame[kept][:, None], selected["coords"][:, 1:]], dim=1)
    return selected


def _without_maps(output: FusionOutput) -> FusionOutput:
    """Grid, classes and frame of an output, with empty maps in place of those it has."""
    empty = output.heatmap.new_zeros(0)
    present: dict[str, Any] = {key: empty for key in _MAPS if isinstance(getattr(output, key), Tensor)}
    return replace(output, **present, depth_logits=None, hooked={})
