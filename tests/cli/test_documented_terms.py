"""The YAML of docs/distillation.md is what the command line takes."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonargparse import ArgumentParser

from fusionkd.cli.cascade_plan import read_plan
from fusionkd.distillation import SeveralTeachers, Term, Weighting
from fusionkd.models import FusionModel
from fusionkd.tasks import DistillationTask
from fusionkd.teachers import Teacher
from tests.tasks.conftest import make_student

PAGE = Path(__file__).resolve().parents[2] / "docs" / "distillation.md"


def blocks() -> list[dict[str, Any]]:
    return [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL)]


def documented() -> list[dict[str, Any]]:
    """The ``terms`` of each block of the page that has some."""
    return [block["model"]["terms"] for block in blocks() if "model" in block]


def living() -> list[dict[str, Any]]:
    """The ``model`` of each block with teachers that live in the run."""
    return [block["model"] for block in blocks() if "teachers" in block.get("model", {})]


def build(terms: dict[str, Any]) -> dict[str, Term]:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--terms", type=dict[str, Term])
    built: dict[str, Term] = parser.instantiate_classes(parser.parse_object({"terms": terms})).terms
    return built


@pytest.mark.parametrize("terms", documented(), ids=lambda terms: "-".join(terms))
def test_block_is_built(terms: dict[str, Any]) -> None:
    built = build(terms)
    assert {name: type(term).__name__ for name, term in built.items()} == {
        name: spec["class_path"].rsplit(".", 1)[1] for name, spec in terms.items()
    }


def test_every_weighting_is_written_out() -> None:
    terms = [term for block in documented() for term in build(block).values()]
    shown = {type(term.weighting) for term in terms if isinstance(term, SeveralTeachers)}
    assert {kind for kind in Weighting.__subclasses__() if kind.__module__.startswith("fusionkd")} - shown == {
        kind for kind in Weighting.__subclasses__() if kind.__name__ == "Uniform"
    }


@pytest.mark.parametrize("model", living(), ids=lambda model: "-".join(model["teachers"]))
def test_company_of_a_block_is_accepted(model: dict[str, Any]) -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--teachers", type=dict[str, Teacher])
    teachers = parser.instantiate_classes(parser.parse_object({"teachers": model["teachers"]})).teachers
    student: FusionModel = make_student()
    task = DistillationTask(student, teachers=teachers, terms=build(model["terms"]))
    assert not any(teacher.fixed for teacher in teachers.values())
    assert task.lessons


def test_every_living_teacher_is_written_out() -> None:
    shown = {teacher["class_path"].rsplit(".", 1)[1] for model in living() for teacher in model["teachers"].values()}
    assert shown == {"MeanTeacher", "Peer", "ShallowHead"}


def test_cascade_of_the_page_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(PAGE.parents[1])
    (found,) = [block for block in blocks() if "stages" in block]
    path = tmp_path / "cascade.yaml"
    path.write_text(yaml.safe_dump(found, sort_keys=False))
    plan = read_plan(path)
    assert [stage.before() for stage in plan.stages] == [[], ["assistant"]]
