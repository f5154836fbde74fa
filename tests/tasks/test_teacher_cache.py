"""Training from a cache: filled before the first step, read in every step, refilled where something is missing."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch

from fusionkd.data import BevAugmentation
from fusionkd.distillation import FeatureMimic
from fusionkd.errors import UserError
from fusionkd.tasks import DistillationTask
from fusionkd.tasks.caching import CacheFiller, Filled, Share
from fusionkd.teachers import CachedTeacher, FrozenTeacher
from tests.tasks.conftest import make_data, make_student, make_trainer
from tests.tasks.test_training import all_terms

REPOSITORY = Path(__file__).resolve().parents[2]
Weights = dict[str, torch.Tensor]


def fit(teacher: FrozenTeacher, root: Path, folder: Path, **options: Any) -> Weights:
    pl.seed_everything(0, verbose=False)
    task = DistillationTask(make_student(seed=1), teachers={"lidar": teacher}, terms=all_terms())
    make_trainer(folder, steps=3, limit_val_batches=0).fit(task, make_data(root, **options))
    return dict(task.student.state_dict())


def same(one: Weights, other: Weights) -> bool:
    return all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.fixture
def never_asked(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From its call on no cached network may be loaded."""

    def refuse(checkpoint: str) -> None:
        raise AssertionError(f"{checkpoint} was loaded")

    return lambda: monkeypatch.setattr("fusionkd.teachers.cached.load_trained", refuse)


def fill(checkpoint: Path, cache: Path, root: Path, *, share: Share = Share(), max_gb: float = 1.0) -> Filled:  # noqa: B008
    teacher = CachedTeacher(str(checkpoint), str(cache), max_gb=max_gb)
    terms = list(all_terms().items())
    return CacheFiller("lidar", teacher, terms, data=make_data(root)).fill(torch.device("cpu"), share=share)


def test_second_run_reads_what_the_first_one_asked(
    trained: Path,
    tiny_nuscenes: Path,
    tmp_path: Path,
    never_asked: Callable[[], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    cache = str(tmp_path / "cache")
    first = fit(CachedTeacher(str(trained), cache), tiny_nuscenes, tmp_path)
    said = capsys.readouterr().out
    assert "it is empty" in said
    assert "frames are missing" in said
    never_asked()
    second = fit(CachedTeacher(str(trained), cache), tiny_nuscenes, tmp_path)
    assert "missing" not in capsys.readouterr().out
    assert same(first, second), "asking first must not change a run"
    augmented = BevAugmentation(flip_x=0.5, flip_y=0.5, max_rotation_rad=0.4, scale=(0.95, 1.05))
    moved = fit(CachedTeacher(str(trained), cache), tiny_nuscenes, tmp_path, bev_augmentation=augmented)
    assert not same(second, moved)
    assert all(bool(torch.isfinite(value).all()) for value in moved.values())


def test_change_of_the_data_misses_loudly(
    trained: Path, tiny_nuscenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cache = tmp_path / "cache"
    assert fill(trained, cache, tiny_nuscenes).asked == 6
    fit(CachedTeacher(str(trained), str(cache)), tiny_nuscenes, tmp_path, num_sweeps=1)
    assert "data.sweeps was 2 and is 1" in capsys.readouterr().out


def test_damaged_file_is_told_and_asked_about(
    trained: Path, tiny_nuscenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cache = tmp_path / "cache"
    fill(trained, cache, tiny_nuscenes)
    whole = {path: path.read_bytes() for path in cache.rglob("*.safetensors")}
    path = sorted(whole)[0]
    path.write_bytes(whole[path][:200])
    fit(CachedTeacher(str(trained), str(cache)), tiny_nuscenes, tmp_path)
    assert f"{path} can't be read" in capsys.readouterr().err
    assert not path.exists()
    filled = fill(trained, cache, tiny_nuscenes)
    assert (filled.found, filled.asked) == (5, 1)
    assert path.read_bytes() == whole[path]


def test_verifying_finds_damage_before_a_run_does(trained: Path, tiny_nuscenes: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    fill(trained, cache, tiny_nuscenes)
    path = sorted(cache.rglob("*.safetensors"))[1]
    whole = path.read_bytes()
    path.write_bytes(whole[:-9])
    assert fill(trained, cache, tiny_nuscenes).asked == 0
    teacher = CachedTeacher(str(trained), str(cache))
    filler = CacheFiller("lidar", teacher, list(all_terms().items()), data=make_data(tiny_nuscenes))
    assert filler.fill(torch.device("cpu"), verify=True).asked == 1
    assert path.read_bytes() == whole


def test_full_cache_says_so_and_the_run_asks_live(
    trained: Path, tiny_nuscenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    live = fit(FrozenTeacher(str(trained)), tiny_nuscenes, tmp_path)
    capsys.readouterr()
    full = fit(CachedTeacher(str(trained), str(tmp_path / "cache"), max_gb=1e-9), tiny_nuscenes, tmp_path)
    assert "is full at max_gb=1e-09" in capsys.readouterr().out
    assert not list((tmp_path / "cache").rglob("*.safetensors"))
    assert same(live, full)


def test_lost_process_costs_its_share_alone(trained: Path, tiny_nuscenes: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    other = fill(trained, cache, tiny_nuscenes, share=Share(1, 2))
    assert (other.frames, other.asked) == (3, 3)
    filled = fill(trained, cache, tiny_nuscenes)
    assert (filled.found, filled.asked) == (3, 3)
    assert filled.is_complete


def test_module_of_a_cached_teacher_is_refused(trained: Path, tiny_nuscenes: Path, tmp_path: Path) -> None:
    teachers: dict[str, FrozenTeacher] = {"lidar": CachedTeacher(str(trained), str(tmp_path / "cache"))}
    terms = {"a": FeatureMimic("lidar", teacher_tap="backbone.stem")}
    task = DistillationTask(make_student(), teachers=teachers, terms=terms)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="'a'"):
        make_trainer(tmp_path).fit(task, make_data(tiny_nuscenes))


def test_wrong_options_are_refused(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="max_gb"):
        CachedTeacher(str(trained), str(tmp_path), max_gb=0)
    with pytest.raises(UserError, match="must be a folder"):
        CachedTeacher(str(trained), str(trained))
    with pytest.raises(UserError, match="no checkpoint"):
        CachedTeacher(str(tmp_path / "none.ckpt"), str(tmp_path))


@pytest.mark.parametrize("kills", [3, pytest.param(50, marks=pytest.mark.slow)])
def test_killed_and_concurrent_processes_leave_the_same_bytes(
    trained: Path, tiny_nuscenes: Path, tmp_path: Path, kills: int
) -> None:
    command = [sys.executable, "-m", "tests.tasks.cache_rounds", str(tiny_nuscenes), str(trained), str(tmp_path)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, "0", str(kills)], cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert f"7 files, {kills} of {kills} kills in time" in done.stdout
