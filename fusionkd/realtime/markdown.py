"""A verdict in Markdown, as a comment on a pull request."""

from collections.abc import Iterable, Sequence

from fusionkd.realtime.pwcet import PwcetRefused
from fusionkd.realtime.verdict import Verdict
from fusionkd.realtime.wording import flat, headline, interval, number, pwcet_bounds, reached, scenario


def report_markdown(verdict: Verdict) -> str:
    """The verdict, its findings, the percentiles, the stages, the worst case and the machine."""
    return (
        "\n\n".join(
            [
                f"## {headline(verdict)}",
                _counts(verdict),
                _table(
                    ("budget", "status", "measured", "bounds", "limit", "why"),
                    [
                        (
                            finding.name,
                            f"**{finding.status}**",
                            f"{number(finding.value)} {finding.unit if finding.value is not None else ''}".strip(),
                            interval(finding.bounds),
                            f"{number(finding.limit)} {finding.unit}".strip(),
                            finding.sentence,
                        )
                        for finding in verdict.findings
                    ],
                ),
                *_percentiles(verdict),
                *_stages(verdict),
                _pwcet(verdict),
                _about(verdict),
            ]
        )
        + "\n"
    )


def _counts(verdict: Verdict) -> str:
    figures = verdict.figures
    kind = "Modelled, not measured. " if verdict.trace.modelled else ""
    text = (
        f"{kind}{scenario(verdict).capitalize()}. {figures.frames:,} frames judged, {figures.dropped:,} of them "
        f"dropped; {figures.misses:,} late, {figures.longest_run:,} in a row at most; mean "
        f"{number(figures.mean_ms)} ms, largest {number(figures.largest_ms)} ms."
    )
    if figures.cold_ms:
        dropped = f", {figures.dropped_while_cold:,} dropped meanwhile" if figures.dropped_while_cold else ""
        text += f" {len(figures.cold_ms):,} cold frames apart: the first took {number(figures.cold_ms[0])} ms{dropped}."
    if figures.jitter_ms is not None:
        text += (
            f" Jitter: p99 lies {number(figures.jitter_ms.p99_over_p50)} ms above the median, neighbours differ by up "
            f"to {number(figures.jitter_ms.largest_step)} ms."
        )
    if figures.stream is not None:
        text += (
            f" Longest wait {number(figures.stream.longest_wait_ms)} ms, deepest queue {figures.stream.deepest_queue}, "
            f"oldest output {number(figures.stream.oldest_output_ms)} ms."
        )
    return text


def _percentiles(verdict: Verdict) -> list[str]:
    rows = [
        (f"p{figure.percent:g}", reached(figure.value_ms), interval(figure.interval_ms))
        for figure in verdict.figures.percentiles
    ]
    confidence = f"{100 * verdict.contract.confidence:g} % interval"
    return [_table(("latency", "value", f"{confidence}, ms"), rows)] if rows else []


def _stages(verdict: Verdict) -> list[str]:
    rows = [
        (
            stage.name,
            number(stage.p50_ms),
            number(stage.high_ms),
            number(stage.largest_ms),
            f"{100 * stage.share:.1f} %",
        )
        for stage in verdict.figures.stages
    ]
    if not rows:
        return []
    table = _table(("stage", "p50 ms", f"p{verdict.contract.percentile:g} ms", "largest ms", "share of work"), rows)
    return [table, f"Stages cover {100 * verdict.figures.covered:.2f} % of the work's wall time."]


def _pwcet(verdict: Verdict) -> str:
    pwcet = verdict.pwcet
    checks = "; ".join(f"{name}: p = {p:.2g}" for name, p in pwcet.checks.items())
    if isinstance(pwcet, PwcetRefused):
        return f"Probabilistic worst case: refused. {pwcet.reason}{f' ({checks}.)' if checks else ''}"
    bounds = ", ".join(
        f"{number(upper)} ms for {probability:.0e} of frames (estimate {number(estimate)} ms)"
        for probability, estimate, upper in pwcet_bounds(pwcet)
    )
    return (
        f"Probabilistic worst case, upper bounds at {100 * pwcet.confidence:g} %: {bounds}. Generalised Pareto tail "
        f"above {number(pwcet.threshold)} ms, {pwcet.exceedances} exceedances, shape {pwcet.shape:.2f}. "
        f"Checks: {checks}."
    )


def _about(verdict: Verdict) -> str:
    lines = "\n".join(f"- {name}: {value}" for name, value in flat(verdict.trace.about))
    if not lines:
        return "The trace doesn't say which machine it comes from."
    note = "This verdict speaks for this machine alone."
    return f"<details><summary>Machine, model and versions</summary>\n\n{lines}\n\n</details>\n\n{note}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
