"""What the run needs to know of anyone who teaches."""

from typing import ClassVar

from torch import nn

from fusionkd.models import FusionModel
from fusionkd.teachers.checkpoints import Record


class Teacher(nn.Module):
    """Somebody beside the student whose answers terms can name.

    Attributes:
        model: Who answers; a teacher that is made of the student has it from ``meet`` on.
        checkpoint: Where its weights come from, for messages.
        check: Whether its figures are compared with its record before the first step.
        record: What it is known to reach.
    """

    fixed: ClassVar[bool] = True
    """Whether it answers the same about a frame all run long; one that changes is kept in the run's checkpoints."""

    model: nn.Module
    checkpoint: str = ""
    check: bool = False
    record: Record = Record()

    def meet(self, student: FusionModel) -> None:
        """Called once before the first step, with the student as it begins.

        Args:
            student: The run's.
        """

    def follow(self, student: FusionModel, *, step: int) -> None:
        """Called after each step of the optimiser.

        Args:
            student: As it is now.
            step: Number of the step, from 1.
        """
