"""The machine in plain values."""

import getpass
import json
import platform
from pathlib import Path

import pytest

from fusionkd.realtime import machine as room
from fusionkd.realtime.machine import machine, versions


def test_plain_values_that_name_no_one() -> None:
    text = json.dumps(machine())
    assert {"cpu", "cores", "system", "versions", "threads"} <= set(json.loads(text))
    assert platform.node() not in text
    assert str(Path.home()) not in text
    assert getpass.getuser() not in text or getpass.getuser() in ("root", "user")


def test_versions_are_those_of_installed_packages() -> None:
    found = versions(["numpy", "no-such-package"])
    assert set(found) == {"python", "numpy"}
    assert found["python"] == platform.python_version()


def test_clocks_governor_power_mode_and_heat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frequency, thermal = tmp_path / "cpufreq", tmp_path / "thermal"
    frequency.mkdir()
    (frequency / "scaling_governor").write_text("performance\n")
    (frequency / "scaling_cur_freq").write_text("2201600\n")
    for number, text in enumerate(("52562\n", "-256000\n", "broken\n")):
        (thermal / f"thermal_zone{number}").mkdir(parents=True)
        (thermal / f"thermal_zone{number}" / "temp").write_text(text)
    program = tmp_path / "nvpmodel"
    program.write_text("#!/bin/sh\necho 'NV Power Mode: MAXN'\necho 0\n")
    program.chmod(0o755)
    monkeypatch.setattr(room, "_CPU", frequency)
    monkeypatch.setattr(room, "_THERMAL", thermal)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    found = machine()
    assert (found["governor"], found["cpu_mhz"], found["power_mode"]) == ("performance", 2202, "MAXN")
    assert found["temperature_c"] == pytest.approx(52.562)
    assert "cpu_max_mhz" not in found
