"""The YAML of docs/distillation.md is what the command line takes."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonargparse import ArgumentParser

from fusionkd.distillation import SeveralTeachers, Term, Weighting

PAGE = Path(__file__).resolve().parents[2] / "docs" / "distillation.md"


def documented() -> list[dict[str, Any]]:
    """The ``terms`` of each block of the page that has some."""
    blocks = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL)]
    return [block["model"]["terms"] for block in blocks if "model" in block]


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
