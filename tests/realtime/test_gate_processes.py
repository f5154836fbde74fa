"""Sides in processes of their own, and revisions of a repository side by side."""

import gc
import io
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from fusionkd.errors import UserError
from fusionkd.realtime.processes import ProcessSide, checked_out, git, serve

WORKER = """
import sys, time
from fusionkd.realtime.processes import own_output, serve
from fusionkd.realtime.turns import CallSide
from work import work
with own_output() as sink:
    print("a library talks")
    serve(CallSide(work), 5, source=sys.stdin, sink=sink)
"""


class Fixed:
    def times_ns(self, frames: Sequence[int]) -> list[int]:
        assert not gc.isenabled()
        return [10 * frame for frame in frames]


def worker(folder: Path, code: str, **options: dict[str, str]) -> ProcessSide:
    return ProcessSide([sys.executable, "-c", code], name="the candidate", folder=folder, **options)


def test_lines_between_gate_and_worker() -> None:
    sink = io.StringIO()
    serve(Fixed(), 9, source=io.StringIO("[1, 2]\n[7]\n"), sink=sink)
    assert [json.loads(line) for line in sink.getvalue().splitlines()] == [
        {"protocol": 1, "frames": 9},
        [10, 20],
        [70],
    ]


def test_a_worker_that_prints_of_its_own_is_understood(tmp_path: Path) -> None:
    (tmp_path / "work.py").write_text("def work(frame): print('frame', frame)")
    with worker(tmp_path, WORKER) as side:
        assert side.frames == 5
        assert len(side.times_ns([0, 1, 2])) == 3
        assert min(side.times_ns([3])) > 0


def test_last_words_of_a_worker_that_fails(tmp_path: Path) -> None:
    (tmp_path / "work.py").write_text("def work(frame): raise OSError('the model is torn')")
    with worker(tmp_path, WORKER) as side, pytest.raises(UserError, match="It said: OSError: the model is torn"):
        side.times_ns([0])
    with (
        worker(tmp_path, "raise SystemExit(3)") as side,
        pytest.raises(UserError, match=r"status 3\. It said: nothing"),
    ):
        side.times_ns([0])


def test_another_protocol_is_refused(tmp_path: Path) -> None:
    with (
        worker(tmp_path, "print('{\"protocol\": 0}')") as side,
        pytest.raises(UserError, match="another protocol"),
    ):
        side.times_ns([0])


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    root = tmp_path / "repository"
    root.mkdir()
    git(root, "init", "--quiet", "--initial-branch", "main")
    for text in ("before", "after"):
        (root / "file").write_text(text)
        git(root, "add", ".")
        author = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
        git(root, *author, "commit", "--quiet", "--message", text)
    return root


def test_a_revision_is_checked_out_beside_and_nothing_is_left_behind(repository: Path) -> None:
    with checked_out(repository, "HEAD~1") as tree:
        assert (tree / "file").read_text() == "before"
        assert (repository / "file").read_text() == "after"
    assert not tree.exists()
    assert len(git(repository, "worktree", "list").splitlines()) == 1
    assert git(repository, "status", "--porcelain") == ""


def test_revisions_that_are_not_there(repository: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no revision 'nowhere'"), checked_out(repository, "nowhere"):
        pass
    with pytest.raises(UserError, match="is no revision"), checked_out(repository, "--help"):
        pass
    (tmp_path / "plain").mkdir()
    with pytest.raises(UserError, match="git can't help"), checked_out(tmp_path / "plain", "HEAD"):
        pass


def test_no_git(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def absent(*arguments: object, **options: object) -> None:
        raise FileNotFoundError

    monkeypatch.setattr(subprocess, "run", absent)
    with pytest.raises(UserError, match="no git on this machine"):
        git(tmp_path, "status")
