import pytest
import torch

from fusionkd.errors import UserError
from fusionkd.teachers import MeanTeacher, average_
from tests.tasks.conftest import make_student


def test_average_is_what_the_paper_says() -> None:
    """Against equation 1 written out number by number, in double precision."""
    student, teacher = make_student(seed=2), MeanTeacher(decay=0.7)
    teacher.meet(student)
    expected = {name: value.double().clone() for name, value in student.state_dict().items()}
    for step in range(1, 8):
        torch.manual_seed(step)
        with torch.no_grad():
            for value in student.state_dict().values():
                value.add_(1) if value.dtype == torch.int64 else value.add_(torch.randn_like(value))
        teacher.follow(student, step=step)
        alpha = min(0.7, 1 - 1 / (step + 1))
        for name, value in student.state_dict().items():
            if value.is_floating_point():
                expected[name] = alpha * expected[name] + (1 - alpha) * value.double()
            else:
                expected[name] = value.double()
    for name, value in teacher.model.state_dict().items():
        torch.testing.assert_close(value.double(), expected[name], rtol=1e-5, atol=1e-6, msg=name)


def test_average_of_one_value_is_that_value() -> None:
    average = {"a": torch.full((3,), 2.5), "count": torch.tensor(1)}
    average_(average, {"a": torch.full((3,), 2.5), "count": torch.tensor(9), "more": torch.zeros(1)}, decay=0.9)
    assert average["a"].tolist() == [2.5] * 3
    assert int(average["count"]) == 9, "a count has no mean"


def test_it_neither_learns_nor_trains_and_leaves_the_student_alone() -> None:
    student, teacher = make_student(seed=2), MeanTeacher()
    student.train()
    teacher.meet(student)
    before = {name: value.clone() for name, value in student.state_dict().items()}
    teacher.train()
    assert not any(module.training for module in teacher.modules())
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    assert student.training
    assert all(parameter.requires_grad for parameter in student.parameters())
    with torch.no_grad():
        teacher.model.head.shared_conv.conv.weight.zero_()
    assert all(torch.equal(before[name], value) for name, value in student.state_dict().items())


@pytest.mark.parametrize("decay", [-0.1, 1.0])
def test_impossible_decay_is_refused(decay: float) -> None:
    with pytest.raises(UserError, match="decay"):
        MeanTeacher(decay)
