"""Check the Dockerfiles' install steps where no Docker engine runs.

    python docker/check.py                                          # all of them, nothing is installed
    python docker/check.py ci --install --build-arg TORCH_INDEX=    # the CPU image's packages for real

Each COPY is done from what the build context would hold (.dockerignore applied) into a fresh folder, so that a missing
file is found. Of each RUN, names of system packages are looked up with apt-cache, and pip's commands are run in a
fresh virtual environment: with --dry-run (which still downloads what it resolves, gigabytes for torch), or for real.
For the Jetson image pip resolves wheels for Python 3.10 on aarch64. What can't be checked here is listed with the
reason. Exit status 1 if a step fails.
"""

import argparse
import fnmatch
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
import venv
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
GLIBCS = (35, 34, 28, 27, 17)
"""Minor versions of the C libraries that wheels for JetPack 6 (Ubuntu 22.04) may be built against."""
_VARIABLE = re.compile(r"\$\{(\w+)\}|\$(\w+)")


@dataclass(frozen=True)
class Instruction:
    """One instruction of a Dockerfile, its lines joined.

    Attributes:
        line: Where it begins, from 1.
        name: In capitals.
        value: The rest.
    """

    line: int
    name: str
    value: str


@dataclass(frozen=True)
class Finding:
    """What became of one step: ``ok``, ``failed`` or ``not checked``."""

    status: str
    step: str
    why: str = ""


@dataclass
class Build:
    """What an image's steps have to go by.

    Attributes:
        image: Its base.
        folder: Stands for the image's file system below WORKDIR.
        environment: A fresh virtual environment, or None where only names are looked up.
        install: Whether pip installs for real.
        variables: ARG and ENV so far.
    """

    image: str
    folder: Path
    environment: Path
    install: bool
    variables: dict[str, str] = field(default_factory=dict)

    @property
    def jetson(self) -> bool:
        """Whether wheels must be those of a Jetson."""
        return "l4t" in self.image


def parse(text: str) -> list[Instruction]:
    """The instructions of a Dockerfile; comments dropped, continued lines joined."""
    out: list[Instruction] = []
    pending, begin = "", 0
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        begin = begin if pending else number
        pending += " " + stripped.removesuffix("\\").strip()
        if not stripped.endswith("\\"):
            name, _, value = pending.strip().partition(" ")
            out.append(Instruction(begin, name.upper(), value.strip()))
            pending = ""
    if pending:
        raise ValueError(f"line {begin}: the last instruction is continued by nothing")
    return out


def substitute(text: str, variables: dict[str, str]) -> str:
    """``$NAME`` and ``${NAME}`` replaced; unknown ones become empty, as Docker does."""
    return _VARIABLE.sub(lambda match: variables.get(match[1] or match[2], ""), text)


def context(repository: Path) -> list[str]:
    """Files that a build context holds: git's and those not ignored, less what .dockerignore names."""
    listing = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    result = subprocess.run(listing, cwd=repository, capture_output=True, text=True, check=False)
    names = result.stdout.splitlines()
    if result.returncode:
        # No git here, as in an image: everything that lies there.
        names = [path.relative_to(repository).as_posix() for path in sorted(repository.rglob("*"))]
    files = [name for name in names if (repository / name).is_file()]
    lines = (repository / ".dockerignore").read_text().splitlines()
    patterns = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    return [name for name in files if not any(ignored(name, pattern) for pattern in patterns)]


def ignored(name: str, pattern: str) -> bool:
    """Whether a pattern of .dockerignore names a file or a folder above it."""
    parts = name.split("/")
    heads = ["/".join(parts[: k + 1]) for k in range(len(parts))]
    if pattern.startswith("**/"):
        return any(fnmatch.fnmatchcase(part, pattern[3:]) for part in parts)
    return any(fnmatch.fnmatchcase(head, pattern) and head.count("/") == pattern.count("/") for head in heads)


def copy(value: str, build: Build, files: list[str]) -> Finding:
    """Do a COPY."""
    words = [word for word in shlex.split(substitute(value, build.variables)) if not word.startswith("--")]
    *sources, target = words
    for source in sources:
        found = [name for name in files if source == "." or name == source or name.startswith(f"{source}/")]
        if not found:
            return Finding("failed", f"COPY {value}", f"the build context has no {source}")
        for name in found:
            inside = name if source == "." else name.removeprefix(f"{source}/") if name != source else Path(name).name
            place = build.folder / target / inside
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(REPOSITORY / name, place)
    return Finding("ok", f"COPY {value}")


def run(value: str, build: Build) -> Iterator[Finding]:
    """Check the commands of a RUN."""
    for command in (part.strip() for part in value.split("&&")):
        if command.startswith("pip install"):
            yield pip(command, build)
        elif "apt-get install" in command:
            yield from apt(command)
        else:
            reason = "needs root or the image's file system"
            yield Finding("not checked", command, reason)


def apt(command: str) -> Iterator[Finding]:
    """Look the packages of an apt-get install up."""
    words = shlex.split(command)
    names = [word for word in words[words.index("install") + 1 :] if not word.startswith("-")]
    if shutil.which("apt-cache") is None:
        yield Finding("not checked", f"apt-get install {' '.join(names)}", "no apt-cache here")
        return
    system = platform.freedesktop_os_release().get("PRETTY_NAME", "this system")
    for name in names:
        shown = subprocess.run(["apt-cache", "show", name], capture_output=True, text=True, check=False)
        known = shown.returncode == 0 and shown.stdout.strip()
        # Another release may well have what this one lacks, so an unknown name is no proof of a mistake.
        status, why = ("ok", f"known to {system}") if known else ("not checked", f"{system} knows no such package")
        yield Finding(status, f"apt-get install {name}", why)


def pip(command: str, build: Build) -> Finding:
    """Run a pip command in the fresh environment, for real or dry."""
    index = re.search(r"--index-url (\S+)", expanded(command, build))
    if index and not reachable(index[1]):
        return Finding("not checked", expanded(command, build), f"{index[1]} can't be reached from here")
    options = "" if build.install else "--dry-run"
    if build.jetson and not build.install and "--no-binary" not in command and "--editable" not in command:
        wheels = " ".join(f"--platform manylinux_2_{minor}_aarch64" for minor in GLIBCS)
        options += f" {wheels} --platform manylinux2014_aarch64 --python-version 3.10 --only-binary=:all:"
        options += f" --ignore-installed --target {shlex.quote(str(build.folder / 'wheels'))}"
    result = shell(command.replace("pip install", f"pip install --quiet {options}", 1), build)
    if result.returncode:
        return Finding("failed", expanded(command, build), _last_error(result.stderr))
    how = "installed" if build.install else "resolved for aarch64" if "aarch64" in options else "resolved"
    return Finding("ok", expanded(command, build), how)


def expanded(command: str, build: Build) -> str:
    """A command with its variables replaced by the shell itself."""
    return " ".join(shell(f"printf '%s ' {command}", build).stdout.split())


def shell(command: str, build: Build) -> subprocess.CompletedProcess[str]:
    """Run a command as RUN would, the fresh environment first on the path."""
    path = f"{build.environment / 'bin'}:{os.environ['PATH']}"
    environment = {**os.environ, **build.variables, "PATH": path, "VIRTUAL_ENV": str(build.environment)}
    environment.pop("PYTHONPATH", None)
    return subprocess.run(
        ["bash", "-c", command], cwd=build.folder, env=environment, capture_output=True, text=True, check=False
    )


def reachable(url: str) -> bool:
    """Whether a package index answers."""
    try:
        urllib.request.urlopen(url, timeout=10).close()
    except urllib.error.HTTPError:
        return True
    except (urllib.error.URLError, OSError, ValueError):
        return False
    return True


def check(dockerfile: Path, *, install: bool, arguments: dict[str, str]) -> Iterator[Finding]:
    """Check one Dockerfile.

    Args:
        dockerfile: The file.
        install: Whether pip installs for real.
        arguments: Build arguments that differ from the defaults.
    """
    files = context(REPOSITORY)
    with tempfile.TemporaryDirectory() as name:
        folder, environment = Path(name) / "workspace", Path(name) / "venv"
        folder.mkdir()
        venv.create(environment, with_pip=True)
        build = Build("", folder, environment, install)
        for instruction in parse(dockerfile.read_text()):
            value = instruction.value
            if instruction.name == "ARG":
                argument, _, default = value.partition("=")
                build.variables[argument] = arguments.get(argument, substitute(default, build.variables))
            elif instruction.name == "FROM":
                build.image = substitute(value, build.variables)
                yield Finding("not checked", f"FROM {build.image}", "no image registry is asked")
            elif instruction.name == "COPY":
                yield copy(value, build, files)
            elif instruction.name == "RUN":
                yield from run(value, build)
        if install:
            yield _imports(build)


def _imports(build: Build) -> Finding:
    command = "python -c 'import fusionkd, fusionkd.data, fusionkd.models, fusionkd.tasks' && pip check"
    result = shell(command, build)
    if result.returncode:
        return Finding("failed", command, _last_error(result.stdout + result.stderr))
    return Finding("ok", command)


def _last_error(text: str) -> str:
    lines = [line for line in text.strip().splitlines() if line.startswith("ERROR")] or text.strip().splitlines()
    return lines[-1][:300] if lines else "no message"


def main() -> int:
    """Check the Dockerfiles that are named; 1 if a step fails."""
    names = sorted(path.name.removeprefix("Dockerfile.") for path in REPOSITORY.glob("docker/Dockerfile.*"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(names)} (default: all)")
    parser.add_argument("--install", action="store_true", help="install for real (gigabytes) instead of --dry-run")
    parser.add_argument("--build-arg", action="append", default=[], metavar="NAME=VALUE", help="as of docker build")
    given = parser.parse_args()
    unknown = sorted(set(given.names) - set(names))
    if unknown:
        parser.error(f"there is no Dockerfile.{unknown[0]}; there are: {', '.join(names)}")
    arguments = dict(text.partition("=")[::2] for text in given.build_arg)
    failed = 0
    for name in given.names or names:
        print(f"\nDockerfile.{name}")
        for found in check(REPOSITORY / "docker" / f"Dockerfile.{name}", install=given.install, arguments=arguments):
            failed += found.status == "failed"
            print(f"  {found.status:<12} {found.step}" + (f"\n{'':15}{found.why}" if found.why else ""), flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
