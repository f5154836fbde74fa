"""NVIDIA's desktop and server GPUs by their management library (nvidia-ml-py)."""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

from fusionkd.realtime.telemetry.reading import Reading, Sampler

HELD_BACK = {"SwPowerCap": 0x4, "HwSlowdown": 0x8, "SwThermalSlowdown": 0x20, "HwThermal": 0x40, "HwPowerBrake": 0x80}
"""Bits of NVML's reasons for lower clocks that mean heat or power; idle and chosen clocks are no throttling."""


class Nvml:
    """Energy counter, temperature, clocks and the reasons that hold them back.

    Args:
        nvml: The module ``pynvml``, initialised.
        handle: The device.
        period_s: Seconds between looks.
    """

    def __init__(self, nvml: Any, handle: Any, *, period_s: float = 0.5) -> None:
        self._nvml = nvml
        self._handle = handle
        self._sampler = Sampler(self._sample, period_s=period_s)
        self._temperature_c: float | None = None
        self._clocks_mhz: dict[str, float] = {}
        self._powers_w: list[float] = []
        self._throttled: bool | None = None
        self._start_s = 0.0
        self._start_mj: float | None = None

    def start(self) -> None:
        """Listen from here."""
        self._temperature_c, self._clocks_mhz, self._powers_w, self._throttled = None, {}, [], None
        self._start_s = time.monotonic()
        self._start_mj = self._ask(lambda: self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle))
        self._sampler.start()

    def stop(self) -> Reading:
        """What was heard."""
        self._sampler.stop()
        duration_s = time.monotonic() - self._start_s
        now_mj = self._ask(lambda: self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle))
        mean_w = sum(self._powers_w) / len(self._powers_w) if self._powers_w else None
        if now_mj is not None and self._start_mj is not None:
            used_mj: float | None = now_mj - self._start_mj
            how = "its energy counter"
            mean_w = (now_mj - self._start_mj) * 1e-3 / duration_s if duration_s else mean_w
        else:
            used_mj = None if mean_w is None else mean_w * duration_s * 1e3
            how = "samples of its power"
        return Reading(
            source=f"NVML, whole board of {self._name()}, {how}",
            duration_s=duration_s,
            energy_mj=used_mj,
            power_w=mean_w,
            temperature_c=self._temperature_c,
            clocks_mhz=dict(self._clocks_mhz),
            throttled=self._throttled,
        )

    def _sample(self) -> None:
        n, handle = self._nvml, self._handle
        heat = self._ask(lambda: n.nvmlDeviceGetTemperature(handle, n.NVML_TEMPERATURE_GPU))
        if heat is not None:
            self._temperature_c = heat if self._temperature_c is None else max(heat, self._temperature_c)
        for name, kind in (("gpu", n.NVML_CLOCK_SM), ("memory", n.NVML_CLOCK_MEM)):
            mhz = self._ask(partial(n.nvmlDeviceGetClockInfo, handle, kind))
            if mhz is not None:
                self._clocks_mhz[name] = min(mhz, self._clocks_mhz.get(name, mhz))
        power_mw = self._ask(lambda: n.nvmlDeviceGetPowerUsage(handle))
        if power_mw is not None:
            self._powers_w.append(power_mw * 1e-3)
        reasons = self._ask(lambda: n.nvmlDeviceGetCurrentClocksThrottleReasons(handle))
        if reasons is not None:
            self._throttled = bool(self._throttled) or any(int(reasons) & bit for bit in HELD_BACK.values())

    def _ask(self, question: Callable[[], Any]) -> float | None:
        """An answer, or None from a device that doesn't know this question."""
        try:
            return float(question())
        except self._nvml.NVMLError:
            return None

    def _name(self) -> str:
        name = self._nvml.nvmlDeviceGetName(self._handle)
        return name.decode() if isinstance(name, bytes) else str(name)
