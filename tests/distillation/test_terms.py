"""What every term must do, whatever it compares."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fusionkd import distillation
from fusionkd.distillation import (
    Adapters,
    Affinity,
    AttentionTransfer,
    BoxResponse,
    ChannelWise,
    Contrastive,
    CorrelationKD,
    DecoupledKD,
    DetectionPseudoLabel,
    FeatureMimic,
    FlowOfSolution,
    FocalGlobal,
    HeatmapResponse,
    LinearRamp,
    LogitKL,
    MaskedGenerative,
    ObjectRelation,
    PearsonFeature,
    Ranking,
    RelationAngle,
    RelationDistance,
    SimilarityPreserving,
    StandardizedLogitKL,
    StopAfter,
    Term,
    VariationalInformation,
)
from fusionkd.errors import UserError
from fusionkd.models.values import FusionOutput
from tests.distillation.conftest import FINE, FakeBatch, make_batch, make_output

TERMS: dict[str, Callable[..., Term]] = {
    "heatmap": HeatmapResponse,
    "heatmap_max": lambda teacher, **options: HeatmapResponse(teacher, merge="max", **options),
    "heatmap_mean": lambda teacher, **options: HeatmapResponse(teacher, merge="mean", **options),
    "heatmap_masked": lambda teacher, **options: HeatmapResponse(teacher, mask="ground_truth", **options),
    "mimic": FeatureMimic,
    "mimic_everywhere": lambda teacher, **options: FeatureMimic(teacher, mask="none", **options),
    "mimic_teacher": lambda teacher, **options: FeatureMimic(teacher, mask="teacher", **options),
    "box": BoxResponse,
    "box_truth": lambda teacher, **options: BoxResponse(teacher, at="ground_truth", **options),
    "relation": ObjectRelation,
    "pseudo_label": DetectionPseudoLabel,
    "logit_kl": LogitKL,
    "logit_kl_truth": lambda teacher, **options: LogitKL(teacher, at="ground_truth", **options),
    "decoupled": DecoupledKD,
    "decoupled_truth": lambda teacher, **options: DecoupledKD(teacher, at="ground_truth", **options),
    "correlation": CorrelationKD,
    "standardized": StandardizedLogitKL,
    "distance": RelationDistance,
    "distance_truth": lambda teacher, **options: RelationDistance(teacher, at="ground_truth", **options),
    "angle": RelationAngle,
    "affinity": Affinity,
    # A short list: the loss of an order falls slowly where many candidates must change places.
    "ranking": lambda teacher, **options: Ranking(teacher, max_objects=20, **options),
    "ranking_net": lambda teacher, **options: Ranking(teacher, kind="list_net", **options),
    "pearson": PearsonFeature,
    "pearson_truth": lambda teacher, **options: PearsonFeature(teacher, mask="ground_truth", **options),
    "attention": AttentionTransfer,
    "similarity": SimilarityPreserving,
    "channel_wise": ChannelWise,
    "generative": lambda teacher, **options: MaskedGenerative(teacher, hidden_share=0.3, **options),
    "focal": FocalGlobal,
    "contrastive": Contrastive,
    "variational": VariationalInformation,
    "flow": FlowOfSolution,
    "flow_camera": lambda teacher, **options: FlowOfSolution(
        teacher, student_first="camera_bev", teacher_first="camera_bev", **options
    ),
}
COMPARE = [name for name in TERMS if name not in ("pseudo_label", "ranking", "generative", "contrastive")]
"""Terms of a difference; pseudo-labels and an order ask for certainty, also of a student that equals its teacher,
generators have to guess what is hidden, and contrast asks for objects that differ."""


def identity(term: Term) -> None:
    """Adapters that change nothing, so that equal features are equal."""
    for part in term.children():
        if isinstance(part, Adapters):
            for convolution in part.convolutions.values():
                torch.nn.init.dirac_(convolution.weight)
                torch.nn.init.zeros_(convolution.bias)
    if isinstance(term, MaskedGenerative):
        for first, _, last in term.generators.values():
            # Lifted over the ReLU between them and back.
            for convolution, offset in ((first, 100.0), (last, -100.0)):
                torch.nn.init.dirac_(convolution.weight)
                torch.nn.init.constant_(convolution.bias, offset)


@pytest.mark.parametrize("name", COMPARE)
def test_term_is_zero_at_equality(name: str) -> None:
    output = make_output()
    term = TERMS[name]("t")
    term.prepare(name, output, {"t": output})
    identity(term)
    assert float(term(output, {"t": output}, make_batch())) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("name", TERMS)
class TestEveryTerm:
    def test_gives_the_student_a_finite_gradient_and_the_teacher_none(self, name: str) -> None:
        student = make_output(seed=1, requires_grad=True)
        teachers = {"a": make_output(seed=2), "b": make_output(FINE, seed=3, channels=5)}
        term = TERMS[name](["a", "b"], weight=2.0)
        term.prepare(name, student, teachers)
        loss = term(student, teachers, make_batch())
        loss.backward()
        assert float(loss) > 0
        gradients = [
            tensor.grad for tensor in (student.heatmap, student.box_regression, student.bev) if tensor.grad is not None
        ]
        assert gradients
        assert all(bool(torch.isfinite(gradient).all()) for gradient in gradients)
        assert any(float(gradient.abs().sum()) > 0 for gradient in gradients)

    def test_is_finite_without_foreground(self, name: str) -> None:
        student = make_output(seed=1, requires_grad=True)
        teacher = make_output(seed=2)
        teacher = replace(teacher, heatmap=torch.full_like(teacher.heatmap, -30.0))
        term = TERMS[name]("t")
        term.prepare(name, student, {"t": teacher})
        loss = term(student, {"t": teacher}, make_batch(boxes=0))
        loss.backward()
        assert bool(torch.isfinite(loss))

    def test_bf16_agrees_with_float32(self, name: str) -> None:
        student, teacher = make_output(seed=1), make_output(seed=2)
        term = TERMS[name]("t")
        term.prepare(name, student, {"t": teacher})

        def half(output: FusionOutput) -> FusionOutput:
            return replace(output, heatmap=output.heatmap.bfloat16(), bev=output.bev.bfloat16())

        exact = term(student, {"t": teacher}, make_batch())
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rough = term(half(student), {"t": half(teacher)}, make_batch())
        assert rough.dtype == torch.float32
        assert float(rough) == pytest.approx(float(exact), rel=0.05)

    def test_weight_and_schedule_scale_the_loss(self, name: str) -> None:
        student, teachers = make_output(seed=1), {"t": make_output(seed=2)}
        torch.manual_seed(0)
        plain = TERMS[name]("t")
        plain.prepare(name, student, teachers)
        torch.manual_seed(0)
        scaled = TERMS[name]("t", weight=3.0, schedule=LinearRamp())
        scaled.prepare(name, student, teachers)
        batch = make_batch()
        torch.manual_seed(1)
        half_way = scaled(student, teachers, batch, progress=0.5)
        torch.manual_seed(1)
        assert float(half_way) == pytest.approx(1.5 * float(plain(student, teachers, batch)), rel=1e-5)

    def test_moves_the_student_towards_the_teacher(self, name: str) -> None:
        student, teacher = make_output(seed=1, requires_grad=True), make_output(seed=2)
        term = TERMS[name]("t")
        term.prepare(name, student, {"t": teacher})
        identity(term)
        leaves = [student.heatmap, student.box_regression, student.heading_axis, student.bev]
        # The few similarities of two frames hang on all cells at once, and large steps go past them.
        lr = 0.001 if name == "similarity" else 0.1
        optimizer = torch.optim.Adam([leaf for leaf in leaves if leaf is not None], lr=lr)
        losses = []
        for _ in range(15):
            optimizer.zero_grad()
            loss = term(student, {"t": teacher}, make_batch())
            loss.backward()
            optimizer.step()
            losses.append(float(loss))
        assert losses[-1] < 0.7 * losses[0]


class TestRefusals:
    def refuse(self, term: Term, teachers: dict[str, FusionOutput], *words: str) -> None:
        with pytest.raises(UserError) as error:
            term.prepare("mine", make_output(lidar=False), teachers)
        assert all(word in str(error.value) for word in ("mine", *words)), str(error.value)

    def test_unknown_teacher(self) -> None:
        self.refuse(HeatmapResponse("radar"), {"lidar": make_output()}, "radar", "lidar")

    def test_tap_of_an_absent_modality(self) -> None:
        term = FeatureMimic("camera", teacher_tap="lidar_bev")
        self.refuse(term, {"camera": make_output(lidar=False)}, "lidar_bev", "'camera'", "camera_bev")

    def test_tap_of_the_student(self) -> None:
        term = ObjectRelation("lidar", student_tap="lidar_bev")
        self.refuse(term, {"lidar": make_output()}, "lidar_bev", "the student", "camera_bev")

    def test_frames_differ(self) -> None:
        self.refuse(BoxResponse("t"), {"t": replace(make_output(), frame="lidar")}, "frame", "'lidar'")

    def test_no_class_in_common(self) -> None:
        self.refuse(BoxResponse("t"), {"t": make_output(classes=("cow",))}, "cow")

    @pytest.mark.parametrize("kind", [HeatmapResponse, DetectionPseudoLabel])
    def test_class_weights_of_an_unknown_class(self, kind: Callable[..., Term]) -> None:
        term = kind("t", class_weights={"t": {"cow": 2.0}})
        with pytest.raises(UserError, match="cow"):
            term.prepare("mine", make_output(), {"t": make_output()})

    def test_class_weights_of_a_stranger(self) -> None:
        with pytest.raises(UserError, match="other"):
            HeatmapResponse("t", class_weights={"other": {"car": 2.0}})
        with pytest.raises(UserError, match=r"at least 0, found car: -2\.0"):
            DetectionPseudoLabel("t", class_weights={"t": {"car": -2.0}})
        with pytest.raises(UserError, match="all classes: -1"):
            DetectionPseudoLabel("t", class_weights={"t": -1.0})

    def test_module_that_was_not_recorded(self) -> None:
        self.refuse(
            FeatureMimic("t", teacher_tap="backbone.neck"), {"t": make_output()}, "backbone.neck", "teacher 't'"
        )

    @pytest.mark.parametrize("tap", ["heatmap", "box_regression"])
    def test_features_that_are_none(self, tap: str) -> None:
        with pytest.raises(UserError, match=tap):
            FeatureMimic("t", teacher_tap=tap)

    def test_no_teacher(self) -> None:
        with pytest.raises(UserError, match="at least one"):
            HeatmapResponse([])

    def test_negative_weight(self) -> None:
        with pytest.raises(UserError, match="negative"):
            HeatmapResponse("t", weight=-1.0)


def test_stopped_term_is_zero(batches: Callable[..., FakeBatch]) -> None:
    term = HeatmapResponse("t", schedule=StopAfter(0.5))
    student, teachers = make_output(seed=1), {"t": make_output(seed=2)}
    assert float(term(student, teachers, batches(), progress=0.6)) == 0.0
    assert float(term(student, teachers, batches(), progress=0.4)) > 0.0


def test_documentation_names_every_term() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "distillation.md").read_text()
    exported = [getattr(distillation, name) for name in distillation.__all__]
    terms = {kind.__name__ for kind in exported if isinstance(kind, type) and issubclass(kind, Term)} - {"Term"}
    assert "`SeveralTeachers`" in page, "it wraps any of the others"
    terms -= {"SeveralTeachers"}
    assert {name for name in terms if f"| `{name}` |" in page} == terms - {"FeatureTerm"}
    listed = {type(make("t")).__name__ for make in TERMS.values()}
    assert listed == terms - {"FeatureTerm"}, "the tests on this page cover every term"
