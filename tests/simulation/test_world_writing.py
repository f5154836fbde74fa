"""Atomic, resumable, repeatable: how a world gets to the disk."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fusionkd.errors import UserError
from fusionkd.simulation import WorldSettings, write_world

TINY = WorldSettings(scenes=2, seed=9, keyframes_per_scene=1, image_width_px=64)


def digest(root: Path) -> dict[str, str]:
    """Per file its hash."""
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Hashes of the tiny world, written by one process without interruption."""
    root = tmp_path_factory.mktemp("whole") / "world"
    write_world(root, TINY, workers=1, progress=False)
    assert sorted(path.name for path in root.parent.iterdir()) == ["world"]
    return digest(root)


def test_two_workers_write_the_same_bytes(whole: dict[str, str], tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    write_world(tmp_path / "world", TINY, workers=2, progress=lambda done, total: told.append((done, total)))
    assert digest(tmp_path / "world") == whole
    assert told[0] == (0, 2)
    assert told[-1] == (2, 2)


def test_another_seed_writes_another_world(whole: dict[str, str], tmp_path: Path) -> None:
    settings = WorldSettings(scenes=1, seed=10, keyframes_per_scene=1, image_width_px=64)
    write_world(tmp_path / "world", settings, workers=1, progress=False)
    assert not set(digest(tmp_path / "world").values()) & {
        value for name, value in whole.items() if name.startswith(("samples", "sweeps"))
    }


def test_an_interruption_leaves_no_half_world_and_is_made_up_for(whole: dict[str, str], tmp_path: Path) -> None:
    root = tmp_path / "world"

    def stop_in_the_second_scene(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_world(root, TINY, workers=1, progress=stop_in_the_second_scene)
    assert not root.exists()
    told: list[int] = []
    write_world(root, TINY, workers=1, progress=lambda done, total: told.append(done))
    assert told == [1, 2]
    assert digest(root) == whole
    assert sorted(path.name for path in tmp_path.iterdir()) == ["world"]


@pytest.mark.slow
def test_a_killed_process_is_resumed(whole: dict[str, str], tmp_path: Path) -> None:
    root = tmp_path / "world"
    code = (
        "import sys; from fusionkd.simulation import WorldSettings, write_world; "
        f"write_world(sys.argv[1], WorldSettings(**{TINY.as_dict()}), workers=1)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(root)], stdout=subprocess.DEVNULL)
    partial = tmp_path / ".world.partial"
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        if list(partial.glob("parts/*.json")):
            os.kill(process.pid, signal.SIGKILL)
            break
        time.sleep(0.005)
    process.wait()
    assert process.returncode == -signal.SIGKILL
    assert not root.exists()
    write_world(root, TINY, workers=1, progress=False)
    assert digest(root) == whole


@pytest.mark.slow
def test_script_that_its_own_workers_import_is_told_so(tmp_path: Path) -> None:
    script = tmp_path / "unguarded.py"
    settings = {**TINY.as_dict(), "scenes": 2}
    script.write_text(
        "from fusionkd.simulation import WorldSettings, write_world\n"
        f"write_world({str(tmp_path / 'world')!r}, WorldSettings(**{settings}), workers=2, progress=False)\n"
    )
    run = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False, timeout=120)
    assert run.returncode != 0
    assert "if __name__ == '__main__':" in run.stderr


def test_a_partial_world_of_other_settings_is_thrown_away(whole: dict[str, str], tmp_path: Path) -> None:
    partial = tmp_path / ".world.partial"
    (partial / "parts").mkdir(parents=True)
    (partial / "parts" / "0000.json").write_text("{}")
    (partial / "simulated.json").write_text(json.dumps({"settings": "others"}))
    write_world(tmp_path / "world", TINY, workers=1, progress=False)
    assert digest(tmp_path / "world") == whole


def test_the_same_world_is_left_alone(tmp_path: Path) -> None:
    settings = WorldSettings(scenes=1, seed=2, keyframes_per_scene=1, image_width_px=64)
    root = tmp_path / "world"
    write_world(root, settings, workers=1, progress=False)
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    write_world(root, settings, workers=1, progress=False)
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before
    with pytest.raises(UserError, match="already holds a simulated world with other settings"):
        write_world(root, TINY, progress=False)


def test_other_peoples_files_are_not_touched(tmp_path: Path) -> None:
    root = tmp_path / "world"
    root.mkdir()
    (root / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match="already holds other files"):
        write_world(root, TINY, progress=False)
    assert (root / "thesis.txt").read_text() == "years of work"


def test_an_empty_folder_may_be_given(tmp_path: Path) -> None:
    root = tmp_path / "world"
    root.mkdir()
    settings = WorldSettings(scenes=1, seed=2, keyframes_per_scene=1, image_width_px=64)
    write_world(root, settings, workers=1, progress=False)
    assert (root / "simulated.json").is_file()


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(UserError, match="can't be written to"):
        write_world(tmp_path / "file" / "world", TINY, workers=1, progress=False)


def test_no_workers_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="workers must be at least 1, found 0"):
        write_world(tmp_path / "world", TINY, workers=0, progress=False)
