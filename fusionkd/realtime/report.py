"""A verdict as files: JSON by a published schema, Markdown for a pull request, JUnit XML, a picture."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from importlib import resources
from pathlib import Path
from typing import Any

from fusionkd.realtime.junit import junit_xml
from fusionkd.realtime.markdown import report_markdown
from fusionkd.realtime.picture import latency_figure
from fusionkd.realtime.pwcet import Pwcet, PwcetRefused
from fusionkd.realtime.verdict import Verdict
from fusionkd.realtime.wording import is_simulated, pwcet_bounds

SCHEMA = "fusionkd-deadline-report-1"
"""Version of the JSON reports; it changes where a reader of the former would stumble."""


def write_report(verdict: Verdict, folder: str | Path) -> None:
    """Write ``report.json``, ``report.md``, ``junit.xml`` and ``latency.png`` into a folder, which is made."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(report_data(verdict), indent=2, allow_nan=False, ensure_ascii=False)
    (folder / "report.json").write_text(text + "\n", encoding="utf-8")
    (folder / "report.md").write_text(report_markdown(verdict), encoding="utf-8")
    (folder / "junit.xml").write_text(junit_xml(verdict), encoding="utf-8")
    figure = latency_figure(verdict)
    figure.savefig(folder / "latency.png", facecolor=figure.get_facecolor())


def report_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of the reports."""
    content: dict[str, Any] = json.loads(
        resources.files("fusionkd.realtime").joinpath("report_schema.json").read_text(encoding="utf-8")
    )
    return content


def report_data(verdict: Verdict) -> dict[str, Any]:
    """The verdict in plain values; what is infinite or absent is None."""
    trace, figures = verdict.trace, asdict(verdict.figures)
    figures["percentiles"] = [
        {"percent": p["percent"], "value_ms": p["value_ms"], **_bounds(p["interval_ms"], "_ms")}
        for p in figures["percentiles"]
    ]
    findings = []
    for finding in map(asdict, verdict.findings):
        bounds = finding.pop("bounds")
        findings.append({**finding, **_bounds(bounds)})
    data = {
        "schema": SCHEMA,
        "status": verdict.status,
        "exit_status": verdict.exit_status,
        "frames_needed": verdict.frames_needed,
        "modelled": trace.modelled,
        "simulated": is_simulated(trace.about),
        "contract": asdict(verdict.contract),
        "findings": findings,
        "latency": figures,
        "pwcet": _pwcet(verdict.pwcet),
        "scenario": {"name": trace.scenario, "period_ms": trace.period_ns / 1e6, "overrun": trace.overrun},
        "about": dict(trace.about),
    }
    plain: dict[str, Any] = _plain(data)
    return plain


def _bounds(bounds: Mapping[str, float], unit: str = "") -> dict[str, float]:
    return {f"lower{unit}": bounds["lower"], f"upper{unit}": bounds["upper"]}


def _pwcet(pwcet: Pwcet | PwcetRefused) -> dict[str, Any]:
    if isinstance(pwcet, PwcetRefused):
        return {"refused": pwcet.reason, "checks": dict(pwcet.checks)}
    return {
        "refused": None,
        "checks": dict(pwcet.checks),
        "threshold_ms": pwcet.threshold,
        "shape": pwcet.shape,
        "scale_ms": pwcet.scale,
        "exceedances": pwcet.exceedances,
        "confidence": pwcet.confidence,
        "bounds": [
            {"probability": probability, "estimate_ms": estimate, "upper_ms": upper}
            for probability, estimate, upper in pwcet_bounds(pwcet)
        ],
    }


def _plain(value: Any) -> Any:
    """JSON knows neither infinity nor tuples."""
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
