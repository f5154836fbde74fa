"""What a raw frame refuses."""

from typing import Any

import numpy as np
import pytest

from fusionkd.deploy import RawFrame


def raw(**changes: Any) -> RawFrame:
    values: dict[str, Any] = {
        "token": "t",
        "sweeps": (b"\0" * 40,),
        "key_from_sweep": np.eye(4)[None],
        "age_s": np.zeros(1),
        "images": (None,),
        "intrinsics": np.eye(3)[None],
        "ego_from_camera": np.eye(4)[None],
        "stored_px": (9, 16),
    }
    return RawFrame(**{**values, **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"age_s": np.zeros(2)}, "age_s of t must be of shape"),
        ({"key_from_sweep": np.eye(4)}, "key_from_sweep"),
        ({"intrinsics": np.eye(3)}, "intrinsics"),
        ({"ego_from_camera": np.eye(4)}, "ego_from_camera"),
        ({"sweeps": (b"\0" * 41,)}, "41 bytes"),
    ],
)
def test_refuses(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        raw(**changes)


def test_a_lost_lidar_is_a_frame() -> None:
    assert raw(sweeps=(), key_from_sweep=np.zeros((0, 4, 4)), age_s=np.zeros(0)).sweeps == ()
