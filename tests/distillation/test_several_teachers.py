"""Terms whose teachers are weighed: every weighting by the same questions, and what each looks at."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from fusionkd.distillation import (
    BoxResponse,
    Confidence,
    DetectionPseudoLabel,
    DynamicAverage,
    Entropy,
    FeatureMimic,
    GradientAgreement,
    HeatmapResponse,
    LearnedUncertainty,
    Recorded,
    SeveralTeachers,
    Static,
    Term,
    Uniform,
    Weighting,
)
from fusionkd.distillation.base import unmapped_classes
from fusionkd.errors import UserError
from fusionkd.models.values import FusionOutput
from tests.distillation.conftest import FINE, make_batch, make_output

RECORDS = {"a": {"AP/car": 0.6, "AP/car@0.5": 0.1, "AP/bus": 0.2}, "b": {"AP/car": 0.1, "AP/bus": 0.1}}
WEIGHTINGS: dict[str, Callable[[], Weighting]] = {
    "uniform": Uniform,
    "static": lambda: Static({"a": 3.0}),
    "recorded": Recorded,
    "entropy": Entropy,
    "confidence": Confidence,
    "learned": LearnedUncertainty,
    "dynamic": lambda: DynamicAverage(window=1),
    "agreement": lambda: GradientAgreement("heatmap"),
}


def two(seed: int = 2) -> dict[str, FusionOutput]:
    return {"a": make_output(seed=seed), "b": make_output(FINE, seed=seed + 1, channels=5)}


def prepared(weighting: Weighting, term: Term | None = None, **teachers: FusionOutput) -> SeveralTeachers:
    several = SeveralTeachers(term or HeatmapResponse(["a", "b"]), weighting)
    several.prepare("mine", make_output(seed=1), teachers or two(), records=RECORDS)
    return several


def shares(term: SeveralTeachers) -> list[float]:
    return [float(term.signals[f"weight/{name}"]) for name in term.teachers]


@pytest.mark.parametrize("name", WEIGHTINGS)
class TestEveryWeighting:
    def test_loss_is_the_weighted_sum_of_those_against_each_teacher(self, name: str) -> None:
        student, teachers, batch = make_output(seed=1, requires_grad=True), two(), make_batch()
        term = prepared(WEIGHTINGS[name]())
        loss = term(student, teachers, batch)
        loss.backward()
        weights = shares(term)
        assert sum(weights) == pytest.approx(1.0, abs=1e-5)
        alone = [float(HeatmapResponse(teacher)(student, teachers, batch).detach()) for teacher in ("a", "b")]
        assert float(loss.detach()) == pytest.approx(sum(w * each for w, each in zip(weights, alone)), rel=1e-5)
        assert student.heatmap.grad is not None
        assert float(student.heatmap.grad.abs().sum()) > 0

    def test_equal_teachers_are_equal_to_one(self, name: str) -> None:
        by_name = name in ("static", "recorded")
        student, same, batch = make_output(seed=1, requires_grad=True), make_output(seed=2), make_batch()
        term = prepared(WEIGHTINGS[name](), a=same, b=same)
        for _ in range(3):
            loss = term(student, {"a": same, "b": same}, batch)
        assert by_name or shares(term) == pytest.approx([0.5, 0.5])
        assert float(loss.detach()) == pytest.approx(
            float(HeatmapResponse("a")(student, {"a": same}, batch).detach()), rel=1e-5
        )
        assert float(term.signals["disagreement"]) == pytest.approx(0.0, abs=1e-6)

    def test_is_finite_without_objects_and_without_labels(self, name: str) -> None:
        student, teachers = make_output(seed=1, requires_grad=True), two()
        empty = {key: replace(value, heatmap=torch.full_like(value.heatmap, -30.0)) for key, value in teachers.items()}
        term = prepared(WEIGHTINGS[name]())
        loss = term(student, empty, make_batch(boxes=0, labelled=(False, False)))
        loss.backward()
        assert bool(torch.isfinite(loss))
        assert sum(shares(term)) == pytest.approx(1.0)

    def test_goes_with_other_terms(self, name: str) -> None:
        student, teachers = make_output(seed=1, requires_grad=True), two()
        weighting = WEIGHTINGS[name]() if name != "agreement" else GradientAgreement("bev")
        term = prepared(weighting, FeatureMimic(["a", "b"]))
        loss = term(student, teachers, make_batch())
        loss.backward()
        assert student.bev.grad is not None
        assert bool(torch.isfinite(student.bev.grad).all())


def test_surer_teacher_counts_more_by_entropy() -> None:
    unsure = make_output(seed=2)
    sure = replace(unsure, heatmap=unsure.heatmap * 8)
    term = prepared(Entropy(), a=sure, b=unsure)
    term(make_output(seed=1), {"a": sure, "b": unsure}, make_batch())
    assert shares(term)[0] > 0.8


def test_right_teacher_counts_more_by_confidence_and_unlabelled_frames_say_nothing() -> None:
    batch = make_batch(labelled=(True, True))
    base = make_output(seed=2)
    right = replace(base, heatmap=base.heatmap + 6)
    term = prepared(Confidence(), a=right, b=base)
    term(make_output(seed=1), {"a": right, "b": base}, batch)
    assert shares(term)[0] > 0.6
    term(make_output(seed=1), {"a": right, "b": base}, make_batch(labelled=(False, False)))
    assert shares(term) == [0.5, 0.5]


def test_static_and_recorded_weights_are_what_was_said() -> None:
    for weighting, wanted in ((Static({"a": 3.0}), [0.75, 0.25]), (Recorded(), [0.8, 0.2])):
        term = prepared(weighting)
        term(make_output(seed=1), two(), make_batch())
        assert shares(term) == pytest.approx(wanted)


def test_learned_variances_grow_where_the_loss_is_large() -> None:
    student, teachers, batch = make_output(seed=1), two(), make_batch()
    teachers["b"] = replace(teachers["b"], heatmap=teachers["b"].heatmap * 9)
    weighting = LearnedUncertainty()
    term = prepared(weighting)
    optimizer = torch.optim.Adam(term.parameters(), lr=0.2)
    for _ in range(80):
        optimizer.zero_grad()
        term(student, teachers, batch).backward()
        optimizer.step()
    losses = [float(HeatmapResponse(name)(student, teachers, batch)) for name in ("a", "b")]
    # The minimum of exp(-s) L + s lies at s = ln L.
    torch.testing.assert_close(weighting.log_variance.detach().exp(), torch.tensor(losses), rtol=0.02, atol=0)


def test_history_counts_training_alone_and_survives_a_checkpoint() -> None:
    weighting = DynamicAverage(window=2)
    weighting.build(["a", "b"])
    question: Any = None
    for step, losses in enumerate([[1.0, 1.0], [3.0, 1.0], [1.0, 1.0], [1.0, 1.0]]):
        with torch.no_grad():
            weighting(torch.tensor([9.0, 99.0]), question)
        _, weight = weighting(torch.tensor(losses, requires_grad=True), question)
        assert weight.tolist() == [0.5, 0.5], step
    resumed = DynamicAverage(window=2)
    resumed.build(["a", "b"])
    resumed.load_state_dict(weighting.state_dict())
    for one in (weighting, resumed):
        _, weight = one(torch.tensor([1.0, 1.0], requires_grad=True), question)
        # Means 2 -> 1 and 1 -> 1: the first teacher's loss halved.
        torch.testing.assert_close(weight, torch.tensor([0.25, 0.5]).softmax(dim=0))


def test_agreement_is_taken_at_the_map_that_is_named() -> None:
    student, teachers = make_output(seed=1, requires_grad=True), two()
    term = prepared(GradientAgreement("bev"))
    with pytest.raises(UserError, match="doesn't depend"):
        term(student, teachers, make_batch())
    term = prepared(GradientAgreement("neck"))
    with pytest.raises(UserError, match=r"'neck'.*heatmap"):
        term(student, teachers, make_batch())


class TestRefusals:
    @pytest.mark.parametrize(
        ("make", "words"),
        [
            (lambda: SeveralTeachers(BoxResponse("a"), Uniform()), "single teacher a"),
            (lambda: SeveralTeachers(HeatmapResponse(["a", "b"], merge="mean"), Uniform()), "merge 'each'"),
            (lambda: SeveralTeachers(HeatmapResponse(["a", "b"], mask="agreement"), Uniform()), "'agreement'"),
            (
                lambda: SeveralTeachers(DetectionPseudoLabel(["a", "b"], class_weights={"a": 0.5}), Uniform()),
                "class_weights already",
            ),
            (lambda: Static({"a": -1.0}), "at least 0, found a: -1.0"),
            (lambda: Entropy(0.0), "above 0"),
            (lambda: DynamicAverage(0), "window must be above 0"),
            (lambda: GradientAgreement(cap=1.5), "cap"),
            (lambda: HeatmapResponse("a", merge="entropy"), "at least two"),
            (lambda: HeatmapResponse("a", mask="agreement"), "at least two"),
        ],
    )
    def test_when_it_is_made(self, make: Callable[[], object], words: str) -> None:
        with pytest.raises(UserError, match=words):
            make()

    @pytest.mark.parametrize(
        ("weighting", "words"),
        [
            (Static({"c": 1.0}), "'mine'.*name c; its teachers are a, b"),
            (Static({"a": 0.0, "b": 0.0}), "nobody teaches"),
            (GradientAgreement("heatmap", cap=0.3), "add up to 0.6"),
        ],
    )
    def test_before_the_first_step(self, weighting: Weighting, words: str) -> None:
        with pytest.raises(UserError, match=words):
            prepared(weighting)

    @pytest.mark.parametrize(
        "recorded",
        [
            lambda: SeveralTeachers(HeatmapResponse(["a", "b"]), Recorded()),
            lambda: HeatmapResponse(["a", "b"], class_weights="recorded"),
            lambda: DetectionPseudoLabel(["a", "b"], class_weights="recorded"),
        ],
    )
    def test_no_record(self, recorded: Callable[[], Term]) -> None:
        with pytest.raises(UserError, match="teacher 'b' has no record"):
            recorded().prepare("mine", make_output(), two(), records={"a": RECORDS["a"]})


def test_recorded_precision_weighs_classes() -> None:
    student, teachers, batch = make_output(seed=1), two(), make_batch()
    found = HeatmapResponse(["a", "b"], merge="mean", class_weights="recorded")
    found.prepare("mine", student, teachers, records=RECORDS)
    # Classes of which a record says nothing count alike.
    said = {"a": {"car": 0.6, "bus": 0.2}, "b": {"car": 0.1, "bus": 0.1}}
    wanted = HeatmapResponse(["a", "b"], merge="mean", class_weights=said)  # type: ignore[arg-type]
    assert float(found(student, teachers, batch)) == pytest.approx(float(wanted(student, teachers, batch)))


def test_entropy_merge_follows_the_surer_teacher_at_each_cell() -> None:
    student, teachers, batch = make_output(seed=1), two(), make_batch()
    certain = replace(teachers["a"], heatmap=teachers["a"].heatmap.sign() * 30)
    unsure = replace(teachers["a"], heatmap=torch.zeros_like(teachers["a"].heatmap))
    merged = HeatmapResponse(["a", "b"], merge="entropy")(student, {"a": certain, "b": unsure}, batch)
    mean = HeatmapResponse(["a", "b"], merge="mean")(student, {"a": certain, "b": unsure}, batch)
    alone = float(HeatmapResponse("a")(student, {"a": certain}, batch))
    assert abs(float(merged) - alone) < 0.2 * abs(float(mean) - alone)


def test_agreement_mask_leaves_out_what_teachers_contradict() -> None:
    student, one, batch = make_output(seed=1), make_output(seed=2), make_batch()
    certain = replace(one, heatmap=one.heatmap.sign() * 40)
    opposite = replace(one, heatmap=-certain.heatmap)
    term = HeatmapResponse(["a", "b"], mask="agreement")
    assert float(term(student, {"a": certain, "b": opposite}, batch)) == pytest.approx(0.0, abs=1e-5)
    assert float(term.signals["disagreement"]) == pytest.approx(0.6931, abs=1e-3)
    same = float(term(student, {"a": certain, "b": certain}, batch))
    assert same == pytest.approx(float(HeatmapResponse("a")(student, {"a": certain}, batch)), rel=1e-5)


def test_classes_without_a_partner_are_told_by_side() -> None:
    student, teacher = make_output(classes=("car", "bus")), make_output(classes=("cow", "car"))
    assert unmapped_classes(student, teacher) == (["cow"], ["bus"])
