"""The house rules that a tool can hold: ruff, mypy --strict, tables made from result files."""

import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize(
    "command",
    [
        ["-m", "ruff", "check", "."],
        ["-m", "ruff", "format", "--check", "."],
        ["-m", "mypy"],
        ["docs/make_tables.py", "--check"],
    ],
    ids=["rules", "format", "types", "tables"],
)
def test_tool_has_nothing_to_say(command: list[str]) -> None:
    result = subprocess.run([sys.executable, *command], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-2000:]
