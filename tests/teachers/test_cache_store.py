"""The folder of a cache: whole files, loud misses, a bound that holds."""

import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fusionkd.errors import UserError
from fusionkd.teachers.cache_codec import encode_heatmap
from fusionkd.teachers.cache_pack import Form
from fusionkd.teachers.cache_store import CacheFullError, CacheRoom, CacheStore, Subject, changes, sweep
from tests.teachers.made_up_answers import answer

SUBJECT = Subject(
    teacher={"name": "a.ckpt", "sha256": "12"},
    data={"sweeps": 10, "world": None},
    holds={"heatmap": ["everywhere"], "bev": ["truth"]},
)


def arrays(seed: int = 0) -> dict[str, Any]:
    heatmap = encode_heatmap(answer(seed).heatmap[0].numpy())
    return {f"heatmap.{name}": array for name, array in heatmap.items()} | {"boxes.place": np.arange(3, dtype=np.int32)}


def store_in(root: Path) -> CacheStore:
    return CacheStore.make(root, SUBJECT, Form.of(answer(0)))


def test_what_is_written_is_read(tmp_path: Path) -> None:
    store, wanted = store_in(tmp_path), arrays()
    assert store.read("a", labelled=True) is None
    store.write("a", wanted, labelled=True, room=CacheRoom(tmp_path, 1.0))
    found = store.read("a", labelled=True)
    assert found is not None
    assert found.keys() == wanted.keys()
    for name, array in wanted.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)
        assert found[name].dtype == array.dtype
    assert store.read("a", labelled=False) is None, "annotations decide what is kept"
    assert store.names() == {"a-labelled.safetensors"}


def test_form_comes_back(tmp_path: Path) -> None:
    store_in(tmp_path)
    found = CacheStore.find(tmp_path, SUBJECT)
    assert found is not None
    assert found.form == Form.of(answer(0))


def test_any_change_misses_and_is_named(tmp_path: Path) -> None:
    assert CacheStore.find(tmp_path, SUBJECT) is None
    assert changes(tmp_path, SUBJECT) == "it is empty"
    store_in(tmp_path)
    other_teacher = replace(SUBJECT, teacher={"name": "a.ckpt", "sha256": "34"})
    other_data = replace(SUBJECT, data={"sweeps": 5, "world": {"seed": 3}})
    more = replace(SUBJECT, holds={"heatmap": ["everywhere"], "bev": ["boxes", "truth"]})
    for subject, said in (
        (other_teacher, "teacher.sha256 was 12 and is 34"),
        (other_data, "data.sweeps was 10 and is 5; data.world was absent and is absent; data.world.seed"),
        (more, "holds.bev was ['truth'] and is ['boxes', 'truth']"),
    ):
        assert CacheStore.find(tmp_path, subject) is None
        assert said.split(";")[0] in changes(tmp_path, subject)
        assert subject.key != SUBJECT.key


def test_more_than_is_needed_serves(tmp_path: Path) -> None:
    store_in(tmp_path)
    for holds in ({"heatmap": ["everywhere"]}, {"heatmap": ["everywhere"], "bev": ["truth"]}):
        assert CacheStore.find(tmp_path, replace(SUBJECT, holds=holds)) is not None  # type: ignore[arg-type]
    for bev in ("objects", "boxes", "everywhere"):
        holds = {"heatmap": ["everywhere"], "bev": [bev]}
        assert CacheStore.find(tmp_path, replace(SUBJECT, holds=holds)) is None  # type: ignore[arg-type]


@pytest.mark.parametrize("keep", [0, 7, 100, -5])
def test_torn_file_is_named_and_never_read(tmp_path: Path, keep: int) -> None:
    store = store_in(tmp_path)
    store.write("a", arrays(), labelled=True, room=CacheRoom(tmp_path, 1.0))
    path = store.path("a", labelled=True)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match=r"a-labelled\.safetensors"):
        store.read("a", labelled=True)


def test_file_of_another_frame_is_refused(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    store.write("a", arrays(), labelled=True, room=CacheRoom(tmp_path, 1.0))
    os.rename(store.path("a", labelled=True), store.path("b", labelled=True))
    with pytest.raises(ValueError, match="belongs to"):
        store.read("b", labelled=True)


def test_damaged_index_is_named(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    (store.folder / "index.json").write_text('{"format": 1')
    with pytest.raises(UserError, match=r"index\.json"):
        CacheStore.find(tmp_path, SUBJECT)


def test_bound_holds_and_nothing_is_thrown_out(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    size = store.write("first", arrays(), labelled=True, room=CacheRoom(tmp_path, 1.0))
    index = (store.folder / "index.json").stat().st_size
    # Another process may have its own idea of the room; what lies there counts for both.
    rooms = [CacheRoom(tmp_path, (index + 3.5 * size) / 1e9) for _ in range(2)]
    store.write("second", arrays(), labelled=True, room=rooms[0])
    store.write("third", arrays(), labelled=True, room=rooms[1])
    for room in rooms:
        with pytest.raises(CacheFullError):
            store.write("fourth", arrays(), labelled=True, room=room)
    assert store.names() == {f"{name}-labelled.safetensors" for name in ("first", "second", "third")}


def test_only_old_unfinished_files_are_swept(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    store.write("a", arrays(), labelled=True, room=CacheRoom(tmp_path, 1.0))
    old, new = (store.folder / "frames" / f".b-labelled.safetensors.{name}" for name in ("old", "new"))
    for file in (old, new):
        file.write_bytes(b"half")
    os.utime(old, (time.time() - 7200,) * 2)
    sweep(tmp_path)
    assert not old.exists()
    assert new.exists(), "somebody may be writing it"
    assert store.names() == {"a-labelled.safetensors"}
