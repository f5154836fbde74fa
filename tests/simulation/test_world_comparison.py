"""Two worlds side by side: distances with known answers, and the command on small worlds and on real frames."""

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from fusionkd.errors import UserError
from fusionkd.geometry import DETECTION_CLASSES
from fusionkd.simulation import WorldSettings, write_world
from fusionkd.simulation.comparison import compare
from fusionkd.simulation.comparison_command import main
from fusionkd.simulation.comparison_frames import Root
from fusionkd.simulation.comparison_ledger import Ledger
from fusionkd.simulation.comparison_statistics import power_slope
from fusionkd.simulation.rig import BEAMS, COLUMNS


@pytest.fixture(scope="module")
def other_world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("other") / "world"
    write_world(
        root, WorldSettings(scenes=1, seed=8, keyframes_per_scene=2, image_width_px=160), workers=1, progress=False
    )
    return root


def test_a_shifted_histogram_is_moved_by_the_shift() -> None:
    values = np.random.default_rng(0).normal(20.0, 3.0, 5000)
    edges = np.arange(0.0, 61.0)
    first, second = Ledger(), Ledger()
    first.count("x", values, edges)
    second.count("x", values + 7.0, edges)
    (found,), lonely = first.against(second)
    assert found.wasserstein == pytest.approx(7.0, abs=0.01)
    assert lonely == []


def test_histograms_with_nothing_in_common_are_one_apart_and_equal_ones_zero() -> None:
    edges = np.arange(0.0, 11.0)
    first, second = Ledger(), Ledger()
    first.count("apart", np.array([1.5, 2.5]), edges)
    second.count("apart", np.array([7.5]), edges)
    first.count("same", np.array([1.5, 2.5]), edges)
    second.count("same", np.array([1.5, 2.5, 1.2, 2.2]), edges)
    differences, _ = first.against(second)
    assert [(d.name, round(d.distance, 9)) for d in differences] == [("apart", 1.0), ("same", 0.0)]


def test_profiles_are_means_and_labels_without_data_are_left_out() -> None:
    first, second = Ledger(), Ledger()
    first.mean("p", ("a", "b"), np.array([6.0, 0.0]), np.array([3.0, 0.0]))
    second.mean("p", ("a", "b"), np.array([3.0, 9.0]), np.array([1.0, 1.0]))
    (found,), _ = first.against(second)
    assert (found.labels, found.real, found.simulated) == (("a",), (2.0,), (3.0,))
    assert found.distance == pytest.approx(1 / 5)


def test_the_power_spectrum_of_known_noise_has_its_slope() -> None:
    generator = np.random.default_rng(0)
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(512), np.fft.fftfreq(512)))
    frequency[0, 0] = 1.0
    for slope in (-1.0, -2.0, -3.0):
        spectrum = np.fft.fft2(generator.normal(size=(512, 512))) * frequency ** (slope / 2)
        assert power_slope(np.fft.ifft2(spectrum).real * 1e3) == pytest.approx(slope, abs=0.1)


def test_a_world_is_like_itself(world: Path) -> None:
    found = compare(Root(world), Root(world))
    assert len(found.differences) > 25
    assert max(difference.distance for difference in found.differences) == 0.0


def test_the_command_compares_and_draws_two_worlds(
    world: Path, other_world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--real", str(world), "--simulated", str(other_world), "--out", str(tmp_path / "out")]
    assert main([*arguments, "--pictures", "1"]) == 0
    report = json.loads((tmp_path / "out" / "comparison.json").read_text())
    distances = [row["distance"] for row in report["differences"]]
    assert distances == sorted(distances, reverse=True)
    assert 0.0 <= distances[-1] <= distances[0] <= 1.0
    assert {row["name"].split("/")[0] for row in report["differences"]} == {"lidar", "boxes", "image"}
    assert report["keyframes"] == {"real": 6, "simulated": 2}
    assert "points per ring" in capsys.readouterr().out
    for name in ("lidar-0.png", "cameras-0.png"):
        assert cv2.imread(str(tmp_path / "out" / name)).std() > 5


def test_figures_are_those_of_the_tables(world: Path, other_world: Path) -> None:
    rows = {difference.name: difference for difference in compare(Root(world), Root(other_world)).differences}
    lost = rows["lidar/share of beams without an echo per ring"]
    used = rows["lidar/points per ring"]
    assert len(used.labels) == BEAMS
    np.testing.assert_allclose(np.array(lost.real) + np.array(used.real) / COLUMNS, 1.0)
    folder = world / "v1.0-mini"
    annotations = json.loads((folder / "sample_annotation.json").read_text())
    per_class = rows["boxes/of a keyframe per class"]
    assert per_class.labels == DETECTION_CLASSES
    assert 0.8 * len(annotations) / 6 < sum(per_class.real) <= len(annotations) / 6


def test_what_is_missing_is_said(world: Path, other_world: Path, tmp_path: Path) -> None:
    root = tmp_path / "part"
    shutil.copytree(other_world, root)
    (root / "v1.0-mini" / "sample_annotation.json").unlink()
    shutil.rmtree(root / "samples" / "CAM_BACK")
    found = compare(Root(world), Root(root))
    assert any("no table sample_annotation" in text for text in found.skipped)
    assert any("CAM_BACK: 2 keyframes without a file" in text for text in found.skipped)
    assert not any(difference.name.startswith("boxes") for difference in found.differences)


def test_scenes_may_be_left_out_by_their_description(world: Path) -> None:
    with pytest.raises(UserError, match="no keyframe that may be compared"):
        compare(Root(world, leave_out=("simulated",)), Root(world))


def test_a_folder_without_tables_is_named(world: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="must hold one folder of nuScenes tables, found none"):
        main(["--real", str(tmp_path), "--simulated", str(world), "--out", str(tmp_path / "out")])


def test_real_frames_beside_simulated_ones(shared_data: Path, other_world: Path, tmp_path: Path) -> None:
    real = shared_data / "nuscenes-real"
    arguments = ["--real", str(real), "--simulated", str(other_world), "--out", str(tmp_path), "--pictures", "0"]
    assert main(arguments) == 0
    report = json.loads((tmp_path / "comparison.json").read_text())
    rows = {row["name"]: row for row in report["differences"]}
    assert report["keyframes"]["real"] == 2
    assert sum(rows["boxes/of a keyframe per class"]["real"]) == pytest.approx((69 + 23) / 2, abs=4)
    assert 34_600 < rows["lidar/points of a sweep"]["real"][0] * 1.5 < 40_000
    assert any("speed" in text for text in report["skipped"])
