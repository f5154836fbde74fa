"""Energy, temperature, clocks and memory of a run, behind one interface."""

from fusionkd.realtime.telemetry.choose import telemetry_of
from fusionkd.realtime.telemetry.memory import MemoryPeak, ProcessMemory
from fusionkd.realtime.telemetry.reading import NoTelemetry, Reading, Telemetry

__all__ = ["MemoryPeak", "NoTelemetry", "ProcessMemory", "Reading", "Telemetry", "telemetry_of"]
