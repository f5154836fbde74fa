"""NVIDIA Jetson by ``tegrastats``, the program that every JetPack has."""

import re
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import IO

from fusionkd.realtime.telemetry.reading import Reading

INPUT_RAILS = ("VDD_IN", "POM_5V_IN")
"""Rails that feed the whole module; where there is none, the module's rails are added up."""

PARTS_OF_OTHERS = ("VDDQ_VDD2_1V8AO", "NC")
"""Rails behind another one that is measured too, which must not count twice, and unconnected ones."""

FIXED_SENSORS = ("pmic",)
"""Sensors that always tell the same number."""

_RAM = re.compile(r"\bRAM (\d+)/(\d+)MB")
_CORES = re.compile(r"\bCPU \[([^\]]*)\]")
_CORE_MHZ = re.compile(r"\d+%@(\d+)")
_GPU = re.compile(r"\bGR3D_FREQ \d+%@\[?(\d+)")
_TEMPERATURE = re.compile(r"\b([A-Za-z]\w*)@(-?\d+(?:\.\d+)?)C")
_RAIL = re.compile(r"\b([A-Z][A-Z0-9_]*) (-?\d+)(?:mW)?/-?\d+(?:mW)?(?=[/\s]|$)")
_OFF_C = -200.0
"""A sensor of a part without power tells -256."""


@dataclass(frozen=True)
class TegraSample:
    """One line of ``tegrastats``.

    Attributes:
        power_mw: Of the whole module, or None where the line has no rail.
        rails_mw: By name, as of this moment.
        temperature_c: By sensor; those of parts without power are left out.
        gpu_mhz: Clock of the GPU, None where the line doesn't tell.
        cpu_mhz: Highest clock of the cores that are on.
        memory_mib: Memory in use, all processes and the GPU together.
    """

    power_mw: float | None
    rails_mw: Mapping[str, float]
    temperature_c: Mapping[str, float]
    gpu_mhz: float | None
    cpu_mhz: float | None
    memory_mib: float | None


def parse_line(line: str) -> TegraSample:
    """Read a line of any JetPack from 4 to 6: rails with and without ``mW``, with mean or with mean and peak.

    The power of an AGX Orin is VDD_GPU_SOC + VDD_CPU_CV + VIN_SYS_5V0, of an AGX Xavier GPU + CPU + SOC + CV + VDDRQ +
    SYS5V; Orin NX and Nano, Xavier NX and Nano have one rail for the whole.
    """
    rails = {name: float(power) for name, power in _RAIL.findall(line) if name not in ("RAM", "SWAP", "IRAM")}
    whole = [rails[name] for name in INPUT_RAILS if name in rails]
    parts = [power for name, power in rails.items() if name not in PARTS_OF_OTHERS]
    clocks = [float(mhz) for cores in _CORES.findall(line) for mhz in _CORE_MHZ.findall(cores)]
    gpu, memory = _GPU.search(line), _RAM.search(line)
    return TegraSample(
        power_mw=whole[0] if whole else sum(parts) if parts else None,
        rails_mw=rails,
        temperature_c={name: float(c) for name, c in _TEMPERATURE.findall(line) if float(c) > _OFF_C},
        gpu_mhz=float(gpu[1]) if gpu else None,
        cpu_mhz=max(clocks, default=None),
        memory_mib=float(memory[1]) if memory else None,
    )


def summarise(lines: Sequence[str], *, duration_s: float) -> Reading:
    """The reading of a run from the lines that were written in it, one after each interval."""
    samples = [parse_line(line) for line in lines if line.strip()]
    powers = [sample.power_mw for sample in samples if sample.power_mw is not None]
    heat = [
        c
        for sample in samples
        for name, c in sample.temperature_c.items()
        if not name.lower().startswith(FIXED_SENSORS)
    ]
    clocks = {"gpu": [s.gpu_mhz for s in samples if s.gpu_mhz], "cpu": [s.cpu_mhz for s in samples if s.cpu_mhz]}
    mean_mw = sum(powers) / len(powers) if powers else None
    rails = samples[-1].rails_mw if samples else {}
    covered = [name for name in INPUT_RAILS if name in rails] or [n for n in rails if n not in PARTS_OF_OTHERS]
    return Reading(
        source=f"tegrastats, {len(samples)} samples, {' + '.join(covered) or 'no power rail'}",
        duration_s=duration_s,
        energy_mj=None if mean_mw is None else mean_mw * duration_s,
        power_w=None if mean_mw is None else mean_mw * 1e-3,
        temperature_c=max(heat, default=None),
        clocks_mhz={name: min(values) for name, values in clocks.items() if values},
    )


class Tegrastats:
    """Runs ``tegrastats`` beside the frames; it writes to a file, so that nobody has to read while frames run.

    Args:
        command: The program and its options.
        interval_ms: Time between lines.
    """

    def __init__(self, command: Sequence[str] = ("tegrastats",), *, interval_ms: int = 100) -> None:
        self._command = [*command, "--interval", str(interval_ms)]
        self._process: subprocess.Popen[bytes] | None = None
        self._output: IO[bytes] | None = None
        self._start_s = 0.0

    def start(self) -> None:
        """Start the program."""
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 - closed by stop()
        self._start_s = time.monotonic()
        self._process = subprocess.Popen(self._command, stdout=self._output, stderr=subprocess.DEVNULL)

    def stop(self) -> Reading:
        """Stop the program and read what it wrote."""
        duration_s = time.monotonic() - self._start_s
        assert self._process is not None
        assert self._output is not None
        self._process.terminate()
        self._process.wait()
        with self._output as output:
            output.seek(0)
            lines = output.read().decode(errors="replace").splitlines()
        if not lines:
            return Reading(f"absent: {self._command[0]} wrote nothing in {duration_s:.1f} s", duration_s)
        return summarise(lines, duration_s=duration_s)
