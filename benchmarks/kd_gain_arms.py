"""What ``kd_gain.py`` compares: every arm is an overlay of configs/nuscenes_mini.yaml.

All arms have the same student, the same number of steps of equally many frames, and the same loss forms on labels.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import yaml

CONFIG: Final = Path(__file__).resolve().parent.parent / "configs" / "nuscenes_mini.yaml"
MAIN: Final[dict[str, Any]] = yaml.safe_load(CONFIG.read_text())
DIGEST: Final = hashlib.sha256(json.dumps([MAIN["data"], MAIN["model"]], sort_keys=True).encode()).hexdigest()[:16]
"""Stands for the main job's student, terms and data: results under another one can't be compared."""
STEPS: Final = 400
LEARNING_RATES: Final = (2e-3, 4e-3, 8e-3, 1.6e-2)
SEEDS: Final = (0, 1, 2)
AUGMENTATION: Final = {"flip_x": 0.5, "flip_y": 0.5, "max_rotation_rad": 0.3925, "scale": [0.95, 1.05]}
ALL: Final = ("lidar", "camera", "fused")
CACHE: Final = "data/kd-gain-cache"
"""Of the teachers' answers, from the repository's root."""
TEACHER_SETS: Final = {
    "L": ("lidar",),
    "C": ("camera",),
    "F": ("fused",),
    "L+C": ("lidar", "camera"),
    "L+C+F": ALL,
}
TERMS: Final = ("labels", "heatmap", "box", "bev", "relation")
TWINS: Final = {
    "labels": {"heatmap": 2.0, "heatmap_quality": 2.0, "box": 0.5, "velocity": 0.2, "heading": 0.5, "direction": 0.2},
    "heatmap": {"heatmap_quality": 1.5},
    "box": {"box": 0.5, "velocity": 0.2, "heading": 0.5},
}
"""Losses on annotations that have the form of a term and, added, its weight. A feature has no annotation."""


@dataclass(frozen=True)
class Arm:
    """A way to train the student.

    Attributes:
        name: Of its result files.
        overlay: Settings over those of the main job.
        steps: Of the optimiser.
        few_labels: Whether two scenes are labelled, or all.
    """

    name: str
    overlay: dict[str, Any] = field(default_factory=dict)
    steps: int = STEPS
    few_labels: bool = True


def merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Nested settings, those of ``over`` first."""
    out = dict(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(out.get(key), dict)
        out[key] = merged(out[key], value) if both else value
    return out


def at_rate(arm: Arm, lr: float) -> Arm:
    """An arm at another learning rate, with its name."""
    return replace(arm, name=f"{arm.name}-lr{lr:g}", overlay=merged(arm.overlay, {"model": {"optimizer": {"lr": lr}}}))


def longer(arm: Arm, factor: int) -> Arm:
    """An arm with so many times as many steps."""
    return replace(arm, name=f"{arm.name}-x{factor}", steps=arm.steps * factor)


def with_all_labels(arm: Arm) -> Arm:
    """An arm whose every training scene is labelled; no frames are left without labels."""
    data = {"unlabelled_scenes": None, "unlabelled_per_batch": None}
    overlay = merged(arm.overlay, {"data": {"init_args": data}})
    return replace(arm, name=f"{arm.name}-all-labels", overlay=overlay, few_labels=False)


def labelled_frames_only(arm: Arm) -> Arm:
    """An arm whose teachers speak of the labelled frames alone."""
    data = {"unlabelled_scenes": None, "unlabelled_per_batch": None}
    return replace(arm, name=f"{arm.name}-labelled-frames", overlay=merged(arm.overlay, {"data": {"init_args": data}}))


def control(*, augmented: bool) -> Arm:
    """The student without teachers; unlabelled frames would teach it nothing."""
    data = {
        "unlabelled_scenes": None,
        "unlabelled_per_batch": None,
        "bev_augmentation": augmentation(augmented),
        "lidar_views": {"raster": MAIN["data"]["init_args"]["lidar_views"]["raster"]},
    }
    model = {"teachers": {}, "terms": {}, "remember_teachers": False}
    name = "control-augmented" if augmented else "control"
    return Arm(name, {"data": {"init_args": data}, "model": model})


def twin(base: Arm, term: str) -> Arm:
    """The control with as much more of a loss on annotations as a term has of the same form."""
    loss = {"class_path": "fusionkd.models.CenterLoss", "init_args": {"weights": TWINS[term]}}
    return replace(base, name=f"twin-{term}", overlay=merged(base.overlay, {"model": {"loss": loss}}))


def taught(
    name: str, teachers: Sequence[str], terms: Iterable[str] = TERMS, *, augmented: bool = False, cache: str = CACHE
) -> Arm:
    """The student of some teachers by some of the main job's terms.

    Answers are kept on the disk, where all runs find them, and follow the augmentation.
    """
    known = recipe(teachers)
    chosen = {name: known[name] for name in terms}
    asked = {teacher for one in chosen.values() for teacher in _names(one["init_args"]["teacher"])}
    frozen = cached([teacher for teacher in ALL if teacher in asked], cache)
    data = {"bev_augmentation": augmentation(augmented)}
    model = {"teachers": frozen, "terms": chosen, "remember_teachers": False}
    return Arm(f"{name}-augmented" if augmented else name, {"data": {"init_args": data}, "model": model})


def recipe(teachers: Sequence[str]) -> dict[str, Any]:
    """The main job's terms for some teachers.

    The pseudo-labels and the heatmap come from all of them; box, features and relation from the one that knows most of
    it: the LiDAR's of speeds and shapes, the fused one of features.
    """
    best = next(teacher for teacher in ("fused", "lidar", "camera") if teacher in teachers)
    shape = "lidar" if "lidar" in teachers else best
    # Said in every case: an overlay inherits what it doesn't say from the main job.
    doubts = {"camera": 0.3} if "camera" in teachers and len(teachers) > 1 else None
    return {
        "labels": term("DetectionPseudoLabel", teacher=list(teachers), threshold=0.3, weight=1.0, class_weights=doubts),
        "heatmap": term("HeatmapResponse", teacher=list(teachers), merge="mean", weight=0.5),
        "box": term("BoxResponse", teacher=shape, weight=0.25),
        "bev": term("FeatureMimic", teacher=best, weight=0.5, mask="ground_truth"),
        "relation": term("ObjectRelation", teacher=shape, weight=0.25),
    }


def cached(teachers: Sequence[str], cache: str) -> dict[str, Any]:
    """Shipped teachers whose answers are kept on the disk."""
    return {
        teacher: {
            "class_path": "fusionkd.teachers.CachedTeacher",
            "init_args": {"checkpoint": f"zoo:{teacher}", "cache": cache},
        }
        for teacher in teachers
    }


def augmentation(augmented: bool) -> dict[str, Any] | None:
    """Settings of ``data.bev_augmentation``."""
    return AUGMENTATION if augmented else None


def term(name: str, **arguments: Any) -> dict[str, Any]:
    """A class of ``fusionkd.distillation`` with its arguments."""
    return {"class_path": f"fusionkd.distillation.{name}", "init_args": arguments}


def _names(teacher: str | list[str]) -> list[str]:
    return [teacher] if isinstance(teacher, str) else teacher
