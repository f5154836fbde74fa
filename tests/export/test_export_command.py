"""The command that writes a student as one file, and what the file answers."""

import json
from pathlib import Path

import onnx
import pytest

from fusionkd.deploy import OnnxNetwork
from fusionkd.errors import UserError
from fusionkd.export.command import main

CONFIG = Path(__file__).resolve().parents[2] / "configs" / "nuscenes_mini.yaml"


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped student as an ONNX file, compared on two made-up frames."""
    folder = tmp_path_factory.mktemp("export")
    out, report = folder / "student.onnx", folder / "parity.json"
    arguments = ["--checkpoint", "zoo:student", "--config", str(CONFIG), "--out", str(out), "--parity", "2"]
    assert main([*arguments, "--report", str(report)]) == 0
    return out


def test_the_file_is_valid_and_has_no_custom_operator(exported: Path) -> None:
    model = onnx.load(exported)
    onnx.checker.check_model(model, full_check=True)
    assert {node.domain for node in model.graph.node} <= {"", "ai.onnx"}


def test_the_report_names_every_output(exported: Path) -> None:
    text = json.dumps(json.loads((exported.parent / "parity.json").read_text()))
    for name in ("heatmap", "box_regression", "heading_axis", "bev"):
        assert name in text


def test_the_runtime_reads_the_description_out_of_the_file(exported: Path) -> None:
    spec = OnnxNetwork(exported).spec
    assert spec.grid.cell_m == pytest.approx(0.8)
    assert len(spec.classes) == 10


def test_a_cut_file_is_refused(exported: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.onnx"
    cut.write_bytes(exported.read_bytes()[:2000])
    with pytest.raises(UserError, match=r"cut\.onnx"):
        OnnxNetwork(cut)


def test_a_fixed_rig_needs_frames(tmp_path: Path) -> None:
    arguments = ["--checkpoint", "zoo:student", "--config", str(CONFIG), "--out", str(tmp_path / "x.onnx")]
    with pytest.raises(UserError, match="root"):
        main([*arguments, "--fixed-rig"])
