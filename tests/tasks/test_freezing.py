"""Parts of a student that don't learn stay as they are, statistics included."""

from pathlib import Path

import pytest
import torch

from fusionkd.errors import UserError
from fusionkd.tasks import FrozenParts, SupervisedTask
from tests.tasks.conftest import make_data, make_student, make_trainer


def test_frozen_parts_stay_and_the_others_learn(tiny_nuscenes: Path, tmp_path: Path) -> None:
    student = make_student()
    before = {name: value.clone() for name, value in student.state_dict().items()}
    frozen = FrozenParts(["lidar", "backbone.lateral"])
    # Two epochs and a validation between them, which put modules back into training mode.
    trainer = make_trainer(tmp_path, steps=6, callbacks=[frozen], check_val_every_n_epoch=1)
    trainer.fit(SupervisedTask(student), make_data(tiny_nuscenes))
    changed = {name for name, value in student.state_dict().items() if not torch.equal(value, before[name])}
    assert not {name for name in changed if name.startswith(("lidar.", "backbone.lateral."))}
    assert {name for name in changed if name.startswith("backbone.down.")}
    assert {name for name in changed if name.startswith("head.")}


@pytest.mark.parametrize("part", ["camera", "lidar.nothing"])
def test_parts_that_are_not_there_are_named(part: str, tiny_nuscenes: Path, tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, callbacks=[FrozenParts([part])])
    with pytest.raises(UserError, match=rf"FrozenParts.*'{part}'.*it has .*lidar"):
        trainer.fit(SupervisedTask(make_student()), make_data(tiny_nuscenes))


def test_no_parts() -> None:
    with pytest.raises(UserError, match="at least one part"):
        FrozenParts([])
