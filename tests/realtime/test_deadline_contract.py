"""Contracts: what is shipped can be read, and each mistake gets a sentence that names file and entry."""

from pathlib import Path
from typing import Any

import pytest

from fusionkd.errors import UserError
from fusionkd.realtime import DeadlineContract, WeaklyHard, read_contract

SHIPPED = sorted((Path(__file__).resolve().parents[2] / "configs" / "deadlines").glob("*.yaml"))

WHOLE = """
deadline_ms: 50
percentile: 99.9
confidence: 0.95
weakly_hard: {misses: 1, window: 20}
stages_ms: {preprocess: 5, camera: 15}
memory_mib: 2048
energy_mj_per_frame: 900
accuracy: {nds: 0.30}
scenario: constant_stream
rate_hz: 20
overrun: skip
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "contract.yaml"
    path.write_text(text)
    return path


def test_every_entry_is_read(tmp_path: Path) -> None:
    assert read_contract(written(tmp_path, WHOLE)) == DeadlineContract(
        deadline_ms=50,
        percentile=99.9,
        confidence=0.95,
        weakly_hard=WeaklyHard(1, 20),
        stages_ms={"preprocess": 5, "camera": 15},
        memory_mib=2048,
        energy_mj_per_frame=900,
        accuracy={"nds": 0.3},
        scenario="constant_stream",
        rate_hz=20,
        overrun="skip",
    )


def test_only_the_deadline_is_needed(tmp_path: Path) -> None:
    assert read_contract(written(tmp_path, "deadline_ms: 33.3")) == DeadlineContract(33.3)
    assert DeadlineContract(50, scenario="constant_stream", rate_hz=20).overrun == "skip"


def test_there_are_shipped_contracts() -> None:
    assert {path.stem for path in SHIPPED} >= {"orin_agx", "orin_nano", "cpu_ci"}


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_contract_is_read_and_says_how_to_use_it(path: Path) -> None:
    assert read_contract(path).deadline_ms > 0
    assert path.read_text().startswith("# ")
    assert f"python tools/check_deadline.py --config configs/deadlines/{path.name}" in path.read_text()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("percentil: 99", r"percentil is no entry.*Did you mean percentile\?"),
        ("5: 6", "5 is no entry"),
        ("deadline_ms: -1", "deadline_ms must be above 0, found -1"),
        ("deadline_ms: 0", "deadline_ms must be above 0"),
        ("deadline_ms: .inf", "deadline_ms must be a number"),
        ("deadline_ms: fast", "deadline_ms must be a number, found the text 'fast'"),
        ("deadline_ms: [50]", "deadline_ms must be a number"),
        ("deadline_ms: true", "deadline_ms must be a number, found True"),
        ("deadline_ms:", "deadline_ms is empty"),
        ("percentile: 101", "percentile must lie between 0 and 100"),
        ("percentile: 100", "both excluded, found 100"),
        ("confidence: 95", "confidence must lie between 0.5 and 1"),
        ("weakly_hard: 3", "weakly_hard must hold entries of its own, found 3"),
        ("weakly_hard: {misses: 1}", "weakly_hard.window is missing"),
        ("weakly_hard: {misses: 1, windows: 20}", r"weakly_hard.windows.*Did you mean window\?"),
        ("weakly_hard: {misses: -1, window: 20}", "weakly_hard.misses must be at least 0"),
        ("weakly_hard: {misses: 1.5, window: 20}", "weakly_hard.misses must be a whole number"),
        ("weakly_hard: {misses: 20, window: 20}", "forbids nothing"),
        ("stages_ms: {camera: -15}", "stages_ms.camera must be above 0"),
        ("stages_ms: {camera: soon}", "stages_ms.camera must be a number"),
        ("stages_ms: {1: 5}", "stages_ms.1 must be a name"),
        ("stages_ms: [camera]", "stages_ms must hold entries"),
        ("memory_mib: -2", "memory_mib must be above 0"),
        ("energy_mj_per_frame: much", "energy_mj_per_frame must be a number"),
        ("accuracy: {ndss: 0.3}", r"accuracy.ndss must be one of nds, map.*Did you mean nds\?"),
        ("accuracy: {nds: 30}", "accuracy.nds must lie between 0 and 1"),
        ("scenario: constant_steam", r"scenario must be one of.*Did you mean constant_stream\?"),
        ("scenario: constant_stream", "rate_hz is missing"),
        ("scenario: {a: 1}", "scenario must be one of"),
        ("rate_hz: 20", "rate_hz has no meaning in a single_stream"),
        ("overrun: skip", "overrun has no meaning in a single_stream"),
        ("scenario: constant_stream\nrate_hz: -20", "rate_hz must be above 0"),
        ("scenario: constant_stream\nrate_hz: 20\noverrun: skp", r"overrun must be one of.*Did you mean skip\?"),
        ("percentile: 99\npercentile: 98", "percentile stands twice"),
        ("stages_ms: {a: 1, a: 2}", "a stands twice"),
        ("weakly_hard: {misses: 1, window: 20", "is no YAML"),
        ("a: *b", "is no YAML"),
    ],
)
def test_mistake_gets_a_sentence(tmp_path: Path, line: str, message: str) -> None:
    deadline = "" if line.startswith("deadline_ms") else "deadline_ms: 50\n"
    path = written(tmp_path, deadline + line + "\n")
    with pytest.raises(UserError, match=message) as caught:
        read_contract(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "50", "[deadline_ms, 50]", "percentile: 99"])
def test_what_promises_nothing(tmp_path: Path, text: str) -> None:
    with pytest.raises(UserError, match="deadline_ms") as caught:
        read_contract(written(tmp_path, text))
    assert "contract.yaml" in str(caught.value)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no contract .*none.yaml"):
        read_contract(tmp_path / "none.yaml")
    with pytest.raises(UserError, match="can't be read"):
        read_contract(tmp_path)
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match=r"bytes.yaml"):
        read_contract(tmp_path / "bytes.yaml")


@pytest.mark.parametrize("changes", [{"deadline_ms": "50"}, {"percentile": 101}, {"stages_ms": {"a": 0}}])
def test_made_in_code_it_checks_itself_too(changes: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=next(iter(changes))):
        DeadlineContract(**{"deadline_ms": 50.0, **changes})
