"""Peak memory of this process, in the host's memory and in the device's."""

import resource
import sys
from dataclasses import dataclass
from pathlib import Path

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")


@dataclass(frozen=True)
class MemoryPeak:
    """Peaks of a run.

    Attributes:
        host_mib: Resident memory of the process, libraries and loaded weights included.
        device_mib: Memory allocated on a CUDA device, or None without one.
        of_run: Whether the host's peak is that of the run alone; else that of the process since its start.
    """

    host_mib: float
    device_mib: float | None
    of_run: bool

    @property
    def total_mib(self) -> float:
        """Both together, which is what counts where host and device share one memory."""
        return self.host_mib + (self.device_mib or 0.0)


class ProcessMemory:
    """Watches this process's peak.

    Args:
        device: Such as ``cpu`` or ``cuda:0``.
    """

    def __init__(self, device: str = "cpu") -> None:
        self._device = device
        self._reset = False

    def start(self) -> None:
        """Forget earlier peaks, where the system can."""
        try:
            _CLEAR.write_text("5")  # Linux: the peak of resident memory starts again
            self._reset = True
        except OSError:
            self._reset = False
        if self._device.startswith("cuda"):
            import torch

            torch.cuda.reset_peak_memory_stats(self._device)

    def stop(self) -> MemoryPeak:
        """The peaks."""
        device_mib = None
        if self._device.startswith("cuda"):
            import torch

            device_mib = torch.cuda.max_memory_allocated(self._device) / 2**20
        return MemoryPeak(_peak_mib(), device_mib, self._reset)


def _peak_mib() -> float:
    if _STATUS.exists():
        for line in _STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 1024
