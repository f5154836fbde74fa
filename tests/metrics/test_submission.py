"""Results files: read, written, judged by the devkit."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from metric_oracle import World, assert_same_summary, random_world
from nuscenes import NuScenes
from nuscenes.eval.common.config import config_factory
from nuscenes.eval.detection.evaluate import DetectionEval

from fusionkd.errors import UserError
from fusionkd.metrics import (
    Detections,
    DetectionTruth,
    NuScenesDetection,
    evaluate,
    read_submission,
    write_submission,
)


def _devkit_summary(nusc: NuScenes, path: Path, folder: Path) -> dict[str, Any]:
    evaluation = DetectionEval(
        nusc, config_factory("detection_cvpr_2019"), str(path), "mini_val", str(folder), verbose=False
    )
    return {**evaluation.evaluate()[0].serialize(), "meta": evaluation.meta}


def test_real_results_give_the_published_figures(
    minival_truth: DetectionTruth, real_results: tuple[Path, dict[str, Any]]
) -> None:
    path, summary = real_results
    submission = read_submission(path, samples=minival_truth.tokens)
    assert submission.meta == json.loads(path.read_text())["meta"]
    figures = evaluate(minival_truth, submission.detections)
    assert_same_summary(figures.to_dict(), summary)
    np.testing.assert_allclose(figures.tp_score, list(summary["tp_scores"].values()), rtol=0, atol=1e-9)


def test_written_file_gives_the_metrics_figures_in_the_devkit(
    minival_truth: DetectionTruth,
    minival_nusc: NuScenes,
    real_results: tuple[Path, dict[str, Any]],
    tmp_path: Path,
) -> None:
    # Real detections, as a model would hand them over: in the ego frame, in float32.
    real = read_submission(real_results[0]).detections
    metric = NuScenesDetection(minival_truth, missing="error")
    for token in reversed(minival_truth.tokens):
        pose = _pose(minival_nusc, token)
        metric.update([token], [real.in_ego(token, pose)], pose[None])
    path = tmp_path / "new" / "results.json"
    write_submission(path, metric.results(), samples=minival_truth.tokens, use_camera=True, use_lidar=False)
    summary = _devkit_summary(minival_nusc, path, tmp_path)
    figures = metric.compute()
    assert_same_summary(figures, summary)
    assert summary["meta"] == {
        "use_camera": True,
        "use_lidar": False,
        "use_radar": False,
        "use_map": False,
        "use_external": False,
    }
    # And through the ego frame and back, float32 and upright boxes change next to nothing.
    assert figures["mAP"] == pytest.approx(real_results[1]["mean_ap"], abs=2e-3)
    assert figures["mATE"] == pytest.approx(real_results[1]["tp_errors"]["trans_err"], abs=2e-3)
    assert figures["mAOE"] == pytest.approx(real_results[1]["tp_errors"]["orient_err"], abs=2e-3)
    assert [p.name for p in path.parent.iterdir()] == ["results.json"]


def _pose(nusc: NuScenes, token: str) -> np.ndarray:
    from nuscenes.utils.geometry_utils import transform_matrix
    from pyquaternion import Quaternion

    data = nusc.get("sample_data", nusc.get("sample", token)["data"]["LIDAR_TOP"])
    pose = nusc.get("ego_pose", data["ego_pose_token"])
    return np.asarray(transform_matrix(pose["translation"], Quaternion(pose["rotation"])))


@pytest.mark.parametrize("seed", range(5))
def test_round_trip(seed: int, tmp_path: Path) -> None:
    results = random_world(seed, samples=4, detections=12).results()
    path = tmp_path / "results.json"
    write_submission(path, results, samples=results.tokens, use_camera=True, use_lidar=True)
    back = read_submission(path, samples=results.tokens).detections
    assert back.tokens == results.tokens
    for name in ("start", "xyz_m", "lwh_m", "velocity_mps", "label", "score", "attribute"):
        np.testing.assert_array_equal(getattr(back, name), getattr(results, name), err_msg=name)
    np.testing.assert_allclose(back.yaw_rad, results.yaw_rad, rtol=0, atol=1e-14)


def test_samples_are_written_in_the_given_order_and_without_boxes_too(tmp_path: Path) -> None:
    world = random_world(8, samples=3)
    world.detections["sample-1"] = []
    path = tmp_path / "results.json"
    write_submission(
        path, world.results(), samples=["sample-2", "sample-1", "sample-0"], use_camera=False, use_lidar=True
    )
    results = json.loads(path.read_text())["results"]
    assert list(results) == ["sample-2", "sample-1", "sample-0"]
    assert results["sample-1"] == []
    assert len(results["sample-2"]) == len(world.detections["sample-2"])


def test_incomplete_results_are_not_written(tmp_path: Path) -> None:
    results = random_world(8, samples=2).results()
    path = tmp_path / "results.json"
    with pytest.raises(UserError, match="1 of 3 have no results, for example absent"):
        write_submission(path, results, samples=[*results.tokens, "absent"], use_camera=True, use_lidar=True)
    with pytest.raises(UserError, match="1 samples not in the split, for example sample-1"):
        write_submission(path, results, samples=["sample-0"], use_camera=True, use_lidar=True)
    assert not path.exists()


def test_too_many_boxes_are_not_written(tmp_path: Path) -> None:
    results = _many_boxes(501).results()
    with pytest.raises(UserError, match="Sample sample-0 has 501 detections; nuScenes allows at most 500"):
        write_submission(tmp_path / "r.json", results, samples=["sample-0"], use_camera=True, use_lidar=True)


def _many_boxes(count: int) -> World:
    world = random_world(0, samples=1, annotations=3, detections=5)
    world.detections["sample-0"] = [world.detections["sample-0"][0]] * count
    return world


def _set(key: str, value: object) -> Callable[[dict[str, Any]], None]:
    def change(content: dict[str, Any]) -> None:
        content["results"]["sample-1"][2][key] = value

    return change


def _drop(key: str) -> Callable[[dict[str, Any]], None]:
    def change(content: dict[str, Any]) -> None:
        del content["results"]["sample-1"][2][key]

    return change


def _replace(key: str, value: object) -> Callable[[dict[str, Any]], None]:
    def change(content: dict[str, Any]) -> None:
        content[key] = value

    return change


NAN, INF = float("nan"), float("inf")
BOX = "results.json: box 2 of sample sample-1 "


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_set("translation", [1.0, 2.0]), BOX + r"has translation=\[1.0, 2.0\]; expected 3 finite numbers"),
        (_set("translation", [1.0, NAN, 3.0]), BOX + r"has translation=.*expected 3 finite numbers"),
        (_set("translation", "123"), BOX + "has translation='123'; expected 3 finite numbers"),
        (_set("size", [1.0, 0.0, 3.0]), BOX + "has size=.*must be positive"),
        (_set("size", [1.0, "2", 3.0]), BOX + "has size=.*expected 3 finite numbers"),
        (_set("rotation", [0.0, 0.0, 0.0, 0.0]), BOX + "has rotation=.*unit quaternion"),
        (_set("rotation", [1.0, 0.0, 0.0]), BOX + "has rotation=.*expected 4 finite numbers"),
        (_set("velocity", [INF, 0.0]), BOX + "has velocity=.*expected 2 finite numbers"),
        (_set("velocity", [None, None]), BOX + r"has velocity=\[None, None\]; expected 2 finite numbers"),
        (_set("rotation", [0, 0, 10**400, 0]), BOX + "has rotation=.*expected 4 finite numbers"),
        (_set("velocity", None), BOX + "has velocity=None; expected 2 finite numbers"),
        (_set("detection_name", "tram"), BOX + "has detection_name='tram'; expected one of car, truck"),
        (_set("detection_name", ["car"]), BOX + "has detection_name="),
        (_set("detection_score", NAN), BOX + "has detection_score=nan; expected a number"),
        (_set("detection_score", -0.5), BOX + "has detection_score=-0.5; expected a number, not negative"),
        (_set("detection_score", "0.5"), BOX + "has detection_score='0.5'; expected a number"),
        (_set("attribute_name", "vehicle.flying"), BOX + "has attribute_name='vehicle.flying'; expected \"\""),
        (_set("sample_token", "sample-0"), BOX + "has sample_token='sample-0'; it must be that of the list"),
        *((_drop(key), BOX + f"has no key '{key}'") for key in ("translation", "velocity", "attribute_name")),
        (lambda c: c["results"]["sample-1"].insert(2, 7), BOX + "must be an object, found 7"),
        (lambda c: c["results"].update({"sample-1": None}), "sample sample-1 must be a list of boxes, found None"),
        (lambda c: c["results"].pop("sample-0"), "has no results for 1 of 2 samples, for example sample-0"),
        (lambda c: c["results"].update({"other": []}), "1 samples that don't belong to the split, for example other"),
        (_replace("results", []), "'results' is not there or something else"),
        (lambda c: c.pop("meta"), "'meta' is not there or something else"),
    ],
)
def test_malformed_files_are_refused(
    change: Callable[[dict[str, Any]], None], message: str, tmp_path: Path, well_formed: dict[str, Any]
) -> None:
    content = copy.deepcopy(well_formed)
    change(content)
    path = tmp_path / "results.json"
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=message):
        read_submission(path, samples=["sample-0", "sample-1"])


@pytest.fixture(scope="module")
def well_formed() -> dict[str, Any]:
    world = random_world(1, samples=2, detections=20)
    assert len(world.detections["sample-1"]) > 3
    boxes = {
        t: [{k: v for k, v in b.items() if k not in ("name", "num_pts")} for b in bs]
        for t, bs in world.detections.items()
    }
    return {"meta": {"use_camera": True}, "results": boxes}


def test_well_formed_file_is_read(tmp_path: Path, well_formed: dict[str, Any]) -> None:
    path = tmp_path / "results.json"
    path.write_text(json.dumps(well_formed))
    assert isinstance(read_submission(path, samples=["sample-0", "sample-1"]).detections, Detections)


def test_true_is_no_number(tmp_path: Path, well_formed: dict[str, Any]) -> None:
    path = tmp_path / "results.json"
    box = {**well_formed["results"]["sample-1"][0], "size": [True, True, True]}
    path.write_text(json.dumps({"meta": {}, "results": {"sample-1": [box]}}))
    with pytest.raises(UserError, match=r"has size=\[True, True, True\]; expected 3 finite numbers"):
        read_submission(path)


def test_missing_and_cut_off_files_are_named(tmp_path: Path, well_formed: dict[str, Any]) -> None:
    path = tmp_path / "results.json"
    with pytest.raises(UserError, match=r"no results file .*results\.json"):
        read_submission(path)
    path.write_text(json.dumps(well_formed)[:-40])
    with pytest.raises(UserError, match=r"results\.json can't be read as JSON"):
        read_submission(path)
    path.write_text("[]")
    with pytest.raises(UserError, match='must hold an object with "meta" and "results"'):
        read_submission(path)


def test_file_with_too_many_boxes_is_refused(tmp_path: Path) -> None:
    world = _many_boxes(501)
    path = tmp_path / "results.json"
    path.write_text(json.dumps({"meta": {}, "results": world.detections}))
    with pytest.raises(UserError, match="sample sample-0 has 501 boxes; nuScenes allows at most 500"):
        read_submission(path)


def test_a_sample_named_twice_is_refused_in_plain_words(tmp_path: Path, well_formed: dict[str, Any]) -> None:
    path = tmp_path / "results.json"
    text = json.dumps(well_formed)
    path.write_text(text.replace('"sample-1":', '"sample-0":'))
    with pytest.raises(UserError) as raised:
        read_submission(path)
    assert str(raised.value) == f"{path} names sample sample-0 twice."
