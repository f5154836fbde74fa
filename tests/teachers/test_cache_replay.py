"""Cached answers follow the augmentation: against flipped maps, torch's own sampler, and geometry of boxes."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from fusionkd.data.augmentation import augment_bev
from fusionkd.data.collate import Sample
from fusionkd.data.frames import Frame
from fusionkd.distillation.reading import kept_cells, kept_places
from fusionkd.geometry import CAMERAS, Boxes3D, CameraRig
from fusionkd.models.decode import Decoder
from fusionkd.models.values import FusionOutput
from fusionkd.teachers.cache_codec import Arrays
from fusionkd.teachers.cache_pack import Form, from_bytes, pack, readable, to_bytes
from fusionkd.teachers.cache_replay import ReplayedOutput, replay
from tests.teachers.made_up_answers import CLASSES, GRID, affine, answer, frame

NOTE = {"frame": "a", "key": "k"}
MIRRORS = [(1, 1), (-1, 1), (1, -1), (-1, -1)]
QUARTERS = [0.0, np.pi / 2, np.pi, -np.pi / 2]


def packed(output: FusionOutput, *, extents: Sequence[str] = ("everywhere",), seed: int = 0) -> Arrays:
    seen, heatmap = readable(output)
    batch = frame(seed)
    places = kept_places(seen, batch, classes=CLASSES).numpy()
    cells = kept_cells(seen, batch, {"bev": extents}, grid=GRID)  # type: ignore[dict-item]
    masks = {name: {kind: mask.numpy() for kind, mask in both.items()} for name, both in cells.items()}
    return from_bytes(to_bytes(pack(seen, heatmap, places=places, cells=masks), note=NOTE), note=NOTE)


def replayed(output: FusionOutput, augmented_from_ego: NDArray[np.float64], **options: Sequence[str]) -> ReplayedOutput:
    moved = np.linalg.inv(augmented_from_ego).astype(np.float32).astype(np.float64)[None]
    return replay([packed(output, **options)], Form.of(output), ego_from_augmented=moved, fields=["bev"])


def moved_maps(maps: Tensor, augmented_from_ego: NDArray[np.float64]) -> Tensor:
    """Maps (1, C, rows, columns) of a square grid about the origin, sampled by torch where they came from."""
    theta = torch.from_numpy(np.linalg.inv(augmented_from_ego)[:2, :3].copy()).float()[None]
    theta[0, :, 2] /= GRID.x_max_m
    where = F.affine_grid(theta, list(maps.shape), align_corners=False)
    return F.grid_sample(maps, where, align_corners=False)


def boxes_of(output: FusionOutput) -> Boxes3D:
    return Decoder(0.2)(output)[0]


def moved_boxes(boxes: Boxes3D, augmented_from_ego: NDArray[np.float64]) -> Boxes3D:
    """The same boxes through the data's own augmentation."""
    rig = CameraRig(
        np.stack([np.eye(3)] * len(CAMERAS)),
        np.stack([np.eye(4)] * len(CAMERAS)),
        np.stack([np.eye(3)] * len(CAMERAS)),
        (8, 8),
    )
    empty = np.zeros((0, 5), np.float32)
    images = np.zeros((len(CAMERAS), 8, 8, 3), np.uint8)
    sample = Sample.plain(Frame("a", "s", 0, empty, images, rig, boxes, np.eye(4), np.eye(4)))
    moved = augment_bev(sample, augmented_from_ego).frame.boxes
    assert moved is not None
    return moved


def assert_same_boxes(found: Boxes3D, wanted: Boxes3D, *, xy_m: float = 0.01) -> None:
    order = [
        int(np.argmin(np.linalg.norm(found.xyz_m - box, axis=1) + 100 * (found.label != label)))
        for box, label in zip(wanted.xyz_m, wanted.label)
    ]
    assert sorted(order) == list(range(len(found))), "each wanted box is found once, and no other"
    found = found.select(np.array(order))
    np.testing.assert_allclose(found.xyz_m, wanted.xyz_m, atol=xy_m)
    np.testing.assert_allclose(found.lwh_m, wanted.lwh_m, rtol=5e-3)
    np.testing.assert_allclose(found.velocity_mps, wanted.velocity_mps, rtol=5e-3, atol=0.01)
    np.testing.assert_allclose(found.score, wanted.score, rtol=1e-5)
    turn = np.exp(1j * (found.yaw_rad - wanted.yaw_rad).astype(np.float64))
    np.testing.assert_allclose(turn, 1.0, atol=0.01)


def test_unmoved_answer_comes_back() -> None:
    output = answer(1)
    back = replayed(output, np.eye(4))
    seen, _ = readable(output)
    assert torch.equal(back.heatmap, seen.heatmap)
    torch.testing.assert_close(back.bev, output.bev, atol=0.5 * float(output.bev.max()) / 63 + 1e-4, rtol=0)
    assert_same_boxes(boxes_of(back), boxes_of(output))
    assert bool(back.seen.all())
    assert back.camera_bev is None
    assert back.lidar_bev is not None, "a branch that isn't kept is there all the same"


@pytest.mark.parametrize("mirror", MIRRORS)
@pytest.mark.parametrize("turn_rad", QUARTERS)
def test_mirrors_and_quarter_turns_are_exact(mirror: tuple[int, int], turn_rad: float) -> None:
    output = answer(2)
    change = affine(turn_rad=turn_rad, mirror=mirror)
    back, still = replayed(output, change), replayed(output, np.eye(4))
    by_hand = {}
    for name in ("heatmap", "bev"):
        maps = getattr(still, name)
        maps = maps.flip(3) if mirror[0] < 0 else maps
        maps = maps.flip(2) if mirror[1] < 0 else maps
        # From +x (columns) to +y (rows) is a positive turn.
        by_hand[name] = torch.rot90(maps, round(turn_rad / (np.pi / 2)), dims=(3, 2))
    assert torch.equal(back.heatmap, by_hand["heatmap"])
    assert torch.equal(back.bev, by_hand["bev"])
    assert bool(back.seen.all())
    assert_same_boxes(boxes_of(back), moved_boxes(boxes_of(still), change), xy_m=1e-3)


def test_axis_agrees_with_the_heading_under_any_change() -> None:
    output = answer(4)
    for change in (affine(turn_rad=0.3), affine(mirror=(1, -1), turn_rad=-1.2), affine(mirror=(-1, 1), scale=1.1)):
        back = replayed(output, change)
        assert back.heading_axis is not None
        heading, axis = back.box_regression[0, :, 6:8], back.heading_axis[0]
        there = heading.abs().sum(dim=1) > 0
        yaw = torch.atan2(heading[:, 0], heading[:, 1])[there]
        torch.testing.assert_close(axis[:, 0][there], (2 * yaw).sin(), atol=5e-3, rtol=0)
        torch.testing.assert_close(axis[:, 1][there], (2 * yaw).cos(), atol=5e-3, rtol=0)


@pytest.mark.parametrize(("turn_rad", "scale"), [(0.3, 1.0), (-0.39, 0.95), (0.1, 1.05), (2.0, 1.0)])
def test_turned_maps_are_those_of_torchs_sampler(turn_rad: float, scale: float) -> None:
    output = answer(5)
    change = affine(turn_rad=turn_rad, scale=scale, mirror=(-1, 1))
    back, still = replayed(output, change), replayed(output, np.eye(4))
    sampled = moved_maps(still.heatmap.sigmoid(), change)
    inside = moved_maps(torch.ones_like(still.heatmap), change) > 0.999
    lifted = back.heatmap.sigmoid() - sampled
    # Only peaks stand above what is interpolated: they keep their score.
    assert float(lifted[inside].min()) > -2e-5
    assert float((lifted[inside] > 2e-5).float().mean()) < 0.01
    torch.testing.assert_close(back.bev[inside[:, :1].expand_as(back.bev)], moved_maps(still.bev, change)[
        inside[:, :1].expand_as(back.bev)], atol=1e-4, rtol=1e-4)  # fmt: skip


@pytest.mark.parametrize("seed", range(4))
def test_turned_boxes_are_those_of_geometry(seed: int) -> None:
    output = answer(seed, objects=8)
    change = affine(turn_rad=0.31, scale=1.04, mirror=(1, -1))
    still = boxes_of(replayed(output, np.eye(4)))
    wanted = moved_boxes(still, change)
    # What leaves the grid is gone.
    centre = np.abs(wanted.xyz_m[:, :2]).max(axis=1) < GRID.x_max_m - 1.0
    found = boxes_of(replayed(output, change))
    found = found.select(np.abs(found.xyz_m[:, :2]).max(axis=1) < GRID.x_max_m - 1.0)
    assert centre.sum() > 2
    assert_same_boxes(found, wanted.select(centre))


def test_ground_beyond_the_grid_was_not_seen() -> None:
    back = replayed(answer(0), affine(turn_rad=np.pi / 4))
    assert not back.seen[0, 0, 0, 0]
    assert back.seen[0, 0, 32, 32]
    assert float(back.heatmap[~back.seen.expand_as(back.heatmap)].max()) < -9


def test_sparse_features_stand_where_they_are_kept() -> None:
    output = answer(6)
    back = replayed(output, np.eye(4), extents=("truth", "boxes"))
    kept = back.bev.abs().sum(dim=1)[0] > 0
    assert 0.02 < float(kept.float().mean()) < 0.5
    values = output.bev[0][:, kept]
    torch.testing.assert_close(back.bev[0][:, kept], values, atol=float(output.bev.max()) / 63, rtol=0)
    turned = replayed(output, affine(turn_rad=0.2), extents=("truth", "boxes"))
    # Interpolated among what is known alone: no cell is darkened by its unknown neighbours.
    bright = turned.bev[0][:, turned.bev.abs().sum(dim=1)[0] > 0]
    assert float(bright.mean()) == pytest.approx(float(values.mean()), rel=0.1)


def test_damage_is_noticed() -> None:
    seen, heatmap = readable(answer(0))
    places = np.zeros((2, *GRID.shape), bool)
    content = to_bytes(pack(seen, heatmap, places=places, cells={}), note=NOTE)
    for name, at in (("code", 40), ("rest", 60)):
        broken = content[name].copy()
        broken[at] ^= 0xFF
        with pytest.raises(ValueError, match="damaged"):
            from_bytes({**content, name: broken}, note=NOTE)
    with pytest.raises(ValueError, match="belongs to"):
        from_bytes(content, note={**NOTE, "frame": "b"})


def test_replay_of_a_batch_is_frame_by_frame() -> None:
    outputs = [answer(seed) for seed in (1, 2)]
    changes = [np.eye(4), affine(mirror=(-1, 1))]
    moved = np.stack([np.linalg.inv(change) for change in changes])
    both = replay([packed(o) for o in outputs], Form.of(outputs[0]), ego_from_augmented=moved, fields=["bev"])
    for row, (output, change) in enumerate(zip(outputs, changes)):
        assert torch.equal(both.heatmap[row], replayed(output, change).heatmap[0])
        assert torch.equal(both.bev[row], replayed(output, change).bev[0])
    assert replace(both, heatmap=both.heatmap).seen is both.seen, "replace keeps what the teacher saw"
