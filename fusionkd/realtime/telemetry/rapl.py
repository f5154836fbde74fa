"""Energy of x86 processors by their own counters (Running Average Power Limit), as Linux shows them."""

import time
from dataclasses import dataclass
from pathlib import Path

from fusionkd.realtime.telemetry.reading import Reading, Sampler

POWERCAP = Path("/sys/class/powercap")
_SAMPLE_S = 10.0
"""A counter of 262 kJ wraps around after 262 s at 1 kW."""


class EnergyCounter:
    """A counter of microjoules that starts again at zero when it is full.

    Args:
        folder: Of one zone, with ``energy_uj`` and ``max_energy_range_uj``.

    Raises:
        OSError: If the files can't be read.
        ValueError: If they hold no numbers.
    """

    def __init__(self, folder: Path) -> None:
        self._file = folder / "energy_uj"
        self._range_uj = int((folder / "max_energy_range_uj").read_text())
        self.name = (folder / "name").read_text().strip()
        self._last_uj = self._read()
        self.total_uj = 0

    def restart(self) -> None:
        """Count from here."""
        self._last_uj, self.total_uj = self._read(), 0

    def update(self) -> None:
        """Add what was used since the last time; at most one wrap-around may lie in between."""
        now_uj = self._read()
        step_uj = now_uj - self._last_uj
        self.total_uj += step_uj if step_uj >= 0 else step_uj + self._range_uj
        self._last_uj = now_uj

    def _read(self) -> int:
        return int(self._file.read_text())


@dataclass(frozen=True)
class Found:
    """Zones that can be read, and why others can't."""

    counters: tuple[EnergyCounter, ...]
    why_not: str


def find_counters(powercap: Path = POWERCAP) -> Found:
    """Counters of whole processor packages; their parts (cores, memory controller) lie inside of these."""
    # intel-rapl:0 is a package, intel-rapl:0:1 a part of it. AMD's processors use the same names.
    zones = [path for path in sorted(powercap.glob("intel-rapl:*")) if path.name.count(":") == 1]
    if not zones:
        return Found((), "this machine shows no RAPL counters")
    counters = []
    for zone in zones:
        try:
            counters.append(EnergyCounter(zone))
        except PermissionError:
            return Found((), f"the energy counters can't be read by this user: chmod a+r {zone / 'energy_uj'} as root")
        except (OSError, ValueError) as error:
            return Found((), f"{zone.name} can't be read ({error})")
    return Found(tuple(counter for counter in counters if counter.name.startswith("package")), "no zone is a package")


class Rapl:
    """Energy of processor packages.

    Args:
        counters: One per package.
        sample_s: Seconds between looks, so short that no counter wraps around twice in between.
    """

    def __init__(self, counters: tuple[EnergyCounter, ...], *, sample_s: float = _SAMPLE_S) -> None:
        self._counters = counters
        self._sampler = Sampler(self._update, period_s=sample_s)
        self._start_s = 0.0

    def start(self) -> None:
        """Count from here."""
        for counter in self._counters:
            counter.restart()
        self._start_s = time.monotonic()
        self._sampler.start()

    def stop(self) -> Reading:
        """Energy since the start."""
        self._sampler.stop()
        duration_s = time.monotonic() - self._start_s
        energy_uj = sum(counter.total_uj for counter in self._counters)
        return Reading(
            source=f"RAPL, {' + '.join(counter.name for counter in self._counters)} with all that runs on it",
            duration_s=duration_s,
            energy_mj=energy_uj * 1e-3,
            power_w=energy_uj * 1e-6 / duration_s if duration_s else None,
        )

    def _update(self) -> None:
        for counter in self._counters:
            counter.update()
