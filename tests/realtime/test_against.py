"""What the candidate is compared with, and the whole gate on two revisions of this repository."""

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from fusionkd.errors import UserError
from fusionkd.realtime import against
from fusionkd.realtime.against import (
    Baseline,
    gate_against,
    gate_markdown,
    models_in_turns,
    parse_against,
    revision_here,
    trees_in_turns,
)
from fusionkd.realtime.backends import Running
from fusionkd.realtime.command import main
from fusionkd.realtime.gate import compare
from fusionkd.realtime.gate_options import GateReport, worst_status
from fusionkd.realtime.gate_subject import GateSubject
from fusionkd.realtime.processes import checked_out, commit_of, git
from fusionkd.realtime.trace import LatencyTrace, write_trace
from fusionkd.realtime.turns import GatePlan, GateResult, Pair
from tests.data.tiny_world import TinyWorld

REPOSITORY = Path(__file__).resolve().parents[2]
AUTHOR = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    root = tmp_path / "repository"
    root.mkdir()
    git(root, "init", "--quiet", "--initial-branch", "main")
    git(root, *AUTHOR, "commit", "--quiet", "--allow-empty", "--message", "first")
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


@pytest.mark.parametrize(("first", "order"), [(True, [None, "old.ckpt"]), (False, ["old.ckpt", None])])
def test_another_model_runs_in_this_process(first: bool, order: list[str | None]) -> None:
    sides: dict[str | None, Side] = {None: Side(), "old.ckpt": Side()}
    asked: list[str | None] = []

    def open_model(name: str | None) -> tuple[Side, int]:
        asked.append(name)
        return sides[name], 4

    with models_in_turns(open_model, "old.ckpt", first) as pair:
        assert pair == (sides[None], sides["old.ckpt"], 4)
    assert asked == order


WORKER = """
import sys
from fusionkd.realtime.processes import own_output, serve
from fusionkd.realtime.turns import CallSide
from package.work import work
with own_output() as sink:
    serve(CallSide(work), 5, source=sys.stdin, sink=sink)
"""


def test_each_side_runs_its_own_revisions_code(repository: Path) -> None:
    """A commit that makes the program wait longer, seen from both sides of it: no frame is shorter than its wait."""
    for wait_s in (0.02, 0.06):
        (repository / "package").mkdir(exist_ok=True)
        (repository / "package" / "work.py").write_text(f"import time\ndef work(frame):\n    time.sleep({wait_s})\n")
        (repository / "package" / "worker.py").write_text(WORKER)
        git(repository, "add", ".")
        git(repository, *AUTHOR, "commit", "--quiet", "--message", str(wait_s))
    with checked_out(repository, "HEAD~1") as before:
        command = [sys.executable, "-m", "package.worker"]
        with trees_in_turns((repository, before), command, False) as (candidate, baseline, frames):
            assert frames == 5
            took = [(candidate.times_ns([0])[0], baseline.times_ns([0])[0]) for _ in range(20)]
    slowest_code_ns, fastest_code_ns = np.min(took, axis=0)
    assert slowest_code_ns >= 60e6
    assert 20e6 <= fastest_code_ns < 60e6


def test_a_revision_is_gated_start_by_start(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[tuple[tuple[Path, Path], list[str], bool]] = []

    @contextmanager
    def start(trees: tuple[Path, Path], worker: list[str], first: bool) -> Iterator[Pair]:
        assert all(tree.is_dir() for tree in trees)
        started.append((trees, worker, first))
        yield Side(), Side(), 3

    monkeypatch.setattr(against, "trees_in_turns", start)
    baseline = parse_against("rev:main", repository=repository)
    result = gate_against(
        baseline, GatePlan(), repository=repository, open_model=lambda name: (Side(), 1), worker=["python"]
    )
    assert result.comparison.starts == len(started) == GatePlan().first_starts
    trees, worker, _ = started[0]
    assert (trees[0].resolve(), worker) == (repository.resolve(), ["python"])
    assert len({trees for trees, _, _ in started}) == 1
    assert not trees[1].exists()


def test_section_of_the_report() -> None:
    slow, fast = np.full((30, 2), 40 * 10**6, np.int64), np.full((30, 2), 20 * 10**6, np.int64)
    text = gate_markdown(compare(slow, fast, starts=10), Baseline("revision", "0" * 40, "rev:main"))
    assert text.startswith("### Relative gate: slower\n")
    assert "| median | 40.00 ms | 20.00 ms | 2.000 | 2.000 to 2.000 | 1.03 | slower |" in text
    assert "`rev:main`" in text


def test_a_report_gets_the_section_and_a_file(tmp_path: Path) -> None:
    times = np.full((30, 2), 10**7, np.int64)
    report = GateReport(
        Baseline("model", "a.ckpt", "a.ckpt"), GateResult(compare(times, times, starts=6), times, times)
    )
    (tmp_path / "report.md").write_text("## Deadline met\n")
    report.write(tmp_path)
    assert (tmp_path / "report.md").read_text().startswith("## Deadline met\n\n### Relative gate: not slower\n")
    content = json.loads((tmp_path / "gate.json").read_text())
    assert (content["verdict"], content["against"]["kind"], report.status) == ("not slower", "model", 0)


@pytest.mark.parametrize(
    ("statuses", "worst"), [((0, 0), 0), ((0, 2), 2), ((2, 1), 1), ((1, 2), 1), ((0, 1), 1), ((3, 1), 3)]
)
def test_worst_of_deadline_and_gate(statuses: tuple[int, int], worst: int) -> None:
    assert worst_status(*statuses) == worst


def test_reports_name_the_revision_only_where_the_code_is_that_revisions(repository: Path, tmp_path: Path) -> None:
    assert revision_here(repository) == commit_of(repository, "HEAD")
    (repository / "new.py").write_text("")
    assert revision_here(repository) is None
    (tmp_path / "plain").mkdir()
    assert revision_here(tmp_path / "plain") is None


def test_a_recorded_trace_has_nothing_to_run_in_turns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ns = np.arange(1, 400, dtype=np.int64) * 10**6
    trace = LatencyTrace((), np.zeros((399, 0), np.int64), ns, ns, ns + 5, np.arange(399), 399, cold=0)
    write_trace(trace, tmp_path / "a.npz")
    contract = str(REPOSITORY / "configs" / "deadlines" / "cpu_ci.yaml")
    command = ["--config", contract, "--from-trace", str(tmp_path / "a.npz"), "--against", "zoo:student"]
    assert main(command) == 3
    assert "give --checkpoint" in capsys.readouterr().err


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> GateSubject:
    root = TinyWorld(tmp_path_factory.mktemp("gate")).root
    return GateSubject("zoo:student", Running("eager"), root=root, count=2)


@pytest.mark.slow
def test_the_student_as_a_worker_of_two_trees(subject: GateSubject) -> None:
    with trees_in_turns((REPOSITORY, REPOSITORY), subject.worker(), True) as (candidate, baseline, frames):
        assert frames == 2
        assert min(candidate.times_ns([0, 1])) > 0
        assert min(baseline.times_ns([1])) > 0


def test_the_student_in_this_process(subject: GateSubject) -> None:
    with models_in_turns(subject.open, "zoo:student", False) as (candidate, baseline, frames):
        assert frames == 2
        assert min(*candidate.times_ns([0, 1]), *baseline.times_ns([1])) > 0


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
