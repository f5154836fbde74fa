"""Which sensors a frame may use: the state machine alone."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusionkd.deploy import RawFrame
from fusionkd.errors import UserError
from fusionkd.realtime.degradation import Hysteresis, Load, Status, all_sensors, load_step, sensor_step

H = Hysteresis(lost_after=3, shed_after=2, back_after=4, back_most=16)


def statuses(pattern: str) -> str:
    """First letters of the status after each frame; ``x`` is a frame without fresh data."""
    status: Status = "ok"
    run, seen = 0, ""
    for letter in pattern:
        status, run = sensor_step(status, run, fresh=letter == ".", hysteresis=H)
        seen += {"ok": "o", "late": "l", "lost": "X"}[status]
    return seen


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("......", "oooooo"),
        ("..x...", "oolooo"),  # one late image is left out, no more
        (".xx.xx.", "ollollo"),
        (".xxx....", "ollXXXXo"),  # lost, and back only after four good ones
        ("xxx..x....", "llXXXXXXXo"),
    ],
)
def test_sensor(data: str, expected: str) -> None:
    assert statuses(data) == expected


@given(st.text(alphabet=".x", max_size=60))
def test_a_sensor_without_fresh_data_is_never_used_and_a_good_one_comes_back(data: str) -> None:
    seen = statuses(data)
    assert not any(letter == "x" and status == "o" for letter, status in zip(data, seen))
    assert statuses(data + "." * H.back_after)[-1] == "o"


def loads(pattern: str) -> str:
    load, seen = Load(False, 0, H.back_after), ""
    for letter in pattern:
        load = load_step(load, in_time=letter == ".", hysteresis=H)
        seen += "S" if load.shed else "-"
    return seen


def test_cameras_are_shed_after_two_overruns_in_a_row_and_come_back_after_good_frames() -> None:
    assert loads(".x.x.xx....") == "------SSSS-"


def test_cameras_that_are_too_much_come_back_ever_more_rarely() -> None:
    """Always in time without cameras, never with them: shares of frames with cameras shrink, up to a limit."""
    load, stays, stay = Load(False, 0, H.back_after), [], 0
    for _ in range(200):
        was = load.shed
        load = load_step(load, in_time=load.shed, hysteresis=H)
        stay += load.shed
        if was and not load.shed:
            stays.append(stay)
            stay = 0
    assert stays[:4] == [4, 8, 16, 16]


def test_cameras_that_have_proved_themselves_are_trusted_as_at_first() -> None:
    assert loads("xx....xx" + "." * 8 + "." * 9 + "xx....")[-5:] == "SSSS-"


def test_every_choice_of_sensors_has_its_mode() -> None:
    choices = all_sensors(2)
    assert [c.mode for c in choices] == [
        *("blind", "cameras_only", "cameras_only", "cameras_only"),
        *("lidar_only", "cameras_reduced", "cameras_reduced", "full"),
    ]
    assert choices[0b101].cameras == (True, False)


def raw_frame() -> RawFrame:
    eye = np.tile(np.eye(4), (2, 1, 1))
    return RawFrame("a", (bytes(20), bytes(40)), eye, np.zeros(2), (b"x", b"y"), eye[:, :3, :3], eye, (9, 16))


def test_what_may_not_be_used_looks_lost_to_the_pipeline() -> None:
    choices, raw = all_sensors(2), raw_frame()
    assert choices[0b111].of(raw) is raw
    assert choices[0b110].of(raw).images == (None, b"y")
    assert choices[0b110].of(raw).sweeps == raw.sweeps
    blind = choices[0].of(raw)
    assert (blind.sweeps, blind.images, blind.key_from_sweep.shape) == ((), (None, None), (0, 4, 4))


@pytest.mark.parametrize("changes", [{"lost_after": 0}, {"shed_after": 0}, {"back_after": 0}, {"back_most": 3}])
def test_hysteresis_refuses(changes: dict[str, int]) -> None:
    with pytest.raises(UserError, match=next(iter(changes))):
        Hysteresis(**changes)
