"""Writing a world: scenes in parallel processes, a resumable folder beside the target, one rename at the end."""

import fcntl
import json
import multiprocessing
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_EXCEPTION, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from fusionkd import __version__
from fusionkd.errors import UserError
from fusionkd.preprocess.compiled import forget_stale_kernels
from fusionkd.simulation.bare_recording import BareSceneRecorder
from fusionkd.simulation.recording import SceneRecorder
from fusionkd.simulation.records import TABLES, fixed_tables
from fusionkd.simulation.rig import LIDAR, MOUNTINGS
from fusionkd.simulation.settings import WorldSettings

MARK: Final = "simulated.json"
"""A file of this name at a dataset's root says that it is simulated, and how."""
WORLD_REVISION: Final = 3
"""Raised whenever the same settings give another world."""

ProgressCallback = Callable[[int, int], None]

_keyframes_done: Any = None
"""In a worker process, the counter it shares with the parent."""


def write_world(
    root: Path | str,
    settings: WorldSettings,
    *,
    workers: int | None = None,
    progress: bool | ProgressCallback = True,
) -> None:
    """Write a simulated world as a nuScenes v1.0 dataset.

    The files gather in ``.NAME.partial`` beside the target, which appears whole at the end. A run that was cut off
    goes on with the scenes that were still missing. A target that already holds this very world is left alone.

    Args:
        root: The dataset's folder; it must not exist, be empty, or hold this very world.
        settings: What to simulate.
        workers: Processes; None takes one per usable core. The bytes don't depend on it.
        progress: A bar on the terminal, nothing, or a function that is told keyframes done and in all.

    Raises:
        UserError: If the folder holds something else or can't be written, or if a script calls this while a worker
            process of its own imports it.
    """
    root = Path(root).absolute()
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        # Such a worker would wait for the lock that its parent holds, and the parent for the worker.
        raise UserError(
            "write_world starts processes, and each of them imports your script: call it below "
            "`if __name__ == '__main__':`, or give workers=1."
        )
    if workers is not None and workers < 1:
        raise UserError(f"workers must be at least 1, found {workers}.")
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        with _only_writer(root):
            if not _is_written(root, settings):
                forget_stale_kernels(Path(__file__).parent)
                partial = _open_partial(root, settings)
                _record_scenes(partial, settings, workers or _usable_cores(), progress)
                _assemble(partial, settings)
                if root.exists():
                    root.rmdir()
                partial.rename(root)
    except OSError as error:
        raise UserError(f"The simulated world can't be written to {root}: {error}") from error


def describe(settings: WorldSettings) -> dict[str, Any]:
    """What ``simulated.json`` says of a world."""
    return {
        "simulated": True,
        "by": "fusionkd.simulation",
        "fusionkd_version": __version__,
        "world_revision": WORLD_REVISION,
        "settings": settings.as_dict(),
    }


def _usable_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def _only_writer(root: Path) -> Iterator[None]:
    """Wait until no other process writes this world."""
    path = root.parent / f".{root.name}.lock"
    with path.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def _is_written(root: Path, settings: WorldSettings) -> bool:
    """Whether the target already holds this world; an error if it holds anything else."""
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return False
    mark = root / MARK
    if mark.is_file() and _read_json(mark) == describe(settings):
        return True
    what = "a simulated world with other settings" if mark.is_file() else "other files"
    raise UserError(f"{root} already holds {what}. Choose another folder or remove this one, then run again.")


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except ValueError:
        return None


def _open_partial(root: Path, settings: WorldSettings) -> Path:
    """The folder in which an unfinished world gathers; one of other settings is thrown away."""
    partial = root.parent / f".{root.name}.partial"
    if partial.exists() and _read_json(partial / MARK) != describe(settings):
        shutil.rmtree(partial)
    for channel in MOUNTINGS:
        (partial / "samples" / channel).mkdir(parents=True, exist_ok=True)
        if channel == LIDAR or settings.camera_sweeps:
            (partial / "sweeps" / channel).mkdir(parents=True, exist_ok=True)
    for name in ("maps", "parts", settings.version):
        (partial / name).mkdir(exist_ok=True)
    (partial / MARK).write_text(json.dumps(describe(settings), indent=2) + "\n")
    return partial


def _part(partial: Path, number: int) -> Path:
    return partial / "parts" / f"{number:04d}.json"


def _record_scenes(partial: Path, settings: WorldSettings, workers: int, progress: bool | ProgressCallback) -> None:
    missing = [number for number in range(settings.scenes) if not _part(partial, number).is_file()]
    total = settings.scenes * settings.keyframes_per_scene
    before = total - len(missing) * settings.keyframes_per_scene
    with _reporter(progress, total) as report:
        report(before, total)
        if workers == 1 or len(missing) <= 1:
            done = before

            def count() -> None:
                nonlocal done
                done += 1
                report(done, total)

            for number in missing:
                record_scene(partial, settings, number, count)
        else:
            _record_in_processes(
                partial, settings, missing, (min(workers, len(missing)), lambda n: report(before + n, total))
            )


def _record_in_processes(
    partial: Path, settings: WorldSettings, missing: list[int], how: tuple[int, Callable[[int], None]]
) -> None:
    workers, report = how
    # Not fork: the parent may run threads of torch or OpenMP.
    context = multiprocessing.get_context("spawn")
    counter = context.Value("q", 0)
    with ProcessPoolExecutor(workers, context, initializer=_start_worker, initargs=(counter,)) as pool:
        waiting: set[Future[None]] = {pool.submit(_record_in_worker, partial, settings, n) for n in missing}
        try:
            while waiting:
                finished, waiting = wait(waiting, timeout=0.25, return_when=FIRST_EXCEPTION)
                for future in finished:
                    future.result()
                report(counter.value)
        except BrokenProcessPool as error:
            raise UserError(
                "A process that was writing scenes ended: what it said stands above, or it was killed for lack of "
                "memory. Run the same command again: finished scenes are kept."
            ) from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _start_worker(counter: Any) -> None:
    global _keyframes_done
    _keyframes_done = counter


def _record_in_worker(partial: Path, settings: WorldSettings, number: int) -> None:
    def count() -> None:
        with _keyframes_done.get_lock():
            _keyframes_done.value += 1

    record_scene(partial, settings, number, count)


def record_scene(partial: Path, settings: WorldSettings, number: int, on_keyframe: Callable[[], None]) -> None:
    """Write one scene's files and, last, its rows; the rows say that the scene is whole."""
    recorder = BareSceneRecorder if settings.tables_only else SceneRecorder
    tables = recorder(partial, settings, number, on_keyframe).record()
    path = _part(partial, number)
    unfinished = path.with_suffix(".unfinished")
    unfinished.write_text(json.dumps(tables))
    unfinished.rename(path)


@contextmanager
def _reporter(progress: bool | ProgressCallback, total: int) -> Iterator[ProgressCallback]:
    if callable(progress):
        yield progress
    elif not progress:
        yield lambda done, total: None
    else:
        columns = (
            TextColumn("simulating"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("keyframes"),
            TimeRemainingColumn(),
        )
        with Progress(*columns) as bar:
            task = bar.add_task("simulating", total=total)
            yield lambda done, _total: bar.update(task, completed=done)


def _assemble(partial: Path, settings: WorldSettings) -> None:
    """Join the scenes' rows to tables, one scene in memory at a time; write the README; drop the parts."""
    folder = partial / settings.version
    streams = {name: (folder / f"{name}.json").open("w") for name in TABLES}
    try:
        empty = dict.fromkeys(TABLES, True)
        parts = (_read_json(_part(partial, number)) for number in range(settings.scenes))
        for tables in (fixed_tables(settings.seed), *parts):
            for name, rows in tables.items():
                for row in rows:
                    streams[name].write(("[\n" if empty[name] else ",\n") + json.dumps(row))
                    empty[name] = False
        for name, stream in streams.items():
            stream.write("[]\n" if empty[name] else "\n]\n")
    finally:
        for stream in streams.values():
            stream.close()
    (partial / "README.md").write_text(_readme(settings))
    shutil.rmtree(partial / "parts")


def _readme(settings: WorldSettings) -> str:
    bare = ""
    if settings.tables_only:
        bare = (
            "It has tables alone: the sensor files they name were never written, and points and visibility of boxes "
            "are modelled.\n\n"
        )
    values = "\n".join(f"- {name}: {value}" for name, value in settings.as_dict().items())
    return (
        "# A simulated driving world\n\n"
        f"Written by fusionkd {__version__} (`fusionkd.simulation`) in the file layout of nuScenes v1.0. No camera or "
        "LiDAR took any of it:\nevery image, point and box is simulated, and so is every figure measured on it. It is "
        "not nuScenes data.\n\n"
        f"{bare}Settings:\n\n"
        f"{values}\n"
    )
