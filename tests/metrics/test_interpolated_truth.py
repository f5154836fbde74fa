"""Truth between keyframes against the devkit's own interpolation."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from metric_oracle import assert_identical
from nuscenes import NuScenes
from nuscenes.eval.detection.utils import category_to_detection_name
from pyquaternion import Quaternion

from fusionkd.data import FrameRecord, NuScenesIndex
from fusionkd.data.streams import stream_records
from fusionkd.errors import UserError
from fusionkd.geometry import DETECTION_CLASSES
from fusionkd.metrics import DetectionTruth, evaluate, read_submission
from fusionkd.metrics.interpolation import interpolated_truth, slerp

UNIT = st.lists(st.floats(-1, 1), min_size=4, max_size=4).filter(lambda q: np.linalg.norm(q) > 0.1)


@given(first=UNIT, last=UNIT, share=st.floats(0, 1))
def test_slerp_is_pyquaternions(first: list[float], last: list[float], share: float) -> None:
    ours = slerp(np.array([first]), np.array([last]), np.array([share]))[0]
    theirs = Quaternion.slerp(Quaternion(first), Quaternion(last), share).q
    assert abs(abs(np.dot(ours, theirs)) - 1) < 1e-9
    np.testing.assert_allclose(ours, theirs * np.sign(np.dot(ours, theirs)), atol=1e-7)


def test_real_sweeps_have_the_devkits_boxes(minival_root: Path, minival_nusc: NuScenes) -> None:
    index = NuScenesIndex.load(minival_root)
    frames = stream_records(index, "scene-0103")
    keyframes = [number for number, record in enumerate(frames) if record.sample >= 0]
    records = frames[keyframes[0] : keyframes[-1] + 1]
    truth = interpolated_truth(index, records)
    assert len(records) > 5 * len(keyframes)
    compared = 0
    for row, record in enumerate(records):
        boxes = minival_nusc.get_boxes(index.sweeps.token[record.sweep].decode())
        detected = [box for box in boxes if _class_of(box.name)]
        rows = slice(truth.start[row], truth.start[row + 1])
        assert [DETECTION_CLASSES[label] for label in truth.label[rows]] == [_class_of(box.name) for box in detected]
        for place, box in zip(range(rows.start, rows.stop), detected):
            np.testing.assert_allclose(truth.xyz_m[place], box.center, rtol=0, atol=1e-9)
            np.testing.assert_allclose(truth.lwh_m[place], box.wlh[[1, 0, 2]], atol=0)
            ahead = box.rotation_matrix[:2, 0]
            turn = truth.yaw_rad[place] - np.arctan2(ahead[1], ahead[0])
            assert abs(np.remainder(turn + np.pi, 2 * np.pi) - np.pi) < 1e-9
            compared += record.sample < 0
    assert compared > 1000


def test_keyframes_keep_their_own_annotations(minival_root: Path, shared_data: Path) -> None:
    index = NuScenesIndex.load(minival_root)
    scenes = ["scene-0103", "scene-0916"]
    plain = DetectionTruth.from_index(index, scenes)
    ours = interpolated_truth(index, index.records(scenes))
    for name in ("start", "xyz_m", "lwh_m", "yaw_rad", "velocity_mps", "label", "attribute", "num_points"):
        np.testing.assert_allclose(getattr(ours, name), getattr(plain, name), rtol=0, atol=1e-12)
    results = shared_data / "nuscenes-minival-results" / "fastbev_camera_mini_val" / "results_nusc.json"
    found = read_submission(results).detections
    assert_identical(evaluate(ours, found).to_dict(), evaluate(plain, found).to_dict())


def test_velocity_lies_between_and_the_rest_is_the_nearer_keyframes(minival_root: Path) -> None:
    index = NuScenesIndex.load(minival_root)
    frames = stream_records(index, "scene-0916")
    number = next(n for n, record in enumerate(frames) if record.sample >= 0)
    end = next(n for n, record in enumerate(frames) if record.sample >= 0 and n > number)
    truths = {n: interpolated_truth(index, [frames[n]]) for n in range(number, end + 1)}
    rows = {n: {int(i): k for k, i in enumerate(_instances(index, frames, n))} for n in (number, end)}
    both = sorted(set(rows[number]) & set(rows[end]))
    assert len(both) > 5
    start_us, end_us = frames[number].timestamp_us, frames[end].timestamp_us
    for n in range(number + 1, end):
        share = (frames[n].timestamp_us - start_us) / (end_us - start_us)
        near = number if share < 0.5 else end
        for thing in both:
            k, before = rows[end][thing], rows[number][thing]
            between = (1 - share) * truths[number].velocity_mps[before] + share * truths[end].velocity_mps[k]
            np.testing.assert_allclose(truths[n].velocity_mps[k], between, atol=1e-9)
            assert truths[n].num_points[k] == truths[near].num_points[rows[near][thing]]
            assert truths[n].attribute[k] == truths[near].attribute[rows[near][thing]]


def test_beyond_the_last_keyframe_nothing_is_known(minival_root: Path) -> None:
    index = NuScenesIndex.load(minival_root)
    last = index.records(["scene-0103"])[-1]
    later = replace(last, sample=-1, timestamp_us=last.timestamp_us + 50_000)
    with pytest.raises(UserError, match="doesn't lie between two keyframes"):
        interpolated_truth(index, [later])


def _class_of(category: str) -> str | None:
    return category_to_detection_name(category)


def _instances(index: NuScenesIndex, frames: list[FrameRecord], number: int) -> list[int]:
    """Instances of the detected boxes of a keyframe, in the truth's order."""
    rows = index.annotations.rows(frames[number].sample)
    label, instance = index.annotations.label[rows], index.annotations.instance[rows]
    return [int(i) for i in instance[label >= 0]]
