"""Distillation of plain modules: the documentation's code runs, and so does every arm of its table."""

import re
import runpy
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

pytest.importorskip("sklearn", reason="the digits are scikit-learn's")
REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def digits() -> Iterator[ModuleType]:
    """The benchmark's script, whose neighbours it imports by their bare names."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(REPOSITORY / "benchmarks"))
        import digits

        yield digits


def test_code_of_the_page_runs_and_its_student_learns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = (REPOSITORY / "docs" / "any_model.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    script = tmp_path / "page.py"
    script.write_text("\n".join(blocks))
    names = runpy.run_path(str(script))
    said = capsys.readouterr().out
    printed = dict(re.findall(r"(teacher|student): ([\d.]+)%", said))
    assert "AUC 0.84 (" in said, "of 16 pairs 13 are in order and one is a tie"
    assert float(printed["student"]) > 75, "ten classes, no labels, one teacher"
    assert not any(parameter.requires_grad for parameter in names["teacher"].parameters())


@pytest.mark.slow
def test_each_arm_learns_more_than_chance(digits: ModuleType) -> None:
    images = digits.digits()[1]
    bench = digits.Bench(digits.split(images, 0, few=True), 0, digits.Recipe(0.02, False, steps=30))
    found = {name: digits.correct(arm(bench), bench.data.test) for name, arm in digits.ARMS.items()}
    assert {name: value for name, value in found.items() if value < 20} == {}
    assert found["(the teacher itself)"] > found["control"]


def test_seeds_share_no_image_with_those_to_tune_on(digits: ModuleType) -> None:
    tune, others = digits.digits()
    data = digits.split(others, 3, few=True)
    assert [len(part) for part in (tune, data.teacher, data.student, data.test)] == [200, 600, 600, 397]
    every = torch.cat([part.pixels.flatten(1) for part in (tune, data.teacher, data.student, data.test)])
    assert len(torch.unique(every, dim=0)) == len(every) == 1797, "the digits themselves are all different"
    labelled = data.student.label[data.student.labelled]
    assert torch.bincount(labelled, minlength=10).tolist() == [4] * 10
    same = digits.split(others, 3, few=False)
    assert torch.equal(same.teacher.pixels, same.student.pixels)
    assert bool(same.student.labelled.all())


def test_differences_are_paired_over_seeds(digits: ModuleType) -> None:
    results = [{"control": 70.0, "a": 71.0}, {"control": 80.0, "a": 83.0}]
    _, row = digits.table("few", results)
    assert row.value == pytest.approx(2.0)
    low, high = row.interval
    assert (low + high) / 2 == pytest.approx(2.0)
    assert "77.0 % right" in row.what
