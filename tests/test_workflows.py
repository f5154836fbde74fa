"""The workflows: they parse, may do no more than they need, and name things that exist."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from fusionkd.cli.dispatch import COMMANDS
from fusionkd.realtime.command import parser

REPOSITORY = Path(__file__).resolve().parent.parent
GITHUB = REPOSITORY / ".github"
ACTION = GITHUB / "actions" / "deadline" / "action.yml"
FILES = sorted([*GITHUB.rglob("*.yml"), *GITHUB.rglob("*.yaml")])


def read(path: Path) -> dict[Any, Any]:
    content = yaml.safe_load(path.read_text())
    assert isinstance(content, dict)
    return content


def steps_of(content: dict[Any, Any]) -> list[dict[str, Any]]:
    if "runs" in content:
        return list(content["runs"]["steps"])
    return [step for job in content["jobs"].values() for step in job["steps"]]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(GITHUB).as_posix())
def test_steps_do_something_that_exists(path: Path) -> None:
    content = read(path)
    for step in steps_of(content):
        assert ("uses" in step) != ("run" in step), step
        if step.get("uses", "").startswith("./"):
            assert (REPOSITORY / step["uses"] / "action.yml").is_file()
        elif "uses" in step:
            assert re.fullmatch(r"[\w-]+/[\w-]+@v\d+", step["uses"]), step["uses"]
        if "runs" in content and "run" in step:
            assert step["shell"] == "bash"
    for file in re.findall(r"\b(?:configs|tools|fusionkd|\.ci)/[\w./-]+\.(?:yaml|sh|py)\b", path.read_text()):
        assert (REPOSITORY / file).is_file(), file


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(GITHUB).as_posix())
def test_no_script_is_put_together_from_what_strangers_write(path: Path) -> None:
    """Expressions reach scripts through the environment, so that a branch's name can't become a command."""
    for step in steps_of(read(path)):
        assert "${{" not in step.get("run", "")
        assert "${{" not in step.get("with", {}).get("script", "")


@pytest.mark.parametrize("path", [file for file in FILES if file != ACTION], ids=lambda path: path.name)
def test_rights_are_few(path: Path) -> None:
    content = read(path)
    allowed = {"contents": "read", "pull-requests": "write"} if path.name == "deadline.yml" else {"contents": "read"}
    assert content["permissions"] == allowed
    triggers = content[True]  # YAML 1.1 reads the key "on" so
    assert "pull_request_target" not in triggers
    assert all("timeout-minutes" in job for job in content["jobs"].values())


def test_the_workflow_gives_the_action_what_it_takes() -> None:
    action = read(ACTION)
    used = [s for s in steps_of(read(GITHUB / "workflows" / "deadline.yml")) if s.get("uses", "").startswith("./")]
    assert len(used) == 1
    given = used[0]["with"]
    assert set(given) <= set(action["inputs"])
    assert {name for name, entry in action["inputs"].items() if entry.get("required")} <= set(given)
    scripts = str(action["runs"])
    assert all(f"inputs.{name}" in scripts for name in action["inputs"])


def test_the_action_calls_the_command_with_options_that_it_has() -> None:
    script = next(step["run"] for step in steps_of(read(ACTION)) if step.get("id") == "check")
    words = shlex.split(script.replace("\\\n", " "), comments=True)
    assert words[words.index("fusionkd") + 1] in COMMANDS
    known = {option for action in parser()._actions for option in action.option_strings}
    options = {word.strip("()").removeprefix("gate=(") for word in words if "--" in word}
    options = {option for option in options if option.startswith("--")}
    assert {"--config", "--checkpoint", "--against"} <= options <= known


def test_five_lines_of_the_page_use_the_action() -> None:
    text = re.search(r"## In another project\n\n```yaml\n(.*?)```", (REPOSITORY / "docs" / "gate.md").read_text(), re.S)
    assert text is not None
    steps = yaml.safe_load(text[1])
    assert len(text[1].splitlines()) <= 5
    assert set(steps[1]["with"]) <= set(read(ACTION)["inputs"])
