"""The trace: what it refuses, what it adds up, that a file gives it back."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fusionkd.errors import UserError
from fusionkd.realtime import LatencyTrace, read_trace, write_trace


def trace(**changes: Any) -> LatencyTrace:
    values: dict[str, Any] = {
        "stages": ("preprocess/sweeps", "network/camera", "network/lidar"),
        "stage_ns": np.array([[1, 5, 3], [2, 6, 4]], np.int64),
        "arrival_ns": np.array([0, 10], np.int64),
        "start_ns": np.array([0, 12], np.int64),
        "finish_ns": np.array([10, 25], np.int64),
        "arrival_index": np.array([0, 2], np.int64),
        "arrived": 4,
    }
    return LatencyTrace(**{**values, **changes})


def test_times() -> None:
    t = trace()
    assert t.latency_ns.tolist() == [10, 15]
    assert t.busy_ns.tolist() == [10, 13]
    assert t.uncovered_ns.tolist() == [1, 1]
    assert t.dropped == 2


@pytest.mark.parametrize(
    ("name", "expected"), [("network", [8, 10]), ("camera", [5, 6]), ("preprocess/sweeps", [1, 2]), ("sweeps", [1, 2])]
)
def test_stage_by_group_or_last_part(name: str, expected: list[int]) -> None:
    assert trace().stage(name).tolist() == expected


def test_unknown_stage_names_those_there_are() -> None:
    with pytest.raises(UserError, match=r"no stage 'came'.*network/camera"):
        trace().stage("came")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"finish_ns": np.array([10, 11], np.int64)}, "steps backwards: frame 1"),
        ({"finish_ns": np.array([30, 25], np.int64)}, "steps backwards: finish_ns of frame 1"),
        ({"start_ns": np.array([0, 5], np.int64)}, "steps backwards: frame 1"),
        ({"stage_ns": np.array([[1, 5, 3], [2, -6, 4]], np.int64)}, "negative time"),
        ({"stage_ns": np.zeros((2, 2), np.int64)}, "shape"),
        ({"arrival_ns": np.array([0.0, 10.0])}, "int64"),
        ({"stages": ("a", "a", "b")}, "must differ"),
        ({"cold": 3}, "can't have 3 cold"),
        ({"scenario": "both"}, "single_stream or constant_stream"),
        ({"arrived": 2}, "below arrived"),
        ({"arrival_index": np.array([2, 2], np.int64)}, "must rise"),
    ],
)
def test_refuses(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        trace(**changes)


def test_file_gives_it_back(tmp_path: Path) -> None:
    before = trace(about={"cpu": "x", "threads": 1}, modelled=True)
    write_trace(before, tmp_path / "runs" / "a.npz")
    after = read_trace(tmp_path / "runs" / "a.npz")
    assert after.stages == before.stages
    assert after.about == before.about
    assert after.modelled
    for name in ("stage_ns", "arrival_ns", "start_ns", "finish_ns", "arrival_index"):
        np.testing.assert_array_equal(getattr(after, name), getattr(before, name))


def test_damaged_files(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no trace"):
        read_trace(tmp_path / "none.npz")
    write_trace(trace(), tmp_path / "a.npz")
    whole = (tmp_path / "a.npz").read_bytes()
    for name, content in (("cut", whole[: len(whole) // 2]), ("empty", b""), ("text", b"hello"), ("torn", whole[100:])):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match="can't be read as a trace"):
            read_trace(tmp_path / name)
    np.savez(
        tmp_path / "other.npz",
        header=np.frombuffer(b"{}", np.uint8),
        **{n: np.zeros(1) for n in ("stage_ns", "arrival_ns", "start_ns", "finish_ns", "arrival_index")},
    )
    with pytest.raises(UserError, match="no trace of format"):
        read_trace(tmp_path / "other.npz")


def test_about_must_be_plain(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="plain values"):
        write_trace(trace(about={"path": Path("a")}), tmp_path / "a.npz")
