"""Is it in time? Every frame's latency, stage by stage, and a verdict with its confidence.

Names are imported when they are asked for: the monitor on a vehicle needs none of the libraries that reports need.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fusionkd.realtime.contract import DeadlineContract, WeaklyHard, read_contract
    from fusionkd.realtime.findings import Finding
    from fusionkd.realtime.gate import Comparison, compare
    from fusionkd.realtime.monitor import DeadlineMonitor, MonitorSettings
    from fusionkd.realtime.pwcet import Pwcet, PwcetRefused, fit_pwcet
    from fusionkd.realtime.report import report_data, report_schema, write_report
    from fusionkd.realtime.statistics import (
        Bounds,
        frames_needed,
        jitter,
        longest_run,
        miss_rate_bounds,
        most_misses,
        percentile,
        percentile_bounds,
        percentile_interval,
    )
    from fusionkd.realtime.steady import is_steady, steady_state
    from fusionkd.realtime.trace import LatencyTrace, read_trace, write_trace
    from fusionkd.realtime.verdict import Verdict, judge
    from fusionkd.realtime.watchdog import Watchdog

__all__ = [
    "Bounds",
    "Comparison",
    "DeadlineContract",
    "DeadlineMonitor",
    "Finding",
    "LatencyTrace",
    "MonitorSettings",
    "Pwcet",
    "PwcetRefused",
    "Verdict",
    "Watchdog",
    "WeaklyHard",
    "compare",
    "fit_pwcet",
    "frames_needed",
    "is_steady",
    "jitter",
    "judge",
    "longest_run",
    "miss_rate_bounds",
    "most_misses",
    "percentile",
    "percentile_bounds",
    "percentile_interval",
    "read_contract",
    "read_trace",
    "report_data",
    "report_schema",
    "steady_state",
    "write_report",
    "write_trace",
]

_NAMES = {
    "contract": (
        "DeadlineContract",
        "WeaklyHard",
        "read_contract",
    ),
    "findings": ("Finding",),
    "gate": (
        "Comparison",
        "compare",
    ),
    "monitor": (
        "DeadlineMonitor",
        "MonitorSettings",
    ),
    "pwcet": (
        "Pwcet",
        "PwcetRefused",
        "fit_pwcet",
    ),
    "report": (
        "report_data",
        "report_schema",
        "write_report",
    ),
    "statistics": (
        "Bounds",
        "frames_needed",
        "jitter",
        "longest_run",
        "miss_rate_bounds",
        "most_misses",
        "percentile",
        "percentile_bounds",
        "percentile_interval",
    ),
    "steady": (
        "is_steady",
        "steady_state",
    ),
    "trace": (
        "LatencyTrace",
        "read_trace",
        "write_trace",
    ),
    "verdict": (
        "Verdict",
        "judge",
    ),
    "watchdog": ("Watchdog",),
}
_HOME = {name: module for module, names in _NAMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
