"""The whole family of distillation as arms of ``kd_gain.py``: every term alone, every weighting, every delivery.

Terms are taught by the fused teacher alone, with their default options, so that they differ in nothing else. Weightings
weigh three teachers in the same term. Deliveries take what their files in ``configs/distill`` say.
"""

from collections.abc import Iterator
from typing import Any, Final

import yaml
from kd_gain_arms import ALL, CACHE, CONFIG, Arm, augmentation, cached, merged, recipe, term

FAMILIES: Final[dict[str, dict[str, dict[str, Any]]]] = {
    "response": {
        "DetectionPseudoLabel": {},
        "HeatmapResponse": {},
        "BoxResponse": {},
        "LogitKL": {},
        "DecoupledKD": {},
        "CorrelationKD": {},
        "StandardizedLogitKL": {},
    },
    "feature": {
        "FeatureMimic": {},
        "PearsonFeature": {},
        "AttentionTransfer": {},
        "ChannelWise": {},
        "SimilarityPreserving": {},
        "MaskedGenerative": {},
        "FocalGlobal": {},
        "Contrastive": {},
        "VariationalInformation": {},
        "FlowOfSolution": {},
    },
    "relation": {
        "RelationDistance": {},
        "RelationAngle": {},
        "ObjectRelation": {},
        "Affinity": {},
        "Ranking": {},
    },
}
"""Options of every term beside its teacher, by family."""

WEIGHTINGS: Final[dict[str, dict[str, Any]]] = {
    "Uniform": {},
    "Static": {"weights": {"lidar": 1.0, "camera": 0.3, "fused": 1.0}},
    "Recorded": {},
    "Entropy": {},
    "Confidence": {},
    "LearnedUncertainty": {},
    "DynamicAverage": {},
    "GradientAgreement": {"tap": "bev"},
}
DELIVERIES: Final = ("label_free", "pseudo_label", "self", "ema", "mutual")
"""Overlays of the main job; cascades train several students and are judged by ``tools/cascade.py`` itself."""


def every_term(*, augmented: bool) -> Iterator[Arm]:
    """Each term alone."""
    for kinds in FAMILIES.values():
        for name, options in kinds.items():
            yield _arm(f"alone-{name}", {"alone": term(name, teacher="fused", **options)}, augmented=augmented)


def every_weighting(*, augmented: bool) -> Iterator[Arm]:
    """The heatmap and the boxes of three teachers, weighed in each way."""
    inner = {"heatmap": term("HeatmapResponse", teacher=list(ALL)), "box": term("BoxResponse", teacher=list(ALL))}
    for name, options in WEIGHTINGS.items():
        terms = {key: term("SeveralTeachers", term=one, weighting=term(name, **options)) for key, one in inner.items()}
        yield _arm(f"weighting-{name}", terms, augmented=augmented)


def every_delivery() -> Iterator[Arm]:
    """What the files of ``configs/distill`` say, without their loggers; frozen teachers answer from the cache."""
    for name in DELIVERIES:
        said = yaml.safe_load((CONFIG.parent / "distill" / f"{name}.yaml").read_text())
        said.pop("trainer")
        # Those whose teachers are frozen leave the main job's in place.
        teachers = said.get("model", {}).get("teachers") or cached(ALL, CACHE)
        yield Arm(f"delivery-{name}", merged(said, {"model": {"teachers": teachers, "remember_teachers": False}}))


def everything_read() -> dict[str, Any]:
    """Terms that read all that any arm reads of the teachers: a cache filled for these serves every arm."""
    alone = {name: options for kinds in FAMILIES.values() for name, options in kinds.items()}
    terms = {f"alone-{name}": term(name, teacher="fused", **options) for name, options in alone.items()}
    for name, one in recipe(ALL).items():
        terms[name] = merged(one, {"init_args": {"teacher": list(ALL)}})
    return terms


def _arm(name: str, terms: dict[str, Any], *, augmented: bool) -> Arm:
    asked = sorted({teacher for one in terms.values() for teacher in _teachers_of(one)}, key=ALL.index)
    model = {"teachers": cached(asked, CACHE), "terms": terms, "remember_teachers": False}
    return Arm(name, {"model": model, "data": {"init_args": {"bev_augmentation": augmentation(augmented)}}})


def _teachers_of(one: dict[str, Any]) -> list[str]:
    arguments = one["init_args"]
    teacher = arguments["teacher"] if "teacher" in arguments else arguments["term"]["init_args"]["teacher"]
    return [teacher] if isinstance(teacher, str) else teacher
