"""Teachers from files: what they load, what they refuse, and that they stay as they are."""

from pathlib import Path

import pytest
import torch

from fusionkd.errors import UserError
from fusionkd.models import build_model, example_batch, save_model
from fusionkd.teachers import FrozenTeacher, Record, far_off, load_student, load_trained, zoo_path
from tests.tasks.conftest import student_spec

CARD = {"figures": {"mAP": 0.4, "NDS": 0.5}, "simulated": True}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("teacher") / "t.safetensors"
    torch.manual_seed(0)
    save_model(build_model(student_spec()), path, card=CARD)
    return path


def test_carries_its_record(weights: Path) -> None:
    assert FrozenTeacher(str(weights)).record == Record(CARD["figures"], True)


def test_stays_frozen_and_in_eval_mode(weights: Path) -> None:
    teacher = FrozenTeacher(str(weights))
    holder = torch.nn.ModuleDict({"t": teacher}).train()
    assert holder.training
    assert not any(module.training for module in teacher.modules())
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    output = teacher(example_batch(teacher.model))
    assert not output.heatmap.requires_grad
    assert all(torch.equal(before[name], value) for name, value in teacher.state_dict().items())


def test_answers_as_the_model_did(weights: Path) -> None:
    model, _ = load_trained(str(weights))
    batch = example_batch(model)
    with torch.no_grad():
        wanted = model(batch).heatmap
    assert torch.equal(FrozenTeacher(str(weights))(batch).heatmap, wanted)


@pytest.mark.parametrize(
    ("checkpoint", "words"),
    [
        ("zoo:absent", "zoo:absent"),
        ("absent.safetensors", r"absent\.safetensors.*zoo:NAME"),
        ("absent.ckpt", r"absent\.ckpt"),
    ],
)
def test_absent_files_are_named(checkpoint: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        FrozenTeacher(checkpoint)


def test_other_kinds_of_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(b"")
    with pytest.raises(UserError, match=r"\.safetensors or a \.ckpt"):
        FrozenTeacher(str(path))


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (tmp_path / "ran",))  # type: ignore[return-value]

    path = tmp_path / "evil.ckpt"
    torch.save({"state_dict": {}, "evil": Evil()}, path)
    with pytest.raises(UserError, match=r"evil\.ckpt can't be read"):
        load_student(path)
    assert not (tmp_path / "ran").exists()


def test_lightning_checkpoint_without_description(tmp_path: Path) -> None:
    path = tmp_path / "plain.ckpt"
    torch.save({"state_dict": {"student.weight": torch.zeros(1)}}, path)
    with pytest.raises(UserError, match="doesn't say how its student is built"):
        load_student(path)
    torch.save({"weights": 1}, path)
    with pytest.raises(UserError, match="no 'state_dict'"):
        load_student(path)


def test_unknown_names_of_the_zoo_say_what_there_is() -> None:
    with pytest.raises(UserError, match="there are: "):
        zoo_path("absent")


def test_far_off_leaves_room_for_few_frames() -> None:
    assert far_off(0.05, 0.4)
    assert not far_off(0.2, 0.4)
    assert not far_off(0.0, 0.01), "a teacher that knows nothing can't lose it"
