"""What the benchmarks' helpers promise: turns, ratios, and result files that the documentation reads."""

import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import yaml

from fusionkd import distillation
from fusionkd.cli import build_cli
from fusionkd.distillation.weighting import Weighting

REPOSITORY = Path(__file__).resolve().parent.parent


def _module(path: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"benchmark_{Path(path).stem}", REPOSITORY / path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def common() -> ModuleType:
    return _module("benchmarks/common.py")


class _Clock:
    """A clock that only the timed calls move."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.calls: list[str] = []

    def perf_counter(self) -> float:
        return self.now_s

    def spend(self, who: str, seconds: float) -> None:
        self.calls.append(who)
        self.now_s += seconds


def test_both_sides_are_timed_in_turns(common: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = _Clock()
    monkeypatch.setattr(common, "time", clock)
    row = common.compare(
        "work", lambda: clock.spend("a", 0.002), lambda: clock.spend("b", 0.010), peer_name="peer", rounds=4
    )
    assert clock.calls == ["a", "b", "a", "b", "b", "a", "a", "b", "b", "a"]
    assert (row.value, row.peer_value, row.ratio) == pytest.approx((2.0, 10.0, 5.0))
    assert row.interval == pytest.approx((5.0, 5.0))


def test_the_interval_holds_the_median_and_shrinks_with_more_rounds(common: ModuleType) -> None:
    values = np.random.default_rng(0).lognormal(1.0, 0.3, 400)
    widths = []
    for count in (25, 400):
        low, high = common.bootstrap_interval(values[:count])
        assert low <= np.median(values[:count]) <= high
        widths.append(high - low)
    assert widths[1] < widths[0] / 2


def test_a_result_file_becomes_a_table(
    common: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(common, "RESULTS", tmp_path / "results")
    rows = [
        common.Row("fast path", 1.25, "ms", "slow path", 10.0, 8.0, 5.0, "higher", (7.5, 8.5)),
        common.Row("plain figure", 3.0, "points"),
    ]
    result = json.loads(common.write_result("trial", rows, simulated=True, packages=("numba", "absent")).read_text())
    assert set(result) == {"name", "command", "machine", "versions", "date", "simulated", "rows"}
    assert set(result["rows"][0]) == {
        "what", "value", "unit", "peer", "peer_value", "ratio", "target", "better", "interval"
    }  # fmt: skip
    assert {"python", "fusionkd", "numba"} <= set(result["versions"])
    assert "absent" not in result["versions"]
    assert "fast path" in capsys.readouterr().out
    table = _module("docs/make_tables.py").markdown_table(result)
    assert "| fast path | 1.25 ms | slow path | 10 | 8 | 7.5 to 8.5 | 5 |" in table
    assert "Simulated world." in table


def test_the_machine_is_described_in_words(common: ModuleType) -> None:
    described = common.machine()
    assert {"cpu", "cores", "gpu", "system"} <= set(described)
    assert all(isinstance(text, str) and text for text in described.values())


@pytest.fixture(scope="module")
def family() -> Iterator[ModuleType]:
    """The arms of kd_gain.py, which import each other by name as scripts do."""
    sys.path.insert(0, str(REPOSITORY / "benchmarks"))
    try:
        yield importlib.import_module("kd_gain_family")
    finally:
        sys.path.remove(str(REPOSITORY / "benchmarks"))


def test_the_family_of_arms_is_whole(family: ModuleType) -> None:
    kinds = [getattr(distillation, name) for name in distillation.__all__]
    kinds = [kind for kind in kinds if isinstance(kind, type)]
    abstract = {distillation.Term, distillation.FeatureTerm, distillation.SeveralTeachers}
    terms = {kind.__name__ for kind in kinds if issubclass(kind, distillation.Term) and kind not in abstract}
    assert {name for group in family.FAMILIES.values() for name in group} == terms
    weightings = {kind.__name__ for kind in kinds if issubclass(kind, Weighting) and kind is not Weighting}
    assert set(family.WEIGHTINGS) == weightings


def test_every_arm_is_a_run_that_can_be_built(family: ModuleType, tmp_path: Path) -> None:
    arms = [*family.every_term(augmented=True), *family.every_weighting(augmented=False), *family.every_delivery()]
    assert len({arm.name for arm in arms}) == len(arms) > 30
    for arm in arms:
        overlay = tmp_path / f"{arm.name}.yaml"
        overlay.write_text(yaml.safe_dump(arm.overlay | {"trainer": {"logger": False, "callbacks": []}}))
        task = build_cli(["--config", str(family.CONFIG), "--config", str(overlay)], run=False).model
        assert task.terms or task.fellows, arm.name
