"""One description of a frame and what was detected in it; everything else here only draws it."""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fusionkd.data import Frame
from fusionkd.errors import UserError
from fusionkd.geometry import DETECTION_CLASSES, Boxes3D
from fusionkd.visualize.verdict import judge, within_range

Rgb = tuple[float, float, float]
Weight = Literal["faint", "normal", "strong"]
ColourBy = Literal["height", "intensity"]

ANNOTATION_RGB: Rgb = (0.30, 0.79, 0.94)
PREDICTION_RGB: Rgb = (1.00, 0.62, 0.11)
"""Sky blue and orange: two colours that people with any colour vision tell apart."""

FOUND, MISSED = "annotation, found", "annotation, missed"
MATCHED, INVENTED = "prediction, matched", "prediction, invented"
ANNOTATION, PREDICTION = "annotation", "prediction"
ANNOTATION_BEYOND, PREDICTION_BEYOND = "annotation, beyond range", "prediction, beyond range"

SCORE_THRESHOLD = 0.3
"""Predictions below this score are left out of pictures unless told otherwise."""

KEYFRAME_AGE_S = 0.01
"""Points older than this belong to earlier sweeps."""


def _car() -> Boxes3D:
    # nuScenes' Renault Zoe; the ego frame's origin lies on the ground under the rear axle.
    return Boxes3D.from_array(np.array([[1.38, 0, 0.78, 4.08, 1.73, 1.56, 0, 0, 0]]), np.zeros(1, np.int64))


@dataclass(frozen=True)
class BoxSet:
    """Boxes that mean the same and look the same.

    Attributes:
        name: What they are, as the legend says it.
        boxes: In the scene's frame.
        colour_rgb: 0..1.
        weight: ``strong`` for what a reader should see first, ``faint`` for what counts for nothing.
    """

    name: str
    boxes: Boxes3D
    colour_rgb: Rgb
    weight: Weight = "normal"

    @property
    def is_prediction(self) -> bool:
        """Whether a model made them, not an annotator."""
        return self.name.startswith(PREDICTION)


@dataclass(frozen=True)
class Scene:
    """What there is to draw, in the ego frame: x forward, y left, z up, metres.

    Attributes:
        title: One line.
        points_m: (P, 3) float32.
        point_rgb: Their colours, (P, 3) float32 in 0..1.
        box_sets: In drawing order: what comes later lies on top.
        simulated: Whether the data is simulated; every drawing says so.
        score_threshold: Score below which predictions were left out, None where there are no predictions.
        ego: The car itself, one box.
    """

    title: str
    points_m: NDArray[np.float32]
    point_rgb: NDArray[np.float32]
    box_sets: tuple[BoxSet, ...]
    simulated: bool
    score_threshold: float | None = None
    ego: Boxes3D = field(default_factory=_car)

    def __post_init__(self) -> None:
        if self.points_m.shape != self.point_rgb.shape or self.points_m.shape[1:] != (3,):
            raise ValueError(
                f"Scene.points_m and point_rgb must both be (P, 3), found {self.points_m.shape} and "
                f"{self.point_rgb.shape}."
            )

    def boxes(self, name: str) -> Boxes3D:
        """The boxes of a name; none where there is no such set."""
        return Boxes3D.concatenate([boxes.boxes for boxes in self.box_sets if boxes.name == name])

    @property
    def is_judged(self) -> bool:
        """Whether predictions were compared with annotations."""
        return any(boxes.name in (FOUND, MISSED, MATCHED, INVENTED) for boxes in self.box_sets)


def scene_from_frame(
    frame: Frame,
    predictions: Boxes3D | None,
    *,
    title: str,
    simulated: bool,
    score_threshold: float = SCORE_THRESHOLD,
    colour_by: ColourBy = "height",
    max_age_s: float = KEYFRAME_AGE_S,
) -> Scene:
    """The scene of a frame, with predictions judged against its annotations where it has both.

    Args:
        frame: Points and annotations.
        predictions: Boxes in the frame's ego frame, or None to draw annotations alone.
        title: One line for the top of the picture.
        simulated: Whether the data is simulated.
        score_threshold: Predictions below this score are left out, also of the judgement.
        colour_by: What the points' colour shows.
        max_age_s: Older points are left out, because moving objects smear over them.

    Raises:
        UserError: If the threshold lies outside 0..1.
    """
    if not 0 <= score_threshold <= 1:
        raise UserError(f"The score threshold must lie between 0 and 1, found {score_threshold}.")
    points = frame.points[frame.points[:, 4] <= max_age_s]
    shown = None if predictions is None else predictions.select(predictions.score >= score_threshold)
    return Scene(
        title=title,
        points_m=np.ascontiguousarray(points[:, :3]),
        point_rgb=point_colours(points, colour_by),
        box_sets=_box_sets(frame.boxes, shown),
        simulated=simulated,
        score_threshold=None if shown is None else score_threshold,
    )


def point_colours(points: NDArray[np.float32], colour_by: ColourBy) -> NDArray[np.float32]:
    """Quiet colours, from dark slate to pale grey, so that boxes stand out.

    Args:
        points: (P, >= 4): x, y, z in ego, intensity 0..255.
        colour_by: ``height`` is brightest at 3 m above the ground, ``intensity`` at 255.

    Returns:
        (P, 3) float32 in 0..1.
    """
    # The root of the intensity, because most returns are weak.
    share = (points[:, 2] + 0.5) / 3.5 if colour_by == "height" else np.sqrt(np.clip(points[:, 3], 0, 255) / 255)
    low, high = np.array([0.36, 0.41, 0.49]), np.array([0.93, 0.92, 0.88])
    return np.asarray(low + np.clip(share, 0, 1)[:, None] * (high - low), dtype=np.float32)


def tally(scene: Scene) -> NDArray[np.int64]:
    """Found, missed and invented objects per class, (10, 3); zeros where nothing was judged."""
    counts = [
        np.bincount(scene.boxes(name).label, minlength=len(DETECTION_CLASSES)) for name in (FOUND, MISSED, INVENTED)
    ]
    return np.stack(counts, axis=1).astype(np.int64)


def summary(scene: Scene) -> str:
    """What was found, missed and invented, in one line."""
    if scene.is_judged:
        found, missed, invented = tally(scene).sum(axis=0).tolist()
        return f"found {found} of {found + missed} objects, missed {missed}, invented {invented}"
    if scene.score_threshold is None:
        return f"{len(scene.boxes(ANNOTATION))} annotations"
    return f"{len(scene.boxes(PREDICTION))} predictions, no annotations to judge them by"


def _box_sets(annotations: Boxes3D | None, predictions: Boxes3D | None) -> tuple[BoxSet, ...]:
    if predictions is None:
        return () if annotations is None else (BoxSet(ANNOTATION, annotations, ANNOTATION_RGB),)
    if annotations is None:
        return (BoxSet(PREDICTION, predictions, PREDICTION_RGB),)
    near_a, near_p = within_range(annotations), within_range(predictions)
    judged_a, judged_p = annotations.select(near_a), predictions.select(near_p)
    verdict = judge(judged_p, judged_a)
    return (
        BoxSet(ANNOTATION_BEYOND, annotations.select(~near_a), ANNOTATION_RGB, "faint"),
        BoxSet(PREDICTION_BEYOND, predictions.select(~near_p), PREDICTION_RGB, "faint"),
        BoxSet(FOUND, judged_a.select(verdict.found), ANNOTATION_RGB),
        BoxSet(MATCHED, judged_p.select(verdict.matched), PREDICTION_RGB),
        BoxSet(MISSED, judged_a.select(~verdict.found), ANNOTATION_RGB, "strong"),
        BoxSet(INVENTED, judged_p.select(~verdict.matched), PREDICTION_RGB, "strong"),
    )
