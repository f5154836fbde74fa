import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusionkd.metrics import results_json
from fusionkd.metrics.results_json import read_results

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
CONTENTS = st.fixed_dictionaries(
    {}, optional={"meta": VALUES, "results": VALUES | st.dictionaries(st.text(), VALUES, max_size=5), "other": VALUES}
)


def _read(path: Path, text: str) -> tuple[Any, dict[str, Any]]:
    path.write_text(text, encoding="utf-8")
    taken: dict[str, Any] = {}
    return read_results(path, taken.__setitem__), taken


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("results") / "results.json"


@pytest.fixture(scope="module", params=[1, 7, 2**22])
def chunk(request: pytest.FixtureRequest) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(results_json, "CHUNK", request.param)
        yield request.param


@settings(max_examples=60)
@given(content=CONTENTS, indent=st.sampled_from([None, 0, 2]), ascii_only=st.booleans())
def test_it_reads_what_json_reads(
    path: Path, chunk: int, content: dict[str, Any], indent: int | None, ascii_only: bool
) -> None:
    text = json.dumps(content, indent=indent, ensure_ascii=ascii_only)
    try:
        text.encode()
    except UnicodeEncodeError:
        return  # half of a surrogate pair, which no UTF-8 file holds
    top, taken = _read(path, text)
    expected = json.loads(text)
    if isinstance(expected.get("results"), dict):
        assert taken == expected.pop("results")
        assert top.pop("results") is None
    assert top == expected


@settings(max_examples=60)
@given(content=CONTENTS, data=st.data())
def test_a_text_that_was_cut_or_changed_is_refused_as_json_refuses_it(
    path: Path, chunk: int, content: dict[str, Any], data: st.DataObject
) -> None:
    text = json.dumps(content)
    cut = text[: data.draw(st.integers(0, len(text) - 1))]
    with pytest.raises(ValueError, match="at character"):
        _read(path, cut)
    place = data.draw(st.integers(0, len(text)))
    changed = text[:place] + data.draw(st.sampled_from(['"', ",", "}", "{", "x", "]", "0", " "])) + text[place:]
    try:
        json.loads(changed)
    except ValueError:
        with pytest.raises(ValueError, match="at character"):
            _read(path, changed)
    else:
        _read(path, changed)


@pytest.mark.parametrize("text", ["[1, 2]", "3", '"text"', "null"])
def test_a_file_that_is_no_object_is_handed_back(path: Path, chunk: int, text: str) -> None:
    assert _read(path, text) == (json.loads(text), {})


def test_another_encoding_is_refused(path: Path) -> None:
    path.write_bytes('{"meta": {}, "results": {}}'.encode("utf-16"))
    with pytest.raises(ValueError, match="utf-8"):
        read_results(path, lambda token, boxes: None)


def test_a_mistake_is_found_before_the_rest_is_read(path: Path) -> None:
    path.write_text('{"results": {"a": [1, 2,, 3], "b": [' + "1, " * 20_000_000)
    with pytest.raises(ValueError, match="Expecting value at character 24"):
        read_results(path, lambda token, boxes: None)
