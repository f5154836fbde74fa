"""What is kept of a cascade's stages, so that none is trained twice or taken for another."""

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from fusionkd.cli.cascade_plan import flat
from fusionkd.data.cache import write_text_atomically
from fusionkd.errors import UserError
from fusionkd.teachers.checkpoints import read_checkpoint, student_weights

RECORD = "stage.json"


@dataclass(frozen=True)
class StageRecord:
    """A stage that was begun, or finished.

    Attributes:
        settings: All that decides what it becomes.
        fingerprint: Of the settings.
        student: Digest of its student's weights; empty while it isn't finished.
        simulated: Whether its figures were measured on simulated data.
        figures: nuScenes figures of the student; None where nuScenes leaves one undefined.
    """

    settings: dict[str, Any]
    fingerprint: str
    student: str = ""
    simulated: bool = False
    figures: dict[str, float | None] = field(default_factory=dict)

    @property
    def finished(self) -> bool:
        """Whether there is nothing left to train."""
        return bool(self.student)


def begun(settings: Mapping[str, Any]) -> StageRecord:
    """The record of a stage that begins."""
    # Through JSON once, so that it equals what is read back.
    plain = json.loads(json.dumps(settings, default=str))
    return StageRecord(plain, fingerprint(plain))


def finished(record: StageRecord, folder: Path) -> StageRecord:
    """The record of a stage whose training has ended.

    Args:
        record: Of its beginning.
        folder: Where it left its student and its report.

    Raises:
        UserError: If it left none.
    """
    student, report = folder / "student.ckpt", folder / "report.json"
    if not student.is_file() or not report.is_file():
        raise UserError(
            f"The stage in {folder} left no student.ckpt and report.json. Its trainer needs the callback "
            f"fusionkd.tasks.EndReport, and must not be a fast_dev_run."
        )
    content = json.loads(report.read_text())
    figures = {name: value for name, value in content["rows"][-1]["figures"].items() if "@" not in name}
    return StageRecord(record.settings, record.fingerprint, weights_digest(student), content["simulated"], figures)


def write_record(record: StageRecord, folder: Path) -> None:
    """Keep a record; the file appears whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    write_text_atomically(folder / RECORD, json.dumps(asdict(record), indent=2) + "\n")


def read_record(folder: Path) -> StageRecord | None:
    """The record of a stage, None where it was never begun.

    Raises:
        UserError: If it can't be read, or the folder holds another run.
    """
    path = folder / RECORD
    if not path.is_file():
        foreign = [name for name in ("student.ckpt", "checkpoints") if (folder / name).exists()]
        if foreign:
            raise UserError(
                f"{folder} holds {foreign[0]} but no {RECORD}: a run of something else than this cascade. Move it "
                f"away, or give the cascade another --folder."
            )
        return None
    record = None
    with suppress(ValueError, TypeError):
        record = StageRecord(**json.loads(path.read_text(encoding="utf-8")))
    if record is None or fingerprint(record.settings) != record.fingerprint:
        raise UserError(
            f"{path} is damaged, so it can't be said what was trained in {folder}. Restore the file, or delete the "
            f"folder to train this stage again."
        )
    return record


def check_record(record: StageRecord, settings: Mapping[str, Any], *, name: str, folder: Path) -> None:
    """Refuse to go on with a stage whose settings have changed, or whose student is no longer the one it left.

    Args:
        record: What was read.
        settings: As they are now.
        name: The stage's.
        folder: The stage's.

    Raises:
        UserError: If something differs; it names what.
    """
    now = begun(settings)
    if now.fingerprint != record.fingerprint:
        differences = "; ".join(_differences(record.settings, now.settings))
        done = "trained" if record.finished else "begun"
        raise UserError(
            f"Stage '{name}' was {done} with other settings: {differences}. Delete {folder} to train it again, give "
            f"another --folder, or undo the change."
        )
    if record.finished and weights_digest(folder / "student.ckpt") != record.student:
        raise UserError(
            f"{folder / 'student.ckpt'} isn't the student that stage '{name}' left there. Restore it, or delete "
            f"{folder} to train the stage again."
        )


def fingerprint(settings: Mapping[str, Any]) -> str:
    """A digest of plain values that doesn't depend on the order of their keys."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def weights_digest(checkpoint: Path) -> str:
    """A digest of a student's weights.

    Args:
        checkpoint: Of a run.

    Raises:
        UserError: If it can't be read.
    """
    digest = hashlib.sha256()
    for name, value in sorted(student_weights(read_checkpoint(checkpoint)).items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _differences(before: Mapping[str, Any], now: Mapping[str, Any], *, most: int = 3) -> list[str]:
    old, new = flat(before), flat(now)
    keys = [key for key in {**old, **new} if old.get(key, "nothing") != new.get(key, "nothing")]
    told = [f"{key} was {old.get(key, 'nothing')}, now {new.get(key, 'nothing')}" for key in keys[:most]]
    return [*told, *([f"and {len(keys) - most} more"] if len(keys) > most else [])]
