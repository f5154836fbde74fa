from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from fusionkd.data.array_file import read_arrays, write_arrays

ARRAYS = st.dictionaries(
    st.text(max_size=5),
    hnp.arrays(
        st.sampled_from(["<f8", "<f4", "<i8", "|b1", "|S3", "|i1"]),
        hnp.array_shapes(min_dims=0, min_side=0, max_side=9),
    ),
    max_size=6,
)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("arrays") / "some.arrays"


@given(arrays=ARRAYS, note=st.text())
def test_what_was_written_is_read(path: Path, arrays: dict[str, NDArray[Any]], note: str) -> None:
    write_arrays(path, arrays, note=note)
    found = read_arrays(path, note=note)
    assert found is not None
    assert list(found) == list(arrays)
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype
        assert found[name].shape == array.shape
        assert found[name].tobytes() == array.tobytes()
        assert not found[name].flags.writeable
        assert found[name].flags.aligned
    assert read_arrays(path, note=note + "x") is None


@given(data=st.data())
def test_a_file_of_another_length_is_not_read(path: Path, data: st.DataObject) -> None:
    write_arrays(path, {"a": np.arange(20), "b": np.zeros((0, 3))}, note="n")
    whole = path.read_bytes()
    path.unlink()
    path.write_bytes(data.draw(st.sampled_from([whole[: data.draw(st.integers(0, len(whole) - 1))], whole + b"x"])))
    assert read_arrays(path, note="n") is None


def test_a_header_that_points_outside_is_not_believed(path: Path) -> None:
    write_arrays(path, {"a": np.arange(20)}, note="n")
    whole = path.read_bytes()
    for old, new in ((b"[20]", b"[99]"), (b'"<i8"', b'"|O8"'), (b'"<i8"', b'"<x8"'), (b"arrays 1", b"arrays 2")):
        assert old in whole
        path.unlink()
        path.write_bytes(whole.replace(old, new))
        assert read_arrays(path, note="n") is None


def test_an_absent_file_is_none(tmp_path: Path) -> None:
    assert read_arrays(tmp_path / "none", note="n") is None
