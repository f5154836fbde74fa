"""A verdict on the terminal: first the verdict, then why."""

from rich.console import Console
from rich.table import Table
from rich.text import Text

from fusionkd.realtime.pwcet import PwcetRefused
from fusionkd.realtime.verdict import Verdict
from fusionkd.realtime.wording import headline, interval, number, pwcet_bounds, scenario

_COLOUR = {"met": "green", "missed": "red", "inconclusive": "yellow"}
_MIN_WIDTH = 120


def print_verdict(verdict: Verdict, console: Console | None = None) -> None:
    """Print verdict, budgets, percentiles, stages, cold start, uncovered time, telemetry and machine."""
    console = console or Console()
    console.width = max(console.width, _MIN_WIDTH)  # a pipe has no width; 80 columns would break every cell
    console.print(Text(headline(verdict), style=f"bold {_COLOUR[verdict.status]}"))
    console.print(f"{scenario(verdict).capitalize()}. {_device(verdict)}")
    console.print(_findings(verdict))
    console.print(_percentiles(verdict))
    console.print(_stages(verdict))
    for line in _lines(verdict):
        console.print(Text(line))


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left")
    for number_, column in enumerate(columns):
        table.add_column(column, justify="left" if number_ == 0 or column == "why" else "right")
    return table


def _findings(verdict: Verdict) -> Table:
    table = _table("budgets", "budget", "verdict", "measured", "bounds", "limit", "why")
    for finding in verdict.findings:
        table.add_row(
            finding.name,
            Text(finding.status, style=_COLOUR[finding.status]),
            number(finding.value),
            interval(finding.bounds),
            f"{number(finding.limit)} {finding.unit}".strip(),
            finding.sentence,
        )
    return table


def _percentiles(verdict: Verdict) -> Table:
    table = _table("latency", "percentile", "ms", f"{100 * verdict.contract.confidence:g} % interval")
    for figure in verdict.figures.percentiles:
        table.add_row(f"p{figure.percent:g}", number(figure.value_ms), interval(figure.interval_ms))
    return table


def _stages(verdict: Verdict) -> Table:
    table = _table("stages", "stage", "p50 ms", f"p{verdict.contract.percentile:g} ms", "largest ms", "share")
    for stage in verdict.figures.stages:
        figures = (stage.p50_ms, stage.high_ms, stage.largest_ms)
        table.add_row(stage.name, *map(number, figures), f"{100 * stage.share:.1f} %")
    return table


def _lines(verdict: Verdict) -> list[str]:
    figures, about = verdict.figures, verdict.trace.about
    lines = []
    if figures.cold_ms:
        lines.append(
            f"Cold start apart: the first frame took {number(figures.cold_ms[0])} ms; {len(figures.cold_ms)} frames of "
            f"warm-up in all{_steady(about.get('steady'))}."
        )
    if figures.stream is not None:
        lines.append(
            f"Stream: {figures.dropped:,} of {figures.frames:,} frames dropped, longest wait "
            f"{number(figures.stream.longest_wait_ms)} ms, deepest queue {figures.stream.deepest_queue}, oldest output "
            f"{number(figures.stream.oldest_output_ms)} ms."
        )
    share = about.get("profiler_share")
    lines.append(
        f"Not covered by any stage: {100 * (1 - figures.covered):.2f} % of the frames' time."
        + ("" if share is None else f" Writing it down took {100 * share:.3f} %.")
    )
    if isinstance(verdict.pwcet, PwcetRefused):
        lines.append(f"Probabilistic worst case: refused, {verdict.pwcet.reason}")
    else:
        bounds = [f"{number(upper)} ms once in {1 / p:,.0f} frames" for p, _, upper in pwcet_bounds(verdict.pwcet)]
        lines.append(f"Probabilistic worst case, upper bounds: {', '.join(bounds) or 'too few frames'}.")
    return lines + _telemetry(verdict)


def _telemetry(verdict: Verdict) -> list[str]:
    about = verdict.trace.about
    lines = []
    memory, reading = about.get("memory"), about.get("telemetry")
    if memory is not None:
        device = "" if memory["device_mib"] is None else f" and {number(memory['device_mib'])} MiB on the device"
        whole = "" if memory["of_run"] else " since the process began"
        lines.append(
            f"Memory: {number(memory['host_mib'])} MiB{device} at most{whole}, {about.get('held_mib')} MiB of it the "
            f"frames to measure with."
        )
    if reading is not None:
        told = [
            f"{number(about.get('energy_mj_per_frame'))} mJ per frame" if reading["energy_mj"] is not None else "",
            f"{number(reading['power_w'])} W" if reading["power_w"] is not None else "",
            f"{number(reading['temperature_c'])} °C at most" if reading["temperature_c"] is not None else "",
            *(f"{name} clock {number(mhz)} MHz at least" for name, mhz in reading["clocks_mhz"].items()),
            "THROTTLED" if reading["throttled"] else "",
        ]
        lines.append(f"Telemetry ({reading['source']}): {', '.join(filter(None, told)) or 'nothing'}.")
    return lines


def _device(verdict: Verdict) -> str:
    about = verdict.trace.about
    machine = about.get("machine", {})
    named = [
        about.get("checkpoint"),
        about.get("backend"),
        machine.get("gpu") or machine.get("cpu"),
        about.get("input"),
    ]
    return ", ".join(str(name) for name in named if name)


def _steady(steady: bool | None) -> str:
    return {True: ", found by a test", False: ", after which no steady state was found", None: ""}[steady]
