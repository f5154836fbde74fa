"""What terms on features must bear, and what must not matter to them."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from fusionkd.distillation import (
    AttentionTransfer,
    ChannelWise,
    Contrastive,
    FeatureMimic,
    FeatureTerm,
    FlowOfSolution,
    FocalGlobal,
    MaskedGenerative,
    PearsonFeature,
    SimilarityPreserving,
    Term,
    VariationalInformation,
    attention_transfer,
    channel_wise,
    contrastive,
    flow_of_solution,
    focal_global,
    masked_generative,
    pearson_feature,
    similarity_preserving,
    variational_information,
)
from fusionkd.distillation.masks import unseen_cells
from fusionkd.errors import UserError
from tests.distillation.conftest import FINE, GRID, make_batch, make_output

Comparison = Callable[[Tensor, Tensor, Tensor], Tensor]


def by_cells(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """Contrast between all cells."""
    vectors = [maps.permute(0, 2, 3, 1).flatten(0, 2) for maps in (student, teacher)]
    return contrastive(*vectors, mask.flatten(), place=torch.arange(mask.numel()), temperature=0.1)


COMPARISONS: dict[str, Comparison] = {
    "pearson": pearson_feature,
    "attention": attention_transfer,
    "similarity": similarity_preserving,
    "channel_wise": channel_wise,
    "generative": lambda s, t, m: masked_generative(s, t, m, generator=nn.Identity(), hidden_share=0.0),
    "focal": lambda s, t, m: focal_global(s, t, m, background=(m == 0).to(s.dtype), context=nn.Identity()),
    "variational": lambda s, t, m: variational_information(s, t, m, variance=torch.ones(5, dtype=s.dtype)),
    "flow": lambda s, t, m: flow_of_solution((s, s.flip(1)), (t, t.flip(1)), m),
    "contrastive": by_cells,
}


def draw(seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(3, 5, 8, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def half_mask(dtype: torch.dtype = torch.float32) -> Tensor:
    return (torch.rand(3, 1, 8, 6, generator=torch.Generator().manual_seed(7)) > 0.5).to(dtype)


HOSTILE: dict[str, tuple[Tensor, Tensor]] = {
    "extreme": (draw(1) * 1e4, draw(2) * 1e4),
    "extreme student": (draw(1) * 1e4, draw(2)),
    "tiny": (draw(1) * 1e-4, draw(2) * 1e-4),
    "constant": (torch.full((3, 5, 8, 6), 1e4), torch.full((3, 5, 8, 6), -3.3)),
    "constant student": (torch.full((3, 5, 8, 6), 0.1), draw(2)),
    "silent student": (torch.zeros(3, 5, 8, 6), draw(2)),
    "silent teacher": (draw(1), torch.zeros(3, 5, 8, 6)),
    "both silent": (torch.zeros(3, 5, 8, 6), torch.zeros(3, 5, 8, 6)),
    "a dead channel": (draw(1) * torch.tensor([1.0, 1, 0, 1, 1]).reshape(5, 1, 1), draw(2)),
}


@pytest.mark.parametrize("name", COMPARISONS)
class TestEveryComparison:
    @pytest.mark.parametrize("maps", HOSTILE)
    @pytest.mark.parametrize("area", ["everywhere", "half", "nowhere"])
    def test_is_finite_with_finite_gradient(self, name: str, maps: str, area: str) -> None:
        student, teacher = HOSTILE[maps]
        masks = {"everywhere": torch.ones(3, 1, 8, 6), "half": half_mask(), "nowhere": torch.zeros(3, 1, 8, 6)}
        leaf = student.clone().requires_grad_()
        loss = COMPARISONS[name](leaf, teacher, masks[area])
        loss.backward()
        assert leaf.grad is not None
        assert bool(torch.isfinite(loss.detach()))
        assert bool(torch.isfinite(leaf.grad).all())
        if area == "nowhere" and name != "focal":
            assert float(loss.detach()) == 0.0
            assert float(leaf.grad.abs().sum()) == 0.0

    def test_is_zero_at_equality_and_positive_elsewhere(self, name: str) -> None:
        student, teacher, mask = draw(1, torch.float64), draw(2, torch.float64), half_mask(torch.float64)
        assert float(COMPARISONS[name](student, teacher, mask)) > 1e-4
        if name != "contrastive":
            assert float(COMPARISONS[name](teacher, teacher, mask)) == pytest.approx(0.0, abs=1e-12)

    def test_equality_is_the_minimum(self, name: str) -> None:
        teacher, mask = draw(2, torch.float64), half_mask(torch.float64)
        least = float(COMPARISONS[name](teacher, teacher, mask))
        for seed in range(5):
            student = teacher + 0.1 * draw(seed + 10, torch.float64)
            assert float(COMPARISONS[name](student, teacher, mask)) > least

    def test_bfloat16_agrees_with_float64(self, name: str) -> None:
        exact = COMPARISONS[name](draw(1, torch.float64), draw(2, torch.float64), half_mask(torch.float64))
        rough = COMPARISONS[name](draw(1, torch.bfloat16), draw(2, torch.bfloat16), half_mask(torch.bfloat16))
        # Terms work in 32 bits whatever they are given; in 16 bits a logarithm of 4 is known to 1 / 64.
        assert float(rough) == pytest.approx(float(exact), rel=0.1)


@pytest.mark.parametrize("name", [name for name in COMPARISONS if name != "focal"])
def test_cells_outside_the_mask_have_no_gradient(name: str) -> None:
    mask = half_mask()
    leaf = draw(1).requires_grad_()
    COMPARISONS[name](leaf, draw(2), mask).backward()
    assert leaf.grad is not None
    assert float((leaf.grad * (1 - mask)).abs().max()) == 0.0
    assert float((leaf.grad * mask).abs().max()) > 0.0


def affine(maps: Tensor) -> Tensor:
    scale = torch.tensor([0.1, 2.0, 30.0, 1.0, 7.0], dtype=maps.dtype).reshape(5, 1, 1)
    return maps * scale + scale.flip(0) * 3


def turned(maps: Tensor) -> Tensor:
    turn, _ = torch.linalg.qr(draw(5, torch.float64)[0].flatten(1)[:, :5])
    return 4.0 * torch.einsum("dc,bchw->bdhw", turn, maps)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("pearson", affine),
        ("attention", lambda maps: 13.0 * maps),
        ("attention", lambda maps: -maps),
        ("similarity", turned),
        ("channel_wise", lambda maps: maps + torch.arange(5.0).reshape(5, 1, 1) * 10),
        ("contrastive", lambda maps: 13.0 * maps),
    ],
)
def test_what_the_papers_say_does_not_matter(name: str, change: Callable[[Tensor], Tensor]) -> None:
    student, teacher, mask = draw(1, torch.float64), draw(2, torch.float64), half_mask(torch.float64)
    plain = float(COMPARISONS[name](student, teacher, mask))
    assert float(COMPARISONS[name](change(student), teacher, mask)) == pytest.approx(plain, rel=1e-9)
    assert float(COMPARISONS[name](student, change(teacher), mask)) == pytest.approx(plain, rel=1e-9)


def test_pearson_feature_is_two_for_the_opposite() -> None:
    maps, mask = draw(1, torch.float64), half_mask(torch.float64)
    assert float(pearson_feature(-maps, maps, mask)) == pytest.approx(2.0)
    assert float(pearson_feature(torch.ones_like(maps), maps, mask)) == pytest.approx(0.5)


def test_channel_wise_does_not_overflow_in_float16() -> None:
    loss = channel_wise(draw(1, torch.float16) * 100, draw(2, torch.float16) * 100, half_mask(torch.float16))
    assert bool(torch.isfinite(loss))


def test_similarity_says_nothing_about_a_single_frame() -> None:
    mask = half_mask(torch.float64)
    assert float(similarity_preserving(draw(1, torch.float64)[:1], draw(2, torch.float64)[:1], mask[:1])) < 1e-20


def test_attention_and_similarity_take_other_numbers_of_channels() -> None:
    for comparison in (attention_transfer, similarity_preserving):
        assert float(comparison(draw(1)[:, :2], draw(2), half_mask())) > 0


FEATURE_TERMS: dict[str, Callable[..., Term]] = {
    "pearson": PearsonFeature,
    "attention": AttentionTransfer,
    "similarity": SimilarityPreserving,
    "channel_wise": ChannelWise,
    "generative": MaskedGenerative,
    "focal": FocalGlobal,
    "contrastive": Contrastive,
    "variational": VariationalInformation,
    "flow": FlowOfSolution,
    "mimic": FeatureMimic,
}


@pytest.mark.parametrize("name", FEATURE_TERMS)
class TestEveryFeatureTerm:
    def test_every_parameter_is_built_before_the_optimiser_and_learns(self, name: str) -> None:
        student = make_output(seed=1, requires_grad=True)
        teachers = {"a": make_output(seed=2), "b": make_output(FINE, seed=3, channels=5)}
        term = FEATURE_TERMS[name](["a", "b"])
        assert not list(term.parameters())
        term.prepare(name, student, teachers)
        assert bool(list(term.parameters())) == (name not in ("attention", "similarity"))
        term(student, teachers, make_batch()).backward()
        for key, parameter in term.named_parameters():
            assert parameter.grad is not None, key
            assert bool(torch.isfinite(parameter.grad).all()), key

    def test_a_teacher_that_could_learn_does_not(self, name: str) -> None:
        student, teacher = make_output(seed=1, requires_grad=True), make_output(seed=2, requires_grad=True)
        term = FEATURE_TERMS[name]("t")
        term.prepare(name, student, {"t": teacher})
        term(student, {"t": teacher}, make_batch()).backward()
        assert student.bev.grad is not None
        assert all(maps is None or maps.grad is None for maps in (teacher.bev, teacher.lidar_bev))

    def test_taps_and_missing_parts_are_named(self, name: str) -> None:
        term = FEATURE_TERMS[name]("t", student_tap="camera_bev", teacher_tap="lidar_bev")
        assert "camera_bev" in term.taps()[0]
        assert "lidar_bev" in term.taps()[1]
        with pytest.raises(UserError, match=f"{type(term).__name__}'s student_tap must be one of .*found 'heatmap'"):
            FEATURE_TERMS[name]("t", student_tap="heatmap")


@pytest.mark.parametrize("name", FEATURE_TERMS)
def test_pasted_boxes_are_not_for_a_camera_teacher(name: str) -> None:
    student = make_output(seed=1, requires_grad=True)
    teacher = make_output(seed=2, lidar=False)
    batch = make_batch(pasted=True, labelled=(True, True))
    options = {"teacher_first": "camera_bev"} if name == "flow" else {}
    term = FEATURE_TERMS[name]("camera", **options)
    term.prepare(name, student, {"camera": teacher})
    term(student, {"camera": teacher}, batch).backward()
    hidden = unseen_cells(batch.gt_boxes, batch.pasted, GRID)
    gradient = student.bev.grad
    assert gradient is not None
    assert float((gradient * hidden).abs().max()) == 0.0


@pytest.mark.parametrize("name", [name for name in FEATURE_TERMS if name not in ("focal", "contrastive")])
def test_masks_choose_the_cells(name: str) -> None:
    student, teacher = make_output(seed=1), make_output(seed=2)
    losses = []
    for mask in ("none", "ground_truth", "teacher"):
        torch.manual_seed(0)
        term = FEATURE_TERMS[name]("t", mask=mask)
        term.prepare(name, student, {"t": teacher})
        losses.append(float(term(student, {"t": teacher}, make_batch()).detach()))
    assert len(set(losses)) == 3


@pytest.mark.parametrize(
    ("kind", "options", "words"),
    [
        (AttentionTransfer, {"power": 0.5}, "power must be at least 1, found 0.5"),
        (ChannelWise, {"temperature": 0.0}, "temperature must be above 0, found 0.0"),
        (Contrastive, {"temperature": -1.0}, "temperature must be above 0"),
        (Contrastive, {"embedding": 0}, "embedding must be above 0"),
        (Contrastive, {"max_objects": 0}, "max_objects must be above 0"),
        (MaskedGenerative, {"hidden_share": 1.0}, r"hidden_share must be in \[0, 1\), found 1.0"),
        (FocalGlobal, {"relation_weight": -1.0}, "relation_weight must not be negative, found -1.0"),
        (FlowOfSolution, {"teacher_first": "heatmap"}, "teacher_first must be one of .*found 'heatmap'"),
    ],
)
def test_options_without_sense_are_refused(kind: type[Term], options: dict[str, float], words: str) -> None:
    with pytest.raises(UserError, match=f"{kind.__name__}'s {words}"):
        kind("t", **options)


def test_flow_needs_both_ends() -> None:
    with pytest.raises(UserError, match="lidar_bev"):
        FlowOfSolution("camera").prepare("mine", make_output(), {"camera": make_output(lidar=False)})


@pytest.mark.parametrize("kind", [FeatureMimic, PearsonFeature, FlowOfSolution])
def test_unprepared_terms_say_so(kind: type[FeatureTerm]) -> None:
    output = make_output()
    with pytest.raises(RuntimeError, match=f"{kind.__name__}.prepare"):
        kind("t")(output, {"t": output}, make_batch())
