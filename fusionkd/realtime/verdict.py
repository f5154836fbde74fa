"""The verdict: a trace held against a contract, with its confidence."""

from collections.abc import Mapping
from dataclasses import dataclass

from fusionkd.errors import UserError
from fusionkd.realtime.contract import DeadlineContract
from fusionkd.realtime.figures import LatencyFigures, latency_figures, processed_ms, stream_ms
from fusionkd.realtime.findings import (
    Certainty,
    Finding,
    Status,
    figure_finding,
    miss_rate_finding,
    percentile_finding,
    steady_finding,
    weakly_hard_finding,
)
from fusionkd.realtime.pwcet import Pwcet, PwcetRefused, fit_pwcet
from fusionkd.realtime.trace import LatencyTrace

EXIT_STATUS: Mapping[Status, int] = {"met": 0, "missed": 1, "inconclusive": 2}
"""What a command ends with; 3 says that it could not run."""


@dataclass(frozen=True)
class Verdict:
    """Met, missed or inconclusive, and why.

    Attributes:
        findings: One of each limit.
        figures: What was counted.
        pwcet: The probabilistic worst case in ms, or why there is none. It takes no part in the verdict.
        contract: The limits.
        trace: What was judged.
    """

    findings: tuple[Finding, ...]
    figures: LatencyFigures
    pwcet: Pwcet | PwcetRefused
    contract: DeadlineContract
    trace: LatencyTrace

    @property
    def status(self) -> Status:
        """``missed`` if one finding is, ``met`` if all are, else ``inconclusive``."""
        found = {finding.status for finding in self.findings}
        return "missed" if "missed" in found else "met" if found == {"met"} else "inconclusive"

    @property
    def exit_status(self) -> int:
        """0 met, 1 missed, 2 inconclusive."""
        return EXIT_STATUS[self.status]

    @property
    def frames_needed(self) -> int | None:
        """Frames that an inconclusive verdict would take at the rate of misses seen; None where frames don't help."""
        open_ones = [finding for finding in self.findings if finding.status == "inconclusive"]
        needed = [finding.frames_needed for finding in open_ones if finding.frames_needed is not None]
        return max(needed) if self.status == "inconclusive" and len(needed) == len(open_ones) else None


def judge(
    trace: LatencyTrace,
    contract: DeadlineContract,
    *,
    memory_mib: float | None = None,
    energy_mj: float | None = None,
    accuracy: Mapping[str, float] | None = None,
) -> Verdict:
    """Hold a trace against a contract.

    With c the contract's confidence and K the number of percentiles that it limits (the deadline and each stage):

    - Each limit is met by a bound of confidence c. The verdict is ``met`` only if all of them are, so that it says
      ``met`` of a device that breaks any limit with a probability of at most 1 - c, however many limits there are
      (Berger, "Multiparameter hypothesis testing and acceptance sampling", Technometrics 24, 1982).
    - Each limit is missed by a bound of confidence 1 - (1 - c) / K, so that the verdict says ``missed`` of a device
      that keeps all of them with a probability of at most 1 - c (Bonferroni).

    The percentile of the latency and the miss rate are the same test, told twice. Weakly-hard limits, memory, energy
    and accuracy are facts about what was measured and add no error. All of this holds for frames of one distribution:
    where slow frames come in clusters they count for fewer, by an estimate; what a longer trace would first show, such
    as a thermal limit, no verdict knows.

    Args:
        trace: Its cold frames take no part; dropped frames count as missed.
        contract: Of the same scenario.
        memory_mib: Most memory that was in use; None where nothing told it.
        energy_mj: Energy of a frame; None where nothing told it.
        accuracy: Figures by name, such as ``{"nds": 0.31}``, in any case; None where none was measured.

    Raises:
        UserError: If the contract names a stage that the trace doesn't have, or the trace is of another scenario.
    """
    _check_scenario(trace, contract)
    frames, done = stream_ms(trace), processed_ms(trace)
    tests = 1 + len(contract.stages_ms)
    certainty = Certainty(contract.percentile, contract.confidence, 1 - (1 - contract.confidence) / tests)
    latency_of, frames_of = ("Modelled latency", "modelled frames") if trace.modelled else ("Latency", "frames")
    latency = percentile_finding(frames, contract.deadline_ms, certainty, name="latency", what=latency_of)
    findings = [
        latency,
        miss_rate_finding(frames, contract.deadline_ms, certainty, what=frames_of),
        steady_finding(done, contract.deadline_ms, latency.bounds.upper, what=latency_of),
        *_stage_findings(trace, contract, certainty),
    ]
    if contract.weakly_hard is not None:
        findings.append(weakly_hard_finding(frames > contract.deadline_ms, contract.weakly_hard, contract.confidence))
    if contract.memory_mib is not None:
        findings.append(figure_finding("memory", memory_mib, contract.memory_mib, unit="MiB"))
    if contract.energy_mj_per_frame is not None:
        findings.append(figure_finding("energy", energy_mj, contract.energy_mj_per_frame, unit="mJ per frame"))
    known = {name.lower(): value for name, value in (accuracy or {}).items()}
    findings += [
        figure_finding(f"accuracy {name}", known.get(name.lower()), floor, unit="", floor=True)
        for name, floor in contract.accuracy.items()
    ]
    figures = latency_figures(
        trace, deadline_ms=contract.deadline_ms, percent=contract.percentile, confidence=contract.confidence
    )
    return Verdict(tuple(findings), figures, fit_pwcet(done, confidence=contract.confidence), contract, trace)


def _stage_findings(trace: LatencyTrace, contract: DeadlineContract, certainty: Certainty) -> list[Finding]:
    word = "Modelled stage" if trace.modelled else "Stage"
    try:
        return [
            percentile_finding(
                trace.stage(stage)[trace.cold :] / 1e6, budget, certainty, name=f"stage {stage}", what=f"{word} {stage}"
            )
            for stage, budget in contract.stages_ms.items()
        ]
    except UserError as error:
        raise UserError(f"The contract's stages_ms can't be judged: {error}") from None


def _check_scenario(trace: LatencyTrace, contract: DeadlineContract) -> None:
    if trace.scenario != contract.scenario:
        raise UserError(
            f"The contract is for a {contract.scenario}, the trace is of a {trace.scenario}: measure in the contract's "
            f"scenario."
        )
    if contract.rate_hz is None:
        return
    period_ms = 1e3 / contract.rate_hz
    if abs(trace.period_ns / 1e6 - period_ms) > 0.001 * period_ms:
        raise UserError(
            f"The contract's rate_hz is {contract.rate_hz:g}, a frame each {period_ms:.4g} ms; in the trace they "
            f"arrive each {trace.period_ns / 1e6:.4g} ms."
        )
    if trace.overrun != contract.overrun:
        raise UserError(f"The contract's overrun is {contract.overrun}, the trace's is {trace.overrun or 'none'}.")
