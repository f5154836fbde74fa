from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from nuscenes.utils.data_classes import LidarPointCloud

from fusionkd.data.reading import SweepFiles, read_image, read_sweep
from fusionkd.errors import UserError
from fusionkd.geometry import BevGrid, rigid_from_yaw
from fusionkd.preprocess import bev_raster, fuse_sweeps, raster_of_sweeps


def _points(count: int = 11) -> np.ndarray:
    points = np.random.default_rng(0).normal(size=(count, 5)).astype(np.float32)
    points[:, 4] = np.arange(count) % 32
    return points


def test_a_sweep_reads_as_the_devkit_reads_it(tiny_root: Path) -> None:
    path = next((tiny_root / "samples" / "LIDAR_TOP").iterdir())
    points = read_sweep(path)
    assert points.shape[1] == 5
    assert np.array_equal(points[:, :4].T, LidarPointCloud.from_file(str(path)).points)


def test_real_sweeps_are_accepted(real_root: Path) -> None:
    for path in (real_root / "samples" / "LIDAR_TOP").iterdir():
        assert np.array_equal(read_sweep(path)[:, :4].T, LidarPointCloud.from_file(str(path)).points)


def test_a_missing_sweep_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"LiDAR file .*gone\.pcd\.bin is missing.*on_bad_frame: skip"):
        read_sweep(tmp_path / "gone.pcd.bin")


@given(size=st.integers(0, 300))
def test_only_whole_points_are_accepted(size: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "cut.pcd.bin"
    path.write_bytes(bytes(size))
    if size and size % 20 == 0:
        assert read_sweep(path).shape == (size // 20, 5)
    else:
        with pytest.raises(UserError, match=rf"has {size} bytes, {size // 20} points and {size % 20} bytes more"):
            read_sweep(path)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("column", range(5))
def test_values_that_are_not_finite_are_counted(tmp_path: Path, bad: float, column: int) -> None:
    points = _points()
    points[[2, 7], column] = bad
    points.tofile(tmp_path / "bad.pcd.bin")
    with pytest.raises(UserError, match=r"bad\.pcd\.bin holds NaN or infinity in 2 of 11 points"):
        read_sweep(tmp_path / "bad.pcd.bin")


def test_infinities_of_both_signs_are_no_finite_sum(tmp_path: Path) -> None:
    points = _points()
    points[3, 0], points[4, 1] = np.inf, -np.inf
    points.tofile(tmp_path / "bad.pcd.bin")
    with pytest.raises(UserError, match="2 of 11 points"):
        read_sweep(tmp_path / "bad.pcd.bin")


@pytest.mark.parametrize("columns", [4, 6])
def test_other_columns_are_noticed_even_if_the_size_fits(tmp_path: Path, columns: int) -> None:
    np.random.default_rng(0).normal(size=(10, columns)).astype(np.float32).tofile(tmp_path / "other.bin")
    with pytest.raises(UserError, match=r"fifth column, which is no ring number.*other columns"):
        read_sweep(tmp_path / "other.bin")


def _write_image(path: Path, size_px: tuple[int, int] = (90, 160)) -> np.ndarray:
    rows, columns = np.mgrid[: size_px[0], : size_px[1]]
    image = np.stack([rows * 2, columns, 200 - columns], axis=-1).astype(np.uint8)
    cv2.imwrite(str(path), image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 99])
    return image


@pytest.mark.parametrize("base_px", [(90, 160), (60, 107), (45, 80), (36, 64), (18, 32), (9, 16)])
def test_an_image_is_scaled_like_an_area_average(tmp_path: Path, base_px: tuple[int, int]) -> None:
    image = _write_image(tmp_path / "a.jpg")
    found = read_image(tmp_path / "a.jpg", stored_px=(90, 160), base_px=base_px)
    oracle = cv2.resize(image, base_px[::-1], interpolation=cv2.INTER_AREA)
    assert found.shape == (*base_px, 3)
    # JPEG itself loses a few levels; a wrong channel order or a shift by a pixel loses far more.
    assert np.abs(found.astype(int) - oracle).mean() < 2.5


def test_malformed_images_are_named(tmp_path: Path) -> None:
    whole, path = tmp_path / "whole.jpg", tmp_path / "bad.jpg"
    _write_image(whole)
    data = whole.read_bytes()
    sizes = {"stored_px": (90, 160), "base_px": (45, 80)}
    with pytest.raises(UserError, match=r"Camera file .*bad\.jpg is missing"):
        read_image(path, **sizes)
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(UserError, match=rf"bad\.jpg \({len(data) // 2} bytes\) is cut off"):
        read_image(path, **sizes)
    path.write_bytes(b"")
    with pytest.raises(UserError, match=r"bad\.jpg \(0 bytes\) is no JPEG file"):
        read_image(path, **sizes)
    path.write_bytes(data[:2] + bytes(200) + data[-2:])
    with pytest.raises(UserError, match=r"bad\.jpg .*is corrupt"):
        read_image(path, **sizes)
    _write_image(path, (80, 160))
    with pytest.raises(UserError, match=r"160x80 pixels, not 160x90 as promised"):
        read_image(path, **sizes)


def _write_sweeps(folder: Path, *lengths: int) -> tuple[list[Path], list[NDArray[np.float32]]]:
    rng = np.random.default_rng(0)
    paths = [folder / f"{k}.bin" for k in range(len(lengths))]
    sweeps = [rng.integers(0, 99, (n, 5)).astype(np.float32) for n in lengths]
    for path, sweep in zip(paths, sweeps):
        sweep.tofile(path)
    return paths, sweeps


def test_sweeps_are_read_when_asked_for_into_memory_that_is_used_again(tmp_path: Path) -> None:
    paths, sweeps = _write_sweeps(tmp_path, 40, 7, 100)
    for order in ([0, 1, 2], [2, 0], [1, 2, 0], []):
        found = SweepFiles([paths[k] for k in order])
        assert len(found) == len(order)
        for sweep, k in zip(found, order):
            np.testing.assert_array_equal(sweep, sweeps[k])
    files = SweepFiles(paths)
    np.testing.assert_array_equal(files[1:][1], sweeps[2])
    assert np.shares_memory(files[2], files[0])
    with ThreadPoolExecutor(1) as pool:
        assert not np.shares_memory(files[0], pool.submit(files.__getitem__, 0).result())


@pytest.mark.parametrize("lengths", [(40, 7, 100), (2, 300, 5, 2000), (0, 3)])
def test_files_are_fused_like_arrays(tmp_path: Path, lengths: tuple[int, ...]) -> None:
    paths, sweeps = _write_sweeps(tmp_path, *lengths)
    if 0 in lengths:
        with pytest.raises(UserError, match=r"0\.bin has 0 bytes"):
            fuse_sweeps(SweepFiles(paths), key_from_sweep=np.tile(np.eye(4), (2, 1, 1)), age_s=[0.0, 0.1])
        return
    poses = [rigid_from_yaw(0.1 * k, [k, 0.5, 0.0]) for k in range(len(paths))]
    motion: dict[str, Any] = {"key_from_sweep": np.stack(poses), "age_s": 0.05 * np.arange(len(paths))}
    expected = fuse_sweeps(sweeps, **motion)
    assert 0 < len(expected) <= sum(lengths)
    np.testing.assert_array_equal(fuse_sweeps(SweepFiles(paths), **motion), expected)
    np.testing.assert_array_equal(fuse_sweeps(SweepFiles(paths), threads=2, **motion), expected)
    grid = BevGrid()
    direct = raster_of_sweeps(SweepFiles(paths), grid, z_slices=4, **motion)
    np.testing.assert_array_equal(direct, bev_raster(expected, grid, z_slices=4))
