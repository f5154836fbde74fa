"""Sizes of students: what changes in the configuration, which are worth training."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from fusionkd.cli import build_cli
from fusionkd.errors import UserError
from fusionkd.models import build_model
from fusionkd.realtime.sizing import Entry, Size, overlay, pareto, sized_data, sized_student, sizes_of

MINI = Path(__file__).resolve().parents[2] / "configs" / "nuscenes_mini.yaml"
SAME = Size(1.0, 0, (96, 256), 0.8)
SMALL = Size(0.5, 1, (48, 128), 1.6)


@pytest.fixture(scope="module")
def config() -> dict[str, Any]:
    content = yaml.safe_load(MINI.read_text())
    assert isinstance(content, dict)
    return content


def test_every_combination_is_a_size(config: dict[str, Any]) -> None:
    sizes = sizes_of(config, widths=[0.5, 1], depths=[0, 1, 2], images_px=[(48, 128)], cells_m=[])
    assert len(sizes) == len({size.name for size in sizes}) == 6
    assert sizes_of(config, widths=[], depths=[], images_px=[], cells_m=[]) == [SAME]


def test_the_configurations_own_size_changes_nothing_but_what_is_the_default(config: dict[str, Any]) -> None:
    student = sized_student(config, SAME)
    assert student["init_args"]["camera"]["init_args"].pop("image_scale") == 1
    assert student == config["model"]["student"]


def test_width_depth_images_and_cells_change_what_they_should(config: dict[str, Any]) -> None:
    parts = {name: part.get("init_args", {}) for name, part in sized_student(config, SMALL)["init_args"].items()}
    encoder = parts["camera"]["encoder"]["init_args"]
    assert encoder == {"widths": [16, 24, 32], "depth": 2, "channels": 16}
    assert (parts["camera"]["image_scale"], parts["camera"]["depth"]["count"]) == (0.5, 24)
    assert parts["lidar"] == {"view": "raster", "in_channels": 12, "channels": 16, "depth": 1}
    assert parts["fuser"] == {"in_channels": [16, 16], "channels": 16}
    assert (parts["backbone"]["levels"], parts["backbone"]["stride"]) == (3, 2)
    data = sized_data(config, SMALL)
    assert (data["grid"]["cell_m"], data["grid"]["x_max_m"]) == (1.6, 51.2)
    assert data["lidar_views"]["raster"]["init_args"]["grid"] == {"cell_m": 1.6}
    assert data["lidar_views"]["pillars"] == config["data"]["init_args"]["lidar_views"]["pillars"]


@pytest.mark.parametrize(("width", "deeper", "cell_m"), [(0.1, -1, 3.2), (0.75, 2, 0.8), (1.3, 1, 1.6)])
def test_parts_of_every_size_fit_each_other(config: dict[str, Any], width: float, deeper: int, cell_m: float) -> None:
    size = Size(width, deeper, (96, 256), cell_m)
    spec = sized_student(config, size)
    spec["init_args"]["grid"] = sized_data(config, size)["grid"]
    assert build_model(spec).grid.cell_m == cell_m


def test_training_takes_the_overlay(config: dict[str, Any], tmp_path: Path) -> None:
    """The very student that was measured is what the training command builds."""
    path = tmp_path / "overlay.yaml"
    path.write_text(yaml.safe_dump(overlay(config, SMALL)))
    none = [
        "--model.teachers",
        "{}",
        "--model.terms",
        "{}",
        "--trainer.logger",
        "false",
        "--trainer.accelerator",
        "cpu",
    ]
    cli = build_cli(["--config", str(MINI), "--config", str(path), *none], run=False)
    spec = sized_student(config, SMALL)
    spec["init_args"]["grid"] = sized_data(config, SMALL)["grid"]
    wanted, found = build_model(spec), cli.model.student
    assert {k: v.shape for k, v in found.state_dict().items()} == {k: v.shape for k, v in wanted.state_dict().items()}
    assert found.grid == wanted.grid == cli.datamodule.collator.views["raster"].grid
    assert found.camera.image_scale == 0.5
    assert cli.datamodule.collator.views["pillars"].grid.cell_m == 0.4


@pytest.mark.parametrize("image_px", [(192, 512), (96, 128), (95, 256)])
def test_images_that_can_not_be_made(config: dict[str, Any], image_px: tuple[int, int]) -> None:
    with pytest.raises(UserError, match="same shape and not larger"):
        sizes_of(config, widths=[], depths=[], images_px=[image_px], cells_m=[])


def test_configuration_without_a_student() -> None:
    with pytest.raises(UserError, match=r"no model\.student"):
        sized_student({"data": {"init_args": {}}}, SAME)


ENTRIES = st.lists(
    st.builds(
        lambda parameters, gflops, latency, outcome: Entry(SAME, parameters, gflops, latency, 0, 9, 10, outcome),
        *(st.integers(1, 4), st.integers(1, 4), st.integers(1, 4)),
        st.sampled_from(["meets", "misses", "undecided"]),
    ),
    max_size=12,
)


def kinds(entry: Entry) -> tuple[float, int, float]:
    return (-entry.latency_ms, entry.parameters, entry.gflops)


@given(ENTRIES)
def test_pareto_set(entries: list[Entry]) -> None:
    """Whoever is in it is in time and unbeaten; whoever meets and is not in it is beaten by one that is."""
    best = pareto(entries)
    assert all(one.outcome == "meets" for one in best)
    for one in (entry for entry in entries if entry.outcome == "meets"):
        beaten = any(
            kinds(other) != kinds(one) and all(a >= b for a, b in zip(kinds(other), kinds(one))) for other in best
        )
        assert (one in best) != beaten
