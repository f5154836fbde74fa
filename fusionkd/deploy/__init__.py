"""From sensor bytes to boxes without torch: what runs in the vehicle, and what the profiler times."""

from fusionkd.deploy.clock import NO_CLOCK, Clock, NoClock
from fusionkd.deploy.raw import RawFrame

__all__ = ["NO_CLOCK", "Clock", "NoClock", "RawFrame"]
