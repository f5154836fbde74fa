"""The report's files: JSON by its schema, Markdown, JUnit XML by its conventions, a picture."""

import dataclasses
import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from jsonschema import Draft202012Validator
from matplotlib.image import imread
from synthetic import constant_stream, single_stream

from fusionkd.realtime import DeadlineContract, Verdict, WeaklyHard, judge, report_data, report_schema, write_report
from fusionkd.realtime.junit import junit_xml
from fusionkd.realtime.markdown import report_markdown
from fusionkd.realtime.picture import COLOUR, latency_figure

CONTRACT = DeadlineContract(
    50.0,
    percentile=99,
    weakly_hard=WeaklyHard(1, 20),
    stages_ms={"network": 40.0},
    memory_mib=1000,
    energy_mj_per_frame=900,
    accuracy={"nds": 0.3},
    scenario="constant_stream",
    rate_hz=20,
)
ABOUT: dict[str, Any] = {
    "machine": {"cpu": "A fast one", "cores": 2},
    "note": "<quoted> & \x07 one | two",
    "backend": "onnxruntime",
    "simulated": True,
    "load": float("nan"),
}


def busy(frames: int = 800) -> Any:
    return 30 + np.random.default_rng(0).gamma(4, 0.5, size=frames)


def verdicts() -> dict[str, Verdict]:
    slow = busy()
    slow[[300, 310, 500]] = 130
    stream = DeadlineContract(50.0, percentile=99, scenario="constant_stream", rate_hz=20)
    whole = {"memory_mib": 800, "energy_mj": 500, "accuracy": {"NDS": 0.31}}
    return {
        "met": judge(constant_stream(busy(), period_ms=50, cold=3, about=ABOUT), CONTRACT, **whole),
        "missed": judge(constant_stream(slow, period_ms=50, about=ABOUT), CONTRACT, memory_mib=2000),
        "inconclusive": judge(single_stream(busy(150), modelled=True), DeadlineContract(50.0)),
        "refused": judge(constant_stream(busy(20), period_ms=50), stream),
        "empty": judge(single_stream(busy(2), cold=2), DeadlineContract(50.0)),
        "nothing": judge(single_stream(busy(0), cold=0), DeadlineContract(50.0)),
    }


VERDICTS = verdicts()


@pytest.mark.parametrize("name", VERDICTS)
def test_json_keeps_its_schema(name: str) -> None:
    data = json.loads(json.dumps(report_data(VERDICTS[name]), allow_nan=False))
    Draft202012Validator(report_schema()).validate(data)
    assert data["status"] == VERDICTS[name].status
    assert [found["status"] for found in data["findings"]] == [found.status for found in VERDICTS[name].findings]


def test_schema_is_one_and_forbids() -> None:
    Draft202012Validator.check_schema(report_schema())
    data = report_data(VERDICTS["met"])
    errors = Draft202012Validator(report_schema()).iter_errors
    for wrong in (
        {**data, "status": "perhaps"},
        {**data, "more": 1},
        {**data, "schema": "fusionkd-deadline-report-2"},
        {name: value for name, value in data.items() if name != "findings"},
        {**data, "latency": {**data["latency"], "misses": -1}},
    ):
        assert list(errors(wrong))


def test_schema_names_every_entry() -> None:
    """No entry is left to chance: each object of the schema is closed, except for free names."""
    schema = report_schema()
    for name, value in report_data(VERDICTS["met"]).items():
        assert name in schema["properties"], name
        if isinstance(value, dict) and name in ("contract", "latency", "scenario"):
            assert set(value) == set(schema["properties"][name]["required"])


def test_what_is_unproven_is_null() -> None:
    found = report_data(VERDICTS["inconclusive"])["findings"][0]
    assert found["upper"] is None
    assert found["frames_needed"] == 2995
    assert report_data(VERDICTS["met"])["about"]["load"] is None
    assert report_data(VERDICTS["met"])["simulated"] is True
    assert report_data(VERDICTS["inconclusive"])["modelled"] is True


@pytest.mark.parametrize("name", VERDICTS)
def test_junit_keeps_the_conventions(name: str) -> None:
    verdict = VERDICTS[name]
    root = ET.fromstring(junit_xml(verdict))
    suites = list(root)
    assert root.tag == "testsuites"
    assert [suite.tag for suite in suites] == ["testsuite"]
    suite = suites[0]
    cases = suite.findall("testcase")
    assert [case.get("name") for case in cases] == [found.name for found in verdict.findings]
    for counted in (root, suite):
        assert counted.get("tests") == str(len(cases))
        assert counted.get("failures") == str(len(suite.findall("testcase/failure")))
        assert counted.get("errors") == str(len(suite.findall("testcase/error")))
        assert float(counted.get("time", "")) >= 0
    # The schema's order: properties, test cases, system-out.
    tags = [child.tag for child in suite]
    assert tags == ["properties", *["testcase"] * len(cases), "system-out"]
    outcome = {"met": [], "missed": ["failure"], "inconclusive": ["error"]}
    for case, found in zip(cases, verdict.findings):
        assert case.get("classname")
        assert [child.tag for child in case] == outcome[found.status]
        assert all(child.get("message") == found.sentence and child.get("type") for child in case)
    # Green in CI exactly where the exit status is 0.
    green = not suite.findall("testcase/failure") and not suite.findall("testcase/error")
    assert green == (verdict.exit_status == 0)


def test_junit_survives_any_text() -> None:
    properties = ET.fromstring(junit_xml(VERDICTS["met"])).iter("property")
    assert {"note": "<quoted> & ? one | two"}.items() <= {p.get("name"): p.get("value") for p in properties}.items()


@pytest.mark.parametrize("name", VERDICTS)
def test_markdown_tells_all(name: str) -> None:
    verdict = VERDICTS[name]
    text = report_markdown(verdict)
    assert f": {verdict.status}" in text.splitlines()[0]
    assert all(found.sentence.replace("|", "\\|") in text for found in verdict.findings)
    assert ("simulated" in text.splitlines()[0]) == (name in ("met", "missed"))
    assert ("modelled" in text.splitlines()[0]) == verdict.trace.modelled
    assert "Probabilistic worst case" in text
    columns = {line.replace("\\|", "").count("|") for line in text.splitlines() if line.startswith("| latency p")}
    assert columns == {7}
    assert "nan" not in text.replace("load: nan", "")
    assert "inf" not in text


def test_cold_frames_and_dropped_ones_stand_in_the_report() -> None:
    assert "3 cold frames apart" in report_markdown(VERDICTS["met"])
    assert report_data(VERDICTS["met"])["latency"]["cold_ms"] == list(VERDICTS["met"].figures.cold_ms)
    assert f"{VERDICTS['missed'].figures.dropped} of them dropped" in report_markdown(VERDICTS["missed"])


def test_all_files_are_written(tmp_path: Path) -> None:
    write_report(VERDICTS["missed"], tmp_path / "runs" / "deadline")
    folder = tmp_path / "runs" / "deadline"
    assert {path.name for path in folder.iterdir()} == {"report.json", "report.md", "junit.xml", "latency.png"}
    assert json.loads((folder / "report.json").read_text())["exit_status"] == 1
    assert ET.parse(folder / "junit.xml").getroot().tag == "testsuites"
    picture = imread(folder / "latency.png")
    assert picture.shape[:2] == (900, 1400)


@pytest.mark.parametrize("name", VERDICTS)
def test_picture_shows_the_verdict(name: str) -> None:
    verdict = VERDICTS[name]
    figure = latency_figure(verdict)
    figure.canvas.draw()
    texts = [text.get_text() for text in figure.texts]
    assert verdict.status in texts[0]
    assert figure.texts[0].get_color() == COLOUR[verdict.status]
    assert ("modelled times" in texts[1]) == verdict.trace.modelled
    assert ("simulated frames" in texts[1]) == (name in ("met", "missed"))
    timeline, histogram, stages = figure.axes
    deadlines = [line.get_ydata()[0] for line in timeline.get_lines()]
    assert 50.0 in deadlines
    points = sum(
        len(marks.get_offsets()) for marks in timeline.collections if marks.get_label().startswith(("cold", "in "))
    )
    assert points == int(np.count_nonzero(verdict.trace.latency_ns <= 50e6))
    shown = int(sum(bar.get_height() for bar in histogram.patches))
    assert shown == verdict.trace.frames - verdict.trace.cold
    labels = [text.get_text().split("  ")[0] for text in stages.get_legend().get_texts()] if stages.get_legend() else []
    if labels:
        assert labels == ["in no stage", *reversed(verdict.trace.stages)]


def test_a_long_trace_draws_every_frame_in_the_histogram() -> None:
    trace = single_stream(30 + np.random.default_rng(0).gamma(4, 0.5, size=100_000))
    verdict = judge(trace, dataclasses.replace(DeadlineContract(50.0), deadline_ms=31.0))
    histogram = latency_figure(verdict).axes[1]
    assert int(sum(bar.get_height() for bar in histogram.patches)) == 100_000
