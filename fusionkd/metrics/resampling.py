"""How figures would scatter had other scenes been recorded: the bootstrap over scenes."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from fusionkd.errors import UserError
from fusionkd.metrics.detection import evaluate
from fusionkd.metrics.detections import Detections
from fusionkd.metrics.figures import NuScenesFigures
from fusionkd.metrics.settings import DETECTION_CVPR_2019, DetectionSettings
from fusionkd.metrics.truth import DetectionTruth


def scene_bootstrap(
    truth: DetectionTruth,
    detections: Detections,
    scenes: Sequence[str],
    *,
    draws: int = 200,
    seed: int = 0,
    settings: DetectionSettings = DETECTION_CVPR_2019,
) -> list[NuScenesFigures]:
    """Figures on resampled sets of scenes (Efron & Tibshirani, 1993, chapter 8: the unit is the scene).

    Frames of one scene show the same objects; to draw frames instead would claim too much certainty. Two models that
    are judged on the same scenes with the same seed meet the same draws, so their differences are paired.

    Args:
        truth: Annotations.
        detections: Results of every sample of the truth.
        scenes: The scene of each sample of the truth, in its order.
        draws: Number of resampled sets, each with as many scenes as there are.
        seed: Of the draws.
        settings: Ranges, thresholds and weights.

    Returns:
        Figures per draw.

    Raises:
        UserError: If there isn't one scene per sample, or samples don't fit together.
    """
    if len(scenes) != len(truth):
        raise UserError(f"scene_bootstrap needs a scene for each of {len(truth)} samples, found {len(scenes)}.")
    names = sorted(set(scenes))
    samples_of = [np.flatnonzero(np.array(scenes) == name) for name in names]
    chosen = np.random.default_rng(seed).integers(0, len(names), (draws, len(names)))
    out = []
    for draw in chosen:
        samples = np.concatenate([samples_of[scene] for scene in draw])
        again = repeated(truth, samples)
        shown = detections.shown_at(again.tokens, [truth.tokens[sample] for sample in samples])
        out.append(evaluate(again, shown, settings=settings))
    return out


def repeated(truth: DetectionTruth, samples: NDArray[np.int64]) -> DetectionTruth:
    """The truth of some samples, in this order, each as often as it is named, under tokens of their own.

    Args:
        truth: Annotations of N samples.
        samples: Indices below N, (M,).
    """
    boxes, start = _rows(truth.start, samples)
    racks, rack_start = _rows(truth.rack_start, samples)
    return replace(
        truth,
        tokens=tuple(f"{place}:{truth.tokens[sample]}" for place, sample in enumerate(samples)),
        ego_xyz_m=truth.ego_xyz_m[samples],
        start=start,
        rack_sample=np.repeat(np.arange(len(samples)), np.diff(rack_start)),
        rack_corners_m=truth.rack_corners_m[racks],
        **{
            name: getattr(truth, name)[boxes]
            for name in ("xyz_m", "lwh_m", "yaw_rad", "velocity_mps", "label", "attribute", "num_points")
        },
    )


def _rows(start: NDArray[np.int64], samples: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of the samples one after the other, and where each sample's begin among them."""
    spans = [np.arange(start[sample], start[sample + 1]) for sample in samples]
    return np.concatenate([np.zeros(0, np.int64), *spans]), np.cumsum([0, *map(len, spans)])
