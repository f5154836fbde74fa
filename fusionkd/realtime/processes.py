"""The sides of a gate as processes: how two revisions of the code run in turns on one machine.

A worker says ``{"protocol": 1, "frames": N}`` and then answers each line ``[3, 4]`` (frames to run) with a line
``[12345678, 12345679]`` (nanoseconds each took). While one side works the other waits for its next line.
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO

from fusionkd.errors import UserError
from fusionkd.realtime.turns import Side, quiet

PROTOCOL = 1
"""Version of the lines between gate and worker; revisions of different protocols can't be compared."""


def serve(side: Side, frames: int, *, source: IO[str], sink: IO[str]) -> None:
    """Answer the gate until it closes its end.

    Args:
        side: Who runs the frames.
        frames: Number of frames there are.
        source: Lines of the gate.
        sink: Where the answers go.
    """
    with quiet():
        print(json.dumps({"protocol": PROTOCOL, "frames": frames}), file=sink, flush=True)
        for line in source:
            print(json.dumps([int(time_ns) for time_ns in side.times_ns(json.loads(line))]), file=sink, flush=True)


@contextmanager
def own_output() -> Iterator[IO[str]]:
    """The process's standard output for the caller alone; what others print goes to standard error."""
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        with os.fdopen(kept, "w", encoding="utf-8") as sink:
            yield sink
    finally:
        sys.stdout.flush()


class ProcessSide:
    """A side that runs in a process of its own.

    Args:
        command: The worker's command line.
        name: For messages.
        folder: Where it runs.
        environment: Variables that differ from ours.
    """

    def __init__(
        self, command: Sequence[str], *, name: str, folder: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        self.name = name
        self._errors = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115 - lives as long as the process
        self._process = subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )
        self._frames: int | None = None

    @property
    def frames(self) -> int:
        """Number of its frames; waits until the worker is ready.

        Raises:
            UserError: If it fails to start, or speaks another protocol.
        """
        if self._frames is None:
            hello = self._answer()
            if not isinstance(hello, dict) or hello.get("protocol") != PROTOCOL:
                raise UserError(f"{self.name} speaks another protocol of the gate than this revision: {hello}.")
            self._frames = int(hello["frames"])
        return self._frames

    def times_ns(self, frames: Sequence[int]) -> list[int]:
        """Have frames run and timed.

        Raises:
            UserError: If the process fails; its last words are in the message.
        """
        assert self.frames >= 0  # waits until it is ready
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            print(json.dumps(list(frames)), file=self._process.stdin, flush=True)
        answer = self._answer()
        if not isinstance(answer, list) or len(answer) != len(frames):
            raise UserError(f"{self.name} was asked for {len(frames)} frames and answered {str(answer)[:200]}.")
        return answer

    def close(self) -> None:
        """End the process: it stops when nothing more is asked."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._errors.close()

    def __enter__(self) -> "ProcessSide":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _answer(self) -> object:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        try:
            return json.loads(line)
        except json.JSONDecodeError:
            pass
        self._process.wait()
        self._errors.seek(0)
        lines = [said for said in (self._errors.read() + line).splitlines() if said.strip()] or ["nothing"]
        raise UserError(f"{self.name} failed with exit status {self._process.returncode}. It said: {lines[-1]}")


@contextmanager
def checked_out(repository: Path, revision: str) -> Iterator[Path]:
    """The files of a revision in a temporary folder, removed afterwards; the repository's own files stay as they are.

    Args:
        repository: A git repository, or a folder of one.
        revision: Anything that git understands as a commit.

    Raises:
        UserError: If there is no such repository or revision.
    """
    commit = commit_of(repository, revision)
    with tempfile.TemporaryDirectory(prefix="fusionkd-gate-") as folder:
        path = Path(folder) / "tree"
        git(repository, "worktree", "add", "--detach", str(path), commit)
        try:
            yield path
        finally:
            git(repository, "worktree", "remove", "--force", str(path))


def commit_of(repository: Path, revision: str) -> str:
    """The commit that a revision names.

    Raises:
        UserError: If there is no such repository or revision.
    """
    if revision.startswith("-"):
        raise UserError(f"{revision!r} is no revision of {repository}.")
    return git(repository, "rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}", what=f"revision {revision!r}")


def git(repository: Path, *arguments: str, what: str = "") -> str:
    """What a git command prints.

    Raises:
        UserError: If git is absent or the command fails.
    """
    try:
        done = subprocess.run(["git", "-C", str(repository), *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise UserError("The gate compares git revisions, but there is no git on this machine.") from None
    if done.returncode:
        said = done.stderr.strip() or f"there is no {what or ' '.join(arguments)}"
        raise UserError(f"git can't help in {repository}: {said}. In a shallow clone fetch the revision first.")
    return done.stdout.strip()
