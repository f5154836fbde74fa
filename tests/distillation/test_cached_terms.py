"""Terms on answers from a cache: the same gradients, and nothing learnt where the teacher saw nothing."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from fusionkd.distillation import (
    BoxResponse,
    ChannelWise,
    Contrastive,
    DetectionPseudoLabel,
    FeatureMimic,
    HeatmapResponse,
    ObjectRelation,
    RelationDistance,
    SeveralTeachers,
    Term,
    Uniform,
)
from fusionkd.distillation.reading import extents_of, kept_cells, kept_places
from fusionkd.errors import UserError
from fusionkd.models.values import FusionOutput
from fusionkd.teachers.cache_pack import Form, pack, readable
from fusionkd.teachers.cache_replay import ReplayedOutput, replay
from tests.teachers.made_up_answers import CLASSES, GRID, OneFrame, affine, answer, frame


def default_terms() -> dict[str, Term]:
    return {
        "labels": DetectionPseudoLabel("lidar"),
        "heatmap": HeatmapResponse("lidar", 0.5),
        "box": BoxResponse("lidar", 0.25),
        "bev": FeatureMimic("lidar", 0.5, mask="ground_truth"),
        "relation": ObjectRelation("lidar", 0.25),
    }


def from_cache(
    teacher: FusionOutput, batch: OneFrame, terms: Mapping[str, Term], moved: np.ndarray | None = None
) -> ReplayedOutput:
    extents = extents_of(terms.items(), "lidar")
    seen, heatmap = readable(teacher)
    cells = {
        tap: {kind: mask.numpy() for kind, mask in masks.items()}
        for tap, masks in kept_cells(seen, batch, extents, grid=GRID).items()
    }
    arrays = pack(seen, heatmap, places=kept_places(seen, batch, classes=CLASSES).numpy(), cells=cells)
    ego_from_augmented = (np.eye(4) if moved is None else np.linalg.inv(moved))[None]
    return replay([arrays], Form.of(teacher), ego_from_augmented=ego_from_augmented, fields=list(cells))


def a_student(seed: int = 7) -> FusionOutput:
    """Maps that take gradients; a student halfway."""
    teacher, noise = answer(seed), torch.Generator().manual_seed(seed)

    def leaf(maps: Tensor, spread: float) -> Tensor:
        return (maps + spread * torch.randn(maps.shape, generator=noise)).requires_grad_()

    assert teacher.heading_axis is not None
    return replace(
        teacher,
        heatmap=leaf(0.7 * teacher.heatmap - 0.5, 0.7),
        box_regression=leaf(teacher.box_regression, 0.2),
        heading_axis=leaf(teacher.heading_axis, 0.2),
        bev=leaf(teacher.bev, 0.5),
        lidar_bev=None,
    )


def gradient(term: Term, student: FusionOutput, teacher: FusionOutput, batch: OneFrame) -> Tensor:
    assert student.heading_axis is not None
    leaves = [student.heatmap, student.box_regression, student.heading_axis, student.bev, *term.parameters()]
    found = torch.autograd.grad(term(student, {"lidar": teacher}, batch), leaves, allow_unused=True)
    return torch.cat([torch.zeros_like(leaf).flatten() if g is None else g.flatten() for leaf, g in zip(leaves, found)])


@pytest.mark.parametrize("labelled", [True, False])
@pytest.mark.parametrize("seed", [1, 2])
def test_gradients_of_the_default_terms_are_those_of_the_live_teacher(labelled: bool, seed: int) -> None:
    teacher, batch, terms = answer(seed, channels=24), frame(seed, labelled=labelled), default_terms()
    student, cached = a_student(), from_cache(answer(seed, channels=24), batch, default_terms())
    totals = [torch.zeros(()), torch.zeros(())]
    for name, term in terms.items():
        torch.manual_seed(0)
        term.prepare(name, student, {"lidar": teacher})
        both = [gradient(term, student, output, batch) for output in (teacher, cached)]
        if name == "labels" and labelled:
            assert float(both[0].norm()) == 0
            continue
        assert float(torch.cosine_similarity(*both, dim=0)) > 0.999, name
        # The parts that all terms share; what follows are a term's own parameters.
        shared = sum(maps.numel() for maps in (student.heatmap, student.box_regression, student.bev))
        totals = [total + part[:shared] for total, part in zip(totals, both)]
    assert float(torch.cosine_similarity(*totals, dim=0)) > 0.999


def test_cache_holds_no_more_than_is_read() -> None:
    assert extents_of({"a": HeatmapResponse("lidar")}.items(), "lidar").keys() == {"heatmap", "box_regression"}
    both = {"a": FeatureMimic("lidar"), "b": ObjectRelation("lidar"), "c": FeatureMimic("camera", mask="none")}
    assert extents_of(both.items(), "lidar")["bev"] == ["boxes", "truth"]
    assert extents_of(both.items(), "camera")["bev"] == ["everywhere"]
    assert extents_of({"a": Contrastive("lidar")}.items(), "lidar")["bev"] == ["truth"]
    assert extents_of({"a": RelationDistance("lidar")}.items(), "lidar")["bev"] == ["objects"]
    assert extents_of({"a": ChannelWise("lidar")}.items(), "lidar")["bev"] == ["everywhere"]
    several = SeveralTeachers(FeatureMimic(["lidar", "camera"], mask="teacher"), Uniform())
    assert extents_of({"a": several}.items(), "lidar")["bev"] == ["objects"]


def test_what_no_cache_keeps_is_refused() -> None:
    with pytest.raises(UserError, match=r"'a'.*backbone\.0.*'lidar'"):
        extents_of({"a": FeatureMimic("lidar", teacher_tap="backbone.0")}.items(), "lidar")
    with pytest.raises(UserError, match=r"'a'.*score less than 0\.1"):
        extents_of({"a": BoxResponse("lidar", threshold=0.05)}.items(), "lidar")


def test_pasted_objects_teach_nothing_from_a_cache() -> None:
    teacher, batch, student = answer(3), frame(3), a_student()
    # One of the annotated boxes was pasted after the teacher had answered.
    batch = replace(batch, pasted=torch.tensor([[True] + [False] * 5]))
    x, y = batch.gt_boxes[0, 0, :2].tolist()
    column, row = int((x - GRID.x_min_m) / GRID.cell_m), int((y - GRID.y_min_m) / GRID.cell_m)
    for name in ("heatmap", "bev"):
        term = default_terms()[name]
        term.prepare(name, student, {"lidar": teacher})
        at = {}
        for kind, output in (("live", teacher), ("cached", from_cache(teacher, batch, default_terms()))):
            leaf = getattr(student, name)
            (found,) = torch.autograd.grad(term(student, {"lidar": output}, batch), leaf)
            at[kind] = float(found[0, :, row, column].abs().sum())
        assert at["live"] > 0, "the live LiDAR teacher saw the pasted object"
        assert at["cached"] == 0


def test_ground_that_a_turn_brought_in_teaches_nothing() -> None:
    teacher, batch, student = answer(3), frame(3), a_student()
    turned = from_cache(teacher, batch, default_terms(), affine(turn_rad=0.4))
    term = default_terms()["heatmap"]
    (found,) = torch.autograd.grad(term(student, {"lidar": turned}, batch), student.heatmap)
    unknown = ~turned.seen.expand_as(found)
    assert bool(unknown.any())
    assert float(found[unknown].abs().max()) == 0
    assert float(found[~unknown].abs().min()) > 0
