"""Commands that README and docs show are commands that the tools take."""

import re
import shlex
from importlib import import_module
from pathlib import Path

import pytest

from fusionkd.cli.dispatch import COMMANDS

REPOSITORY = Path(__file__).resolve().parents[2]
PAGES = (REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md")))
PLACEHOLDERS = {"N": "3", "S": "4"}


def documented() -> list[tuple[str, list[str]]]:
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8").replace("\\\n", " ")
        for name, rest in re.findall(r"(?m)python tools/(\w+)\.py((?: [^`\n#|]*)?)", text):
            command = name.replace("_", "-")
            module = import_module(COMMANDS[command][0].partition(":")[0])
            # The training command is LightningCLI's; its configurations have tests of their own.
            if rest.strip() and hasattr(module, "parser"):
                found.append((command, [PLACEHOLDERS.get(word, word) for word in shlex.split(rest)]))
    return found


@pytest.mark.parametrize(
    ("command", "arguments"), documented(), ids=lambda value: value if isinstance(value, str) else ""
)
def test_documented_options_are_known(command: str, arguments: list[str]) -> None:
    parsed = import_module(COMMANDS[command][0].partition(":")[0]).parser().parse_args(arguments)
    paths = [value for value in vars(parsed).values() if isinstance(value, Path) and value.parts[:1] == ("configs",)]
    assert all((REPOSITORY / path).is_file() for path in paths)


def test_pages_show_the_commands_that_readers_look_for() -> None:
    assert {name for name, _ in documented()} >= {"export", "check-deadline", "streaming", "fit-deadline", "visualize"}
