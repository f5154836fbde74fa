"""The machine that a figure belongs to, in plain values: no names of hosts or users, no paths."""

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

_CPU = Path("/sys/devices/system/cpu/cpu0/cpufreq")
_THERMAL = Path("/sys/class/thermal")
_PACKAGES = (
    "fusionkd", "numpy", "numba", "opencv-python-headless", "torch", "torchvision", "onnxruntime", "onnxruntime-gpu",
    "tensorrt",
)  # fmt: skip


def machine(device: str = "cpu") -> dict[str, Any]:
    """Processor, accelerator, clocks, power mode, temperature, load, versions; what isn't known is left out.

    Args:
        device: Where the network runs: ``cpu``, ``cuda``, ``cuda:0``, or a provider of ONNX Runtime.
    """
    known: dict[str, Any] = {
        "cpu": cpu_name(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": _threads(),
        "governor": _text(_CPU / "scaling_governor"),
        "cpu_mhz": _khz(_CPU / "scaling_cur_freq"),
        "cpu_max_mhz": _khz(_CPU / "cpuinfo_max_freq"),
        "power_mode": _power_mode(),
        "temperature_c": _temperature_c(_THERMAL),
        "memory_gib": _memory_gib(),
        "gpu": _gpu(device),
        "system": f"{platform.system()} {platform.machine()}",
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "versions": versions(),
    }
    return {name: value for name, value in known.items() if value not in (None, "", {})}


def versions(packages: Iterable[str] = _PACKAGES) -> dict[str, str]:
    """Versions of Python and of the packages that are installed."""
    found = {"python": platform.python_version()}
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def cpu_name() -> str:
    """The processor's name."""
    info = Path("/proc/cpuinfo")
    text = info.read_text() if info.exists() else ""
    # An ARM kernel has no "model name"; a Jetson's module says what it is in the device tree.
    named = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    if named:
        return named[1].strip()
    return _text(Path("/proc/device-tree/model")) or platform.processor() or platform.machine()


def _threads() -> int:
    import torch

    return torch.get_num_threads()


def _power_mode() -> str | None:
    if not shutil.which("nvpmodel"):
        return None
    answer = subprocess.run(["nvpmodel", "-q"], capture_output=True, text=True, check=False).stdout
    named = re.search(r"NV Power Mode:\s*(\S+)", answer)
    return named[1] if named else None


def _temperature_c(folder: Path) -> float | None:
    values = [_text(path) for path in folder.glob("thermal_zone*/temp")]
    degrees = [int(value) * 1e-3 for value in values if value and value.lstrip("-").isdigit()]
    return max((c for c in degrees if c > 0), default=None)


def _memory_gib() -> int | None:
    if "SC_PHYS_PAGES" not in os.sysconf_names:
        return None
    return round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30)


def _gpu(device: str) -> str | None:
    if device == "cpu":
        return None
    import torch

    # ONNX Runtime's providers have names of their own, and the first GPU.
    index = int(device.partition(":")[2] or 0)
    return f"{torch.cuda.get_device_name(index)}, CUDA {torch.version.cuda}" if torch.cuda.is_available() else None


def _khz(path: Path) -> int | None:
    value = _text(path)
    return round(int(value) / 1000) if value and value.isdigit() else None


def _text(path: Path) -> str | None:
    try:
        return path.read_text().strip("\x00\n ")
    except OSError:
        return None
