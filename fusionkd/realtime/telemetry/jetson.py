"""NVIDIA Jetson by jetson-stats (``jtop``), whose service tells more than ``tegrastats``."""

import time
from collections.abc import Callable
from typing import Any

from fusionkd.realtime.telemetry.reading import Reading


class JetsonStats:
    """Power of the whole module, temperatures and clocks by the ``jtop`` service.

    Args:
        jtop: The class ``jtop.jtop``.
        interval_s: Seconds between updates.
    """

    def __init__(self, jtop: Callable[..., Any], *, interval_s: float = 0.5) -> None:
        self._jtop = jtop
        self._interval_s = interval_s
        self._service: Any = None
        self._powers_mw: list[float] = []
        self._heat_c: list[float] = []
        self._gpu_mhz: list[float] = []
        self._start_s = 0.0

    def start(self) -> None:
        """Listen from here."""
        self._powers_mw, self._heat_c, self._gpu_mhz = [], [], []
        self._service = self._jtop(self._interval_s)
        self._service.attach(self._update)
        self._start_s = time.monotonic()
        self._service.start()

    def stop(self) -> Reading:
        """What was heard."""
        duration_s = time.monotonic() - self._start_s
        self._service.close()
        mean_mw = sum(self._powers_mw) / len(self._powers_mw) if self._powers_mw else None
        return Reading(
            source=f"jetson-stats, whole module, {len(self._powers_mw)} samples",
            duration_s=duration_s,
            energy_mj=None if mean_mw is None else mean_mw * duration_s,
            power_w=None if mean_mw is None else mean_mw * 1e-3,
            temperature_c=max(self._heat_c, default=None),
            clocks_mhz={"gpu": min(self._gpu_mhz)} if self._gpu_mhz else {},
        )

    def _update(self, jetson: Any) -> None:
        power = jetson.power.get("tot", {}).get("power")
        if power is not None:
            self._powers_mw.append(float(power))
        sensors = jetson.temperature.values()
        self._heat_c += [float(sensor["temp"]) for sensor in sensors if sensor.get("online", True)]
        clocks_khz = [gpu.get("freq", {}).get("cur") for gpu in jetson.gpu.values()]
        self._gpu_mhz += [khz * 1e-3 for khz in clocks_khz if khz]
