"""The command that fills a cache: alone, as one of several processes, and where there is nothing to do."""

from pathlib import Path

import pytest
import yaml

from fusionkd.cli import guarded
from fusionkd.cli.cache_teachers import main, this_process
from fusionkd.errors import UserError


@pytest.fixture
def cached(config: Path, tmp_path: Path) -> Path:
    """The small run, its teacher with a cache."""
    content = yaml.safe_load(config.read_text())
    teacher = content["model"]["teachers"]["lidar"]
    teacher["class_path"] = "fusionkd.teachers.CachedTeacher"
    teacher["init_args"]["cache"] = str(tmp_path / "cache")
    content["model"]["check_frames"] = 1
    config.write_text(yaml.safe_dump(content))
    return config


def test_fills_then_finds(
    cached: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert guarded(main, ["--config", str(cached)]) == 0
    assert "0 frames were there, 3 were asked about" in capsys.readouterr().out
    monkeypatch.delenv("RANK")
    monkeypatch.delenv("WORLD_SIZE")
    assert guarded(main, ["--config", str(cached)]) == 0
    assert "3 frames were there, 3 were asked about" in capsys.readouterr().out
    assert guarded(main, ["--config", str(cached), "--verify"]) == 0
    assert "6 frames were there, 0 were asked about" in capsys.readouterr().out
    assert not (tmp_path / "run").exists(), "nothing else is written"


def test_frames_without_room_are_a_failure(cached: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--", "--model.teachers.lidar.init_args.max_gb", "1e-9"]
    assert guarded(main, ["--config", str(cached), *options]) == 1
    assert "6 had no room" in capsys.readouterr().out


def test_config_without_a_cache_is_a_mistake(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert guarded(main, ["--config", str(config)]) == 2
    assert "CachedTeacher" in capsys.readouterr().err


def test_launchers_are_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    def tell(**said: str) -> tuple[int, int, int]:
        with monkeypatch.context() as patch:
            for name, value in said.items():
                patch.setenv(name, value)
            found = this_process(dict(said))
        return (*found.share, found.local_rank)

    assert tell() == (0, 1, 0)
    assert tell(RANK="3", WORLD_SIZE="8") == (3, 8, 3)
    torchrun = {"TORCHELASTIC_RUN_ID": "x", "RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1"}
    assert tell(**torchrun) == (5, 8, 1)
    slurm = {"SLURM_JOB_NAME": "train", "SLURM_PROCID": "6", "SLURM_NTASKS": "8", "SLURM_LOCALID": "2"}
    slurm["SLURM_NTASKS_PER_NODE"] = "4"
    assert tell(**slurm) == (6, 8, 2)
    with pytest.raises(UserError, match="RANK=4"):
        tell(RANK="4", WORLD_SIZE="4")
