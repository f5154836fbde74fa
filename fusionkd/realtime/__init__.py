"""Is it in time? Every frame's latency, stage by stage, and a verdict with its confidence."""

from fusionkd.realtime.contract import DeadlineContract, WeaklyHard, read_contract
from fusionkd.realtime.findings import Finding
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

__all__ = [
    "Bounds",
    "DeadlineContract",
    "Finding",
    "LatencyTrace",
    "Pwcet",
    "PwcetRefused",
    "Verdict",
    "WeaklyHard",
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
