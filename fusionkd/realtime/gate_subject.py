"""What the gate measures: a model in a backend on some frames, in this process or in one of its own.

The worker, which runs with another revision's code as well, is ``python -m fusionkd.realtime.gate_subject ...``.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from fusionkd.errors import UserError
from fusionkd.realtime.backends import BACKENDS, Running, build_pipeline
from fusionkd.realtime.frames import DEFAULT_ROOT, open_frames
from fusionkd.realtime.processes import own_output, serve
from fusionkd.realtime.turns import CallSide


@dataclass(frozen=True)
class GateSubject:
    """The candidate.

    Attributes:
        source: zoo:NAME, a checkpoint or an ONNX file. A zoo model is that of the revision that runs it.
        running: Backend, device, precision, threads.
        config: config.yaml of the checkpoint's training, where it isn't beside it.
        root: Of the data; None for the main job's data or, where none is there, a small simulated world.
        version: Of nuScenes; None for the one that is there.
        count: Different frames.
    """

    source: str
    running: Running
    config: Path | None = None
    root: Path | None = None
    version: str | None = None
    count: int = 10

    def open(self, other: str | None = None) -> tuple[CallSide, int]:
        """The side, and the number of its frames.

        Args:
            other: Another model to run in the same way, or None for the candidate.

        Raises:
            UserError: If a file can't be read, or the backend, the device or data isn't there.
        """
        pipeline = build_pipeline(other or self.source, self.running, config=None if other else self.config)
        sweeps = pipeline.spec.num_sweeps
        frames = open_frames(self.root, num_sweeps=sweeps, count=self.count, version=self.version).frames
        return CallSide(lambda number: pipeline(frames[number])), len(frames)

    def worker(self) -> list[str]:
        """The command line of a worker that runs the same."""
        running = self.running
        options = {
            "--source": self.source if self.source.startswith("zoo:") else str(Path(self.source).resolve()),
            "--backend": running.backend,
            "--device": running.where,
            "--precision": running.precision,
            "--threads": str(running.threads),
            "--count": str(self.count),
            "--config": self.config and str(self.config.resolve()),
            "--root": self.root and str(self.root.resolve()),
            "--version": self.version,
        }
        given = [part for name, value in options.items() if value for part in (name, value)]
        return [sys.executable, "-m", "fusionkd.realtime.gate_subject", *given]

    @contextmanager
    def with_frames(self) -> Iterator["GateSubject"]:
        """The subject with frames that any number of processes and revisions can read.

        Where there is no data, a simulated world is written once: another revision might write another world.
        """
        if self.root is not None or DEFAULT_ROOT.is_dir():
            yield replace(self, root=self.root or DEFAULT_ROOT)
            return
        # Imported here because only a machine without data needs the simulation.
        from fusionkd.simulation import WorldSettings, write_world

        print("No data was given or found: a small SIMULATED world is made to measure with.", file=sys.stderr)
        with tempfile.TemporaryDirectory(prefix="fusionkd-gate-") as folder:
            root = Path(folder) / "world"
            write_world(root, WorldSettings(scenes=2, keyframes_per_scene=self.count // 2 + 2, val_scenes=1))
            yield replace(self, root=root)


def parser() -> argparse.ArgumentParser:
    """The worker's command line."""
    out = argparse.ArgumentParser(prog="gate_subject", description="One side of the relative gate, asked by lines.")
    out.add_argument("--source", required=True)
    out.add_argument("--backend", choices=BACKENDS, required=True)
    out.add_argument("--device", required=True)
    out.add_argument("--precision", required=True)
    out.add_argument("--threads", type=int, required=True)
    out.add_argument("--count", type=int, required=True)
    out.add_argument("--config", type=Path)
    out.add_argument("--root", type=Path)
    out.add_argument("--version")
    return out


def main(arguments: Sequence[str] | None = None) -> int:
    """Run as a worker: frames' numbers come in, times go out.

    Returns:
        0, or 2 after a user's mistake, whose sentence is the last line of the standard error.
    """
    given = parser().parse_args(arguments)
    with own_output() as sink:
        try:
            running = Running(given.backend, given.device, precision=given.precision, threads=given.threads)
            subject = GateSubject(
                given.source, running, config=given.config, root=given.root, version=given.version, count=given.count
            )
            side, frames = subject.open()
            serve(side, frames, source=sys.stdin, sink=sink)
        except UserError as error:
            print(error, file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
