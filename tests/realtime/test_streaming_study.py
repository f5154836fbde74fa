"""From a data set and a model to streaming figures: kept boxes, measured traces, the command and what it writes."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from fusionkd.cli.dispatch import COMMANDS
from fusionkd.data import NuScenesDataModule
from fusionkd.errors import UserError
from fusionkd.geometry import Boxes3D
from fusionkd.metrics import Detections, DetectionTruth, evaluate
from fusionkd.metrics.detections import BOX_RECORD, global_records
from fusionkd.models import Decoder, FusionModel, build_model, save_model
from fusionkd.realtime import LatencyTrace, read_trace, write_trace
from fusionkd.realtime.streaming_command import main
from fusionkd.realtime.streaming_latency import STAGES, WARM_UP, Candidate, measure_traces, warm_busy_ns
from fusionkd.realtime.streaming_outputs import KeptBoxes, key_of, predict
from fusionkd.realtime.streaming_scenes import StreamedScenes, stream_scenes
from fusionkd.realtime.streaming_study import study
from fusionkd.simulation import WorldSettings, write_world

SETTINGS = WorldSettings(scenes=1, val_scenes=1, seed=3, keyframes_per_scene=2, image_width_px=160)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("streamed") / "world"
    write_world(path, SETTINGS, workers=1, progress=False)
    return path


@pytest.fixture(scope="module")
def data(root: Path) -> NuScenesDataModule:
    return NuScenesDataModule(str(root), SETTINGS.version, grid=_tiny().grid, cache_images_gb=0)


@pytest.fixture(scope="module")
def scenes(data: NuScenesDataModule) -> StreamedScenes:
    return stream_scenes(data.index, data.scenes("val"))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    save_model(_tiny(), path, card={})
    return path


def _tiny(seed: int = 0) -> FusionModel:
    def part(name: str, **arguments: object) -> dict[str, object]:
        return {"class_path": f"fusionkd.models.{name}", "init_args": arguments}

    torch.manual_seed(seed)
    return build_model(
        part(
            "FusionModel",
            grid={"cell_m": 3.2},
            lidar=part("RasterEncoder", view="raster", in_channels=12, channels=8, depth=1),
            fuser=part("SingleModality", in_channels=8),
            backbone=part("BevBackbone", in_channels=8, channels=8, levels=1),
            head=part("CenterHead", in_channels=8, shared_channels=8, branch_channels=None),
        )
    ).eval()


def _perfect(scenes: StreamedScenes) -> Detections:
    """What an oracle sees at each sweep: the truth, with scores that tell nothing."""
    truth = scenes.truth
    score = np.random.default_rng(0).uniform(0.2, 0.9, len(truth.label))
    columns = {
        n: getattr(truth, n) for n in ("start", "xyz_m", "lwh_m", "yaw_rad", "velocity_mps", "label", "attribute")
    }
    return Detections(tokens=truth.tokens, score=score, **columns)


def _trace(busy_ms: list[float], *, cold: int = 1, modelled: bool = False) -> LatencyTrace:
    busy = np.array(busy_ms) * 1e6
    start = np.cumsum([0, *busy[:-1]]).astype(np.int64)
    finish = start + busy.astype(np.int64)
    return LatencyTrace(
        stages=("all",),
        stage_ns=(finish - start)[:, None],
        arrival_ns=start,
        start_ns=start,
        finish_ns=finish,
        arrival_index=np.arange(len(busy), dtype=np.int64),
        arrived=len(busy),
        cold=cold,
        modelled=modelled,
    )


def test_scenes_are_streams_at_20_hz_with_exact_truth(scenes: StreamedScenes, data: NuScenesDataModule) -> None:
    assert scenes.exact
    assert scenes.rate_hz == pytest.approx(20)
    assert len(scenes.truth) == 11  # from keyframe to keyframe
    assert scenes.keyframes == tuple(record.token for record in data.index.records(data.scenes("val")))
    table = DetectionTruth.from_index(data.index, data.scenes("val"))
    for token in scenes.keyframes:
        ours, theirs = (t.start[t.row_of[token] : t.row_of[token] + 2] for t in (scenes.truth, table))
        hit = table.num_points[theirs[0] : theirs[1]] > 0
        place = (
            np.lexsort(scenes.truth.xyz_m[ours[0] : ours[1]].T),
            np.lexsort(table.xyz_m[theirs[0] : theirs[1]][hit].T),
        )
        for name in ("xyz_m", "label", "num_points", "attribute"):
            mine = getattr(scenes.truth, name)[ours[0] : ours[1]][place[0]]
            np.testing.assert_allclose(mine, getattr(table, name)[theirs[0] : theirs[1]][hit][place[1]], atol=1e-9)


def test_other_worlds_truth_is_interpolated(root: Path, tmp_path: Path) -> None:
    for path in root.iterdir():
        if path.name not in (".fusionkd", "simulated.json"):
            (tmp_path / path.name).symlink_to(path)
    data = NuScenesDataModule(str(tmp_path), SETTINGS.version)
    found = stream_scenes(data.index, data.scenes("val"))
    assert not found.exact
    exact = stream_scenes(NuScenesDataModule(str(root), SETTINGS.version).index, data.scenes("val"))
    assert found.truth.tokens == exact.truth.tokens
    # The truth between keyframes is off by what things turn and brake in half a second, and no more.
    figures = evaluate(found.truth, _perfect(exact))
    assert figures.mean_ap_present > 0.8


def test_an_oracle_without_latency_is_perfect_and_loses_with_every_delay(scenes: StreamedScenes) -> None:
    outputs = _perfect(scenes)
    done = study(
        "oracle",
        scenes,
        lambda tokens: outputs.shown_at(tokens, tokens),
        busy_ns=np.array([100_000_000], dtype=np.int64),
        factors=(0.0, 0.5, 1.0, 2.0),
        policies=("skip", "run_on"),
    )
    assert done.offline.mean_ap_present == pytest.approx(1.0)
    for overrun in ("skip", "run_on"):
        at_once = done.point(factor=0.0, overrun=overrun, forward=False).figures
        assert at_once.mean_ap_present == pytest.approx(1.0)
        late = [done.point(factor=f, overrun=overrun, forward=False).figures.mean_ap for f in (0.0, 0.5, 1.0, 2.0)]
        assert late == sorted(late, reverse=True)
        assert late[-1] < late[0]
    # At 50 ms a frame is done when the next one comes: both policies work on all of them.
    both = [done.point(factor=0.5, overrun=overrun, forward=True) for overrun in ("skip", "run_on")]
    assert [point.replayed.processed for point in both] == [11, 11]
    assert both[0].figures.to_dict()["NDS"] == both[1].figures.to_dict()["NDS"]
    with pytest.raises(KeyError):
        done.point(factor=3.0, overrun="skip", forward=True)
    content = done.to_dict()
    assert json.loads(json.dumps(content, allow_nan=False)) == content
    with pytest.raises(UserError, match=r"not negative, found \[-1.0\]"):
        study("oracle", scenes, _no_outputs, busy_ns=np.array([1]), factors=(-1.0,), policies=("skip",))


def _no_outputs(tokens: object) -> Detections:
    raise AssertionError("nothing should be computed")


def test_boxes_are_kept_for_the_same_model_and_no_other(
    scenes: StreamedScenes, data: NuScenesDataModule, tmp_path: Path
) -> None:
    decoder, records = Decoder(), list(scenes.records.values())[:3]
    calls: list[int] = []

    class Counting(FusionModel):
        def forward(self, batch):  # type: ignore[no-untyped-def]
            calls.append(len(batch))
            return super().forward(batch)

    model = _tiny()
    key = key_of(model, data, decoder)
    model.__class__ = Counting
    path = tmp_path / "boxes.npz"
    first = predict(model, data, records, kept=KeptBoxes(path, key), decoder=decoder, device=CPU)
    assert calls == [1, 1, 1]
    again = predict(model, data, records[::-1], kept=KeptBoxes(path, key), decoder=decoder, device=CPU)
    assert len(calls) == 3
    for record in records:
        np.testing.assert_array_equal(first.xyz_m[first.rows(record.token)], again.xyz_m[again.rows(record.token)])
        # In the global frame: what the model says in the ego frame, moved by the car's pose at the sweep.
        frame = data.dataset([record])[0]
        boxes = decoder(_tiny()(data.batch([frame])))[0]
        np.testing.assert_allclose(
            first.xyz_m[first.rows(record.token)], global_records(boxes, frame.global_from_ego)["xyz_m"]
        )
    assert key_of(_tiny(), data, decoder) == key
    assert key_of(_tiny(seed=1), data, decoder) != key
    assert key_of(_tiny(), data, Decoder(0.2)) != key
    assert KeptBoxes(path, "another").missing([records[0].token]) == [records[0].token]
    path.write_bytes(path.read_bytes()[:200])
    assert KeptBoxes(path, key).missing([records[0].token]) == [records[0].token]


def test_frames_without_boxes_are_kept_too(tmp_path: Path) -> None:
    kept = KeptBoxes(tmp_path / "boxes.npz", "key")
    kept.save()
    box = Boxes3D.from_array(np.array([[1.0, 2, 3, 4, 2, 1.5, 0, 1, 0]]), np.array([0]), np.array([0.5]))
    kept.add("empty", np.empty(0, BOX_RECORD))
    kept.add("one", global_records(box, np.eye(4)))
    kept.add("last", np.empty(0, BOX_RECORD))
    kept.save()
    found = KeptBoxes(tmp_path / "boxes.npz", "key")
    assert found.missing(["empty", "one", "last", "new"]) == ["new"]
    assert np.diff(found.detections(["one", "last", "empty"]).start).tolist() == [1, 0, 0]


def test_models_are_timed_in_turns_over_the_whole_way(scenes: StreamedScenes, data: NuScenesDataModule) -> None:
    candidates = {name: Candidate(_tiny(), data, Decoder(), CPU) for name in ("a", "b")}
    traces = measure_traces(candidates, list(scenes.records.values())[:2], frames=3)
    for trace in traces.values():
        assert (trace.frames, trace.cold, trace.stages) == (WARM_UP + 3, WARM_UP, STAGES)
        assert np.all(trace.uncovered_ns == 0)
        assert np.all(trace.stage_ns > 0)
    a, b = traces["a"], traces["b"]
    overlap = (a.start_ns[:, None] < b.finish_ns[None]) & (b.start_ns[None] < a.finish_ns[:, None])
    assert not overlap.any()
    assert (a.start_ns < b.start_ns).tolist() == [True, False] * 3
    with pytest.raises(UserError, match="at least one frame"):
        measure_traces(candidates, [], frames=3)


def test_cold_frames_take_no_part() -> None:
    trace = _trace([900, 20, 30])
    assert warm_busy_ns(trace, source="x").tolist() == [20_000_000, 30_000_000]
    with pytest.raises(UserError, match="The trace x has 3 frames, of which 3 are cold"):
        warm_busy_ns(_trace([1, 2, 3], cold=3), source="The trace x")


def _run(root: Path, checkpoint: Path, *arguments: object) -> int:
    base = ["--root", root, "--version", SETTINGS.version, "--checkpoint", checkpoint, *arguments]
    return main([str(argument) for argument in base])


def test_the_command_says_what_it_found(
    root: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_trace(_trace([500, 60, 80], modelled=True), tmp_path / "trace.npz")
    options = ("--trace", tmp_path / "trace.npz", "--factors", 0, 1, 4, "--out", tmp_path / "out")
    assert _run(root, checkpoint, *options) == 0
    said = capsys.readouterr().out
    assert "Streaming accuracy, SIMULATED world, exact truth, frames at 20 Hz" in said
    assert "70.0 ms modelled" in said
    content = json.loads((tmp_path / "out" / "streaming.json").read_text())
    assert content["simulated"] is True
    assert content["truth"] == "exact"
    (model,) = content["models"]
    assert model["latency"] == {"modelled": True, "frames": 2, "median_ms": 70.0, "p99_ms": 79.8, "largest_ms": 80.0}
    points = {(p["factor"], p["overrun"], p["forward"]): p for p in model["streaming"]}
    assert len(points) == 12
    assert points[0, "skip", False]["mean_age_ms"] == 0
    assert points[1, "skip", True]["processed"] < points[1, "run_on", True]["processed"] == 11
    assert points[4, "skip", False]["mean_age_ms"] > points[1, "skip", False]["mean_age_ms"] > 0
    assert points[4, "skip", False]["blind"] == pytest.approx(5 / 11)
    assert (tmp_path / "out" / "streaming.png").stat().st_size > 10_000
    assert "| offline |" in (tmp_path / "out" / "streaming.md").read_text()
    # Once more: nothing has to be computed again.
    assert _run(root, checkpoint, *options, "--policy", "skip", "--scenes", "mini_val") == 0
    assert ": 0 of " in capsys.readouterr().out


def test_the_command_measures_and_leaves_the_trace(root: Path, checkpoint: Path, tmp_path: Path) -> None:
    assert _run(root, checkpoint, "--measure", 2, "--factors", 1, "--policy", "skip", "--out", tmp_path) == 0
    (path,) = tmp_path.glob("model-*.trace.npz")
    assert read_trace(path).frames == WARM_UP + 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--trace", "nothing.npz"], "There is no trace nothing.npz"),
        (["--trace", "a.npz", "b.npz"], "one trace per model: found 2 for 1 models"),
        (["--measure", "1", "--scenes", "scene-9"], "scene-9"),
        (["--measure", "0"], "at least one frame; found 0 wanted"),
        (["--measure", "1", "--device", "cuda:77"], "--device cuda:77 can't be used here"),
        (["--measure", "1", "--factors", "-2"], "not negative"),
        (["--measure", "1", "--checkpoint", "zoo:student", "zoo:student"], "names a model twice: zoo:student"),
    ],
)
def test_mistakes_have_a_sentence(
    root: Path,
    checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message):
        _run(root, checkpoint, *arguments)


def test_the_command_is_in_the_menu() -> None:
    assert COMMANDS["streaming"][0] == "fusionkd.realtime.streaming_command:main"
