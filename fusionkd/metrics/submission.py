"""Results files of nuScenes' detection task: written as the devkit accepts them, read with errors that name the box."""

import json
import math
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from fusionkd.errors import UserError
from fusionkd.geometry import DETECTION_CLASSES, rotation_from_quaternion
from fusionkd.metrics.attributes import ATTRIBUTES, attribute_index
from fusionkd.metrics.detections import Detections
from fusionkd.metrics.results_json import read_results
from fusionkd.metrics.settings import DETECTION_CVPR_2019

MODALITIES: tuple[str, ...] = ("use_camera", "use_lidar", "use_radar", "use_map", "use_external")
"""What a results file must say it used, each true or false."""

_LABEL = {name: label for label, name in enumerate(DETECTION_CLASSES)}
_LARGEST_INTEGER = 2**53  # beyond it a float is another number
_BOXES_AT_ONCE = 10_000  # as dictionaries, they take some 25 MB
_LENGTHS = {"translation": 3, "size": 3, "rotation": 4, "velocity": 2}


@dataclass(frozen=True)
class Submission:
    """What a results file holds.

    Attributes:
        meta: The file's ``meta``: whether each of ``MODALITIES`` was used, and whatever else it says.
        detections: Its boxes in the file's order.
    """

    meta: dict[str, Any]
    detections: Detections


def write_submission(
    path: str | Path,
    detections: Detections,
    *,
    samples: Sequence[str],
    use_camera: bool,
    use_lidar: bool,
    use_radar: bool = False,
    use_map: bool = False,
    use_external: bool = False,
) -> None:
    """Write a results file that the devkit's ``DetectionEval`` and the nuScenes server accept.

    Boxes are upright: their rotation is a turn about z. The file appears whole or not at all.

    Args:
        path: Where to; its folder is made.
        detections: Results of all samples.
        samples: Tokens of all samples of the split, in the order of the file.
        use_camera: Whether images were used at inference; the other flags likewise.
        use_lidar: LiDAR.
        use_radar: Radar.
        use_map: Map data.
        use_external: External data, for training too.

    Raises:
        UserError: If a sample has no entry or too many boxes, or there are results for a sample not in the split.
    """
    absent = [token for token in samples if token not in detections.row_of]
    if absent:
        raise UserError(
            f"A results file needs every sample of its split: {len(absent)} of {len(samples)} have no results, for "
            f"example {absent[0]}. Was only a part of the split evaluated (limit_test_batches, fast_dev_run)?"
        )
    if len(detections.tokens) != len(samples):
        foreign = sorted(set(detections.tokens) - set(samples))
        raise UserError(f"There are results for {len(foreign)} samples not in the split, for example {foreign[0]}.")
    limit = DETECTION_CVPR_2019.max_boxes_per_sample
    for token, count in zip(detections.tokens, np.diff(detections.start).tolist()):
        if count > limit:
            raise UserError(f"Sample {token} has {count} detections; nuScenes allows at most {limit}.")
    flags = (use_camera, use_lidar, use_radar, use_map, use_external)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w") as stream:
            _write(stream, detections, samples=samples, meta=dict(zip(MODALITIES, map(bool, flags))))
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _write(stream: TextIO, detections: Detections, *, samples: Sequence[str], meta: dict[str, bool]) -> None:
    # Sample by sample, so that a split of millions of boxes never lies in memory as text.
    stream.write(f'{{"meta": {json.dumps(meta)}, "results": {{')
    for number, token in enumerate(samples):
        boxes = list(_box_dicts(detections, token))
        stream.write(f"{',' if number else ''}\n{json.dumps(token)}: {json.dumps(boxes)}")
    stream.write("\n}}\n")


def _box_dicts(detections: Detections, token: str) -> Iterator[dict[str, Any]]:
    rows = detections.rows(token)
    half = detections.yaw_rad[rows] / 2
    zero = np.zeros(len(half))
    columns = zip(
        detections.xyz_m[rows].tolist(),
        detections.lwh_m[rows][:, [1, 0, 2]].tolist(),
        np.stack([np.cos(half), zero, zero, np.sin(half)], axis=1).tolist(),
        detections.velocity_mps[rows].tolist(),
        detections.label[rows].tolist(),
        detections.score[rows].tolist(),
        detections.attribute[rows].tolist(),
    )
    for xyz_m, wlh_m, wxyz, velocity_mps, label, score, attribute in columns:
        yield {
            "sample_token": token,
            "translation": xyz_m,
            "size": wlh_m,
            "rotation": wxyz,
            "velocity": velocity_mps,
            "detection_name": DETECTION_CLASSES[label],
            "detection_score": score,
            "attribute_name": ATTRIBUTES[attribute] if attribute >= 0 else "",
        }


def read_submission(path: str | Path, *, samples: Sequence[str] | None = None) -> Submission:
    """Read a results file.

    Args:
        path: The JSON file.
        samples: Where given, the tokens that the file must name, no more and no fewer.

    Raises:
        UserError: If the file is missing or malformed; the message names the file, the sample and the key.
    """
    path = Path(path)
    gathered = _Gathered(path)
    try:
        content = read_results(path, gathered.take)
    except UserError:  # of a box
        raise
    except FileNotFoundError:
        raise UserError(f"There is no results file {path}.") from None
    except (OSError, ValueError) as error:
        raise UserError(f"Results file {path} can't be read as JSON: {error}. Was it cut off?") from None
    for key, kind in (("meta", dict), ("results", type(None))):
        if not isinstance(content, dict) or key not in content or not isinstance(content[key], kind):
            raise UserError(
                f'Results file {path} must hold an object with "meta" and "results", both objects: {key!r} is not '
                f"there or something else. https://www.nuscenes.org/object-detection describes the format."
            )
    if samples is not None:
        _check_samples(path, gathered.counts, samples)
    return Submission(meta=content["meta"], detections=gathered.detections())


class _Gathered:
    """The boxes of samples that come one after the other, turned into columns some thousands at a time.

    Args:
        path: The results file, for messages.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.counts: dict[str, int] = {}
        self._waiting: dict[str, list[Any]] = {}
        self._boxes = 0
        self._parts: list[dict[str, NDArray[Any]]] = []

    def take(self, token: str, boxes: Any) -> None:
        """The boxes of one more sample."""
        limit = DETECTION_CVPR_2019.max_boxes_per_sample
        if not isinstance(boxes, list):
            raise UserError(
                f"{self._path}: the results of sample {token} must be a list of boxes, found {_short(boxes)}."
            )
        if len(boxes) > limit:
            raise UserError(f"{self._path}: sample {token} has {len(boxes)} boxes; nuScenes allows at most {limit}.")
        if token in self.counts:
            raise UserError(f"{self._path} names sample {token} twice.")
        self.counts[token] = len(boxes)
        self._waiting[token] = boxes
        self._boxes += len(boxes)
        if self._boxes >= _BOXES_AT_ONCE:
            self._settle()

    def detections(self) -> Detections:
        """All of them."""
        self._settle()
        columns = {name: np.concatenate([part.pop(name) for part in self._parts]) for name in list(self._parts[0])}
        return Detections(tokens=tuple(self.counts), start=np.cumsum([0, *self.counts.values()]), **columns)

    def _settle(self) -> None:
        boxes = [box for of_sample in self._waiting.values() for box in of_sample]
        try:
            columns = _columns(boxes)
        except (KeyError, TypeError, ValueError):
            columns = None
        if columns is None or not _fits(self._waiting, columns):
            raise UserError(f"{self._path}: {_first_mistake(self._waiting)}")
        self._parts.append(columns)
        self._waiting, self._boxes = {}, 0


def _check_samples(path: Path, results: Mapping[str, Any], samples: Sequence[str]) -> None:
    absent = [token for token in samples if token not in results]
    if absent:
        raise UserError(
            f"{path} has no results for {len(absent)} of {len(samples)} samples, for example {absent[0]}. "
            f"A sample without detections must be present with an empty list."
        )
    if len(results) != len(samples):
        foreign = sorted(set(results) - set(samples))
        raise UserError(
            f"{path} has results for {len(foreign)} samples that don't belong to the split, for example {foreign[0]}."
        )


def _columns(boxes: list[dict[str, Any]]) -> dict[str, NDArray[Any]]:
    """Columns of ``Detections`` from boxes that are well-formed; any exception or misfit says they are not."""
    numbers = {key: _numbers(boxes, key, length) for key, length in _LENGTHS.items()}
    axes = rotation_from_quaternion(numbers["rotation"])
    return {
        "xyz_m": numbers["translation"],
        "lwh_m": numbers["size"][:, [1, 0, 2]],
        "yaw_rad": np.arctan2(axes[:, 1, 0], axes[:, 0, 0]),
        "velocity_mps": numbers["velocity"],
        "label": np.array([_LABEL[box["detection_name"]] for box in boxes], dtype=np.int64),
        "score": _numbers(boxes, "detection_score", 1)[:, 0],
        "attribute": np.array([attribute_index(box["attribute_name"]) for box in boxes], dtype=np.int64),
    }


def _numbers(boxes: list[dict[str, Any]], key: str, length: int) -> NDArray[np.float64]:
    array = np.array([box[key] for box in boxes])
    # Told to make floats, NumPy would make them of "1.5" and null too.
    if len(boxes) and array.dtype.kind not in "fi":
        raise TypeError(key)
    return array.astype(np.float64).reshape(len(boxes), length)


def _fits(results: dict[str, list[Any]], columns: dict[str, NDArray[Any]]) -> bool:
    return bool(
        np.all(np.isfinite(columns["xyz_m"]))
        and np.all(np.isfinite(columns["lwh_m"]) & (columns["lwh_m"] > 0))
        and not np.any(np.isinf(columns["velocity_mps"]))
        and np.all(np.isfinite(columns["score"]) & (columns["score"] >= 0))
        and all(box["sample_token"] == token for token, of_sample in results.items() for box in of_sample)
    )


def _first_mistake(results: dict[str, list[Any]]) -> str:
    """What is wrong with the first malformed box, as a sentence."""
    return next(
        f"box {number} of sample {token} {mistake}."
        for token, boxes in results.items()
        for number, box in enumerate(boxes)
        if (mistake := _mistake(token, box))
    )


def _mistake(token: str, box: Any) -> str | None:
    if not isinstance(box, dict):
        return f"must be an object, found {_short(box)}"
    for key in ("sample_token", *_LENGTHS, "detection_name", "detection_score", "attribute_name"):
        if key not in box:
            return f"has no key {key!r}"
    if box["sample_token"] != token:
        return f"has sample_token={_short(box['sample_token'])}; it must be that of the list it stands in"
    for key, length in _LENGTHS.items():
        if not _are_numbers(box[key], length, nan_allowed=key == "velocity"):
            return f"has {key}={_short(box[key])}; expected {length} finite numbers"
    if not all(side > 0 for side in box["size"]):
        return f"has size={_short(box['size'])}; width, length and height must be positive"
    if math.hypot(*box["rotation"]) < 1e-6:
        return f"has rotation={_short(box['rotation'])}; expected a unit quaternion (w, x, y, z)"
    if box["detection_name"] not in DETECTION_CLASSES:
        return f"has detection_name={_short(box['detection_name'])}; expected one of {', '.join(DETECTION_CLASSES)}"
    if not _are_numbers([box["detection_score"]], 1) or box["detection_score"] < 0:
        return f"has detection_score={_short(box['detection_score'])}; expected a number, not negative"
    if box["attribute_name"] not in ("", *ATTRIBUTES):
        return f'has attribute_name={_short(box["attribute_name"])}; expected "" or one of {", ".join(ATTRIBUTES)}'
    return None


def _are_numbers(values: Any, length: int, *, nan_allowed: bool = False) -> bool:
    if not isinstance(values, list) or len(values) != length:
        return False
    for value in values:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        if isinstance(value, int) and abs(value) > _LARGEST_INTEGER:
            return False
        if not (math.isfinite(value) or (nan_allowed and math.isnan(value))):
            return False
    return True


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:97]}..."
