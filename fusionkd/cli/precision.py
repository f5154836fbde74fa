"""The precision that this machine computes fast."""

import sys

import torch

HALF = ("bf16-mixed", "bf16-true", "bf16")
"""Names of bfloat16 in ``trainer.precision``."""


def cpu_knows_bfloat16() -> bool:
    """Whether this processor has the instructions that bfloat16 convolutions need; without, they are emulated."""
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def suitable_precision(precision: object, accelerator: object) -> object:
    """What to compute in: as configured, unless that is bfloat16 on a processor that would have to emulate it.

    A network's step took nine times as long emulated as in single precision on such a processor, so that nobody
    wants it; where the precision changes, a line on the standard error stream says so.

    Args:
        precision: ``trainer.precision``.
        accelerator: ``trainer.accelerator``.
    """
    on_cpu = accelerator == "cpu" or (accelerator == "auto" and not torch.accelerator.is_available())
    if precision not in HALF or not on_cpu or cpu_knows_bfloat16():
        return precision
    print(
        f"This processor doesn't compute bfloat16 natively, so trainer.precision is 32-true instead of {precision}.",
        file=sys.stderr,
    )
    return "32-true"
