"""From curves along recall to nuScenes' figures."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from fusionkd.geometry import DETECTION_CLASSES
from fusionkd.metrics.settings import TP_ERRORS, UNDEFINED_ERRORS, DetectionSettings


@dataclass(frozen=True, eq=False)
class DetectionCurves:
    """Curves at recalls 0, 0.01 ... 1, of C classes and T match distances.

    Attributes:
        precision: (C, T, 101), 0 beyond the recall that was reached.
        confidence: Score at which each recall is reached, (C, T, 101), 0 beyond.
        error: Errors of true positives at the settings' ``tp_distance_m``, in the order of ``TP_ERRORS``, (C, 5, 101).
        positives: Annotations that count, per class, (C,).
        settings: What was measured.
    """

    precision: NDArray[np.float64]
    confidence: NDArray[np.float64]
    error: NDArray[np.float64]
    positives: NDArray[np.int64]
    settings: DetectionSettings

    def figures(self) -> "NuScenesFigures":
        """Averages along recall; a class without annotations has an AP of 0 and errors of 1."""
        s = self.settings
        first = round(100 * s.min_recall) + 1
        precision = np.clip(self.precision[:, :, first:] - s.min_precision, 0, None)
        error = np.ones((len(DETECTION_CLASSES), len(TP_ERRORS)))
        for label, name in enumerate(DETECTION_CLASSES):
            reached = np.flatnonzero(self.confidence[label, s.tp_index])
            if len(reached) and reached[-1] >= first:
                error[label] = self.error[label, :, first : reached[-1] + 1].mean(axis=1)
            for undefined in UNDEFINED_ERRORS.get(name, ()):
                error[label, TP_ERRORS.index(undefined)] = np.nan
        return NuScenesFigures(precision.mean(axis=2) / (1.0 - s.min_precision), error, self.positives, s)


@dataclass(frozen=True, eq=False)
class NuScenesFigures:
    """The figures of nuScenes' detection task (Caesar et al., CVPR 2020, section 3.1).

    Attributes:
        average_precision: Per class and match distance, (10, T).
        tp_error: Per class in the order of ``TP_ERRORS``, (10, 5); NaN where nuScenes defines none.
        positives: Annotations that counted, per class, (10,).
        settings: What was measured.
    """

    average_precision: NDArray[np.float64]
    tp_error: NDArray[np.float64]
    positives: NDArray[np.int64]
    settings: DetectionSettings

    @cached_property
    def class_ap(self) -> NDArray[np.float64]:
        """Mean over the match distances per class, (10,)."""
        return np.asarray(self.average_precision.mean(axis=1))

    @property
    def mean_ap(self) -> float:
        """MAP: mean over all ten classes, those without annotations too."""
        return float(self.class_ap.mean())

    @property
    def mean_ap_present(self) -> float:
        """Mean AP of the classes that have annotations, NaN if none has. Not an official figure."""
        return float(self.class_ap[self.positives > 0].mean()) if np.any(self.positives > 0) else float("nan")

    @cached_property
    def mean_tp_error(self) -> NDArray[np.float64]:
        """MATE, mASE, mAOE, mAVE and mAAE, (5,)."""
        return np.asarray(np.nanmean(self.tp_error, axis=0))

    @property
    def tp_score(self) -> NDArray[np.float64]:
        """``max(0, 1 - error)``, (5,)."""
        return np.maximum(0.0, 1.0 - self.mean_tp_error)

    @property
    def nds(self) -> float:
        """The nuScenes detection score: mAP, weighted, and the five scores of true positives."""
        weight = self.settings.mean_ap_weight
        return float((weight * self.mean_ap + self.tp_score.sum()) / (weight + len(TP_ERRORS)))

    def to_dict(self) -> dict[str, float]:
        """All figures by name, as they are logged.

        ``mAP``, ``NDS``, ``mATE``, ``mASE``, ``mAOE``, ``mAVE``, ``mAAE``; per class ``AP/car``, per class and match
        distance ``AP/car@0.5``, per class and error ``ATE/car`` (NaN where nuScenes defines none).
        """
        figures = {"mAP": self.mean_ap, "NDS": self.nds}
        figures |= {f"m{name}": float(value) for name, value in zip(TP_ERRORS, self.mean_tp_error)}
        for label, name in enumerate(DETECTION_CLASSES):
            figures[f"AP/{name}"] = float(self.class_ap[label])
            for t, distance_m in enumerate(self.settings.match_distances_m):
                figures[f"AP/{name}@{distance_m}"] = float(self.average_precision[label, t])
            for e, error in enumerate(TP_ERRORS):
                figures[f"{error}/{name}"] = float(self.tp_error[label, e])
        return figures


def format_table(figures: Mapping[str, float]) -> str:
    """The figures of ``NuScenesFigures.to_dict`` as text: one line per class, then the means."""
    columns = ("AP", *TP_ERRORS)
    lines = [f"{'class':<21}" + "".join(f"{column:>8}" for column in columns)]
    for name in DETECTION_CLASSES:
        lines.append(f"{name:<21}" + "".join(f"{figures[f'{column}/{name}']:>8.3f}" for column in columns))
    lines.append(f"{'mean':<21}" + "".join(f"{figures[f'm{column}']:>8.3f}" for column in columns))
    return "\n".join([*lines, f"{'NDS':<21}{figures['NDS']:>8.3f}"])
