"""Checks of options that several terms have."""

from fusionkd.distillation.base import TAPS, Term
from fusionkd.errors import UserError


def check_feature_taps(term: Term, **options: str) -> None:
    """Refuse options that name answers instead of features; paths of modules are looked up in the model later.

    Raises:
        UserError: If one does.
    """
    features = [name for name in TAPS if name.endswith("bev")]
    for option, name in options.items():
        if name in TAPS and name not in features:
            raise UserError(
                f"{type(term).__name__}'s {option} must be one of {', '.join(features)} or the dotted path of a "
                f"module, found '{name}'."
            )


def check_positive(term: Term, **options: float) -> None:
    """Refuse options that must be above 0.

    Raises:
        UserError: If one is 0 or less.
    """
    for option, value in options.items():
        if not value > 0:
            raise UserError(f"{type(term).__name__}'s {option} must be above 0, found {value}.")


def check_not_negative(term: Term, **options: float) -> None:
    """Refuse options that must be at least 0.

    Raises:
        UserError: If one is negative.
    """
    for option, value in options.items():
        if not value >= 0:
            raise UserError(f"{type(term).__name__}'s {option} must not be negative, found {value}.")
