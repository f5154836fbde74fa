"""Judging a trace by what it says of itself, without the model or the machine that it came from."""

from collections.abc import Mapping

from fusionkd.realtime.contract import DeadlineContract
from fusionkd.realtime.trace import LatencyTrace
from fusionkd.realtime.verdict import Verdict, judge


def judge_recorded(trace: LatencyTrace, contract: DeadlineContract, accuracy: Mapping[str, float]) -> Verdict:
    """The verdict of a trace with what it says about itself: memory, energy, accuracy.

    Args:
        trace: Of ``fusionkd.realtime.measurement.measure``.
        contract: Any.
        accuracy: Figures that replace those of the trace.

    Raises:
        UserError: If the trace is of another scenario or lacks a stage of the contract.
    """
    about = trace.about
    memory = about.get("memory")
    peak = None if memory is None else memory["host_mib"] + (memory["device_mib"] or 0.0)
    recorded = about.get("accuracy") or {}
    return judge(
        trace,
        contract,
        memory_mib=peak,
        energy_mj=about.get("energy_mj_per_frame"),
        accuracy={**recorded, **accuracy},
    )
