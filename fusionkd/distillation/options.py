"""Checks of options that several terms have."""

from fusionkd.distillation.base import TAPS
from fusionkd.errors import UserError


def check_feature_taps(term: str, *, student_tap: str, teacher_tap: str) -> None:
    """Both taps must be features, neither heatmap nor boxes.

    Raises:
        UserError: If one is not.
    """
    features = [name for name in TAPS if name.endswith("bev")]
    for option, name in (("student_tap", student_tap), ("teacher_tap", teacher_tap)):
        if name not in features:
            raise UserError(f"{term}'s {option} must be one of {', '.join(features)}, found '{name}'.")


def check_positive(term: str, **options: float) -> None:
    """Each of the options must be above zero.

    Raises:
        UserError: If one is not.
    """
    for option, value in options.items():
        if not value > 0:
            raise UserError(f"{term}'s {option} must be above 0, found {value}.")
