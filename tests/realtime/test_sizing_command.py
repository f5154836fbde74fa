"""The command that sizes a student, on a tiny world that calls itself simulated."""

import json
from pathlib import Path

import pytest
import yaml

from fusionkd.cli import guarded
from fusionkd.realtime.sizing_command import main, parser, plan_of
from tests.data.tiny_world import TinyWorld

MINI = Path(__file__).resolve().parents[2] / "configs" / "nuscenes_mini.yaml"


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    root = TinyWorld(tmp_path_factory.mktemp("sizing")).root
    (root / "simulated.json").write_text("{}")
    out = ["--root", str(root), "--version", "v1.0-mini", "--different", "1", "--threads", "1"]
    return ["--config", str(MINI), *out, "--widths", "0.5", "--image-sizes", "48x128"]


def test_those_worth_training_come_with_an_overlay(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--cells", "1.6", "3.2", "--deadline-ms", "600000", "--frames", "30", "--percentile", "90"]
    assert guarded(main, [*command, *options, "--out", str(tmp_path)]) == 0
    content = json.loads((tmp_path / "sizing.json").read_text())
    assert [row["outcome"] for row in content["students"]] == ["meets", "meets"]
    assert (content["simulated"], content["latency"], content["gflops"]) == (True, "measured", "counted")
    fine, coarse = content["students"]
    assert fine["gflops"] > coarse["gflops"] > 0
    assert fine["parameters"] == coarse["parameters"]
    overlays = {path.stem for path in tmp_path.glob("*.yaml")}
    assert overlays == {row["name"] for row in content["students"] if row["worth_training"]}
    assert "w0.5-d+0-i48x128-c1.6" in overlays
    written = yaml.safe_load((tmp_path / "w0.5-d+0-i48x128-c1.6.yaml").read_text())
    assert written["model"]["student"]["init_args"]["camera"]["init_args"]["image_scale"] == 0.5
    assert "simulated frames" in capsys.readouterr().out


def test_all_too_slow_is_exit_status_1(command: list[str], tmp_path: Path) -> None:
    options = [
        "--cells",
        "3.2",
        "--deadline-ms",
        "0.001",
        "--percentile",
        "90",
        "--frames",
        "30",
        "--out",
        str(tmp_path),
    ]
    assert guarded(main, [*command, *options]) == 1
    assert not list(tmp_path.glob("*.yaml"))


def test_a_contract_says_what_must_be_kept(tmp_path: Path) -> None:
    (tmp_path / "contract.yaml").write_text("deadline_ms: 40\npercentile: 95\nconfidence: 0.9\n")
    plan = plan_of(parser().parse_args(["--config", "c.yaml", "--contract", str(tmp_path / "contract.yaml")]))
    assert (plan.deadline_ms, plan.percent, plan.confidence) == (40, 95, 0.9)
    assert plan.frames == 2 * 45  # 0.95 ** 45 <= 0.1 < 0.95 ** 44


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--config", "nowhere.yaml"], "no configuration nowhere.yaml"),
        (["--image-sizes", "192x512"], "same shape and not larger"),
        (["--image-sizes", "36x96"], "size w0.5-d+0-i36x96-c0.8"),
        (["--frames", "100"], "takes 299 frames"),
        (["--percentile", "101"], "percentile between 0 and 100"),
        (["--different", "0"], "no frames to measure with"),
    ],
)
def test_mistakes_get_a_sentence(
    command: list[str], options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rest = ["--deadline-ms", "50", "--out", str(tmp_path)]
    assert guarded(main, [*command, *rest, *options]) == 2
    assert message in capsys.readouterr().err
