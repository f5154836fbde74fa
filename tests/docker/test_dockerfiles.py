"""The Dockerfiles, read: bases pinned, arguments used, files there, nobody root; and the checker that reads them."""

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
DOCKERFILES = sorted((REPOSITORY / "docker").glob("Dockerfile.*"))


def _module() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docker_check", REPOSITORY / "docker" / "check.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


check = _module()


def _values(path: Path, name: str) -> list[str]:
    return [found.value for found in check.parse(path.read_text()) if found.name == name]


def test_there_is_one_for_training_ci_and_jetson() -> None:
    assert [path.name for path in DOCKERFILES] == ["Dockerfile.ci", "Dockerfile.jetson", "Dockerfile.train"]


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
class TestEach:
    def test_the_base_is_a_pinned_argument(self, path: Path) -> None:
        defaults = dict(value.split("=", 1) for value in _values(path, "ARG"))
        (base,) = _values(path, "FROM")
        image = check.substitute(base, defaults)
        assert base.startswith("${")
        assert re.fullmatch(r"[\w./-]+:r?\d+\.\d+(\.\d+)?[\w.-]*", image), image

    def test_every_argument_has_a_default_and_is_used(self, path: Path) -> None:
        text = path.read_text()
        for value in _values(path, "ARG"):
            name, equals, default = value.partition("=")
            assert equals
            assert default
            assert re.search(rf"\$\{{{name}\b", text), f"{name} is used by nothing"

    def test_what_is_copied_is_in_the_build_context(self, path: Path) -> None:
        files = check.context(REPOSITORY)
        for value in _values(path, "COPY"):
            for source in [word for word in value.split() if not word.startswith("--")][:-1]:
                assert source == "." or any(name == source or name.startswith(f"{source}/") for name in files), source

    def test_constraints_are_copied_before_pip_reads_them(self, path: Path) -> None:
        seen: set[str] = set()
        for found in check.parse(path.read_text()):
            if found.name == "COPY":
                seen |= set(found.value.split())
            for used in re.findall(r"-c (\S+)", found.value) if found.name == "RUN" else ():
                assert used in seen

    def test_it_ends_as_nobody_special(self, path: Path) -> None:
        names = [found.name for found in check.parse(path.read_text())]
        assert _values(path, "USER") == ["fusionkd"]
        assert "RUN" not in names[names.index("USER") :]
        assert not re.search(r"(?i)(password|token|secret|api_key)\s*=", path.read_text())

    def test_layers_keep_no_caches(self, path: Path) -> None:
        for value in _values(path, "RUN"):
            if "apt-get install" in value:
                assert "--no-install-recommends" in value
                assert value.endswith("rm -rf /var/lib/apt/lists/*")
            for command in re.findall(r"pip install[^&]*", value):
                assert "--no-cache-dir" in command

    def test_what_it_starts_exists(self, path: Path) -> None:
        (value,) = _values(path, "ENTRYPOINT")
        command = json.loads(value)
        assert command[0] == "python"
        if command[1] == "-m":
            assert importlib.util.find_spec(command[2]) is not None
        elif not (REPOSITORY / command[1]).is_file():
            assert command[1] == "tools/check_deadline.py", f"there is no {command[1]}"
            pytest.skip("this tree has no deadline checker")


def test_the_constraints_fit_the_package() -> None:
    from packaging.requirements import Requirement

    project = (REPOSITORY / "pyproject.toml").read_text()
    wanted = [Requirement(text) for text in re.findall(r'"([a-zA-Z][\w.-]*(?:\[\w+\])?[<>=][^"]*)"', project)]
    for name in ("constraints.txt", "constraints-jetson.txt"):
        lines = (REPOSITORY / "docker" / name).read_text().splitlines()
        pinned = dict(line.split("==") for line in lines if line and not line.startswith("#"))
        assert len(pinned) > 10
        for requirement in wanted:
            if requirement.name in pinned:
                assert requirement.specifier.contains(pinned[requirement.name]), f"{name}: {requirement}"
    torch = next(requirement for requirement in wanted if requirement.name == "torch")
    jetson = dict(v.split("=", 1) for v in _values(REPOSITORY / "docker" / "Dockerfile.jetson", "ARG"))
    assert torch.specifier.contains(jetson["TORCH_VERSION"])


def test_a_dockerfile_is_read_as_docker_reads_it() -> None:
    text = "# one\nARG A=1\n\nRUN first \\\n  # between\n  --x ${A} && second\ncopy a b/\n"
    found = [(one.line, one.name, one.value) for one in check.parse(text)]
    assert found == [(2, "ARG", "A=1"), (4, "RUN", "first --x ${A} && second"), (7, "COPY", "a b/")]
    assert check.substitute("$A-${B}-${A}", {"A": "1"}) == "1--1"
    with pytest.raises(ValueError, match=r"line 1: .* continued by nothing"):
        check.parse("RUN a \\\n")


@pytest.mark.parametrize(
    ("name", "pattern", "expected"),
    [
        ("data/x/y.bin", "data", True),
        ("fusionkd/data/index.py", "data", False),
        ("fusionkd/__pycache__/x.pyc", "**/__pycache__", True),
        ("a/b/model.ckpt", "**/*.ckpt", True),
        ("docker/Dockerfile.ci", "docker/Dockerfile.*", True),
        ("docker/check.py", "docker/Dockerfile.*", False),
    ],
)
def test_ignored_files_are_those_docker_ignores(name: str, pattern: str, expected: bool) -> None:
    assert check.ignored(name, pattern) is expected


def test_the_context_holds_the_sources_and_no_data() -> None:
    files = check.context(REPOSITORY)
    assert "fusionkd/__init__.py" in files
    assert "pyproject.toml" in files
    assert not [name for name in files if name.startswith(("data/", "runs/", ".git/")) or name.endswith(".ckpt")]


def test_the_checker_does_the_steps_it_can(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def shell(command: str, build: object) -> subprocess.CompletedProcess[str]:
        if not command.startswith("printf"):
            calls.append(command)
        bad = "no-such-package" in command
        return subprocess.CompletedProcess(
            command, int(bad), command.removeprefix("printf '%s ' "), "ERROR: none" * bad
        )

    monkeypatch.setattr(check, "shell", shell)
    monkeypatch.setattr(check, "reachable", lambda url: False)
    monkeypatch.setattr(check.venv, "create", lambda *given, **options: None)
    path = tmp_path / "Dockerfile.l4t"
    path.write_text(
        "ARG IMAGE=some/l4t:1.0\nFROM ${IMAGE}\nARG X=2\nCOPY pyproject.toml docker/constraints.txt sub/\n"
        "COPY nothing .\n"
        "RUN useradd a && pip install numpy==${X}\nRUN pip install --index-url https://nowhere.invalid torch\n"
        "RUN pip install --no-deps --editable . && pip install no-such-package\n"
    )
    found = list(check.check(path, install=False, arguments={"X": "7"}))
    assert [(one.status, one.step.split()[0]) for one in found] == [
        ("not checked", "FROM"),
        ("ok", "COPY"),
        ("failed", "COPY"),
        ("not checked", "useradd"),
        ("ok", "pip"),
        ("not checked", "pip"),
        ("ok", "pip"),
        ("failed", "pip"),
    ]
    assert found[2].why == "the build context has no nothing"
    assert found[-1].why == "ERROR: none"
    assert "--python-version 3.10" in calls[0]
    assert "--dry-run" in calls[0]
    assert "aarch64" not in calls[1]
