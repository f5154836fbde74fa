"""Does a fused model use both sensors? What it loses with another frame's images or LiDAR, and with a lost sensor.

    python benchmarks/modality_use.py                                     # zoo:student and zoo:fused, default world
    python benchmarks/modality_use.py --checkpoints runs/nuscenes_mini/student.ckpt --root DIR --version v1.0-mini

Another frame's images (or points) come from the frame half the validation split away: they fit the rig and say nothing
true. A lost sensor is marked absent, as on the vehicle.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from common import Row, write_result
from oracle import asked, opened, validation_frames

from fusionkd.data import Batch, NuScenesDataModule
from fusionkd.geometry.camera import CAMERAS
from fusionkd.metrics import Detections, DetectionTruth, NuScenesFigures, evaluate
from fusionkd.models import Decoder
from fusionkd.teachers import load_trained

CHECKPOINTS = ("zoo:student", "zoo:fused")
TARGET_MAP_POINTS = 4.0
Change = Callable[[Batch, Batch], Batch]
"""A batch and another one of as many frames, made one."""


def as_it_is(batch: Batch, other: Batch) -> Batch:
    return batch


def with_images_of(batch: Batch, other: Batch) -> Batch:
    return replace(batch, images=other.images)


def with_lidar_of(batch: Batch, other: Batch) -> Batch:
    return replace(batch, lidar=other.lidar, lidar_depth=other.lidar_depth)


def without_lidar(batch: Batch, other: Batch) -> Batch:
    return replace(batch, lidar_present=torch.zeros_like(batch.lidar_present))


def without_cameras(*lost: int) -> Change:
    def change(batch: Batch, other: Batch) -> Batch:
        present = batch.camera_present.clone()
        present[:, list(lost)] = False
        return replace(batch, camera_present=present)

    return change


def changes() -> dict[str, Change]:
    """What is done to the input, by name; the first is nothing."""
    out: dict[str, Change] = {
        "as it is": as_it_is,
        "another frame's images": with_images_of,
        "another frame's LiDAR": with_lidar_of,
        "no LiDAR": without_lidar,
        "no camera": without_cameras(*range(len(CAMERAS))),
    }
    return out | {f"no {name}": without_cameras(place) for place, name in enumerate(CAMERAS)}


@torch.no_grad()
def judge(
    checkpoints: list[str], data: NuScenesDataModule, frames: int | None
) -> dict[tuple[str, str], NuScenesFigures]:
    """Figures by model and change."""
    models = {name: load_trained(name)[0].eval() for name in checkpoints}
    found: dict[tuple[str, str], list[object]] = {(name, what): [] for name in models for what in changes()}
    decoder, tokens, poses, dataset = Decoder(), [], [], validation_frames(data, frames)
    for item in range(len(dataset)):
        batch, other = (data.batch([dataset[at % len(dataset)]]) for at in (item, item + len(dataset) // 2))
        tokens += batch.token
        poses += list(np.asarray(batch.global_from_ego))
        for what, change in changes().items():
            seen = change(batch, other)
            for name, model in models.items():
                found[name, what] += decoder(model(seen))
    truth = DetectionTruth.from_index(data.index, data.scenes("val"))
    return {
        key: evaluate(truth, Detections.from_ego(tokens, boxes, np.stack(poses)), missing="ignore")
        for key, boxes in found.items()
    }


def rows_of(figures: dict[tuple[str, str], NuScenesFigures], name: str) -> list[Row]:
    """A model's figures and what each change costs."""
    plain = figures[name, "as it is"]
    rows = [Row(f"{name}, as it is: mAP", 100 * plain.mean_ap, "points")]
    rows += [Row(f"{name}, as it is: NDS", 100 * plain.nds, "points")]
    for what in list(changes())[1:]:
        other = figures[name, what]
        target = TARGET_MAP_POINTS if what.startswith("another") else None
        rows.append(
            Row(f"{name}, {what}: mAP lost", 100 * (plain.mean_ap - other.mean_ap), "points of mAP", target=target)
        )
        rows.append(Row(f"{name}, {what}: NDS left", 100 * other.nds, "points", "as it is", 100 * plain.nds))
    return rows


def main() -> None:
    given = asked(__doc__, root="data/nuscenes-mini", version="v1.0-mini", checkpoints=CHECKPOINTS)
    data = opened(given)
    figures = judge(given.checkpoints, data, given.frames)
    rows = [row for name in given.checkpoints for row in rows_of(figures, name)]
    write_result("modality_use", rows, simulated=data.is_simulated, packages=("torch",))


if __name__ == "__main__":
    main()
