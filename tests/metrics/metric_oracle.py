"""Random annotated worlds, and nuscenes-devkit's own judgement of detections in them."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from nuscenes.eval.common.config import config_factory
from nuscenes.eval.common.data_classes import EvalBoxes
from nuscenes.eval.common.loaders import add_center_dist, filter_eval_boxes
from nuscenes.eval.detection.data_classes import DetectionBox, DetectionMetricDataList, DetectionMetrics
from nuscenes.eval.detection.evaluate import DetectionEval

from fusionkd.geometry import DETECTION_CLASSES
from fusionkd.metrics import ATTRIBUTES, TP_ERRORS, DetectionCurves, Detections, DetectionTruth

DEVKIT_ERRORS = dict(zip(TP_ERRORS, ("trans_err", "scale_err", "orient_err", "vel_err", "attr_err")))
RACK = "static_object.bicycle_rack"


@dataclass
class World:
    """Annotations and detections as tables of plain records in the devkit's notation."""

    ego_xyz_m: dict[str, list[float]]
    annotations: list[dict[str, Any]]
    detections: dict[str, list[dict[str, Any]]]

    def truth(self) -> DetectionTruth:
        tokens = list(self.ego_xyz_m)
        notes = self.annotations
        return DetectionTruth.from_annotations(
            tokens=tokens,
            ego_xyz_m=np.array(list(self.ego_xyz_m.values())).reshape(-1, 3),
            sample=np.array([tokens.index(note["sample_token"]) for note in notes], dtype=np.int64),
            xyz_m=_rows(notes, "translation", 3),
            lwh_m=_rows(notes, "size", 3)[:, [1, 0, 2]],
            wxyz=_rows(notes, "rotation", 4),
            velocity_mps=_rows(notes, "velocity", 2),
            label=np.array([_index(DETECTION_CLASSES, note["name"]) for note in notes], dtype=np.int64),
            attribute=np.array([_index(ATTRIBUTES, note["attribute_name"]) for note in notes], dtype=np.int64),
            num_points=np.array([note["num_pts"] for note in notes], dtype=np.int64),
            is_rack=np.array([note["name"] == RACK for note in notes], dtype=np.bool_),
        )

    def results(self) -> Detections:
        boxes = [box for of_sample in self.detections.values() for box in of_sample]
        wxyz = _rows(boxes, "rotation", 4)
        return Detections(
            tokens=tuple(self.detections),
            start=np.cumsum([0, *map(len, self.detections.values())]),
            xyz_m=_rows(boxes, "translation", 3),
            lwh_m=_rows(boxes, "size", 3)[:, [1, 0, 2]],
            yaw_rad=2 * np.arctan2(wxyz[:, 3], wxyz[:, 0]),
            velocity_mps=_rows(boxes, "velocity", 2),
            label=np.array([_index(DETECTION_CLASSES, box["detection_name"]) for box in boxes], dtype=np.int64),
            score=np.array([box["detection_score"] for box in boxes]),
            attribute=np.array([_index(ATTRIBUTES, box["attribute_name"]) for box in boxes], dtype=np.int64),
        )

    def get(self, table: str, token: str) -> dict[str, Any]:
        """What the devkit's filters ask a NuScenes object for."""
        if table == "sample":
            notes = [i for i, note in enumerate(self.annotations) if note["sample_token"] == token]
            return {"anns": notes, "data": {"LIDAR_TOP": token}}
        if table == "sample_data":
            return {"ego_pose_token": token}
        if table == "ego_pose":
            return {"translation": self.ego_xyz_m[token]}
        return {"category_name": self.annotations[int(token)]["name"], **self.annotations[int(token)]}


def devkit(world: World) -> tuple[DetectionMetrics, DetectionMetricDataList]:
    """The devkit's filters and figures."""
    annotated, predicted = EvalBoxes(), EvalBoxes()
    for token, boxes in world.detections.items():
        notes = [n for n in world.annotations if n["sample_token"] == token and n["name"] in DETECTION_CLASSES]
        annotated.add_boxes(token, [_box(note, note["name"], -1.0, note["num_pts"]) for note in notes])
        predicted.add_boxes(token, [_box(b, b["detection_name"], b["detection_score"], -1) for b in boxes])
    evaluation = object.__new__(DetectionEval)
    evaluation.cfg = config_factory("detection_cvpr_2019")
    evaluation.verbose = False
    for name, boxes in (("gt_boxes", annotated), ("pred_boxes", predicted)):
        add_center_dist(world, boxes)
        # The devkit's filter breaks where there is no box at all.
        kept = filter_eval_boxes(world, boxes, evaluation.cfg.class_range) if boxes.all else boxes
        setattr(evaluation, name, kept)
    return evaluation.evaluate()


def assert_same(curves: DetectionCurves, metrics: DetectionMetrics, data: DetectionMetricDataList) -> None:
    """Every figure and every curve equal to the devkit's."""
    figures = curves.figures()
    for c, name in enumerate(DETECTION_CLASSES):
        for t, limit in enumerate(curves.settings.match_distances_m):
            theirs = data[(name, limit)]
            np.testing.assert_allclose(curves.precision[c, t], theirs.precision, rtol=0, atol=1e-12)
            np.testing.assert_allclose(curves.confidence[c, t], theirs.confidence, rtol=0, atol=1e-12)
            assert abs(figures.average_precision[c, t] - metrics.get_label_ap(name, limit)) < 1e-12
        for e, error in enumerate(TP_ERRORS):
            key = DEVKIT_ERRORS[error]
            np.testing.assert_allclose(curves.error[c, e], getattr(data[(name, 2.0)], key), rtol=1e-9, atol=1e-9)
    assert_same_summary(figures.to_dict(), metrics.serialize())


def assert_same_summary(figures: dict[str, float], summary: dict[str, Any]) -> None:
    """Every figure by name equal to a ``metrics_summary.json`` of the devkit, to 1e-9."""
    expected = {"mAP": summary["mean_ap"], "NDS": summary["nd_score"]}
    expected |= {f"m{error}": summary["tp_errors"][key] for error, key in DEVKIT_ERRORS.items()}
    for name in DETECTION_CLASSES:
        expected[f"AP/{name}"] = summary["mean_dist_aps"][name]
        expected |= {f"AP/{name}@{float(limit)}": ap for limit, ap in summary["label_aps"][name].items()}
        expected |= {f"{e}/{name}": summary["label_tp_errors"][name][key] for e, key in DEVKIT_ERRORS.items()}
    assert figures.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(figures[name], value, rtol=0, atol=1e-9, err_msg=name)


def assert_identical(figures: dict[str, float], others: dict[str, float]) -> None:
    """The same names and, bit for bit, the same values; NaN equals NaN."""
    assert list(figures) == list(others)
    np.testing.assert_array_equal(list(figures.values()), list(others.values()))


def random_world(
    seed: int,
    *,
    samples: int = 3,
    annotations: int = 12,
    detections: int = 20,
    classes: int = 10,
    score_levels: int = 1000,
    step_m: float | None = None,
) -> World:
    """Detections are annotations moved a little, and clutter.

    Args:
        seed: Of the random numbers.
        samples: Keyframes.
        annotations: Most per keyframe.
        detections: Most per keyframe.
        classes: How many of the ten classes occur.
        score_levels: Different scores; few of them make ties.
        step_m: Where given, positions lie on a grid, so that distances tie exactly and meet the thresholds.
    """
    rng = np.random.default_rng(seed)
    names = [str(name) for name in rng.permutation(DETECTION_CLASSES)[:classes]]
    world = World({}, [], {})
    for i in range(samples):
        token = f"sample-{i}"
        ego = np.round(rng.uniform(-500, 500, 3))
        world.ego_xyz_m[token] = ego.tolist()
        notes = [_random_box(rng, ego, names, step_m) for _ in range(rng.integers(annotations + 1))]
        boxes = []
        for _ in range(rng.integers(detections + 1)):
            box = _random_box(rng, ego, names, step_m)
            if notes and rng.random() < 0.7:
                box = _moved(rng, notes[rng.integers(len(notes))], box, step_m)
            score = float(rng.integers(score_levels + 1)) / score_levels
            boxes.append({**box, "detection_name": box["name"], "detection_score": score, "sample_token": token})
        world.detections[token] = boxes
        racks = [{**_random_box(rng, ego, [RACK], step_m), "size": [8.0, 20.0, 60.0]} for _ in range(rng.integers(3))]
        for note in [*notes, *racks]:
            world.annotations.append({**note, "sample_token": token})
    rng.shuffle(world.annotations)
    return world


def _random_box(rng: np.random.Generator, ego: NDArray[Any], names: list[str], step_m: float | None) -> dict[str, Any]:
    name = names[rng.integers(len(names))]
    offset = rng.uniform(-40, 40, 3) * [1, 1, 0.1]
    yaw = rng.uniform(-np.pi, np.pi)
    return {
        "name": name,
        "translation": (ego + _gridded(offset, step_m)).tolist(),
        "size": rng.uniform(0.3, 6, 3).tolist(),
        "rotation": [float(np.cos(yaw / 2)), 0.0, 0.0, float(np.sin(yaw / 2))],
        "velocity": [np.nan, np.nan] if rng.random() < 0.2 else rng.normal(0, 4, 2).tolist(),
        "attribute_name": "" if rng.random() < 0.3 else ATTRIBUTES[rng.integers(len(ATTRIBUTES))],
        "num_pts": int(rng.integers(0, 5)),
    }


def _moved(rng: np.random.Generator, note: dict[str, Any], box: dict[str, Any], step_m: float | None) -> dict[str, Any]:
    shift = rng.normal(0, rng.choice([0.2, 2.0]), 3)
    keep_attribute = rng.random() < 0.5
    return {
        **box,
        "name": note["name"] if rng.random() < 0.9 else box["name"],
        "translation": (np.array(note["translation"]) + _gridded(shift, step_m)).tolist(),
        "attribute_name": note["attribute_name"] if keep_attribute else box["attribute_name"],
    }


def _gridded(offset_m: NDArray[Any], step_m: float | None) -> NDArray[Any]:
    return offset_m if step_m is None else np.round(offset_m / step_m) * step_m


def _box(record: dict[str, Any], name: str, score: float, num_pts: int) -> DetectionBox:
    return DetectionBox(
        sample_token=record["sample_token"],
        translation=tuple(record["translation"]),
        size=tuple(record["size"]),
        rotation=tuple(record["rotation"]),
        velocity=tuple(record["velocity"]),
        num_pts=num_pts,
        detection_name=name,
        detection_score=score,
        attribute_name=record["attribute_name"],
    )


def _rows(records: list[dict[str, Any]], key: str, width: int) -> NDArray[np.float64]:
    return np.array([record[key] for record in records], dtype=np.float64).reshape(len(records), width)


def _index(names: tuple[str, ...], name: str) -> int:
    return names.index(name) if name in names else -1
