"""Who can be listened to on this machine."""

import shutil
from pathlib import Path

from fusionkd.realtime.telemetry.jetson import JetsonStats
from fusionkd.realtime.telemetry.nvml import Nvml
from fusionkd.realtime.telemetry.rapl import POWERCAP, Rapl, find_counters
from fusionkd.realtime.telemetry.reading import NoTelemetry, Telemetry
from fusionkd.realtime.telemetry.tegrastats import Tegrastats

_JETSON = Path("/etc/nv_tegra_release")


def telemetry_of(device: str, *, powercap: Path = POWERCAP) -> Telemetry:
    """The best telemetry for a device; where there is none, one that says so.

    Args:
        device: Where the network runs: ``cpu``, ``cuda``, ``cuda:0``, ...
        powercap: Folder of the processor's energy counters.
    """
    if _JETSON.exists() or shutil.which("tegrastats"):
        return _jetson()
    if device.startswith("cuda"):
        return _nvml(int(device.partition(":")[2] or 0))
    found = find_counters(powercap)
    return Rapl(found.counters) if found.counters else NoTelemetry(found.why_not)


def _jetson() -> Telemetry:
    try:
        from jtop import jtop
    except ImportError:
        if shutil.which("tegrastats"):
            return Tegrastats()
        return NoTelemetry("neither jetson-stats nor tegrastats is there; pip install fusionkd[jetson]")
    return JetsonStats(jtop)


def _nvml(index: int) -> Telemetry:
    try:
        import pynvml
    except ImportError:
        return NoTelemetry("nvidia-ml-py is not installed; pip install fusionkd[energy]")
    import torch

    try:
        pynvml.nvmlInit()
        # By name, since CUDA_VISIBLE_DEVICES renumbers devices for CUDA but not for NVML.
        handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(index).uuid}")
    except (pynvml.NVMLError, RuntimeError, AssertionError) as error:
        return NoTelemetry(f"NVML doesn't answer ({error})")
    return Nvml(pynvml, handle)
