"""What the candidate is compared with, and the whole gate on two revisions of this repository."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from fusionkd.errors import UserError
from fusionkd.realtime.against import Baseline, both_sides, gate_markdown, parse_against
from fusionkd.realtime.backends import Running
from fusionkd.realtime.gate import compare
from fusionkd.realtime.gate_options import add_gate_options, run_gate_options
from fusionkd.realtime.gate_subject import GateSubject
from fusionkd.realtime.processes import commit_of, git
from tests.data.tiny_world import TinyWorld

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    root = tmp_path / "repository"
    root.mkdir()
    git(root, "init", "--quiet", "--initial-branch", "main")
    author = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    git(root, *author, "commit", "--quiet", "--allow-empty", "--message", "first")
    return root


def test_a_model_file_or_a_shipped_model(repository: Path, tmp_path: Path) -> None:
    (tmp_path / "old.onnx").write_bytes(b"x")
    path = str(tmp_path / "old.onnx")
    assert parse_against(path, repository=repository) == Baseline("model", path, path)
    assert parse_against("zoo:fused", repository=repository).kind == "model"


def test_a_revision_and_the_revision_of_a_report(repository: Path, tmp_path: Path) -> None:
    commit = commit_of(repository, "main")
    (tmp_path / "report.json").write_text(json.dumps({"about": {"revision": commit}, "p99_ms": 3.0}))
    for text in ("rev:main", "rev:HEAD", str(tmp_path / "report.json")):
        assert parse_against(text, repository=repository) == Baseline("revision", commit, text)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"about": {"machine": "another"}, "p99_ms": 3.0}', "another machine or in another hour, can't be compared"),
        ('{"about": {"revision": "--exec=x"}}', "doesn't name the git revision"),
        ("[]", "doesn't name the git revision"),
        ("{", "can't be read as a report"),
        ('{"about": {"revision": "0123456789abcdef"}}', "no revision '0123456789abcdef'"),
    ],
)
def test_numbers_of_a_report_alone_are_refused(repository: Path, tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "report.json").write_text(content)
    with pytest.raises(UserError, match=message):
        parse_against(str(tmp_path / "report.json"), repository=repository)


def test_no_such_file(repository: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        parse_against("nowhere.ckpt", repository=repository)


class Side:
    def times_ns(self, frames: Sequence[int]) -> list[int]:
        return [1 for _ in frames]


def test_another_model_runs_in_this_process(repository: Path) -> None:
    asked: list[str | None] = []

    def open_model(name: str | None) -> tuple[Side, int]:
        asked.append(name)
        return Side(), 4

    baseline = Baseline("model", "old.ckpt", "old.ckpt")
    with both_sides(baseline, repository=repository, open_model=open_model, worker=[]) as (one, other, frames):
        assert one is not other
        assert frames == 4
    assert asked == [None, "old.ckpt"]


def test_section_of_the_report() -> None:
    slow, fast = np.full((30, 2), 40 * 10**6, np.int64), np.full((30, 2), 20 * 10**6, np.int64)
    text = gate_markdown(compare(slow, fast), Baseline("revision", "0" * 40, "rev:main"))
    assert text.startswith("### Relative gate: slower\n")
    assert "| median | 40.00 ms | 20.00 ms | 2.000 | 2.000 to 2.000 | 1.03 | slower |" in text
    assert "`rev:main`" in text


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> GateSubject:
    root = TinyWorld(tmp_path_factory.mktemp("gate")).root
    return GateSubject("zoo:student", Running("eager"), root=root, count=2)


def options(*given: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_gate_options(parser)
    return parser.parse_args(given)


@pytest.mark.slow
def test_the_working_tree_against_its_own_revision(subject: GateSubject) -> None:
    """Through two processes; so few rounds decide nothing on a busy machine, but both sides answer."""
    if not (REPOSITORY / ".git").exists():
        pytest.skip("not a git repository: there is no revision to compare with")
    try:
        git(REPOSITORY, "cat-file", "-e", "HEAD:fusionkd/realtime/gate_subject.py")
    except UserError:
        pytest.skip("the revision HEAD has no gate yet")
    report = run_gate_options(options("--against", "rev:HEAD", "--most-rounds", "20"), subject, REPOSITORY)
    assert report.baseline.name == commit_of(REPOSITORY, "HEAD")
    said = report.to_dict()
    assert said["rounds"] == 20
    assert 0.2 < said["median"]["value"] < 5
    assert report.status == {"not slower": 0, "slower": 1, "inconclusive": 2}[said["verdict"]]
    json.dumps(said)


@pytest.mark.slow
def test_a_much_smaller_student_is_not_slower_than_its_teacher(subject: GateSubject) -> None:
    """In one process: the fused teacher takes several times as long on any machine."""
    report = run_gate_options(options("--against", "zoo:fused", "--most-rounds", "20"), subject)
    assert (report.status, report.result.comparison.verdict) == (0, "not slower")
    assert report.result.comparison.median.value < 0.8


def test_a_worker_is_told_the_same(subject: GateSubject) -> None:
    command = subject.worker()
    assert command[1:3] == ["-m", "fusionkd.realtime.gate_subject"]
    given = dict(zip(command[3::2], command[4::2]))
    assert given == {
        "--source": "zoo:student",
        "--backend": "eager",
        "--device": "cpu",
        "--precision": "float32",
        "--threads": "1",
        "--count": "2",
        "--root": str(subject.root),
    }
