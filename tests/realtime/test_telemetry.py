"""Telemetry: lines that real boards wrote, counters that wrap around, devices that don't answer."""

import os
import stat
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fusionkd.realtime.telemetry import NoTelemetry, ProcessMemory, telemetry_of
from fusionkd.realtime.telemetry import choose as choosing
from fusionkd.realtime.telemetry.jetson import JetsonStats
from fusionkd.realtime.telemetry.nvml import Nvml
from fusionkd.realtime.telemetry.rapl import EnergyCounter, Rapl, find_counters
from fusionkd.realtime.telemetry.tegrastats import Tegrastats, parse_line, summarise

# Lines as boards wrote them, found in public bug reports, manuals and logs.
AGX_ORIN_JETPACK_6 = (
    "05-09-2026 18:42:06 RAM 18207/62841MB (lfb 466x4MB) SWAP 86/31420MB (cached 0MB) CPU [14%@2188,5%@2112,8%@2035,"
    "14%@2201,46%@1267,47%@1267,2%@1267,10%@1267,4%@1036,5%@1036,6%@1036,10%@1036] EMC_FREQ 3%@2133 GR3D_FREQ 0%@[0,0] "
    "NVENC 79%@166 NVDEC off NVJPG off NVJPG1 off VIC 36%@115 OFA off NVDLA0 off NVDLA1 off PVA0_FREQ off APE 174 "
    "cpu@52.562C soc2@48.437C soc0@49.093C tj@52.562C soc1@49.656C VDD_GPU_SOC 2412mW/2412mW VDD_CPU_CV 1607mW/1607mW "
    "VIN_SYS_5V0 4707mW/4707mW"
)
AGX_ORIN_BUSY = (
    "11-21-2025 08:49:48 RAM 13983/62780MB (lfb 424x4MB) SWAP 126/31390MB (cached 0MB) CPU [90%@2201,100%@2201,"
    "100%@2201,100%@2201] EMC_FREQ 1%@2133 GR3D_FREQ 14%@[407,407] VIC_FREQ 115 NVDLA0_FREQ @1600 APE 174 CV0@73.625C "
    "CPU@77.281C Tboard@62C SOC2@70C Tdiode@62.25C SOC0@69.531C CV1@72.5C GPU@69.125C tj@77.281C SOC1@68.968C "
    "CV2@67.25C VDD_GPU_SOC 3150mW/2971mW VDD_CPU_CV 14312mW/12415mW VIN_SYS_5V0 4968mW/5048mW "
    "VDDQ_VDD2_1V8AO 1091mW/1091mW"
)
AGX_ORIN_IDLE_RAIL_BELOW_ZERO = (
    "03-17-2024 18:54:10 RAM 10239/62841MB (lfb 442x4MB) SWAP 1/31421MB (cached 0MB) CPU [0%@1728,0%@1728,0%@1728,"
    "0%@1728,0%@1420,0%@1420,0%@1420,0%@1420,off,off,off,off] GR3D_FREQ 0% cpu@37.5C tboard@27C soc2@34.562C "
    "tdiode@27.5C soc0@34.531C tj@37.5C soc1@33.656C VDD_GPU_SOC 1592mW/1592mW VDD_CPU_CV -398mW/-398mW "
    "VIN_SYS_5V0 2624mW/2624mW VDDQ_VDD2_1V8AO 403mW/403mW"
)
ORIN_NANO = (
    "11-15-2024 08:38:09 RAM 6185/7620MB (lfb 8x2MB) SWAP 851/3810MB (cached 1MB) CPU [15%@729,11%@729,14%@729,13%@729,"
    "11%@729,8%@729] EMC_FREQ 43%@2133 GR3D_FREQ 63%@[621] NVDEC off NVJPG off NVJPG1 off VIC off OFA off APE 200 "
    "cpu@53.968C soc2@52.437C soc0@50.75C gpu@53.343C tj@53.968C soc1@51.656C VDD_IN 12479mW/12479mW "
    "VDD_CPU_GPU_CV 4667mW/4667mW VDD_SOC 2817mW/2817mW"
)
ORIN_NX_WITH_PEAKS = (
    "10-01-2026 20:36:35 RAM 2432/15598MB (lfb 4x4MB) SWAP 0/6144MB (cached 0MB) CPU [55%@1036,9%@1036,24%@1036,"
    "64%@1036,off,off,0%@729,0%@729] GR3D_FREQ 0% cv0@56.281C/56.281C cpu@57.156C/57.156C soc2@56.593C/56.593C "
    "tj@59.687C/59.687C VDD_IN 7280mW/7280mW/7280mW"
)
AGX_XAVIER_JETPACK_4 = (
    "RAM 10881/31919MB (lfb 4230x4MB) SWAP 0/15959MB (cached 0MB) CPU [17%@1190,17%@1190,18%@1190,25%@1190,17%@1336,"
    "15%@1340,23%@1543,15%@1574] EMC_FREQ 55%@2133 GR3D_FREQ 95%@1377 APE 150 MTS fg 0% bg 10% AO@48C GPU@54.5C "
    "Tdiode@53.25C PMIC@100C AUX@46C CPU@49C thermal@49.45C Tboard@47C GPU 18401/18525 CPU 2301/2330 SOC 4602/4602 "
    "CV 0/0 VDDRQ 2914/2911 SYS5V 4632/4620"
)
NANO = (
    "RAM 613/3964MB (lfb 634x4MB) SWAP 0/1982MB (cached 0MB) CPU [2%@102,1%@102,0%@102,0%@102] EMC_FREQ 0% "
    "GR3D_FREQ 0% PLL@39C CPU@40.5C PMIC@100C GPU@41C AO@46C thermal@41C "
    "POM_5V_IN 900/943 POM_5V_GPU 0/0 POM_5V_CPU 123/123"
)


@pytest.mark.parametrize(
    ("line", "power_mw", "rails", "hottest_c", "gpu_mhz", "cpu_mhz", "memory_mib"),
    [
        (AGX_ORIN_JETPACK_6, 2412 + 1607 + 4707, 3, 52.562, 0, 2201, 18207),
        (AGX_ORIN_BUSY, 3150 + 14312 + 4968, 4, 77.281, 407, 2201, 13983),
        (AGX_ORIN_IDLE_RAIL_BELOW_ZERO, 1592 - 398 + 2624, 4, 37.5, None, 1728, 10239),
        (ORIN_NANO, 12479, 3, 53.968, 621, 729, 6185),
        (ORIN_NX_WITH_PEAKS, 7280, 1, 59.687, None, 1036, 2432),
        (AGX_XAVIER_JETPACK_4, 18401 + 2301 + 4602 + 0 + 2914 + 4632, 6, 100, 1377, 1574, 10881),
        (NANO, 900, 3, 100, None, 102, 613),
    ],
)
def test_lines_of_real_boards(
    line: str,
    power_mw: float,
    rails: int,
    hottest_c: float,
    gpu_mhz: float | None,
    cpu_mhz: float,
    memory_mib: float,
) -> None:
    sample = parse_line(line)
    assert sample.power_mw == power_mw
    assert len(sample.rails_mw) == rails
    assert max(sample.temperature_c.values()) == hottest_c
    assert (sample.gpu_mhz, sample.cpu_mhz, sample.memory_mib) == (gpu_mhz, cpu_mhz, memory_mib)


def test_lines_without_anything_known_give_nothing() -> None:
    for line in ("", "tegrastats: command failed", "RAM 1/2MB (lfb 1x4MB) CPU [off,off]"):
        sample = parse_line(line)
        assert (sample.power_mw, sample.gpu_mhz, sample.cpu_mhz) == (None, None, None)


def test_a_run_of_lines() -> None:
    reading = summarise([AGX_ORIN_JETPACK_6, AGX_ORIN_BUSY, ""], duration_s=2.0)
    mean_mw = (8726 + 22430) / 2
    assert reading.energy_mj == pytest.approx(mean_mw * 2)
    assert reading.power_w == pytest.approx(mean_mw / 1000)
    assert reading.energy_mj_per_frame(40) == pytest.approx(mean_mw * 2 / 40)
    assert reading.temperature_c == 77.281
    assert reading.clocks_mhz == {"gpu": 407, "cpu": 2201}
    assert reading.source == "tegrastats, 2 samples, VDD_GPU_SOC + VDD_CPU_CV + VIN_SYS_5V0"
    # The sensor of a power chip that always tells 100 degrees is no heat.
    assert summarise([AGX_XAVIER_JETPACK_4], duration_s=1).temperature_c == 54.5
    nothing = summarise([], duration_s=1)
    assert (nothing.energy_mj, nothing.energy_mj_per_frame(3), nothing.temperature_c) == (None, None, None)


def test_the_program_runs_beside_the_frames() -> None:
    script = f"import time\nwhile True:\n    print({ORIN_NANO!r}, flush=True)\n    time.sleep(0.01)"
    tegrastats = Tegrastats((sys.executable, "-c", script))
    tegrastats.start()
    deadline = time.monotonic() + 20
    assert tegrastats._output is not None
    while os.fstat(tegrastats._output.fileno()).st_size < 1000 and time.monotonic() < deadline:
        time.sleep(0.01)
    reading = tegrastats.stop()
    assert reading.power_w == pytest.approx(12.479)
    assert reading.energy_mj == pytest.approx(12479 * reading.duration_s)
    silent = Tegrastats((sys.executable, "-c", ""))
    silent.start()
    assert silent.stop().source.startswith("absent:")


def _zone(folder: Path, name: str, *, energy_uj: int, range_uj: int, label: str = "package-0") -> Path:
    zone = folder / name
    zone.mkdir(parents=True)
    (zone / "energy_uj").write_text(f"{energy_uj}\n")
    (zone / "max_energy_range_uj").write_text(f"{range_uj}\n")
    (zone / "name").write_text(f"{label}\n")
    return zone


def test_energy_counters_wrap_around(tmp_path: Path) -> None:
    zone = _zone(tmp_path, "intel-rapl:0", energy_uj=900, range_uj=1000)
    counter = EnergyCounter(zone)
    total, rng = 0, np.random.default_rng(0)
    for _ in range(50):
        step = int(rng.integers(0, 1000))
        total += step
        (zone / "energy_uj").write_text(str((900 + total) % 1000))
        counter.update()
        assert counter.total_uj == total
    counter.restart()
    assert counter.total_uj == 0


def test_packages_count_and_their_parts_do_not(tmp_path: Path) -> None:
    zones = [_zone(tmp_path, f"intel-rapl:{k}", energy_uj=k, range_uj=10**9, label=f"package-{k}") for k in range(2)]
    _zone(tmp_path, "intel-rapl:0:0", energy_uj=5, range_uj=10**9, label="core")
    _zone(tmp_path, "intel-rapl:2", energy_uj=5, range_uj=10**9, label="psys")
    rapl = Rapl(find_counters(tmp_path).counters)
    rapl.start()
    (zones[0] / "energy_uj").write_text("3000000")
    (zones[1] / "energy_uj").write_text("1000001")
    reading = rapl.stop()
    assert reading.energy_mj == pytest.approx(4000)
    assert reading.source.startswith("RAPL, package-0 + package-1")
    assert reading.power_w == pytest.approx(4 / reading.duration_s)
    assert reading.temperature_c is None


def test_counters_that_cannot_be_read_are_absent_with_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "no RAPL" in find_counters(tmp_path / "none").why_not
    zone = _zone(tmp_path, "intel-rapl:0", energy_uj=1, range_uj=10)
    (zone / "energy_uj").write_text("what")
    assert "intel-rapl:0 can't be read" in find_counters(tmp_path).why_not
    (zone / "energy_uj").chmod(stat.S_IWUSR)

    def refuse(self: Path, *args: Any, **kwargs: Any) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_text", refuse)  # root may read everything
    assert "chmod a+r" in find_counters(tmp_path).why_not


def test_without_a_device_that_tells_the_reading_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choosing, "_JETSON", tmp_path / "none")
    monkeypatch.setenv("PATH", str(tmp_path))
    telemetry = telemetry_of("cpu", powercap=tmp_path)
    assert isinstance(telemetry, NoTelemetry)
    telemetry.start()
    reading = telemetry.stop()
    assert reading.source == "absent: this machine shows no RAPL counters"
    assert (reading.energy_mj, reading.power_w, reading.throttled) == (None, None, None)
    _zone(tmp_path, "intel-rapl:0", energy_uj=1, range_uj=10)
    assert isinstance(telemetry_of("cpu", powercap=tmp_path), Rapl)


def test_the_tegra_program_is_used_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "tegrastats"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "jtop", None)
    assert isinstance(telemetry_of("cuda"), Tegrastats)


class _Nvml:
    """The part of pynvml that is asked, with a device whose answers are set."""

    NVML_TEMPERATURE_GPU = 0
    NVML_CLOCK_SM = 1
    NVML_CLOCK_MEM = 2

    class NVMLError(Exception):
        pass

    def __init__(self, *, counter: bool) -> None:
        self.counter = counter
        self.energy_mj, self.heat, self.sm, self.reasons = 5_000_000, 60, 1500, 0x1

    def nvmlDeviceGetName(self, handle: Any) -> bytes:
        return b"NVIDIA A10"

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: Any) -> int:
        if not self.counter:
            raise self.NVMLError("not supported")
        return self.energy_mj

    def nvmlDeviceGetTemperature(self, handle: Any, sensor: int) -> int:
        return self.heat

    def nvmlDeviceGetClockInfo(self, handle: Any, kind: int) -> int:
        return self.sm if kind == self.NVML_CLOCK_SM else 6251

    def nvmlDeviceGetPowerUsage(self, handle: Any) -> int:
        return 120_000

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, handle: Any) -> int:
        return self.reasons


@pytest.mark.parametrize("counter", [True, False])
def test_nvml_energy_heat_clocks_and_throttling(counter: bool) -> None:
    library = _Nvml(counter=counter)
    nvml = Nvml(library, object(), period_s=60)
    nvml.start()
    library.energy_mj += 3000
    library.heat, library.sm, library.reasons = 85, 1200, 0x20
    reading = nvml.stop()
    assert reading.temperature_c == 85
    assert reading.clocks_mhz == {"gpu": 1200, "memory": 6251}
    assert reading.throttled is True
    assert "NVIDIA A10" in reading.source
    assert reading.energy_mj == pytest.approx(3000 if counter else 120_000 * reading.duration_s)
    library.reasons = 0x1 | 0x2  # idle, and clocks that someone chose
    nvml.start()
    assert nvml.stop().throttled is False


class _Jtop:
    """The part of jtop that is used; its service calls back once."""

    def __init__(self, interval: float) -> None:
        self.closed = False
        self.power: Any = {"rail": {}, "tot": {"power": 9000, "avg": 8000}}
        self.temperature: Any = {"cpu": {"temp": 51.0, "online": True}, "cv0": {"temp": -256, "online": False}}
        self.gpu: Any = {"gpu": {"freq": {"cur": 918000}}}

    def attach(self, callback: Any) -> None:
        self.callback = callback

    def start(self) -> None:
        self.callback(self)

    def close(self) -> None:
        self.closed = True


def test_jetson_stats() -> None:
    stats = JetsonStats(_Jtop)
    stats.start()
    reading = stats.stop()
    assert reading.power_w == 9
    assert reading.energy_mj == pytest.approx(9000 * reading.duration_s)
    assert (reading.temperature_c, reading.clocks_mhz) == (51, {"gpu": 918})
    assert stats._service.closed


def test_the_peak_of_memory_is_that_of_the_run() -> None:
    memory = ProcessMemory()
    memory.start()
    before = memory.stop()
    block = np.ones(64 * 2**20, np.uint8)
    during = memory.stop()
    assert during.host_mib - before.host_mib > 50
    assert during.total_mib == during.host_mib
    assert during.device_mib is None
    del block
    memory.start()
    after = memory.stop()
    assert not after.of_run or after.host_mib < during.host_mib - 30
