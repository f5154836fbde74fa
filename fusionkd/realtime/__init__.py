"""Is it in time? Every frame's latency, stage by stage, and a verdict with its confidence."""

from fusionkd.realtime.trace import LatencyTrace, read_trace, write_trace

__all__ = ["LatencyTrace", "read_trace", "write_trace"]
